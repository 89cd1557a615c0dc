"""`vocable import`: published codebooks and codecs, from the command line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans

from tests.cli.conftest import Run
from tests.cli.test_bad_input import assert_refused
from tests.tiny_models import write_tiny_model
from tests.tiny_originals import write_dac, write_encodec
from vocable.store import TokenStore
from vocable.tokenizers.units import UnitTokenizer


@pytest.fixture
def codebook(tmp_path: Path) -> Path:
    """A k-means model for the tiny SSL model, as fairseq publishes them."""
    points = np.random.RandomState(0).standard_normal((50, 32)).astype(np.float32)
    path = tmp_path / "km9.bin"
    joblib.dump(MiniBatchKMeans(9, n_init=1, compute_labels=False, random_state=0).fit(points), path)
    return path


def test_a_published_codebook_makes_tokens(vocable: Run, speech_folder: Path, codebook: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    code, out, err = vocable("import", codebook, "--features", model, "--layers", 2, "--out", tmp_path / "units")
    assert (code, out) == (0, "")
    assert "L2 (9)" in err
    centers = joblib.load(codebook).cluster_centers_
    (quantizer,) = UnitTokenizer.from_pretrained(tmp_path / "units").quantizers
    assert np.array_equal(quantizer.centroids.numpy(), centers)
    code, _, err = vocable("tokenize", speech_folder, "--tokenizer", tmp_path / "units", "--out", tmp_path / "tokens")
    assert code == 0, err
    assert TokenStore.open(tmp_path / "tokens").spec.labels == ("L2",)
    code, out, err = vocable("inspect", tmp_path / "units")
    assert code == 0, err
    assert "km9.bin" in out


def test_a_bundle_needs_its_model_no_more(vocable: Run, codebook: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    options = ("--features", model, "--layers", 2, "--bundle", "--out", tmp_path / "units")
    assert vocable("import", codebook, *options)[0] == 0
    (model / "model.safetensors").unlink()
    assert UnitTokenizer.from_pretrained(tmp_path / "units").spec.labels == ("L2",)


def test_original_codecs(vocable: Run, tmp_path: Path) -> None:
    sources = {"encodec": write_encodec(tmp_path / "encodec.th"), "dac": write_dac(tmp_path / "weights.pth")}
    for name, source in sources.items():
        code, out, err = vocable("import", source, "--out", tmp_path / name)
        assert (code, out) == (0, "")
        assert "3 codebooks" in err
        assert json.loads((tmp_path / name / "config.json").read_text())["model_type"] == name
        assert_refused(vocable("import", source, "--out", tmp_path / name), "already", "--overwrite")
        assert vocable("import", source, "--out", tmp_path / name, "--overwrite")[0] == 0


def test_what_cannot_be_imported(vocable: Run, codebook: Path, tmp_path: Path) -> None:
    model, out = write_tiny_model(tmp_path / "model"), ("--out", tmp_path / "units")
    hostile = tmp_path / "hostile.bin"
    hostile.write_bytes(pickle.dumps(json.loads))
    assert_refused(vocable("import", codebook, *out), "encodec", "--features")
    assert_refused(vocable("import", codebook, codebook, *out), "--features", code=2)
    assert_refused(vocable("import", codebook, "--layers", 2, *out), "--features", code=2)
    assert_refused(vocable("import", *out), "FILE", code=2)
    with_model = ("--features", model, "--layers")
    assert_refused(vocable("import", hostile, *with_model, 2, *out), "found json.loads")
    assert_refused(vocable("import", codebook, *with_model, "1,2", *out), "L1, L2", "got 1 file")
    assert_refused(vocable("import", codebook, "--features", "mfcc", *out), "dimension 39, got 32")
    assert_refused(vocable("import", tmp_path / "absent", *with_model, 2, *out), "cannot be read")
    assert_refused(vocable("import", write_encodec(tmp_path / "e.th"), *with_model, 2, *out), "one matrix")
    assert_refused(vocable("import", tmp_path, *out), "config.json is missing")
    assert not (tmp_path / "units").exists()
