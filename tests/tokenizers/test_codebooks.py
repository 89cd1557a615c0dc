"""Codebooks as others publish them are read to the bit; whatever else is in a file is refused and never run."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.cluster import KMeans, MiniBatchKMeans

from tests.tiny_models import write_tiny_model
from vocable.errors import ArtifactError, InputError, VocableError
from vocable.tokenizers.codebooks import import_units, read_codebook
from vocable.tokenizers.units import UnitTokenizer

CENTERS = np.random.RandomState(0).standard_normal((5, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Fitted models of the kinds in circulation, with labels, random states, and settings of many types."""
    points = np.random.RandomState(1).standard_normal((60, 8))
    single, order = points.astype(np.float32), np.asfortranarray(points)
    return {
        "kmeans": KMeans(5, n_init=1, random_state=0).fit(single),
        "double": KMeans(5, n_init=1, init=points[:5]).fit(order),
        "minibatch": MiniBatchKMeans(5, n_init=1, random_state=np.random.RandomState(3)).fit(single),
        "fairseq": MiniBatchKMeans(5, n_init=1, compute_labels=False, batch_size=20, init_size=None).fit(points),
    }


def assert_read(path: Path, centers: np.ndarray) -> None:
    found = read_codebook(path, dim=centers.shape[1])
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), centers.astype(np.float32))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["kmeans", "double", "minibatch", "fairseq"])
def test_models_of_scikit_learn(models: dict[str, Any], name: str, protocol: int, tmp_path: Path) -> None:
    model, path = models[name], tmp_path / "km.bin"
    path.write_bytes(pickle.dumps(model, protocol))
    assert_read(path, model.cluster_centers_)
    joblib.dump(model, path, protocol=protocol)
    assert_read(path, model.cluster_centers_)


@pytest.mark.parametrize("method", ["zlib", "gzip", "bz2", "lzma", "xz"])
def test_compressed_dumps(models: dict[str, Any], method: str, tmp_path: Path) -> None:
    joblib.dump(models["minibatch"], tmp_path / "km.bin", compress=(method, 3))
    assert_read(tmp_path / "km.bin", models["minibatch"].cluster_centers_)


def test_dumps_of_joblib_before_it_aligned_arrays(models: dict[str, Any], tmp_path: Path) -> None:
    """Their wrappers know no alignment, and the values follow at once."""
    stream = io.BytesIO()
    joblib.dump(models["kmeans"], stream)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("joblib.numpy_pickle.NUMPY_ARRAY_ALIGNMENT_BYTES", None)
        patch.setattr("joblib.numpy_pickle.NumpyArrayWrapper.__init__.__defaults__", (False, None))
        joblib.dump(models["kmeans"], tmp_path / "km.bin")
    assert (tmp_path / "km.bin").read_bytes() != stream.getvalue()
    assert_read(tmp_path / "km.bin", models["kmeans"].cluster_centers_)


