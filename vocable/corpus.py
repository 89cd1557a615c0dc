"""What there is to read, and reading it: folders, lists and manifests in, windows of mono audio out.

A corpus describes recordings, it does not hold them. Decoding runs in worker processes beside the model, one window of
a recording at a time, so neither the length of a corpus nor that of a recording shows in memory.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from vocable import audio
from vocable.clock import Windows
from vocable.errors import AudioError, InputError, VocableError
from vocable.files import legible

_GO_ON = "is there memory enough? run the same command again to go on"
_LISTS = {".txt", ".lst", ".list"}


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording: its id (unique in a corpus), where it lies, and whatever else a manifest said of it."""

    id: str
    path: Path
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """An utterance that could not be used, and why, in one line."""

    id: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Piece:
    """The index-th window of an utterance: samples [n], or [n, C] of several channels; `skip` frames are context.

    The next `frames` are kept. The last piece of an utterance carries its `Facts`, the others None.
    """

    utterance: Utterance
    index: int
    samples: np.ndarray
    skip: int
    frames: int
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a recording once it is decoded: samples at the tokenizer's rate and at its own, its SHA-256."""

    samples: int
    source_samples: int
    source_rate: int
    checksum: str


class Corpus:
    """Utterances with distinct ids. InputError if two share one."""

    def __init__(self, utterances: Iterable[Utterance]) -> None:
        self._utterances = list(utterances)
        seen: dict[str, Utterance] = {}
        for utterance in self._utterances:
            other = seen.setdefault(utterance.id, utterance)
            if other is not utterance:
                raise InputError(
                    f"two recordings share the id {utterance.id!r}: {other.path} and {utterance.path}",
                    hint="give their parent folder, only one of them, or a manifest (.jsonl) whose lines have an `id`",
                )

    @classmethod
    def of(cls, *sources: str | os.PathLike[str]) -> Corpus:
        """The recordings of any number of sources, each of them

        a folder (searched recursively; ids are relative paths without suffix), a sound file (id: its stem),
        a manifest `.jsonl` (each line an object with `path`, relative to the manifest, an optional `id`, any further
        fields), or a list `.txt`/`.lst` of paths, one a line. InputError if one is missing or holds no audio.
        """
        return cls(utterance for source in sources for utterance in _utterances_of(Path(source)))

    @classmethod
    def of_lines(cls, lines: Iterable[str], folder: Path = Path()) -> Corpus:
        """The recordings named by lines, as in a list or a manifest; relative paths start at `folder`."""
        return cls(_parse_lines(lines, folder, "standard input"))

    def __len__(self) -> int:
        return len(self._utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self._utterances)

    def without(self, ids: frozenset[str] | set[str]) -> Corpus:
        """The utterances whose id is not among these."""
        return Corpus(utterance for utterance in self if utterance.id not in ids)

    def pieces(
        self, sample_rate: int, windows: Windows, *, channels: int = 1, workers: int = 0
    ) -> Iterator[Piece | Failure]:
        """All windows of all utterances, each utterance's in order, decoded by `workers` processes (0: in this one).

        A recording that cannot be read gives a Failure, perhaps after some of its pieces, and the rest goes on.
        """
        by_id = {utterance.id: utterance for utterance in self}
        # what a manifest says stays here: it may be large, or nested too deeply to be sent
        bare = [Utterance(utterance.id, utterance.path) for utterance in self]
        decode = partial(_decode, sample_rate=sample_rate, channels=channels, windows=windows)
        workers = min(workers, len(bare))
        items = _in_workers(decode, [bare[i::workers] for i in range(workers)]) if workers else decode(bare)
        for item in items:
            yield replace(item, utterance=by_id[item.utterance.id]) if isinstance(item, Piece) else item


def batches(
    pieces: Iterable[Piece], *, max_samples: int, multiple: int = 1, lookahead: int = 64
) -> Iterator[list[Piece]]:
    """Groups pieces of like length: a batch, padded to its longest, holds at most `max_samples` (or one piece).

    Where it holds more than `multiple` pieces their number is a multiple of it, so that as many threads end together.
    """
    waiting: list[Piece] = []
    for piece in pieces:
        waiting.append(piece)
        if len(waiting) >= lookahead:
            waiting.sort(key=lambda item: len(item.samples))
            yield _take_longest(waiting, max_samples, multiple)
    waiting.sort(key=lambda item: len(item.samples))
    while waiting:
        yield _take_longest(waiting, max_samples, multiple)


