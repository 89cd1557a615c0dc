"""Exporting a store: stop it where you like, run it again, and it ends with the same bytes as in one go."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from vocable.errors import InputError, OutputError, StoreError
from vocable.exports import text
from vocable.exports.arrays import ArraySink, TarSink
from vocable.exports.growing import State
from vocable.exports.hub import ParquetSink, split_name, write_card
from vocable.exports.packed import PackedSink, packed_dtype
from vocable.exports.rows import Content
from vocable.exports.sinks import Sink
from vocable.files import is_vacant, remove, write_atomic
from vocable.progress import Progress, Watcher, unwatched
from vocable.store import Entry, TokenStore
from vocable.tokenizers.streams import TokenStream

HEAD = "_export.json"
_VERSION = 1
_MOST_SPLITS = 100  # each has files open
_SHARD_BYTES = 100_000_000
_SPLIT = re.compile(r"[A-Za-z0-9]\w*([.-]\w+)*", re.ASCII)

_Maker = Callable[[Path, str, Content, State], Sink]
_MAKERS: dict[str, _Maker] = {
    "fairseq": text.fairseq,
    "kaldi": text.kaldi,
    "jsonl": text.jsonl,
    "npy": ArraySink,
    "packed": PackedSink,
}
_FLAT = {"fairseq", "kaldi", "packed"}
_SHARDED: dict[str, Callable[..., Sink]] = {"webdataset": TarSink, "huggingface": ParquetSink}
FORMATS = (*_MAKERS, *_SHARDED)


def export(
    store: TokenStore,
    out: str | os.PathLike[str],
    to: str,
    *,
    stream: TokenStream | None = None,
    split: str | None = None,
    shard_bytes: int = _SHARD_BYTES,
    checkpoint_seconds: float = 5.0,
    overwrite: bool = False,
    watcher: Watcher = unwatched,
) -> Progress:
    """Writes all recordings of a store to a folder, in one of `FORMATS`; docs/exports.md says what is where.

    stream: what is written of the codes, see `stream_of`; None for all of them as they are. Where it collapses runs of
    equal frames, how long each lasted is written beside (not in `packed`). split: a field of the manifest; each of its
    values gets files of its own. shard_bytes: of WebDataset's and Hugging Face's files. What is done is noted every
    `checkpoint_seconds`, so that is the most a kill can cost.

    Memory is bounded by a shard of the store and one of the output. The order is that of the store.
    InputError if the store is empty, a field is missing, or the format wants one sequence and there are several
    codebooks. SpecError if the store does not hold what the stream is of. StoreError if a shard is damaged, or others
    appear on the way. OutputError if `out` holds something else and is not to be overwritten.
    """
    content = Content(store.spec, stream or TokenStream(store.spec))
    maker, shards = _maker(to, content, shard_bytes), _shards(store)
    progress = Progress(len(store))
    if not progress.total:
        raise InputError(f"expected a store with recordings, got none in {store.path}")
    made = content.stream.config()
    settings = {"to": to, "store": shards, "split": split, "shard_bytes": shard_bytes, "stream": made}
    journal = _Journal.of(Path(out), settings, overwrite=overwrite)
    if journal.complete:
        progress.skipped = progress.total
        return progress
    run = _Run(journal, content, maker, progress)
    try:
        noted = time.monotonic()
        for entry in store:
            run.add(entry, _split_of(entry, split, to))
            watcher(progress)
            if time.monotonic() - noted > checkpoint_seconds:
                run.note()
                noted = time.monotonic()
        if _shards(store) != shards:
            raise StoreError(f"{store.path} has changed while it was exported", hint="start again with --overwrite")
        run.finish(to)
    finally:
        run.close()
    watcher(progress)
    return progress


class _Run:
    """The sinks of all splits, each opened when its first recording comes."""

    def __init__(self, journal: _Journal, content: Content, maker: _Maker, progress: Progress) -> None:
        self._journal, self._content, self._maker, self._progress = journal, content, maker, progress
        self._sinks: dict[str, Sink] = {}
        self._seen: dict[str, int] = {}

    def add(self, entry: Entry, split: str) -> None:
        """Gives an entry to its sink, unless an earlier run has."""
        earlier = self._journal.splits.get(split, {})
        if split not in self._sinks:
            if len(self._sinks) == _MOST_SPLITS:
                raise InputError(f"expected at most {_MOST_SPLITS} splits, got more", hint="split by another field")
            self._seen[split] = 0
            self._sinks[split] = self._maker(self._journal.folder, split, self._content, earlier)
        self._seen[split] += 1
        if self._seen[split] <= earlier.get("rows", 0):
            self._progress.skipped += 1
            return
        self._sinks[split].add(self._content.row(entry))
        self._progress.done += 1
        self._progress.audio_seconds += entry.samples / self._content.whole.sample_rate

    def note(self) -> None:
        """Notes how far each split is."""
        states = {split: sink.state() for split, sink in self._sinks.items()}
        os.sync()  # once for all files: some formats have thousands
        self._journal.write({**self._journal.splits, **states}, complete=False)

    def finish(self, to: str) -> None:
        """Gives all files their names."""
        for sink in self._sinks.values():
            sink.finish()
        os.sync()
        if to == "huggingface":
            write_card(self._journal.folder, self._content, self._seen)
        self._journal.write({split: {"rows": rows} for split, rows in self._seen.items()}, complete=True)

    def close(self) -> None:
        """Lets go of all files."""
        for sink in self._sinks.values():
            sink.close()


@dataclass(frozen=True)
class _Journal:
    """`_export.json`: what the folder is an export of, and how far it is."""

    folder: Path
    settings: dict[str, Any]
    splits: dict[str, State]
    complete: bool

    @classmethod
    def of(cls, folder: Path, settings: dict[str, Any], *, overwrite: bool) -> _Journal:
        """That of an earlier run with the same settings, or a new one."""
        head, plain = folder / HEAD, json.loads(json.dumps(settings))
        if overwrite and head.is_file():
            remove(folder)
        if head.is_file():
            try:
                noted = json.loads(head.read_bytes())
                if noted["version"] == _VERSION and noted["settings"] == plain:
                    return cls(folder, settings, noted["splits"], noted["complete"])
            except (ValueError, KeyError, TypeError):
                pass
            raise OutputError(
                f"{folder} holds another export than this", hint="name another --out, or replace it with --overwrite"
            )
        if not is_vacant(folder):
            raise OutputError(f"{folder} is there already and is no export", hint="name another --out")
        journal = cls(folder, settings, {}, complete=False)
        journal.write({}, complete=False)
        return journal

    def write(self, splits: dict[str, State], *, complete: bool) -> None:
        """Notes how far the export is."""
        noted = {"version": _VERSION, "settings": self.settings, "splits": splits, "complete": complete}
        write_atomic(self.folder / HEAD, json.dumps(noted, indent=1).encode() + b"\n")


def _maker(to: str, content: Content, shard_bytes: int) -> _Maker:
    """What opens the sinks of a format. InputError, before anything is written, if it cannot hold the content."""
    if to in _SHARDED:
        return partial(_SHARDED[to], shard_bytes=shard_bytes)
    if to not in _MAKERS:
        raise InputError(f"expected a format among {', '.join(FORMATS)}, got {to!r}")
    if to in _FLAT:
        content.require_flat(to)
    if to == "packed":
        packed_dtype(content.vocabulary)
    return _MAKERS[to]


def _shards(store: TokenStore) -> str:
    """One hash of all shards, whose names are hashes of what they hold."""
    return sha256("\n".join(shard.name for shard in store.shards()).encode()).hexdigest()


def _split_of(entry: Entry, field: str | None, to: str) -> str:
    if field is None:
        return ""
    value = entry.fields.get(field)
    if value is None:
        raise InputError(f"{entry.id!r} has no field {field!r} to split by", hint="its manifest must say it")
    name = split_name(str(value)) if to == "huggingface" else str(value)
    if not _SPLIT.fullmatch(name) or len(name) > 100:
        raise InputError(
            f"expected a {field!r} of letters, digits, -, _ and . in {entry.id!r}, got {value!r}",
            hint="split by another field",
        )
    return name


def exported_stream(folder: Path) -> TokenStream | None:
    """The stream of the export in a folder, None if there is none. InputError if it is not understood."""
    head = folder / HEAD
    if not head.is_file():
        return None
    try:
        return TokenStream.from_config(json.loads(head.read_bytes())["settings"]["stream"])
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise InputError(f"{head} is not the head of an export") from problem
