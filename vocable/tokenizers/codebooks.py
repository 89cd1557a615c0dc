"""Codebooks as others publish them: arrays, tensors, FAISS indices, k-means of scikit-learn; told apart by content.

Nothing in a file is ever executed: pickles are read by `vocable.tokenizers.pickles`, torch files with `weights_only`.
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocable.errors import ArtifactError, InputError
from vocable.quantizers.kmeans import KMeans
from vocable.tokenizers import extractors
from vocable.tokenizers.pickles import Record, array_bytes, array_of, read_pickle
from vocable.tokenizers.units import UnitTokenizer

_KEYS = ("cluster_centers_", "cluster_centers", "centroids", "centers", "codebook", "weight")
_MOST_BYTES = 1 << 30  # of what a compressed file may grow to
_ZIP = b"PK\x03\x04"
_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_UNREADABLE = (
    *(UnpicklingError, RuntimeError, ValueError, TypeError, LookupError, AttributeError),
    *(EOFError, AssertionError, struct.error, zipfile.BadZipFile),
)
_FORMATS = "a .npy, .pt or .safetensors file, a flat FAISS index, or a scikit-learn or joblib pickle"


def import_units(
    model: str,
    layers: Sequence[int | str] | None,
    paths: Sequence[Path],
    *,
    revision: str | None = None,
    device: str = "cpu",
) -> UnitTokenizer:
    """Units of published codebooks: a file for each layer, in the same order. The evidence names files and hashes.

    model, layers: as `vocable.tokenizers.build` takes them. InputError unless there is a file for every layer, of the
    model's dimension; ArtifactError for a file that is no codebook.
    """
    extractor = extractors.build(model, layers=layers, revision=revision, device=device)
    if len(paths) != len(extractor.layers):
        raise InputError(
            f"expected a codebook for each of the layers {', '.join(extractor.layers)}, got {len(paths)} files",
            hint="name the layers that the codebooks are for with --layers, in the order of the files",
        )
    quantizers = [KMeans(read_codebook(path, dim=extractor.dim).to(device)) for path in paths]
    imported = [{"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest()} for path in paths]
    return UnitTokenizer(extractor, quantizers, evidence={"imported": imported})


def read_codebook(path: Path, *, dim: int | None = None) -> Tensor:
    """The centroids [V, D] (float32) in a file.

    Reads .npy; .pt of one tensor or of a dictionary with one; safetensors; flat FAISS indices; pickles and joblib dumps
    (plain, zlib, gzip, bz2, xz, lzma) of an array, a dictionary or a KMeans or MiniBatchKMeans of scikit-learn.
    ArtifactError if the file is missing, damaged or of another format, or holds anything but arrays and k-means models.
    InputError if there is not one finite floating-point matrix in it, or not one of dimension `dim`.
    """
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise ArtifactError(f"{path} cannot be read: {problem.strerror}") from problem
    try:
        centroids = _matrix(_read(data))
    except ArtifactError as problem:
        raise ArtifactError(f"{path}: {problem.message}", hint=problem.hint) from problem
    except InputError as problem:
        raise InputError(f"{path}: {problem.message}", hint=problem.hint) from problem
    if dim is not None and centroids.shape[1] != dim:
        raise InputError(
            f"{path}: expected a codebook of dimension {dim}, got {centroids.shape[1]}",
            hint="use the model and the layer that the codebook was trained on",
        )
    return centroids


def read_torch(data: bytes) -> Any:
    """What torch.save wrote, tensors and plain values, on the CPU. ArtifactError if it is more, or damaged."""
    if not data.startswith((_ZIP, _TORCH_LEGACY)):
        raise ArtifactError("expected a torch file of tensors, got something else")
    try:
        if data.startswith(_ZIP):
            _require_stored(data)
        with warnings.catch_warnings():  # of pickles that torch did not write; they are refused, or read
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _UNREADABLE as problem:
        raise ArtifactError("expected a torch file of tensors, got one that holds more or is damaged") from problem


def is_dense(value: Any) -> bool:
    """Whether this is a floating-point tensor on the CPU that claims no more numbers than its storage has."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    if value.layout != torch.strided or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _require_stored(data: bytes) -> None:
    """Torch never compresses: a member that is compressed could be a bomb."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("a compressed member")


def _read(data: bytes) -> Any:
    """The values in a file, by its first bytes."""
    data = _inflated(data)
    if _is_safetensors(data):
        return _safetensors(data)
    for start, read in _READERS.items():
        if data.startswith(start):
            return read(data)
    raise ArtifactError(f"expected {_FORMATS}, got something else")


def _is_safetensors(data: bytes) -> bool:
    """A length below 4 GiB in eight bytes, then JSON. To be asked first: the length may look like any other format."""
    return data[4:9] == b"\0\0\0\0{"


def _matrix(values: Any) -> Tensor:
    """The codebook among the values, checked."""
    if isinstance(values, Record):
        if not values.is_kmeans or "cluster_centers_" not in values.fields:
            raise InputError(f"expected a k-means model that was fitted, got {values.name}")
        values = values.fields["cluster_centers_"]
    found = torch.as_tensor(_native(chosen)) if isinstance(chosen := _choose(values), np.ndarray) else chosen
    if not is_dense(found) or found.ndim != 2 or not found.numel():
        raise InputError(f"expected centroids [V, D] of floating-point numbers, got {_described(found)}")
    centroids: Tensor = found.detach().to(torch.float32, copy=True).contiguous()
    if not bool(centroids.isfinite().all()):
        raise InputError("expected finite centroids, got NaN or infinity")
    return centroids


def _choose(values: Any) -> Any:
    """The known name in a dictionary, else its only matrix; of anything else itself."""
    if not isinstance(values, Mapping):
        return values
    named = [key for key in _KEYS if key in values]
    matrices = [key for key, value in values.items() if isinstance(value, np.ndarray | Tensor) and value.ndim == 2]
    if not named and len(matrices) != 1:
        names = ", ".join(str(key)[:40] for key in list(values)[:5]) or "nothing"
        raise InputError(f"expected one matrix, or one under {', '.join(_KEYS)}, got {len(values)} values: {names}")
    return values[(named or matrices)[0]]


def _native(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("="))


def _described(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _inflated(data: bytes) -> bytes:
    """The bytes, decompressed where they are compressed, to no more than a gibibyte."""
    decompressor = next((known for start, known in _DECOMPRESSORS.items() if data.startswith(start)), None)
    if decompressor is None or _is_safetensors(data):
        return data
    try:
        machine = decompressor()
        plain: bytes = machine.decompress(data, _MOST_BYTES)
    except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError) as problem:
        raise ArtifactError(f"expected compressed data, got damaged ones ({problem})") from problem
    if not machine.eof:
        raise ArtifactError("expected compressed data of at most 1 GiB, got more, or a file that is cut off")
    return plain


def _npy(data: bytes) -> np.ndarray:
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype.hasobject or array_bytes(dtype, shape) > len(data) - stream.tell():
            raise ValueError(f"{list(shape)} of {dtype}")
        return array_of(stream.read(array_bytes(dtype, shape)), dtype, shape, fortran=fortran)
    except (ValueError, TypeError, EOFError, SyntaxError, TokenError) as problem:
        raise ArtifactError(f"expected an array of numbers, got a damaged .npy file ({problem})") from problem


def _safetensors(data: bytes) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, ValueError) as problem:
        raise ArtifactError(f"expected {_FORMATS}, got something else or a damaged file") from problem


def _faiss(data: bytes) -> np.ndarray:
    """The vectors of a flat index: its header is 37 bytes for the metrics in use, then their count, then float32."""
    if len(data) < 45:
        raise ArtifactError("expected a flat FAISS index, got a damaged one")
    kind, dim, count, metric, values = struct.unpack_from("<4siq17xiQ", data)
    if kind not in (b"IxF2", b"IxFI", b"IxFl") or metric not in (0, 1):
        raise ArtifactError(f"expected a flat FAISS index of vectors, got one of kind {kind.decode('latin-1')}")
    if dim < 1 or count < 0 or values != dim * count or len(data) != 45 + 4 * values:
        raise ArtifactError("expected a flat FAISS index, got a damaged one")
    vectors = np.frombuffer(data, "<f4", offset=45).reshape(count, dim)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if metric == 0 and norms.max(initial=0) > 1.001 * norms.min(initial=np.inf):
        raise ArtifactError(
            "expected an index of Euclidean distance, got one of inner products with vectors of unlike length"
        )
    return vectors


def _unsupported(data: bytes) -> Any:
    raise ArtifactError(
        f"expected {_FORMATS}, got one compressed in a way that is not read", hint="decompress it first"
    )


_READERS: dict[bytes, Callable[[bytes], Any]] = {
    b"\x93NUMPY": _npy,
    _ZIP: read_torch,
    _TORCH_LEGACY: read_torch,
    b"I": _faiss,
    b"\x80": read_pickle,
    b"c": read_pickle,
    b"(": read_pickle,
    b"}": read_pickle,
    b"ZF": _unsupported,
    b"\x04\x22\x4d\x18": _unsupported,
}
_DECOMPRESSORS: dict[bytes, Callable[[], Any]] = {
    b"\x78": zlib.decompressobj,
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZ": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lambda: lzma.LZMADecompressor(memlimit=_MOST_BYTES),
    b"\x5d\x00": lambda: lzma.LZMADecompressor(memlimit=_MOST_BYTES),
}
