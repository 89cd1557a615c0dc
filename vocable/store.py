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
from vocable.errors import InputError, SpecError, StoreError, VocableError
from vocable.files import remove, write_atomic
from vocable.types import Tokens, TokenSpec

FORMAT = 1
_HEAD, _DATA, _FAILURES = "_store.json", "data", "failures.jsonl"


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
        except FileNotFoundError:
            raise StoreError(f"{path} is not a token store", hint="make one with `vocable tokenize`") from None
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError, NotADirectoryError) as problem:
            if isinstance(problem, VocableError):
                raise
            raise StoreError(f"{head} is not the head of a token store: {problem}") from problem

    @classmethod
    def create(cls, path: str | os.PathLike[str], spec: TokenSpec, *, overwrite: bool = False) -> TokenStore:
        """A new store, or the one that is there if it holds the same kind of tokens. SpecError if it holds others.

        With `overwrite`, a store that is there is removed first; a folder that is no store never is.
        """
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
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise StoreError(f"{path} is there already and is not a token store", hint="name another --out")
        body: dict[str, Any] = {"format": FORMAT, "spec": spec.to_dict()}
        body["checksum"] = sha256(_canonical(body)).hexdigest()
        (folder / _DATA).mkdir(parents=True, exist_ok=True)
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
            for batch in self._table(shard).to_batches(max_chunksize=256):
                for row in batch.to_pylist():
                    if row["id"] not in seen:
                        seen.add(row["id"])
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
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        latest = {}
        for line in lines:
            try:
                failure = Failure(**json.loads(line))
            except (ValueError, TypeError):
                continue  # a line cut off by a kill: the recording is tried again anyway
            latest[failure.id] = failure
        return list(latest.values())

    def note_failure(self, failure: Failure) -> None:
        """Adds a line to failures.jsonl."""
        with (self.path / _FAILURES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(failure), ensure_ascii=False) + "\n")

    def settle_failures(self, settled: set[str]) -> None:
        """Forgets the failures of these ids, and writes failures.jsonl anew (or removes it if none is left)."""
        left = [failure for failure in self.failures() if failure.id not in settled]
        path = self.path / _FAILURES
        if left:
            write_atomic(path, "".join(json.dumps(asdict(f), ensure_ascii=False) + "\n" for f in left).encode())
        else:
            path.unlink(missing_ok=True)

    def _check(self, entry: Entry) -> None:
        frames = self.spec.num_frames(entry.samples)
        if entry.codes.shape != (self.spec.num_codebooks, frames):
            expected = [self.spec.num_codebooks, frames]
            raise InputError(f"expected codes {expected} for {entry.id!r}, got {list(entry.codes.shape)}")
        for row, book in zip(entry.codes, self.spec.codebooks, strict=True):
            if row.size and (int(row.min()) < 0 or int(row.max()) >= book.size):
                raise InputError(f"codes of {entry.id!r} leave the range of codebook {book.label} (0..{book.size - 1})")

    def _to_table(self, rows: list[Entry]) -> pa.Table:
        columns: dict[str, pa.Array] = {
            "id": pa.array([row.id for row in rows], pa.string()),
            "path": pa.array([row.path for row in rows], pa.string()),
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
            "fields": pa.array([json.dumps(row.fields, ensure_ascii=False) for row in rows], pa.string()),
        }
        head = json.dumps({"format": FORMAT, "spec": self.spec.to_dict()})
        return pa.table(columns).replace_schema_metadata({"vocable": head})

    def _table(self, shard: Path, columns: list[str] | None = None) -> pa.Table:
        data = shard.read_bytes()
        if shard.stem.removeprefix("part-") != sha256(data).hexdigest()[:32]:
            raise StoreError(
                f"{shard} is damaged: its bytes do not match its name",
                hint="remove that file and run the same `vocable tokenize` again: only its utterances are done anew",
            )
        return pq.read_table(pa.BufferReader(data), columns=columns)

    def _entry(self, row: dict[str, Any]) -> Entry:
        streams = [
            np.repeat(np.asarray(row[book.label], _code_type(book.size)), book.stride)[: row["frames"]]
            for book in self.spec.codebooks
        ]
        codes = np.stack([stream.astype(np.result_type(*streams)) for stream in streams])
        known = {name: row[name] for name in ("id", "path", "samples", "source_samples", "source_rate", "checksum")}
        return Entry(codes=codes, fields=json.loads(row["fields"]), **known)


def _code_type(size: int) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.uint32


def _canonical(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