def test_no_package_is_needed_to_read_a_model(models: dict[str, Any], tmp_path: Path) -> None:
    joblib.dump(models["minibatch"], tmp_path / "km.bin")
    code = (
        "import sys; from pathlib import Path; from vocable.tokenizers.codebooks import read_codebook; "
        "print(len(read_codebook(Path(sys.argv[1]))), {'sklearn', 'joblib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "km.bin")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "5 set()\n"


WRITERS: dict[str, Callable[[Path], object]] = {
    "npy": lambda path: path.write_bytes(_npy(CENTERS)),
    "npy in Fortran order": lambda path: path.write_bytes(_npy(np.asfortranarray(CENTERS))),
    "npy of big-endian doubles": lambda path: path.write_bytes(_npy(CENTERS.astype(">f8"))),
    "npy, gzipped": lambda path: path.write_bytes(gzip.compress(_npy(CENTERS))),
    "torch tensor": lambda path: torch.save(torch.from_numpy(CENTERS), path),
    "torch parameter": lambda path: torch.save(torch.nn.Parameter(torch.from_numpy(CENTERS)), path),
    "torch, as it was before zip files": lambda path: torch.save(
        {"codebook": torch.from_numpy(CENTERS)}, path, _use_new_zipfile_serialization=False
    ),
    "torch, one matrix": lambda path: torch.save({"C": torch.from_numpy(CENTERS), "n": torch.zeros(5)}, path),
    "torch, a known name": lambda path: torch.save(
        {"x": torch.ones(2, 2), "centroids": torch.from_numpy(CENTERS)}, path
    ),
    "torch half": lambda path: torch.save(torch.from_numpy(CENTERS).half(), path),
    "safetensors": lambda path: save_file({"codebook": torch.from_numpy(CENTERS)}, path),
    "pickled array": lambda path: path.write_bytes(pickle.dumps(CENTERS)),
    "pickled dictionary": lambda path: path.write_bytes(pickle.dumps(OrderedDict(centers=CENTERS, k=5))),
    "joblib array": lambda path: joblib.dump(np.asfortranarray(CENTERS), path),
    "faiss L2": lambda path: _faiss(path, "IndexFlatL2", CENTERS),
}


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _faiss(path: Path, kind: str, vectors: np.ndarray) -> None:
    import faiss

    index = getattr(faiss, kind)(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(path))


@pytest.mark.parametrize("kind", WRITERS)
def test_arrays_and_tensors_whatever_the_suffix(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path / "codebook")
    assert_read(tmp_path / "codebook", CENTERS.astype(np.float16) if "half" in kind else CENTERS)


@pytest.mark.parametrize("entries", range(1, 60, 3))
def test_safetensors_of_any_header_length(entries: int, tmp_path: Path) -> None:
    """The length comes first in the file and may look like the first byte of another format."""
    tensors = {"centroids": torch.from_numpy(CENTERS)} | {f"{'n' * entries}{i}": torch.zeros(1) for i in range(entries)}
    save_file(tensors, tmp_path / "codebook")
    assert_read(tmp_path / "codebook", CENTERS)


def test_an_index_of_inner_products_must_mean_distances(tmp_path: Path) -> None:
    unit = CENTERS / np.linalg.norm(CENTERS, axis=1, keepdims=True)
    _faiss(tmp_path / "unit", "IndexFlatIP", unit)
    assert_read(tmp_path / "unit", unit)
    _faiss(tmp_path / "index", "IndexFlatIP", CENTERS)
    with pytest.raises(ArtifactError, match="inner products"):
        read_codebook(tmp_path / "index")


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _model_with(models: dict[str, Any], value: Any) -> Any:
    model = pickle.loads(pickle.dumps(models["kmeans"]))
    model.random_state = value
    return model


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, ("touch ran",), "system"),
        (eval, ("open('ran', 'w')",), "eval"),
        (subprocess.Popen, (["touch", "ran"],), "Popen"),
        (getattr, (Calls(eval, "open('ran', 'w')"), "x"), "(eval|getattr)"),
        (np.load, ("x", None, True), "load"),
    ],
)
def test_calls_are_refused_by_name(
    models: dict[str, Any],
    function: Any,
    arguments: Any,
    named: str,
    inside: bool,
    protocol: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hostile = Calls(function, *arguments)
    value = _model_with(models, hostile) if inside else {"centers": CENTERS, "x": hostile}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "km.bin").write_bytes(pickle.dumps(value, protocol))
    with pytest.raises(ArtifactError, match=rf"expected arrays and k-means settings, found \S*{named}"):
        read_codebook(tmp_path / "km.bin")
    assert not (tmp_path / "ran").exists()
    joblib.dump(value, tmp_path / "km.bin", protocol=protocol)
    with pytest.raises(ArtifactError, match=named):
        read_codebook(tmp_path / "km.bin")
    assert not (tmp_path / "ran").exists()


def test_any_change_of_a_byte_is_read_or_refused_in_words(models: dict[str, Any], tmp_path: Path) -> None:
    stream = io.BytesIO()
    joblib.dump(models["fairseq"], stream)
    path, random = tmp_path / "km.bin", np.random.RandomState(0)
    for _ in range(400):
        data = bytearray(stream.getvalue())
        data[random.randint(len(data))] = random.randint(256)
        path.write_bytes(data)
        try:
            read_codebook(path)
        except VocableError as problem:
            assert len(problem.message) < 1000


def _tampered_npy(old: bytes, new: bytes) -> bytes:
    return _npy(CENTERS).replace(old, new.ljust(len(old)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nothing of the kind",
        _npy(CENTERS)[:-1],
        _npy(CENTERS)[:20],
        _tampered_npy(b"(5, 3), }             ", b"(5, 300000000000000), }"[:22]),
        _tampered_npy(b"'<f4'", b"'|O'"),
        struct.pack("<4siq17xiQ", b"IxF2", 3, 2**40, 1, 3 * 2**40),
        struct.pack("<4siq17xiQ", b"IxF2", -3, 5, 1, 15) + CENTERS.tobytes(),
        struct.pack("<4siq17xiQ", b"IxF2", 3, 5, 1, 15) + CENTERS.tobytes()[:-4],
        struct.pack("<4siq17xiQ", b"IwFl", 3, 5, 1, 15) + CENTERS.tobytes(),
        b"IxF2",
        zlib.compress(b"\x80\x02")[:-2],
        gzip.compress(b"x", mtime=0)[:5],
        bz2.compress(b"abc")[:-3],
        lzma.compress(b"abc")[:-8],
        b"\x04\x22\x4d\x18lz4",
        b"ZF0x10",
        b"PK\x03\x04" + bytes(60),
        (8).to_bytes(8, "little") + b"{" + bytes(20),
    ],
)
def test_damaged_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "km.bin").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"km\.bin"):
        read_codebook(tmp_path / "km.bin")


