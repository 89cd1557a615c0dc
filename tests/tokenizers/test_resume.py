"""A run that is killed and started again ends with the very codes of one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import sing
from vocable.corpus import Corpus
from vocable.errors import VocableError
from vocable.progress import Progress
from vocable.store import TokenStore
from vocable.tokenizers import MFCC, tokenize, train_kmeans

# dawdles after every batch, so that a kill can fall anywhere, and commits a shard after nearly every batch
CHILD = """
import sys, time
import torch
from vocable.corpus import Corpus
from vocable.tokenizers import UnitTokenizer, tokenize
torch.set_num_threads(1)
speech, units, tokens = sys.argv[1:]
print("ready", flush=True)
tokenize(
    Corpus.of(speech), UnitTokenizer.from_pretrained(units), tokens,
    workers=1, batch_seconds=1.5, shard_seconds=0.02, watcher=lambda progress: time.sleep(0.02),
)
print("done", flush=True)
"""


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    folder = tmp_path / "speech"
    folder.mkdir()
    for index in range(120):
        soundfile.write(folder / f"{index:03}.wav", sing(0.2 + (index * 7 % 13) / 10, seed=index), 16000)
    soundfile.write(folder / "long.wav", sing(70.0, seed=999), 16000)  # of several windows
    (folder / "broken.flac").write_bytes(b"fLaC and nothing else")
    return folder


def start(speech: Path, units: Path, tokens: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(speech), str(units), str(tokens)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def contents(tokens: Path) -> dict[str, bytes]:
    return {entry.id: entry.codes.tobytes() + str(entry.codes.dtype).encode() for entry in TokenStore.open(tokens)}


def test_ten_kills_leave_no_trace(speech: Path, tmp_path: Path) -> None:
    units = tmp_path / "units"
    train_kmeans(Corpus.of(speech), MFCC(), 32).save_pretrained(units)

    began = time.monotonic()
    with start(speech, units, tmp_path / "undisturbed") as child:
        assert child.wait() == 0
    duration = time.monotonic() - began
    undisturbed = contents(tmp_path / "undisturbed")
    assert len(undisturbed) == 121

    moments = random.Random(0)
    partial: list[int] = []
    decoders: list[int] = []
    for _ in range(10):
        with start(speech, units, tmp_path / "killed") as child:
            time.sleep(moments.uniform(0, duration / 4))
            decoders += children(child.pid)
            child.send_signal(signal.SIGKILL)
        if (tmp_path / "killed" / "_store.json").exists():
            partial.append(len(TokenStore.open(tmp_path / "killed")))
    assert any(0 < count < 121 for count in partial), f"no kill fell into the work: {partial}"
    assert partial == sorted(partial)  # nothing that was finished is lost
    assert decoders
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in decoders) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in decoders if Path(f"/proc/{pid}").exists()]  # and nobody is left behind

    with start(speech, units, tmp_path / "killed") as child:
        assert child.wait() == 0
    assert contents(tmp_path / "killed") == undisturbed
    store = TokenStore.open(tmp_path / "killed")
    assert [failure.id for failure in store.failures()] == ["broken"]
    assert sum(np.frombuffer(codes, np.uint8).size for codes in contents(tmp_path / "killed").values()) > 0


def test_an_interrupt_commits_what_is_finished(speech: Path, tmp_path: Path) -> None:
    units = tmp_path / "units"
    train_kmeans(Corpus.of(speech), MFCC(), 32).save_pretrained(units)
    with start(speech, units, tmp_path / "tokens") as child:
        deadline = time.monotonic() + 30
        while not list((tmp_path / "tokens" / "data").glob("part-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
    assert 0 < len(TokenStore.open(tmp_path / "tokens")) < 121


def test_a_decoder_that_dies_is_told_and_costs_nothing(speech: Path, tmp_path: Path) -> None:
    tokenizer = train_kmeans(Corpus.of(speech), MFCC(), 32)
    tokens = tmp_path / "tokens"

    def kill_a_decoder(progress: Progress) -> None:
        for pid in children(os.getpid()):
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(VocableError, match="decoding process ended"):
        tokenize(Corpus.of(speech), tokenizer, tokens, workers=1, batch_seconds=1.5, watcher=kill_a_decoder)
    finished = len(TokenStore.open(tokens))
    tokenize(Corpus.of(speech), tokenizer, tokens)
    assert finished < len(TokenStore.open(tokens)) == 121


def children(parent: int) -> list[int]:
    """Processes that another has started and that are alive."""
    try:
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []
