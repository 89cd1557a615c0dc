"""The sound of a corpus on disk: each recording decoded once, mono, in 16 bits, and mapped into memory for training."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np

from vocable import audio
from vocable.clock import Windows
from vocable.corpus import Corpus, Failure, Piece
from vocable.distributed import Processes, meet
from vocable.errors import ArtifactError, AudioError, InputError, OutputError, VocableError
from vocable.files import is_vacant, new_directory, write_at
from vocable.progress import Progress, Watcher, unwatched
from vocable.quantizers.reduce import ALONE, Reducer
from vocable.tokenizers.gathering import Reading, ignore, joined, own_share

_KIND, _FORMAT = "audio", 1
_HEAD, _PLACES, _FINISHED, _SAMPLES = "head.json", "recordings.jsonl", "finished.bin", "samples.i16"
_RECORD = np.dtype([("samples", "<i8"), ("checksum", "V32")])
_ANEW = "remove it, or name another folder"
_COMMIT_SECONDS = 5.0
_PIECE_SECONDS = 20
_FULL_SCALE = 32768
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording of a cache: its id, its samples [first, first + samples), and the SHA-256 of its file."""

    id: str
    first: int
    samples: int
    checksum: str


class AudioCache:
    """Mono audio of a corpus at one rate, in a folder; open it by create or open.

        head.json         what it holds, under a checksum
        recordings.jsonl  [id, first sample, samples] of each recording, in the order of ids
        finished.bin      for each, samples that are there (int64, 0 for none) and the SHA-256 of its file (32 bytes)
        samples.i16       the samples, little-endian, nothing else

    Each recording has its place before the first is read, from the length in its header, so what the cache holds does
    not depend on order, processes or how often it was killed. A recording longer than its header promised is cut.
    Reading is safe from any number of threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head, self._places = _read(path)
        self.sample_rate: int = self._head["sample_rate"]
        self._numbers = {name: number for number, (name, _, _) in enumerate(self._places)}
        # a plain array on the file: slices of np.memmap cost ten times as much
        self._samples: np.ndarray = np.memmap(path / _SAMPLES, "<i2", "r", shape=self._head["samples"]).view(np.ndarray)

    @classmethod
    def create(cls, path: str | os.PathLike[str], corpus: Corpus, sample_rate: int, *, reduce: Reducer = ALONE) -> Self:
        """A new cache with a place for every recording, or the one at `path` if it is for the same corpus and rate.

        Of several processes the first makes it, on a disk that all share. InputError if something else is at `path`;
        OutputError if its disk has less space than the cache needs.
        """
        folder = Path(path)
        if reduce.rank == 0:
            head, places = _plan(corpus, sample_rate)
            if is_vacant(folder):
                _write(folder, head, places)
            else:
                _require_same(folder, head)
            cls(folder)._require_space()
        meet(reduce)
        if not (folder / _HEAD).is_file():
            raise InputError(
                f"{folder} is not there for process {reduce.rank}", hint="name one on a disk that all share"
            )
        return cls(folder)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The cache at `path`. ArtifactError if there is none, or if it is damaged."""
        return cls(Path(path))

    @property
    def expected_bytes(self) -> int:
        """Bytes of all samples when the cache is full, known before the first is there."""
        return 2 * int(self._head["samples"])

    def recordings(self) -> list[Recording]:
        """The recordings that are there, in the order of ids."""
        finished = self._finished()
        pairs = zip(self._places, finished["samples"].tolist(), finished["checksum"], strict=True)
        return [Recording(name, first, n, checksum.tobytes().hex()) for (name, first, _), n, checksum in pairs if n]

    def crop(self, recording: Recording, first: int, samples: int) -> np.ndarray:
        """Samples [first, first + samples) of a recording as float32 in -1..1, zero beyond its end."""
        start = recording.first + first
        kept = self._samples[start : min(start + samples, recording.first + recording.samples)]
        wave = np.zeros(samples, np.float32)
        np.multiply(kept, np.float32(1 / _FULL_SCALE), out=wave[: len(kept)])
        return wave

    def fill(
        self,
        corpus: Corpus,
        *,
        workers: int = 0,
        watcher: Watcher = unwatched,
        on_failure: Callable[[Failure], None] = ignore,
        reduce: Reducer = ALONE,
    ) -> Progress:
        """Decodes what is missing, by `workers` processes: of several processes, each its share of the recordings.

        What is finished is safe on disk every few seconds, and a run that is killed goes on from there. A recording
        that fails leaves its place empty, and is tried again on the next run. InputError if the cache is for others.
        """
        if not all(utterance.id in self._numbers for utterance in corpus):
            raise InputError(f"{self.path} is the cache of another corpus", hint=_ANEW)
        own = own_share(corpus, reduce)
        todo = own.without({recording.id for recording in self.recordings()})
        progress = Progress(len(own), skipped=len(own) - len(todo))
        windows = Windows(_PIECE_SECONDS * self.sample_rate, 0, 1)
        with self._writer() as writer:
            for item in todo.pieces(self.sample_rate, windows, workers=workers):
                if isinstance(item, Piece):
                    writer.add(item, windows.frames)
                    progress.audio_seconds += item.frames / self.sample_rate
                    progress.done += item.facts is not None
                else:
                    on_failure(item)
                    progress.failed += 1
                watcher(progress)
        meet(reduce)
        return progress

    def _finished(self) -> np.ndarray:
        finished = np.fromfile(self.path / _FINISHED, _RECORD)
        room = np.array([samples for _, _, samples in self._places], np.int64)
        counts = finished["samples"]
        if len(counts) != len(room) or (counts < 0).any() or (counts > room).any():
            raise ArtifactError(f"{self.path / _FINISHED} is damaged", hint=_ANEW)
        return finished

    def _require_space(self) -> None:
        status = (self.path / _SAMPLES).stat()
        missing, free = max(0, status.st_size - 512 * status.st_blocks), shutil.disk_usage(self.path).free
        if missing > free:
            raise OutputError(
                f"{self.path} needs {missing / _GIB:.2f} GiB more, and its disk has {free / _GIB:.2f} GiB",
                hint="name a --work on a larger disk, a lower --sample-rate or less audio",
            )

    @contextmanager
    def _writer(self) -> Iterator[_Writer]:
        with (self.path / _SAMPLES).open("r+b") as samples, (self.path / _FINISHED).open("r+b") as finished:
            writer = _Writer(self, samples.fileno(), finished.fileno())
            try:
                yield writer
            except (KeyboardInterrupt, VocableError):
                writer.commit()
                raise
            writer.commit()