def test_a_compressed_bomb_goes_off_in_bounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vocable.tokenizers.codebooks._MOST_BYTES", 1 << 20)
    for compress in (zlib.compress, gzip.compress, bz2.compress):
        (tmp_path / "km.bin").write_bytes(compress(bytes(1 << 22)))
        with pytest.raises(ArtifactError, match="at most"):
            read_codebook(tmp_path / "km.bin")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (CENTERS[:, 0], r"float32 \[5\]"),
        (CENTERS.astype(np.int64), "int64"),
        (CENTERS[:0], r"\[0, 3\]"),
        (np.where(CENTERS > 1, np.nan, CENTERS), "NaN"),
        (CENTERS * np.inf, "infinity"),
        (CENTERS.astype(np.float64) * 1e300, "infinity"),
        ({"a": CENTERS, "b": CENTERS}, "got 2 values: a, b"),
        ({}, "nothing"),
        ([CENTERS], "list"),
        (KMeans(3), "fitted"),
    ],
)
def test_what_is_no_codebook(values: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "km.bin").write_bytes(pickle.dumps(values))
    with pytest.raises(InputError, match=words):
        read_codebook(tmp_path / "km.bin")


def test_a_torch_file_with_more_than_tensors(tmp_path: Path) -> None:
    torch.save({"centroids": torch.zeros(2, 2), "path": tmp_path}, tmp_path / "km.pt")
    with pytest.raises(ArtifactError, match="holds more"):
        read_codebook(tmp_path / "km.pt")


def test_tensors_that_are_larger_than_what_they_hold(tmp_path: Path) -> None:
    tensors = [
        torch.zeros(1).as_strided((2**20, 2**20), (0, 0)),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(4, 4, device="meta"),
    ]
    for tensor in tensors:
        torch.save(tensor, tmp_path / "km.pt")
        with pytest.raises(InputError, match="floating-point"):
            read_codebook(tmp_path / "km.pt")


def test_a_torch_file_that_is_compressed(tmp_path: Path) -> None:
    torch.save(torch.zeros(5, 3), tmp_path / "km.pt")
    with zipfile.ZipFile(tmp_path / "km.pt") as stored, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as squeezed:
        for name in stored.namelist():
            squeezed.writestr(name, stored.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(ArtifactError, match="damaged"):
        read_codebook(tmp_path / "bomb.pt")


def test_a_codebook_of_another_dimension(tmp_path: Path) -> None:
    np.save(tmp_path / "km.npy", CENTERS)
    with pytest.raises(InputError, match="expected a codebook of dimension 768, got 3"):
        read_codebook(tmp_path / "km.npy", dim=768)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_codebook(tmp_path / "absent.npy")


def test_units_of_published_codebooks(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    paths = [tmp_path / "l3.npy", tmp_path / "l1.npy"]
    tables = [np.random.RandomState(seed).standard_normal((7, 32)).astype(np.float32) for seed in range(2)]
    for path, table in zip(paths, tables, strict=True):
        np.save(path, table)
    units = import_units(str(model), [3, 1], paths)
    assert units.spec.labels == ("L3", "L1")
    assert [quantizer.codebook_sizes for quantizer in units.quantizers] == [(7,), (7,)]
    expected = [{"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest()} for path in paths]
    assert units.evidence == {"imported": expected}
    units.save_pretrained(tmp_path / "units")
    again = UnitTokenizer.from_pretrained(tmp_path / "units")
    assert (again.fingerprint, again.evidence) == (units.fingerprint, units.evidence)
    for quantizer, table in zip(again.quantizers, tables, strict=True):
        np.testing.assert_array_equal(quantizer.decode(torch.arange(7)[:, None]).numpy(), table)
    with pytest.raises(InputError, match="each of the layers L3, L1, got 1 files"):
        import_units(str(model), [3, 1], paths[:1])
    with pytest.raises(InputError, match="dimension 39, got 32"):
        import_units("mfcc", None, paths[:1])
