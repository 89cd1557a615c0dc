"""A dataset directory as the Hugging Face hub has them: Parquet files by split, and a card that says what they hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vocable.errors import InputError
from vocable.exports.growing import State
from vocable.exports.rows import Content, Row
from vocable.files import legible, write_atomic

_FACTS = ("id", "path", "samples", "source_samples", "source_rate", "checksum")
_SCALES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_MORE = "n>1M"


class ParquetSink:
    """`data/train-00000.parquet` and on, each of about `shard_bytes` of codes before compression.

    Columns: what the store says of a recording, `tokens` or a column for each codebook, `durations` if deduplicated.
    """

    def __init__(self, out: Path, split: str, content: Content, state: State, *, shard_bytes: int) -> None:
        self._stem, self._content, self._shard_bytes = out / "data" / split_name(split), content, shard_bytes
        self._written = {"rows": int(state.get("rows", 0)), "parts": int(state.get("parts", 0))}
        self._schema = _schema(content)
        self._waiting: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, row: Row) -> None:
        """Keeps the row until there are enough for a file."""
        columns = _columns(row, self._content)
        self._waiting.append(columns)
        self._bytes += row.ids.size * 4 + len(columns["fields"])
        if self._bytes >= self._shard_bytes:
            self._flush()

    def state(self) -> State:
        """What is in finished files."""
        return dict(self._written)

    def finish(self) -> None:
        """Writes the rows that are left."""
        if self._waiting:
            self._flush()

    def close(self) -> None:
        """Forgets the rows that are in no file yet."""
        self._waiting = []

    def _flush(self) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(self._waiting, self._schema), sink, compression="zstd")
        name = f"{self._stem.name}-{self._written['parts']:05d}.parquet"
        write_atomic(self._stem.with_name(name), sink.getvalue().to_pybytes())
        self._written = {"rows": self._written["rows"] + len(self._waiting), "parts": self._written["parts"] + 1}
        self._waiting, self._bytes = [], 0


def split_name(split: str) -> str:
    """The name by which `datasets` knows a split: without dashes, which it does not allow."""
    return split.replace("-", "_") or "train"


def write_card(out: Path, content: Content, counts: Mapping[str, int]) -> None:
    """README.md: which files are which split, for `datasets`, and for people what the columns are."""
    total = sum(counts.values())
    scale = next((name for limit, name in _SCALES if total < limit), _MORE)
    names = sorted(map(split_name, counts))
    # in quotes: YAML takes some words for other things than names
    files = "".join(f'  - split: "{name}"\n    path: "data/{name}-*.parquet"\n' for name in names)
    # indented, because no name inside can then end the block
    made = json.dumps(content.stream.config(), indent=1).replace("\n", "\n    ")
    spec = content.spec
    text = f"""---
pretty_name: Discrete audio tokens
size_categories:
- {scale}
tags:
- audio
- discrete-audio-tokens
- vocable
configs:
- config_name: default
  data_files:
{files}---

# Discrete audio tokens

{total:,} recordings as discrete tokens, {spec.frame_rate:g} frames a second of audio at {spec.sample_rate} Hz, made by
tokenizer `{spec.source[:12]}` and exported with vocable.

- `id`, `path`, `checksum` (SHA-256), `source_samples`, `source_rate` (Hz): the recording.
- `samples`: of audio that the tokens stand for, at {spec.sample_rate} Hz.
- {_column_text(content)}
- `fields`: whatever else a manifest said, as JSON.

```python
from datasets import load_dataset

splits = load_dataset("path/to/this/folder")
```

What the tokens are:

    {made}
"""
    write_atomic(out / "README.md", text.encode())


def _column_text(content: Content) -> str:
    repeated = " `durations`: frames that each lasted; repetitions are left out." if content.has_durations else ""
    if content.stream.flat:
        return f"`tokens`: 0..{content.vocabulary - 1}, all codebooks as one sequence.{repeated}"
    return f"a column for each codebook, a code for every frame.{repeated}"


def _width(content: Content) -> np.dtype[Any]:
    return np.dtype(np.uint16 if content.vocabulary <= 1 << 16 else np.int64)


def _schema(content: Content) -> pa.Schema:
    integers = pa.list_(pa.from_numpy_dtype(_width(content)))
    durations = [("durations", pa.list_(pa.int32()))] if content.has_durations else []
    taken = {*_FACTS, "fields", *(name for name, _ in durations)} & set(content.labels)
    if taken:
        raise InputError(f"a codebook cannot be labelled {', '.join(sorted(taken))} here: another column is")
    fields = [(name, pa.int64() if name.startswith("s") else pa.string()) for name in _FACTS]
    return pa.schema([*fields, *((name, integers) for name in content.labels), *durations, ("fields", pa.string())])


def _columns(row: Row, content: Content) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(row.entry, name) for name in _FACTS}
    values["path"] = legible(row.entry.path)
    ids = row.ids.astype(_width(content)).reshape(len(content.labels), -1)
    values |= dict(zip(content.labels, ids, strict=True))
    if row.durations is not None:
        values["durations"] = row.durations
    values["fields"] = legible(json.dumps(row.entry.fields, ensure_ascii=False))
    return values
