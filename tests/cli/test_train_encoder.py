from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner, Result

from tests.conftest import sing
from vocable.cli import cli
from vocable.corpus import Corpus
from vocable.tokenizers import MFCC, load, train_kmeans

_QUICK = ["--steps", "2", "--batch", "2", "--crop-seconds", "0.3", "--device", "cpu", "--workers", "0"]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    for seed in range(3):
        soundfile.write(folder / f"{seed}.wav", sing(1.0, seed=seed), 16000)
    return folder


@pytest.fixture(scope="module")
def targets(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("units") / "mfcc"
    train_kmeans(Corpus.of(speech), MFCC(), 8).save_pretrained(path)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=True)


def test_an_encoder_and_units_of_its_layers(speech: Path, targets: Path, tmp_path: Path) -> None:
    options = ["--preset", "tiny", *_QUICK, "--out", tmp_path / "encoder"]
    trained = run("train", "encoder", speech, "--targets", targets, *options)
    assert trained.exit_code == 0, (trained.output, trained.exception)
    assert "2 recordings" in trained.output
    assert "5.2 M weights, layers L0 to L6" in trained.output
    assert "frames/s" in trained.output
    assert "min left" in trained.output
    assert "held out: loss" in trained.output
    evidence = json.loads((tmp_path / "encoder" / "training.json").read_text())
    assert evidence["regime"]["steps"] == 2
    fit = ["--clusters", "4", "--workers", "0", "--out", tmp_path / "units", "--device", "cpu"]
    fitted = run("train", "kmeans", speech, "--features", tmp_path / "encoder", "--layers", "2,4", *fit)
    assert fitted.exit_code == 0, (fitted.output, fitted.exception)
    assert load(str(tmp_path / "units")).spec.labels == ("L2", "L4")


def test_resumes_and_says_what_does_not_fit(speech: Path, targets: Path, tmp_path: Path) -> None:
    base = [
        "train",
        "encoder",
        speech,
        "--targets",
        targets,
        "--preset",
        "tiny",
        *_QUICK,
        "--out",
        tmp_path / "encoder",
    ]
    assert "expected a checkpoint to resume from" in run(*base, "--resume").output
    assert run(*base).exit_code == 0
    first = (tmp_path / "encoder" / "model.safetensors").read_bytes()
    assert "is there already" in str(run(*base).exception)
    assert run(*base, "--resume", "--overwrite").exit_code == 0
    assert (tmp_path / "encoder" / "model.safetensors").read_bytes() == first
    for changed in (["--no-perturb"], ["--seen-weight", "0"], ["--seed", "5"]):
        assert "is the state of another training" in str(run(*base, "--overwrite", *changed).exception)


def test_bad_options_are_told(speech: Path, targets: Path, tmp_path: Path) -> None:
    base = ["train", "encoder", speech, *_QUICK, "--out", tmp_path / "encoder"]
    assert "--targets" in run(*base).output
    assert "expected one of --steps and --minutes" in run(*base, "--targets", targets, "--minutes", "1").output
    assert run(*base, "--targets", tmp_path / "nothing").exit_code != 0
    assert not (tmp_path / "encoder").exists()
