"""Formats of one line a recording: fairseq's manifest and .km, Kaldi's and ESPnet's text, JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vocable.exports.growing import State
from vocable.exports.rows import Content, Row
from vocable.exports.sinks import LineSink, facts, integers, line_part, word

ROOT = "."  # paths in a .tsv start here, and absolute ones stay what they are


def fairseq(out: Path, split: str, content: Content, state: State) -> LineSink:
    """`train.tsv` (root; then path, tab, samples), `train.km` (units), `train.ids`; `train.dur` if deduplicated."""
    stem = split or "train"
    manifest = out / f"{stem}.tsv"
    lines = {
        manifest: _manifest_line,
        out / f"{stem}.km": _units,
        out / f"{stem}.ids": lambda row: word(row.id),
    }
    if content.has_durations:
        lines[out / f"{stem}.dur"] = _durations
    return LineSink(lines, state, {manifest: ROOT})


def kaldi(out: Path, split: str, content: Content, state: State) -> LineSink:
    """`text` (id, then units) and `utt2num_samples`; `durations` if deduplicated. In the order of the store."""
    folder = out / split
    lines = {
        folder / "text": lambda row: f"{word(row.id)} {_units(row)}".rstrip(),
        folder / "utt2num_samples": lambda row: f"{word(row.id)} {row.entry.samples}",
    }
    if content.has_durations:
        lines[folder / "durations"] = lambda row: f"{word(row.id)} {_durations(row)}".rstrip()
    return LineSink(lines, state)


def jsonl(out: Path, split: str, content: Content, state: State) -> LineSink:
    """`train.jsonl`: an object with `tokens`, or `codes` by codebook, `durations` if deduplicated, and all facts."""
    labels = content.labels

    def line(row: Row) -> str:
        values: dict[str, Any] = facts(row)
        if content.stream.flat:
            values["tokens"] = row.ids.tolist()
        else:
            values["codes"] = dict(zip(labels, row.ids.reshape(len(labels), -1).tolist(), strict=True))
        if row.durations is not None:
            values["durations"] = row.durations.tolist()
        return json.dumps(values)

    return LineSink({out / f"{split or 'train'}.jsonl": line}, state)


def _manifest_line(row: Row) -> str:
    entry = row.entry
    place, samples = (entry.path, entry.source_samples) if entry.path else (entry.id, entry.samples)
    return f"{line_part(place) or '%'}\t{samples}"


def _units(row: Row) -> str:
    return integers(row.ids)


def _durations(row: Row) -> str:
    return "" if row.durations is None else integers(row.durations)