class _Writer:
    """Recordings under way: samples go to their place, and a recording is finished when all of its lie on disk."""

    def __init__(self, cache: AudioCache, samples: int, finished: int) -> None:
        self._cache, self._samples, self._finished = cache, samples, finished
        self._complete: list[tuple[int, bytes]] = []
        self._committed = time.monotonic()

    def add(self, piece: Piece, window: int) -> None:
        """Writes a piece of a recording, as far as there is room for it; the last one finishes it."""
        number = self._cache._numbers[piece.utterance.id]
        _, first, room = self._cache._places[number]
        start = piece.index * window
        kept = piece.samples[: max(0, room - start)]
        scaled = np.rint(kept * np.float32(_FULL_SCALE)).clip(-_FULL_SCALE, _FULL_SCALE - 1)
        write_at(self._samples, scaled.astype("<i2").tobytes(), 2 * (first + start))
        if piece.facts is not None:
            record = np.zeros(1, _RECORD)
            record["samples"] = min(room, start + len(kept))
            record["checksum"] = np.void(bytes.fromhex(piece.facts.checksum))
            self._complete.append((number, record.tobytes()))
        if time.monotonic() - self._committed > _COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Samples first, then the word that they are there: it is true whenever the machine stops."""
        os.fdatasync(self._samples)
        for number, record in self._complete:
            write_at(self._finished, record, _RECORD.itemsize * number)
        os.fdatasync(self._finished)
        self._complete, self._committed = [], time.monotonic()


def _plan(corpus: Corpus, sample_rate: int) -> tuple[dict[str, Any], list[tuple[str, int, int]]]:
    """What the cache will be: its head, and the place of every recording."""
    utterances = sorted(corpus, key=lambda utterance: utterance.id)
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda utterance: _length(utterance.path, sample_rate), utterances))
    starts = np.cumsum([0, *counts]).tolist()
    places = [(u.id, start, n) for u, start, n in zip(utterances, starts[:-1], counts, strict=True)]
    lines = sha256(_lines(places)).hexdigest()
    head = {"kind": _KIND, "format": _FORMAT, "sample_rate": sample_rate, "samples": starts[-1], "recordings": lines}
    return head, places


def _length(path: Path, sample_rate: int) -> int:
    """Samples of a recording; 0 for what is no audio."""
    try:
        return audio.num_samples(path, sample_rate)
    except AudioError:  # told when it is read
        return 0


def _write(path: Path, head: dict[str, Any], places: list[tuple[str, int, int]]) -> None:
    """A cache with nothing in its places yet. InputError if there are none."""
    if not head["samples"]:
        raise InputError("expected audio to train on, got no readable recording", hint="look at the files given")
    with new_directory(path) as folder:
        (folder / _SAMPLES).touch()
        os.truncate(folder / _SAMPLES, 2 * head["samples"])
        np.zeros(len(places), _RECORD).tofile(folder / _FINISHED)
        (folder / _PLACES).write_bytes(_lines(places))
        write_head(folder, head)


def _read(path: Path) -> tuple[dict[str, Any], list[tuple[str, int, int]]]:
    """The head and the places. ArtifactError if they are not those of a cache, or not as they were written."""
    head = read_head(path, _KIND, _FORMAT)
    lines = (path / _PLACES).read_bytes() if (path / _PLACES).is_file() else b""
    if sha256(lines).hexdigest() != head["recordings"]:
        raise ArtifactError(f"{path / _PLACES} is damaged", hint=_ANEW)
    return head, [tuple(json.loads(line)) for line in lines.splitlines()]


def _require_same(path: Path, wanted: dict[str, Any]) -> None:
    """InputError unless the cache at `path` has the head that is wanted."""
    found = read_head(path, _KIND, _FORMAT)
    if found["sample_rate"] != wanted["sample_rate"]:
        raise InputError(
            f"{path} holds audio at {found['sample_rate']} Hz, not at {wanted['sample_rate']} Hz", hint=_ANEW
        )
    if found["recordings"] != wanted["recordings"]:
        raise InputError(f"{path} is the cache of another corpus", hint=_ANEW)


def _lines(places: list[tuple[str, int, int]]) -> bytes:
    return b"".join(json.dumps(place).encode() + b"\n" for place in places)


def write_head(folder: Path, head: dict[str, Any]) -> None:
    """Writes what a cache says of itself, under a checksum."""
    (folder / _HEAD).write_text(json.dumps({**head, "checksum": _checksum(head)}, indent=1) + "\n")


def read_head(path: Path, kind: str, version: int) -> dict[str, Any]:
    """What a cache says of itself. ArtifactError if it is of another kind or version, or damaged."""
    try:
        head = json.loads((path / _HEAD).read_bytes())
        claimed = head.pop("checksum")
        known = (head["kind"], head["format"]) == (kind, version)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise ArtifactError(f"{path} is no cache of {kind}", hint="name another folder, or an empty one") from None
    if not known or claimed != _checksum(head):
        raise ArtifactError(f"{path} is {'damaged' if known else 'a cache of another version'}", hint=_ANEW)
    return dict(head)


def _checksum(head: dict[str, Any]) -> str:
    return sha256(json.dumps(head, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_sound(
    corpus: Corpus,
    path: Path,
    sample_rate: int,
    reading: Reading,
    processes: Processes,
    on_cache: Callable[[AudioCache], None],
) -> tuple[AudioCache, list[Failure]]:
    """The sound of a corpus at `path`, what is missing there decoded; and what could not be, in all processes.

    on_cache hears of the cache before it is filled.
    """
    cache = AudioCache.create(path, corpus, sample_rate, reduce=processes)
    on_cache(cache)
    failures: list[Failure] = []
    progress = cache.fill(
        corpus, workers=reading.workers, watcher=reading.watcher, on_failure=failures.append, reduce=processes
    )
    return cache, joined(progress, failures, processes)[1]
