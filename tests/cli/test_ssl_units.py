"""Units on the layers of a model, from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from tests.cli.conftest import Run
from tests.cli.test_bad_input import assert_refused
from tests.tiny_models import write_tiny_model
from vocable.store import TokenStore


def alter(model: Path) -> None:
    """Changes one weight of a checkpoint by one bit or so."""
    tensors = load_file(model / "model.safetensors")
    name = next(name for name in tensors if "layers.0" in name and name.endswith("k_proj.weight"))
    tensors[name][0, 0] += 1e-3
    save_file(tensors, model / "model.safetensors")


def test_all_layers_in_one_pass(vocable: Run, speech_folder: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    options = ("--features", model, "--layers", "1,3", "--clusters", 9)
    code, _, err = vocable("train", "kmeans", speech_folder, *options, "--out", tmp_path / "units")
    assert code == 0, err
    assert "L1: objective" in err
    assert "L3: objective" in err
    code, _, err = vocable("tokenize", speech_folder, "--tokenizer", tmp_path / "units", "--out", tmp_path / "tokens")
    assert code == 0, err
    store = TokenStore.open(tmp_path / "tokens")
    assert store.spec.labels == ("L1", "L3")
    assert all(entry.codes.shape == (2, store.spec.num_frames(entry.samples)) for entry in store)
    assert_refused(vocable("resynthesize", tmp_path / "tokens", "--out", tmp_path / "wavs"), "mfcc or logmel", "hint")


def test_another_model_in_that_place_is_refused(vocable: Run, speech_folder: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    options = ("--features", model, "--layers", "2", "--clusters", 9)
    vocable("train", "kmeans", speech_folder, *options, "--out", tmp_path / "units")
    vocable("train", "kmeans", speech_folder, *options, "--bundle", "--out", tmp_path / "bundle")
    fingerprints = [
        json.loads((tmp_path / name / "config.json").read_text())["fingerprint"] for name in ("units", "bundle")
    ]
    assert fingerprints[0] == fingerprints[1]
    alter(model)
    tokenize = ("tokenize", speech_folder, "--out", tmp_path / "tokens", "--tokenizer")
    assert_refused(vocable(*tokenize, tmp_path / "units"), "expected the weights", "hint")
    shutil.rmtree(model)
    assert_refused(vocable(*tokenize, tmp_path / "units"), "is not a directory", "hint")
    code, _, err = vocable(*tokenize, tmp_path / "bundle")
    assert code == 0, err


def test_layers_and_files_that_are_not_there(vocable: Run, speech_folder: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    out = ("--clusters", 9, "--out", tmp_path / "units")
    assert_refused(vocable("train", "kmeans", speech_folder, "--features", model, "--layers", "7", *out), "from 0 to 3")
    (model / "model.safetensors").unlink()
    assert_refused(vocable("train", "kmeans", speech_folder, "--features", model, *out), "has no model.safetensors")
    shutil.rmtree(model)
    assert_refused(vocable("train", "kmeans", speech_folder, "--features", model, *out), "is not a directory")
    assert not (tmp_path / "units").exists()