def _take_longest(waiting: list[Piece], max_samples: int, multiple: int) -> list[Piece]:
    fits = max(1, max_samples // len(waiting[-1].samples))
    if fits > multiple:
        fits -= fits % multiple
    batch = waiting[-fits:]
    del waiting[-fits:]
    return batch


def _decode(
    utterances: list[Utterance], sample_rate: int, channels: int, windows: Windows
) -> Iterator[Piece | Failure]:
    for utterance in utterances:
        try:
            yield from _pieces(audio.AudioStream(utterance.path, sample_rate, channels), utterance, windows)
        except AudioError as problem:
            yield _failure(utterance, str(problem))
        except Exception as problem:  # noqa: BLE001  # one odd file among a million must not end the run
            yield _failure(utterance, f"{type(problem).__name__}: {problem}")


def _failure(utterance: Utterance, reason: str) -> Failure:
    return Failure(utterance.id, legible(str(utterance.path)), " ".join(reason.split()))


def _pieces(stream: audio.AudioStream, utterance: Utterance, windows: Windows) -> Iterator[Piece]:
    counted = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal counted
        for block in stream:
            counted += len(block)
            yield block

    held = None
    for index, (window, samples) in enumerate(windows.stream(blocks())):
        if held is not None:
            yield held
        held = Piece(utterance, index, np.array(samples), window.skip, window.frames)
    if held is not None:
        facts = Facts(counted, stream.source_samples, stream.source_rate, audio.checksum(utterance.path))
        yield replace(held, facts=facts)


def _in_workers(
    decode: Callable[[list[Utterance]], Iterator[Piece | Failure]], shares: list[list[Utterance]]
) -> Iterator[Piece | Failure]:
    """What `decode` gives for each share, from a process each, as it comes.

    A process waits until its piece is taken, which bounds memory. Each has a pipe of its own whose end closes with it,
    so the death of either side is noticed at once by the other: nothing hangs and nobody is left behind.
    """
    # forking shares what is loaded already, and the children run no torch
    can_fork = "fork" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork") if can_fork else multiprocessing.get_context("spawn")
    running: dict[Connection, BaseProcess] = {}
    try:
        for share in shares:
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(decode, share, reader, writer), daemon=True)
            process.start()
            writer.close()
            running[reader] = process
        while running:
            ready = wait(list(running))
            for reader in [reader for reader in running if reader in ready]:
                try:
                    item = reader.recv()
                except (EOFError, OSError):
                    ended = running.pop(reader)
                    ended.join()
                    if ended.exitcode:
                        raise VocableError("a decoding process ended unexpectedly", hint=_GO_ON) from None
                else:
                    yield item
    finally:
        for reader, left in running.items():
            reader.close()
            left.terminate()
            left.join()


def _work(
    decode: Callable[[list[Utterance]], Iterator[Piece | Failure]],
    share: list[Utterance],
    reader: Connection,
    writer: Connection,
) -> None:
    reader.close()  # while it was open here, too, the parent's death would go unnoticed
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    with suppress(BrokenPipeError):  # the parent is gone
        for item in decode(share):
            writer.send(item)


def _utterances_of(source: Path) -> Iterator[Utterance]:
    if source.is_dir():
        yield from _folder(source)
    elif not source.exists():
        raise InputError(
            f"{source} does not exist", hint="expected a folder, a sound file, a .jsonl manifest or a list"
        )
    elif source.suffix.lower() in {".jsonl", *_LISTS}:
        try:
            # not splitlines, which also splits at characters that JSON and file names may hold
            lines = source.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as problem:
            raise InputError(f"{source} cannot be read: {problem}") from problem
        yield from _parse_lines(lines, source.parent, str(source))
    else:
        yield Utterance(legible(source.stem), source)


def _folder(folder: Path) -> Iterator[Utterance]:
    found, visited = 0, set()
    closed: list[OSError] = []
    for base, folders, names in os.walk(folder, followlinks=True, onerror=closed.append):
        folders.sort()
        status = Path(base).stat()
        identity = status.st_dev, status.st_ino
        if identity in visited:  # links may go in circles
            folders.clear()
            continue
        visited.add(identity)
        for name in sorted(names):
            path = Path(base, name)
            if path.suffix.lower() in audio.SUFFIXES and not name.startswith("."):
                found += 1
                yield Utterance(legible(path.relative_to(folder).with_suffix("").as_posix()), path)
    for problem in closed:  # a folder that may not be read is one more recording that fails, rather than nothing
        path = Path(problem.filename)
        yield Utterance(legible(path.relative_to(folder).as_posix()), path)
    if not found:
        known = " ".join(sorted(audio.SUFFIXES))
        raise InputError(f"no audio in {folder}", hint=f"looked for files that end in {known}")


def _parse_lines(lines: Iterable[str], folder: Path, place: str) -> Iterator[Utterance]:
    found = 0
    for number, line in enumerate(lines, 1):
        if line.strip():
            found += 1
            yield _parse_line(line.strip(), folder, f"{place}:{number}")
    if not found:
        raise InputError(f"no recording is named in {place}")


def _parse_line(line: str, folder: Path, place: str) -> Utterance:
    fields: dict[str, Any] = {"path": line}
    if line.startswith("{"):
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as problem:
            raise InputError(f"{place}: expected a JSON object, got {line[:60]!r} ({problem})") from None
    path, identifier = fields.pop("path", None), fields.pop("id", None)
    if not isinstance(path, str) or not Path(path).name or not isinstance(identifier, str | None):
        raise InputError(f"{place}: expected a `path` (and perhaps an `id`) that is text, got {line[:60]!r}")
    return Utterance(legible(identifier or Path(path).with_suffix("").as_posix()), folder / path, fields)
