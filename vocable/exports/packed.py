"""Packed tokens: one flat array of small integers and where each recording begins, for training language models.

    packed/
      pack.json         head: vocabulary, dtype, counts, spec, transform, size and SHA-256 of the files below
      tokens.bin        all tokens, little-endian uint16 or uint32, nothing between recordings
      offsets.bin       little-endian uint64 [U + 1]: recording u is tokens[offsets[u] : offsets[u + 1]]
      utterances.jsonl  a line for each recording: {"id": ..., "samples": ...}

`numpy.memmap` reads the two binary files as they are, and so does whatever reads nanoGPT's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np

from vocable.errors import InputError, StoreError
from vocable.exports.growing import GrowingFile, State
from vocable.exports.rows import Content, Row
from vocable.files import write_atomic
from vocable.tokenizers.streams import TokenStream
from vocable.types import TokenSpec

FORMAT, VERSION = "vocable packed tokens", 1
_HEAD, _TOKENS, _OFFSETS, _UTTERANCES = "pack.json", "tokens.bin", "offsets.bin", "utterances.jsonl"
_FILES = (_TOKENS, _OFFSETS, _UTTERANCES)
_AGAIN = "export it again"


def packed_dtype(vocabulary: int) -> np.dtype[Any]:
    """uint16 or uint32, little-endian: the smaller that holds 0..vocabulary - 1. InputError if neither does."""
    if not 1 <= vocabulary <= 1 << 32:
        raise InputError(
            f"expected a vocabulary of 1 to 4294967296 tokens, got {vocabulary}", hint="export fewer codebooks"
        )
    return np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")


class PackedSink:
    """Writes packed tokens, recording by recording. InputError if the vocabulary does not fit 32 bits."""

    def __init__(self, out: Path, split: str, content: Content, state: State) -> None:
        self._folder, self._content, self._vocabulary = out / split, content, content.vocabulary
        self._dtype = packed_dtype(self._vocabulary)
        self._rows, self._tokens = int(state.get("rows", 0)), int(state.get("tokens", 0))
        sizes = state.get("files", {})
        self._files = {name: GrowingFile(self._folder / name, sizes.get(name, 0)) for name in _FILES}
        if not self._files[_OFFSETS].size:
            self._files[_OFFSETS].write(_offset(0))

    def add(self, row: Row) -> None:
        """Appends the tokens of one recording. InputError if one is outside the vocabulary."""
        tokens = row.ids
        if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) < self._vocabulary:
            raise InputError(f"tokens of {row.id!r} leave the vocabulary 0..{self._vocabulary - 1}")
        self._files[_TOKENS].write(tokens.astype(self._dtype).tobytes())
        self._rows += 1
        self._tokens += len(tokens)
        self._files[_OFFSETS].write(_offset(self._tokens))
        self._files[_UTTERANCES].write(json.dumps({"id": row.id, "samples": row.entry.samples}).encode() + b"\n")

    def state(self) -> State:
        """Flushes the files, and says how far they are."""
        sizes = {name: file.flush() for name, file in self._files.items()}
        return {"rows": self._rows, "tokens": self._tokens, "files": sizes}

    def finish(self) -> None:
        """Names the files, and writes their head last."""
        for file in self._files.values():
            file.finish()
        head = {
            "format": FORMAT,
            "version": VERSION,
            "vocabulary": self._vocabulary,
            "dtype": self._dtype.name,
            "utterances": self._rows,
            "tokens": self._tokens,
            "spec": self._content.spec.to_dict(),
            "fingerprint": self._content.spec.source,
            "transform": self._content.stream.config(),
            "files": {name: {"bytes": file.size, "sha256": _digest(file.path)} for name, file in self._files.items()},
        }
        head["checksum"] = sha256(_canonical(head)).hexdigest()
        write_atomic(self._folder / _HEAD, json.dumps(head, indent=1).encode() + b"\n")

    def close(self) -> None:
        """Lets go of the files, finished or not."""
        for file in self._files.values():
            file.close()


@dataclass(frozen=True, eq=False)
class PackedTokens:
    """Packed tokens, mapped into memory: `packed[u]` are those of recording u.

    tokens: [N] uint16 or uint32, read-only. offsets: [U + 1] uint64. transform: the configuration of the `TokenStream`
    that made them of codes of `spec`. vocabulary: they are 0..vocabulary - 1.
    """

    path: Path
    vocabulary: int
    spec: TokenSpec
    transform: dict[str, Any]
    tokens: np.ndarray
    offsets: np.ndarray

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> PackedTokens:
        """Maps the files. StoreError if they are missing, of another version, or not of the sizes the head states.

        A change that leaves their sizes as they are is found by `verify`, which reads all of them.
        """
        folder = Path(path)
        head = _head(folder)
        dtype = packed_dtype(head["vocabulary"])
        if dtype.name != head["dtype"]:
            raise StoreError(f"{folder / _HEAD} says {head['dtype']} where {dtype.name} is meant", hint=_AGAIN)
        tokens = _mapped(folder / _TOKENS, dtype, head["tokens"])
        _require_size(folder / _UTTERANCES, head["files"][_UTTERANCES]["bytes"])
        offsets = _mapped(folder / _OFFSETS, np.dtype("<u8"), head["utterances"] + 1)
        if offsets[0] != 0 or offsets[-1] != len(tokens) or (offsets[1:] < offsets[:-1]).any():
            raise StoreError(f"{folder / _OFFSETS} is damaged: its offsets do not fit the tokens", hint=_AGAIN)
        return cls(folder, head["vocabulary"], TokenSpec.from_dict(head["spec"]), head["transform"], tokens, offsets)

    @property
    def stream(self) -> TokenStream:
        """What made the tokens of codes, and makes codes of them again."""
        return TokenStream.from_config(self.transform)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Tokens [n] of recording `index`, a view of the file. IndexError beyond the last."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected a recording 0..{len(self) - 1}, got {index}")
        return self.tokens[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def utterances(self) -> Iterator[tuple[str, int]]:
        """Id and samples of each recording, in order. StoreError if a line is damaged."""
        with (self.path / _UTTERANCES).open("rb") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                    yield row["id"], row["samples"]
                except (ValueError, KeyError, TypeError):
                    raise StoreError(f"{self.path / _UTTERANCES} is damaged: {line[:80]!r}", hint=_AGAIN) from None

    def verify(self) -> None:
        """Reads all bytes. StoreError if they are not those that were written."""
        facts = _head(self.path)["files"]
        for name in _FILES:
            path = self.path / name
            if not path.is_file() or _digest(path) != facts[name]["sha256"]:
                raise StoreError(f"{path} is damaged: its checksum does not fit", hint=_AGAIN)


def _head(folder: Path) -> dict[str, Any]:
    path = folder / _HEAD
    try:
        head: dict[str, Any] = json.loads(path.read_bytes())
        claimed = head.pop("checksum")
        if head["format"] != FORMAT or sha256(_canonical(head)).hexdigest() != claimed:
            raise StoreError(f"{path} is damaged: its checksum does not fit", hint=_AGAIN)
        if head["version"] != VERSION:
            raise StoreError(
                f"{folder} is of version {head['version']}, this version reads {VERSION}", hint="update vocable"
            )
    except StoreError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"{folder} holds no packed tokens", hint="make them with `vocable export TOKENS --to packed`"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as problem:
        raise StoreError(f"{path} is not the head of packed tokens: {problem}") from problem
    return head


def _require_size(path: Path, size: int) -> None:
    if not path.is_file():
        raise StoreError(f"{path} is missing", hint=_AGAIN)
    if (found := path.stat().st_size) != size:
        raise StoreError(f"{path} is damaged: expected {size} bytes, got {found}", hint=_AGAIN)


def _mapped(path: Path, dtype: np.dtype[Any], count: int) -> np.ndarray:
    _require_size(path, count * dtype.itemsize)
    # an empty file cannot be mapped
    return np.memmap(path, dtype, mode="r", shape=(count,)) if count else np.zeros(0, dtype)


def _offset(place: int) -> bytes:
    return place.to_bytes(8, "little")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _canonical(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
