"""The token store: a folder of Parquet shards that knows what its tokens are and who made them.

    tokens/
      _store.json        format, spec, fingerprint of the tokenizer
      tokenizer/         a copy of the tokenizer's artifact, if it was given
      data/part-<hash>.parquet
      failures.jsonl     recordings that could not be tokenized, and why

A shard is written under a hidden name, synced, and then named after its own SHA-256. So it is there whole or not at
all, any damage shows, writers never meet, and a run that was killed goes on from the shards that are there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from vocable.corpus import Failure
from vocable.errors import InputError, SpecError, StoreError
from vocable.files import is_vacant, legible, remove, write_atomic
from vocable.types import Codebook, Tokens, TokenSpec

FORMAT = 1
_HEAD, _DATA, _FAILURES = "_store.json", "data", "failures.jsonl"
_COLUMNS = {"id", "path", "samples", "frames", "source_samples", "source_rate", "checksum", "fields"}


@dataclass(frozen=True)
class Entry:
    """One utterance of a store.

    codes: [K, T] small unsigned integers. samples: of audio they stand for, at the spec's rate.
    source_samples, source_rate: of the recording itself (0 if there was none). checksum: SHA-256 of the file.
    fields: whatever else a manifest said of it.
    """

    id: str
    codes: np.ndarray
    samples: int
    path: str = ""
    source_samples: int = 0
    source_rate: int = 0
    checksum: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    def tokens(self, spec: TokenSpec) -> Tokens:
        """The entry as a batch of one."""
        return Tokens.of([torch.from_numpy(self.codes.astype(np.int64))], spec, [self.samples])


class TokenStore:
    """Utterance id -> codes, on disk. Open one with `open` or `create`; iterate for its entries."""

    def __init__(self, path: Path, spec: TokenSpec) -> None:
        self.path, self.spec = path, spec

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TokenStore:
        """An existing store. StoreError if there is none, or none that this version reads."""
        head = Path(path) / _HEAD
        try:
            body = json.loads(head.read_bytes())
            claimed = body.pop("checksum")
            if sha256(_canonical(body)).hexdigest() != claimed:
                raise StoreError(f"{head} is damaged: its checksum does not fit", hint="tokenize into another --out")
            if body["format"] != FORMAT:
                raise StoreError(
                    f"{path} is of format {body['format']}, this version reads {FORMAT}", hint="update vocable"
                )
            return cls(Path(path), TokenSpec.from_dict(body["spec"]))
        except StoreError:
            raise
        except FileNotFoundError:
            raise StoreError(f"{path} is not a token store", hint="make one with `vocable tokenize`") from None
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError, OSError) as problem:
            raise StoreError(f"{head} is not the head of a token store: {problem}") from problem

    @classmethod
    def create(cls, path: str | os.PathLike[str], spec: TokenSpec, *, overwrite: bool = False) -> TokenStore:
        """A new store, or the one that is there if it holds the same kind of tokens. SpecError if it holds others.

        With `overwrite`, a store that is there is removed first; a folder that is no store never is.
        """
        taken = {book.label for book in spec.codebooks} & _COLUMNS
        if taken:
            raise InputError(f"a codebook cannot be labelled {', '.join(sorted(taken))}: a column of the store is")
        folder = Path(path)
        if overwrite and (folder / _HEAD).exists():
            for part in (_DATA, "tokenizer", _FAILURES, _HEAD):
                remove(folder / part)
        if (folder / _HEAD).exists():
            store = cls.open(folder)
            if store.spec != spec:
                raise SpecError(
                    f"{path} holds tokens of tokenizer {store.spec.source[:12]}, not of {spec.source[:12]}",
                    hint="name another --out, or replace it with --overwrite",
                )
            return store
        if not is_vacant(folder):
            raise StoreError(f"{path} is there already and is not a token store", hint="name another --out")
        body: dict[str, Any] = {"format": FORMAT, "spec": spec.to_dict()}
        body["checksum"] = sha256(_canonical(body)).hexdigest()
        write_atomic(folder / _HEAD, json.dumps(body, indent=1).encode() + b"\n")
        return cls(folder, spec)

    @property
    def tokenizer_path(self) -> Path:
        """Where the copy of the tokenizer's artifact lies, if there is one."""
        return self.path / "tokenizer"

    def shards(self) -> list[Path]:
        """The finished shards, in a fixed order."""
        return sorted((self.path / _DATA).glob("part-*.parquet"))

    def ids(self) -> list[str]:
        """The ids of all utterances, each once. StoreError if a shard is damaged."""
        tables = (self._table(shard, ["id"]) for shard in self.shards())
        return list(dict.fromkeys(name for table in tables for name in table["id"].to_pylist()))

    def __len__(self) -> int:
        return len(self.ids())

    def __iter__(self) -> Iterator[Entry]:
        """All entries; where two runs wrote the same utterance it comes once. StoreError if a shard is damaged."""
        seen: set[str] = set()
        for shard in self.shards():
            table = self._table(shard)
            for index in range(len(table)):
                row = {name: table[name][index] for name in table.column_names}
                if row["id"].as_py() not in seen:
                    seen.add(row["id"].as_py())
                    yield self._entry(row)

    def append(self, entries: Iterable[Entry]) -> None:
        """Writes one shard. After this returns, the entries survive a crash."""
        rows = list(entries)
        if not rows:
            return
        for entry in rows:
            self._check(entry)
        sink = pa.BufferOutputStream()
        pq.write_table(self._to_table(rows), sink, compression="zstd", write_page_checksum=True)
        data = sink.getvalue().to_pybytes()
        write_atomic(self.path / _DATA / f"part-{sha256(data).hexdigest()[:32]}.parquet", data)

    def failures(self) -> list[Failure]:
        """Recordings that could not be tokenized: the last word on each."""
        path = self.path / _FAILURES
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        latest = {}
        for line in lines:
            try:
                failure = Failure(**json.loads(line))
                latest[failure.id] = failure
            except (ValueError, TypeError):
                continue  # a line cut off by a kill: the recording is tried again anyway
        return list(latest.values())

    def note_failure(self, failure: Failure) -> None:
        """Adds a line to failures.jsonl."""
        with (self.path / _FAILURES).open("ab") as file:
            file.write(_line(failure))

    def settle_failures(self, settled: set[str]) -> None:
        """Forgets the failures of these ids, and writes failures.jsonl anew (or removes it if none is left)."""
        left = [failure for failure in self.failures() if failure.id not in settled]
        path = self.path / _FAILURES
        if left:
            write_atomic(path, b"".join(map(_line, left)))
        else:
            path.unlink(missing_ok=True)

    def _check(self, entry: Entry) -> None:
        frames = self.spec.num_frames(entry.samples)
        if entry.codes.shape != (self.spec.num_codebooks, frames):
            expected = [self.spec.num_codebooks, frames]
            raise InputError(f"expected codes {expected} for {entry.id!r}, got {list(entry.codes.shape)}")
        if not np.issubdtype(entry.codes.dtype, np.integer):
            raise InputError(f"codes of {entry.id!r} must be integers, got {entry.codes.dtype}")
        for row, book in zip(entry.codes, self.spec.codebooks, strict=True):
            if not np.array_equal(_stretched(row[:: book.stride], book, frames), row):
                raise InputError(f"codes of {entry.id!r} must repeat {book.stride} times in codebook {book.label}")
            if row.size and (int(row.min()) < 0 or int(row.max()) >= book.size):
                raise InputError(f"codes of {entry.id!r} leave the range of codebook {book.label} (0..{book.size - 1})")

    def _to_table(self, rows: list[Entry]) -> pa.Table:
        columns: dict[str, pa.Array] = {
            "id": pa.array([row.id for row in rows], pa.string()),
            "path": pa.array([legible(row.path) for row in rows], pa.string()),
            "samples": pa.array([row.samples for row in rows], pa.int64()),
            "frames": pa.array([row.codes.shape[1] for row in rows], pa.int64()),
        }
        for index, book in enumerate(self.spec.codebooks):
            codes = [row.codes[index, :: book.stride].astype(_code_type(book.size)) for row in rows]
            columns[book.label] = pa.array(codes, pa.list_(pa.from_numpy_dtype(_code_type(book.size))))
        columns |= {
            "source_samples": pa.array([row.source_samples for row in rows], pa.int64()),
            "source_rate": pa.array([row.source_rate for row in rows], pa.int32()),
            "checksum": pa.array([row.checksum for row in rows], pa.string()),
            "fields": pa.array([legible(json.dumps(row.fields, ensure_ascii=False)) for row in rows], pa.string()),
        }
        return pa.table(columns).replace_schema_metadata({"vocable": json.dumps(self._shard_head())})

    def _table(self, shard: Path, columns: list[str] | None = None) -> pa.Table:
        data = shard.read_bytes()
        if shard.stem.removeprefix("part-") != sha256(data).hexdigest()[:32]:
            raise StoreError(
                f"{shard} is damaged: its bytes do not match its name",
                hint="remove that file and run the same `vocable tokenize` again: only its utterances are done anew",
            )
        table = pq.read_table(pa.BufferReader(data), columns=columns)
        if json.loads(table.schema.metadata[b"vocable"]) != self._shard_head():
            raise StoreError(f"{shard} holds other tokens than its store", hint="remove that file")
        return table

    def _shard_head(self) -> dict[str, Any]:
        head: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, "spec": self.spec.to_dict()}))
        return head

    def _entry(self, row: dict[str, pa.Scalar]) -> Entry:
        known = {name: row[name].as_py() for name in _COLUMNS - {"fields"}}
        frames, fields = known.pop("frames"), json.loads(row["fields"].as_py())
        # values, not as_py: a Python integer for every code would take a hundred times the memory
        streams = [_stretched(row[book.label].values.to_numpy(), book, frames) for book in self.spec.codebooks]
        codes = np.stack([stream.astype(np.result_type(*streams)) for stream in streams])
        return Entry(codes=codes, fields=fields, **known)


def _code_type(size: int) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.uint32


def _stretched(codes: np.ndarray, book: Codebook, frames: int) -> np.ndarray:
    """One code for every frame, from one for every stride."""
    return np.repeat(codes, book.stride)[:frames]


def _line(failure: Failure) -> bytes:
    return legible(json.dumps(asdict(failure), ensure_ascii=False)).encode() + b"\n"


def _canonical(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
