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
from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.quantizers import fit_kmeans
from vocable.tokenizers import MFCC, LogMel, UnitTokenizer, train_kmeans
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
