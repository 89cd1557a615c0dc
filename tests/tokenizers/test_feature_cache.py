"""The feature cache: every frame in its place, whatever the order, the workers and the kills; strangers refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import sing
from vocable.corpus import Corpus
from vocable.errors import ArtifactError, InputError, OutputError, VocableError
from vocable.tokenizers import MFCC, LogMel, StackedMel, feature_cache_head
from vocable.tokenizers.feature_cache import FeatureCache
from vocable.tokenizers.gathering import Reading
from vocable.types import Audio, Features

KILLED = """
import os, signal, sys
from vocable.corpus import Corpus
from vocable.tokenizers import LogMel, feature_cache
from vocable.tokenizers.gathering import Reading
feature_cache._COMMIT_SECONDS = 0
def watch(progress):
    if progress.done >= 3:
        os.kill(os.getpid(), signal.SIGKILL)
corpus = Corpus.of(sys.argv[1])
cache = feature_cache.FeatureCache.create(sys.argv[2], corpus, LogMel())
cache.fill(corpus, LogMel(), reading=Reading(batch_seconds=0.1, watcher=watch))
"""

MEMORY = """
import sys
import torch
from vocable.quantizers import fit_kmeans
from vocable.tokenizers.feature_cache import FeatureCache
torch.set_num_threads(1)
held = []
def look(*_):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    held.append(int(lines["RssAnon"].split()[0]) / 1024)
points = FeatureCache.open(sys.argv[1]).layer(0)
look()
fit_kmeans(points, 20, iterations=2, on_iteration=look)
print(max(held) - held[0])
"""


class Loud(LogMel):
    """Features beyond the range of half precision."""

    def extract(self, audio: Audio) -> Features:
        quiet = super().extract(audio)
        return Features(quiet.frames * 1e5, quiet.lengths, quiet.hop_length, quiet.sample_rate)


class Double(LogMel):
    """Features of two layers, the second the negative of the first."""

    layers = ("L1", "L1.pre")

    def extract(self, audio: Audio) -> Features:
        one = super().extract(audio)
        return Features(torch.cat([one.frames, -one.frames], dim=1), one.lengths, one.hop_length, one.sample_rate)


@pytest.fixture
def corpus(speech_folder: Path) -> Corpus:
    return Corpus.of(speech_folder)


def filled(path: Path, corpus: Corpus, reading: Reading | None = None) -> FeatureCache:
    cache = FeatureCache.create(path, corpus, LogMel())
    cache.fill(corpus, LogMel(), reading=reading)
    return cache


def frames_by_hand(path: Path, extractor: LogMel) -> torch.Tensor:
    from vocable.audio import read

    return extractor.extract(read(path, extractor.sample_rate)).utterance(0)[0]


def test_each_frame_is_where_the_order_of_ids_puts_it(corpus: Corpus, tmp_path: Path) -> None:
    by_hand = torch.cat([frames_by_hand(u.path, LogMel()) for u in sorted(corpus, key=lambda u: u.id)])
    cache = FeatureCache.create(tmp_path / "full", corpus, LogMel(), precision="fp32")
    assert cache.num_bytes == by_hand.nbytes == (tmp_path / "full" / "logmel.f32").stat().st_size
    cache.fill(corpus, LogMel())
    assert torch.equal(cache.layer("logmel"), by_hand)
    assert torch.equal(torch.from_numpy(np.fromfile(tmp_path / "full" / "logmel.f32", "<f4")), by_hand.flatten())
    assert torch.equal(filled(tmp_path / "half", corpus).layer(0), by_hand.half())
    assert torch.equal(FeatureCache.open(tmp_path / "half").layer(0), by_hand.half())
    assert len(cache) == len(by_hand)
    assert cache.finished == {utterance.id for utterance in corpus}


def test_every_layer_has_its_file(corpus: Corpus, tmp_path: Path) -> None:
    cache = FeatureCache.create(tmp_path / "cache", corpus, Double())
    cache.fill(corpus, Double())
    assert {"L1.f16", "L1.pre.f16"} <= {path.name for path in cache.path.iterdir()}
    assert torch.equal(cache.layer("L1.pre"), -cache.layer("L1"))
    assert torch.equal(cache.layer(1), cache.layer("L1.pre"))
    before = (cache.path / "L1.f16").read_bytes()
    cache.layer(0).zero_()
    assert (cache.path / "L1.f16").read_bytes() == before, "what is done to the tensor stays in memory"


def test_order_workers_and_batches_change_nothing(corpus: Corpus, tmp_path: Path) -> None:
    once = filled(tmp_path / "a", corpus)
    other = filled(tmp_path / "b", Corpus(reversed(list(corpus))), Reading(workers=2, batch_seconds=1.0))
    for name in ("logmel.f16", "head.json", "utterances.jsonl", "finished.i64"):
        assert (once.path / name).read_bytes() == (other.path / name).read_bytes()


def test_killed_and_run_again(speech_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, speech_folder, tmp_path / "cache"], check=False)
    assert killed.returncode == -9
    left = FeatureCache.open(tmp_path / "cache")
    done = len(left.finished)
    assert 0 < done < len(corpus)
    cache = FeatureCache.create(tmp_path / "cache", corpus, LogMel())
    progress = cache.fill(corpus, LogMel())
    assert (progress.done, progress.skipped) == (len(corpus) - done, done)
    assert torch.equal(cache.layer(0), filled(tmp_path / "whole", corpus).layer(0))
    assert cache.fill(corpus, LogMel()).done == 0


def test_frames_of_failed_recordings_do_not_enter(speech_folder: Path, tmp_path: Path) -> None:
    """Those of a file that breaks off in its second window, one that is no audio, and what a header promised."""
    long = np.tile(sing(20.0), 2)
    for name in ("a.flac", "m.flac"):
        soundfile.write(speech_folder / name, long, 16000)
        data = (speech_folder / name).read_bytes()
        (speech_folder / name).write_bytes(data[: len(data) * 9 // 10])
    (speech_folder / "b.wav").write_bytes(b"nothing of the kind")
    corpus, failures = Corpus.of(speech_folder), []
    cache = filled(tmp_path / "cache", corpus, Reading(on_failure=failures.append))
    assert sorted(failure.id for failure in failures) == ["a", "b", "m"]
    good = [frames_by_hand(u.path, LogMel()).half() for u in corpus if u.id not in {"a", "b", "m"}]
    everything = torch.cat(good)
    for _ in range(2):  # to be asked again changes nothing
        rows = cache.layer(0)
        assert len(cache) == len(rows) == len(everything)
        assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, everything.tolist()))
    again = filled(tmp_path / "again", Corpus(reversed(list(corpus))), Reading(workers=2))
    assert torch.equal(again.layer(0), cache.layer(0))

    for name in ("a.flac", "m.flac"):  # mended: their length was in the header all along
        soundfile.write(speech_folder / name, long, 16000)
    assert FeatureCache.create(tmp_path / "cache", corpus, LogMel()).fill(corpus, LogMel()).done == 2
    assert torch.equal(cache.layer(0), filled(tmp_path / "mended", corpus).layer(0))


def test_headers_that_lie(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = filled(tmp_path / "honest", corpus).layer(0)
    count = feature_cache_head._frames
    wrong = {"clip1.flac": 5, "clip4.wav": -5}
    monkeypatch.setattr(feature_cache_head, "_frames", lambda path, own: count(path, own) + wrong.get(path.name, 0))
    cache = filled(tmp_path / "cache", corpus)
    assert len(cache.layer(0)) == len(honest) - 5
    assert set(map(tuple, cache.layer(0).tolist())) <= set(map(tuple, honest.tolist()))


def test_a_stream_without_a_length_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", sing(1.0), 16000)
    due = feature_cache_head._frames(tmp_path / "a.wav", LogMel())
    info = feature_cache_head.audio.info(tmp_path / "a.wav")
    endless = feature_cache_head.audio.AudioInfo(info.sample_rate, 1, 2**63 - 1, info.format, info.coding)
    monkeypatch.setattr(feature_cache_head.audio, "info", lambda path: endless)
    assert feature_cache_head._frames(tmp_path / "a.wav", LogMel()) == due == 100


def test_strangers_are_refused(corpus: Corpus, speech_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    filled(path, corpus)
    (speech_folder / "new.wav").write_bytes((speech_folder / "speaker0" / "clip0.wav").read_bytes())
    more = Corpus.of(speech_folder)
    with pytest.raises(InputError, match="another extractor"):
        FeatureCache.create(path, corpus, MFCC())
    with pytest.raises(InputError, match="another precision"):
        FeatureCache.create(path, corpus, LogMel(), precision="fp32")
    with pytest.raises(InputError, match="another corpus"):
        FeatureCache.create(path, more, LogMel())
    with pytest.raises(InputError, match="another extractor"):
        FeatureCache.open(path).fill(corpus, StackedMel())
    with pytest.raises(InputError, match="another corpus"):
        FeatureCache.open(path).fill(more, LogMel())
    with pytest.raises(InputError, match="no layer 'L6' among logmel"):
        FeatureCache.open(path).layer("L6")


def test_what_is_no_cache_or_a_damaged_one(corpus: Corpus, speech_folder: Path, tmp_path: Path) -> None:
    for place in (speech_folder, next(iter(corpus)).path):
        with pytest.raises(ArtifactError, match="is no feature cache"):
            FeatureCache.create(place, corpus, LogMel())
    cache = FeatureCache.create(tmp_path / "cache", corpus, LogMel())
    with pytest.raises(InputError, match="holds no frame"):
        cache.layer(0)
    (cache.path / "finished.i64").write_bytes(b"\xff" * 64)
    with pytest.raises(ArtifactError, match=r"finished\.i64 is damaged"):
        cache.layer(0)
    head = (cache.path / "head.json").read_text()
    (cache.path / "head.json").write_text(head.replace('"dim": 80', '"dim": 40'))
    with pytest.raises(ArtifactError, match="is damaged"):
        FeatureCache.open(cache.path)


def test_a_disk_that_is_too_small(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(OutputError, match=r"needs .* GiB more, and its disk has 0\.00 GiB"):
        FeatureCache.create(tmp_path / "cache", corpus, LogMel())


def test_nothing_to_cache(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="no readable recording"):
        FeatureCache.create(tmp_path / "cache", Corpus.of(tmp_path), LogMel())
    assert not (tmp_path / "cache").exists()


def test_values_beyond_half_precision(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finite in fp16"):
        FeatureCache.create(tmp_path / "half", corpus, Loud()).fill(corpus, Loud())
    cache = FeatureCache.create(tmp_path / "full", corpus, Loud(), precision="fp32")
    cache.fill(corpus, Loud())
    assert float(cache.layer(0).abs().max()) > 65504


def test_an_error_keeps_what_is_finished(corpus: Corpus, tmp_path: Path) -> None:
    def stop(progress: object) -> None:
        raise VocableError("enough")

    cache = FeatureCache.create(tmp_path / "cache", corpus, LogMel())
    with pytest.raises(VocableError, match="enough"):
        cache.fill(corpus, LogMel(), reading=Reading(batch_seconds=1.0, watcher=stop))
    assert cache.finished


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_frames_stay_on_disk(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clustering 400,000 of them holds what fit_kmeans states, 32 + D / 8 bytes for each, where all are 160 bytes."""
    count, only = 400_000, Corpus([next(iter(corpus))])
    monkeypatch.setattr(feature_cache_head, "_frames", lambda path, extractor: count)
    cache = FeatureCache.create(tmp_path / "cache", only, LogMel())
    np.random.default_rng(0).standard_normal((count, 80), np.float32).astype("<f2").tofile(cache.path / "logmel.f16")
    np.array([count], "<i8").tofile(cache.path / "finished.i64")
    command = [sys.executable, "-c", MEMORY, cache.path]
    grown = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown * 2**20 < count * 42 + (64 << 20)
