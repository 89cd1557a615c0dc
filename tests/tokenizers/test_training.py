"""Training units: bounded memory, evidence, failures told, the same units whatever the workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import sing
from tests.processes import run_processes
from vocable import testing
from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.quantizers import ProductKMeans, ResidualKMeans, fit_kmeans
from vocable.quantizers.reduce import ALONE
from vocable.quantizers.standardized import Standardized
from vocable.tokenizers import MFCC, LogMel, UnitTokenizer, train_kmeans
from vocable.tokenizers.feature_cache import FeatureCache
from vocable.tokenizers.gathering import Stopwatch, own_share
from vocable.types import Audio

CHILD = """
import resource, sys
import torch
from vocable.corpus import Corpus
from vocable.tokenizers import LogMel, train_kmeans
torch.set_num_threads(1)
units = train_kmeans(Corpus.of(sys.argv[1]), LogMel(), 20, memory=int(sys.argv[2]), iterations=3)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, units.evidence["frames_used"])
"""


TOGETHER = """
import sys
import torch
from vocable.corpus import Corpus
from vocable.distributed import from_environment
from vocable.tokenizers import LogMel, train_kmeans
from vocable.tokenizers.feature_cache import FeatureCache
torch.set_num_threads(1)
with from_environment() as processes:
    corpus = Corpus.of(sys.argv[1])
    cache = FeatureCache.create(sys.argv[2], corpus, LogMel(), reduce=processes)
    standard = {"cache": cache, "standardize": True}
    for source in ({"sample_frames": 300}, {"memory": 1 << 20}, {"cache": cache}, standard):
        failures = []
        units = train_kmeans(corpus, LogMel(), 20, reduce=processes, on_failure=failures.append, **source)
        evidence = {key: value for key, value in units.evidence.items() if key != "fits"}
        print(units.fingerprint, evidence, [failure.id for failure in failures])
"""


def megabytes(source: Path, memory: int) -> tuple[int, int]:
    """Peak resident memory of training in a process of its own, and the frames used."""
    command = [sys.executable, "-c", CHILD, str(source), str(memory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, used = done.stdout.split()
    return int(peak), int(used)


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "short").mkdir()
    (tmp_path / "long").mkdir()
    wave = sing(60.0)
    soundfile.write(tmp_path / "short" / "a.wav", wave, 16000)
    for index in range(3):
        soundfile.write(tmp_path / "long" / f"{index}.wav", np.tile(wave, 40), 16000)
    memory = 8 << 20
    short, _ = megabytes(tmp_path / "short", memory)
    long, used = megabytes(tmp_path / "long", memory)
    # two hours have 720,000 frames of 320 bytes, 230 MB; the bound is `memory` and the windows of a few batches
    assert used == memory // (2 * 80 * 4)
    assert long - short < 60


def test_one_pass_feeds_all_layers_and_matches_clustering_by_hand(tmp_path: Path) -> None:
    folder = tmp_path / "speech"
    folder.mkdir()
    for index in range(3):
        soundfile.write(folder / f"{index}.wav", sing(1.0 + index, seed=index), 16000)
    units = train_kmeans(Corpus.of(folder), LogMel(), 16, seed=3)
    frames = [
        LogMel().extract(Audio.of([torch.from_numpy(soundfile.read(path, dtype="float32")[0])], 16000)).utterance(0)[0]
        for path in sorted(folder.iterdir())
    ]
    everything = torch.cat(frames)
    assert units.evidence["frames_seen"] == units.evidence["frames_used"] == len(everything)
    objective = units.evidence["fits"]["logmel"]["objective"]
    by_hand = fit_kmeans(everything, 16, seed=3)[1].objective
    # another order of the same frames starts elsewhere, and ends about as well
    assert objective[-1] == pytest.approx(by_hand[-1], rel=0.05)
    assert objective == sorted(objective, reverse=True)
    distances = torch.cdist(everything.double(), units.quantizers[0].centroids.double()).amin(1)
    assert float(distances.square().mean()) == pytest.approx(objective[-1], rel=0.01)


def test_broken_recordings_are_told_and_left_out(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", sing(2.0), 16000)
    (tmp_path / "bad.wav").write_bytes(b"nothing of the kind")
    failures = []
    units = train_kmeans(Corpus.of(tmp_path), MFCC(), 8, on_failure=failures.append)
    assert [failure.id for failure in failures] == ["bad"]
    assert (units.evidence["recordings"], units.evidence["failed"]) == (1, 1)


def test_more_clusters_than_frames(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", sing(0.1), 16000)
    with pytest.raises(InputError, match="at least 50 frames for 50 clusters, got 10"):
        train_kmeans(Corpus.of(tmp_path), MFCC(), 50)


def test_faiss_makes_the_same_kind_of_artifact(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sing(4.0), 16000)
    units = train_kmeans(Corpus.of(tmp_path), MFCC(), 16, backend="faiss")
    assert units.evidence["fits"]["mfcc"]["backend"] == "faiss"
    units.save_pretrained(tmp_path / "units")
    assert UnitTokenizer.from_pretrained(tmp_path / "units").fingerprint == units.fingerprint


def test_two_processes_make_the_units_of_one(speech_folder: Path, tmp_path: Path) -> None:
    """To the bit, from a sample that leaves frames out, from all in memory, and from a cache, standardized too."""
    wave = np.tile(sing(20.0), 2)  # breaks off in its second window: nothing of it is in the cache
    soundfile.write(speech_folder / "broken.flac", wave, 16000)
    data = (speech_folder / "broken.flac").read_bytes()
    (speech_folder / "broken.flac").write_bytes(data[: len(data) * 9 // 10])
    alone = run_processes(["-c", TOGETHER, str(speech_folder), str(tmp_path / "alone")], 1)
    together = run_processes(["-c", TOGETHER, str(speech_folder), str(tmp_path / "together")], 2)
    for code, out, err in (*alone, *together):
        assert code == 0, err
        assert out == alone[0][1]
    assert alone[0][1].count("['broken']") == 4
    assert (tmp_path / "alone" / "logmel.f16").read_bytes() == (tmp_path / "together" / "logmel.f16").read_bytes()


def test_a_process_without_recordings(speech_folder: Path) -> None:
    class Ninth:
        rank, world = 8, 9
        sum_, max_, gather = ALONE.sum_, ALONE.max_, ALONE.gather

    with pytest.raises(InputError, match="a recording for each of 9 processes, got 8"):
        train_kmeans(Corpus.of(speech_folder), MFCC(), 8, reduce=Ninth())


def test_shares_are_all_recordings_once(speech_folder: Path) -> None:
    class Rank:
        world = 3
        sum_, max_, gather = ALONE.sum_, ALONE.max_, ALONE.gather

        def __init__(self, rank: int) -> None:
            self.rank = rank

    corpus = Corpus.of(speech_folder)
    shares = [[utterance.id for utterance in own_share(corpus, Rank(rank))] for rank in range(3)]
    assert sorted(name for share in shares for name in share) == sorted(utterance.id for utterance in corpus)
    assert [len(share) for share in shares] == [3, 3, 2]


def test_a_sample_of_so_many_frames(speech_folder: Path) -> None:
    units = train_kmeans(Corpus.of(speech_folder), LogMel(), 16, sample_frames=123)
    assert units.evidence["frames_used"] == 123 < units.evidence["frames_seen"]


def test_a_cache_is_clustering_all_frames_in_the_order_of_ids(speech_folder: Path, tmp_path: Path) -> None:
    corpus, stopwatch = Corpus.of(speech_folder), Stopwatch()
    cache = FeatureCache.create(tmp_path / "cache", corpus, LogMel(), precision="fp32")
    units = train_kmeans(corpus, LogMel(), 16, cache=cache, stopwatch=stopwatch)
    by_hand, _ = fit_kmeans(cache.layer(0), 16)
    assert torch.equal(units.quantizers[0].centroids, by_hand.centroids)
    assert (units.evidence["frames_seen"], units.evidence["recordings"]) == (len(cache), 8)
    assert list(stopwatch.seconds) == ["features", "cache", "clustering logmel"]
    again = train_kmeans(corpus, LogMel(), 16, cache=cache)
    assert (again.fingerprint, again.evidence) == (units.fingerprint, units.evidence)


@pytest.mark.parametrize(("structure", "kind"), [("residual", ResidualKMeans), ("product", ProductKMeans)])
def test_several_codebooks_for_a_layer(structure: str, kind: type, speech_folder: Path, tmp_path: Path) -> None:
    heard = []
    units = train_kmeans(
        Corpus.of(speech_folder),
        LogMel(),
        8,
        codebooks=4,
        structure=structure,
        on_iteration=lambda label, iteration, objective: heard.append(label),
    )
    labels = [f"logmel.{index}" for index in range(4)]
    assert isinstance(units.quantizers[0], kind)
    assert list(units.spec.labels) == list(units.evidence["fits"]) == list(dict.fromkeys(heard)) == labels
    units.save_pretrained(tmp_path / "units")
    assert UnitTokenizer.from_pretrained(tmp_path / "units").fingerprint == units.fingerprint


def test_directions_are_clustered_on_request(speech_folder: Path) -> None:
    units = train_kmeans(Corpus.of(speech_folder), LogMel(), 8, spherical=True, schedule="progressive", restarts=2)
    assert torch.allclose(units.quantizers[0].centroids.norm(dim=1), torch.ones(8), atol=1e-6)
    fit = units.evidence["fits"]["logmel"]
    assert (fit["schedule"], len(fit["restarts"])) == ("progressive", 2)


@pytest.mark.parametrize("cached", [True, False])
def test_standardized_frames_are_clustered_and_units_decode_to_frames_as_they_came(
    cached: bool, speech_folder: Path, tmp_path: Path
) -> None:
    corpus = Corpus.of(speech_folder)
    cache = FeatureCache.create(tmp_path / "cache", corpus, MFCC(), precision="fp32")
    source = {"cache": cache} if cached else {}
    units = train_kmeans(corpus, MFCC(), 12, standardize=True, **source)
    (quantizer,) = units.quantizers
    assert isinstance(quantizer, Standardized)
    plain = train_kmeans(corpus, MFCC(), 12, **source)  # fills the cache where that is not done
    cache.fill(corpus, MFCC())
    frames = cache.layer(0)
    assert torch.allclose(quantizer.scaling.mean, frames.mean(0), atol=1e-3)
    assert torch.allclose(quantizer.scaling.deviation, frames.std(0, correction=0), rtol=1e-3)
    assert units.fingerprint != plain.fingerprint
    # explained as it is meant: each dimension weighs the same; the plain units give some of them up
    found, theirs = ((frames - q.decode(q.encode(frames))) / frames.std(0) for q in (quantizer, plain.quantizers[0]))
    assert float(found.square().mean()) < float(theirs.square().mean())
    objective = units.evidence["fits"]["mfcc"]["objective"][-1]
    assert float(found.square().sum(1).mean()) == pytest.approx(objective, rel=0.01)
    testing.check_saving(units, UnitTokenizer.from_pretrained, tmp_path / "units")
    testing.check_tokenizer(units)


@pytest.mark.parametrize("structure", ["residual", "product"])
def test_several_codebooks_of_standardized_frames(structure: str, speech_folder: Path, tmp_path: Path) -> None:
    corpus = Corpus.of(speech_folder)
    units = train_kmeans(corpus, LogMel(), 6, codebooks=2, structure=structure, standardize=True, backend="faiss")
    assert units.spec.labels == ("logmel.0", "logmel.1")
    assert list(units.evidence["fits"]) == ["logmel.0", "logmel.1"]
    testing.check_saving(units, UnitTokenizer.from_pretrained, tmp_path / "units")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"codebooks": 0}, "at least one codebook"),
        ({"structure": "tree"}, "residual or product, got 1 and 'tree'"),
        ({"codebooks": 2, "spherical": True}, "one codebook, not several"),
        ({"spherical": True, "standardize": True}, "spherical or standardized"),
    ],
)
def test_structures_that_cannot_be(speech_folder: Path, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_kmeans(Corpus.of(speech_folder), LogMel(), 8, **wrong)
