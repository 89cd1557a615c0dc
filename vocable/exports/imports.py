"""Units that other tools wrote, one line a recording, as a token store: fairseq's .km, Kaldi's and ESPnet's text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path

import numpy as np

from vocable.errors import InputError
from vocable.exports.run import exported_stream
from vocable.exports.sinks import text_of
from vocable.progress import Progress, Watcher, unwatched
from vocable.store import Entry, TokenStore
from vocable.tokenizers.streams import TokenStream

SOURCES = ("fairseq", "kaldi")
_SHARD_LINES = 5000


@dataclass(frozen=True)
class _Line:
    """What the lines of one recording say, and where they stand. samples: 0 where nothing says."""

    place: str
    id: str
    units: str
    path: str
    samples: int
    durations: str | None


def import_tokens(
    file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    stream: TokenStream,
    *,
    source: str | None = None,
    overwrite: bool = False,
    watcher: Watcher = unwatched,
) -> Progress:
    """Writes the units of a file to a store, 5,000 recordings a shard; stopped runs go on.

    source: one of `SOURCES`; None takes a `.km` for fairseq's and all else for Kaldi's. Beside `train.km` may lie
    `train.tsv`, from which ids (paths without suffix) and samples come, and `train.ids` and `train.dur`, as `export`
    writes them; without, ids are numbered. Beside Kaldi's `text` may lie `utt2num_samples` and `durations`. Where
    samples are not known or do not make as many frames, they are those that the units stand for.

    stream: what the units are, one sequence a recording; a spec with one codebook, or any stream that is flat.
    InputError that names the line if one is no line of integers, is no sequence of the stream or repeats an id, and if
    files beside each other differ in their lines.
    """
    path = Path(file)
    if not stream.flat and len(stream.form.rows) != 1:
        labels = ", ".join(stream.spec.labels)
        raise InputError(f"expected units of one codebook, got {labels}", hint="say which with --codebook")
    source = source or ("fairseq" if path.suffix == ".km" else "kaldi")
    if source not in SOURCES:
        raise InputError(f"expected a source among {', '.join(SOURCES)}, got {source!r}")
    total = _count(path)
    lines = _fairseq(path, total) if source == "fairseq" else _kaldi(path, total)
    store = TokenStore.create(out, stream.spec, overwrite=overwrite)
    done, seen = set(store.ids()), set[str]()
    progress = Progress(total)
    while group := list(islice(lines, _SHARD_LINES)):
        entries = [_entry(line, stream, seen) for line in group]
        fresh = [entry for entry in entries if entry.id not in done]
        store.append(fresh)
        progress.done += len(fresh)
        progress.skipped += len(group) - len(fresh)
        progress.audio_seconds += sum(entry.samples for entry in fresh) / stream.spec.sample_rate
        watcher(progress)
    return progress


def _fairseq(path: Path, total: int) -> Iterator[_Line]:
    manifest = _beside(path, path.with_suffix(".tsv"), total + 1)
    names = _beside(path, path.with_suffix(".ids"), total)
    durations = _beside(path, path.with_suffix(".dur"), total)
    rows = _rows(manifest)
    root = Path(next(rows) or "")
    columns = zip(_rows(path), rows, _rows(names), _rows(durations), strict=False)
    for number, (units, row, name, lasted) in enumerate(columns, start=1):
        place, _, samples = (row or "").rpartition("\t")
        if manifest and not (place and samples.isdecimal()):
            raise InputError(f"expected a path, a tab and samples in line {number + 1} of {manifest}, got {row!r:.80}")
        plain = str(Path(place).with_suffix("")) if place else f"{path.stem}-{number - 1:09d}"
        identifier = plain if name is None else text_of(name)
        where = str(root / place) if place else ""
        yield _Line(f"line {number} of {path}", identifier, units or "", where, int(samples or 0), lasted)


def _kaldi(path: Path, total: int) -> Iterator[_Line]:
    counts = _beside(path, path.with_name("utt2num_samples"), total)
    durations = _beside(path, path.with_name("durations"), total)
    # only what `export` wrote has encoded ids; elsewhere a percent sign is one
    decode = text_of if stream_beside(path) else str
    columns = zip(_rows(path), _rows(counts), _rows(durations), strict=False)
    for number, (line, row, durations_row) in enumerate(columns, start=1):
        name, units = [*(line or "").split(maxsplit=1), "", ""][:2]
        if not name:
            raise InputError(f"expected an id and units in line {number} of {path}, got {line!r:.80}")
        samples, lasted = (_of(name, said, number) for said in (row, durations_row))
        if samples is not None and not samples.isdecimal():
            raise InputError(f"expected samples in line {number} of {counts}, got {samples!r:.80}")
        yield _Line(f"line {number} of {path}", decode(name), units, "", int(samples or 0), lasted)


def _of(name: str, row: str | None, number: int) -> str | None:
    """What a line of a file beside `text` says of the recording that this line of `text` names."""
    if row is None:
        return None
    other, said = [*row.split(maxsplit=1), "", ""][:2]
    if other != name:
        raise InputError(f"expected {name!r} in line {number} of the files beside, as in text, got {other!r:.80}")
    return said.strip()


def stream_beside(path: Path) -> TokenStream | None:
    """What `export` says of the file that it wrote; None if it did not."""
    return exported_stream(path.parent) or exported_stream(path.parent.parent)


def _entry(line: _Line, stream: TokenStream, seen: set[str]) -> Entry:
    if line.id in seen:
        raise InputError(f"expected ids that differ, got {line.id!r} again in {line.place}")
    seen.add(line.id)
    ids = _integers(line.units, line.place)
    try:
        codes = stream.inverse(ids if stream.flat else ids[None])
    except InputError as problem:
        raise InputError(f"{line.place}: {problem.message}", hint="are the units of this tokenizer?") from problem
    if line.durations is not None:
        lasted = _integers(line.durations, f"the durations of {line.place}")
        if len(lasted) != codes.shape[1] or (lasted < 1).any():
            raise InputError(f"expected a positive duration for each of {codes.shape[1]} units in {line.place}")
        codes = np.repeat(codes, lasted, axis=1)
    spec, frames = stream.spec, codes.shape[1]
    known = line.samples and spec.num_frames(line.samples) == frames
    return Entry(line.id, codes, line.samples if known else spec.num_samples(frames), line.path)


def _integers(text: str, place: str) -> np.ndarray:
    try:
        return np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        raise InputError(f"expected integers in {place}, got {text[:80]!r}") from None


def _beside(path: Path, other: Path, lines: int) -> Path | None:
    """The other file if it is there. InputError if it does not have so many lines."""
    if not other.is_file():
        return None
    if (found := _count(other)) != lines:
        raise InputError(f"expected {lines} lines in {other}, which goes with {path}, got {found}")
    return other


def _rows(path: Path | None) -> Iterator[str | None]:
    """The lines of a file, without end for none: `zip` stops with the file that is there."""
    return repeat(None) if path is None else _lines(path)


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode().rstrip("\r\n")
            except UnicodeDecodeError:
                raise InputError(f"expected UTF-8 in line {number} of {path}, got {line[:80]!r}") from None


def _count(path: Path) -> int:
    """Lines of a file. InputError if there is none."""
    if not path.is_file():
        raise InputError(f"expected a file of units, got {path}")
    with path.open("rb") as file:
        return sum(1 for _ in file)
