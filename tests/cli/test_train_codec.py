from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from tests.conftest import sing
from vocable import audio
from vocable.cli import cli
from vocable.tokenizers import NeuralCodec, load
from vocable.types import Audio

_QUICK = ["--steps", "2", "--batch", "2", "--crop-seconds", "0.3", "--device", "cpu", "--workers", "0"]
_SMALL = ["--preset", "tiny", "--size", "16", "--codebooks", "2", "--sample-rate", "8000"]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    for seed in range(3):
        audio.write(folder / f"{seed}.wav", Audio.of([torch.from_numpy(0.5 * sing(1.0, 8000, seed)).float()], 8000))
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=True)


def test_trains_a_codec_that_works_everywhere(speech: Path, tmp_path: Path) -> None:
    trained = run("train", "codec", speech, *_SMALL, *_QUICK, "--causal", "--out", tmp_path / "codec")
    assert trained.exit_code == 0, trained.output
    assert "2 recordings" in trained.output
    assert "2 x 16 entries, 200 bit/s at 8000 Hz" in trained.output
    codec = load(str(tmp_path / "codec"))
    assert isinstance(codec, NeuralCodec)
    assert codec.net.causal
    units = ("--out", tmp_path / "units", "--workers", "0")
    steps = [
        ("tokenize", speech, "--tokenizer", tmp_path / "codec", "--out", tmp_path / "tokens", "--workers", "0"),
        ("resynthesize", tmp_path / "tokens", "--out", tmp_path / "wavs"),
        ("inspect", tmp_path / "codec"),
        ("train", "kmeans", speech, "--features", f"latents:{tmp_path / 'codec'}", "--clusters", "4", *units),
    ]
    for step in steps:
        result = run(*step)
        assert result.exit_code == 0, (step, result.output, result.exception)
    assert len(list((tmp_path / "wavs").glob("*.wav"))) == 3


def test_resumes_and_says_what_does_not_fit(speech: Path, tmp_path: Path) -> None:
    command = ["train", "codec", speech, *_SMALL, *_QUICK, "--out", tmp_path / "codec"]
    assert "expected a checkpoint to resume from" in run(*command, "--resume").output
    assert run(*command).exit_code == 0
    assert "is there already" in str(run(*command).exception)
    again = run(*command, "--resume", "--overwrite")
    assert again.exit_code == 0
    other = run(*command, "--resume", "--overwrite", "--seed", "5")
    assert "is the state of another training" in str(other.exception)


def test_bad_options_are_told(speech: Path, tmp_path: Path) -> None:
    command = ["train", "codec", speech, *_QUICK, "--out", tmp_path / "codec"]
    assert "expected a design among" in str(run(*command, "--preset", "huge").exception)
    assert "expected --levels such as" in run(*command, "--quantizer", "fsq", "--levels", "8;5").output
    assert "expected one of --steps and --minutes" in run(*command, "--minutes", "1").output
    assert "expected a teacher" in str(run(*command, "--preset", "speechtokenizer-tiny").exception)
    assert not (tmp_path / "codec").exists()
