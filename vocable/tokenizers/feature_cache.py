"""The features of a corpus on disk: extracted once, for all layers, and mapped into memory while codebooks are fit."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vocable.corpus import Corpus, Piece
from vocable.distributed import meet
from vocable.errors import ArtifactError, InputError, OutputError, VocableError
from vocable.files import inside, is_vacant, write_at
from vocable.progress import Progress
from vocable.quantizers.reduce import ALONE, Reducer
from vocable.quantizers.reservoir import share
from vocable.tokenizers.feature_cache_head import ANEW, DTYPES, FINISHED, HEAD, plain, plan, read, require_same, write
from vocable.tokenizers.gathering import Reading, extract_corpus, own_share
from vocable.types import FeatureExtractor

CachePrecision = Literal["fp16", "fp32"]

_COMMIT_SECONDS = 5.0
_GIB = 2**30


class FeatureCache:
    """Frames of all layers of an extractor for every recording of a corpus, in a folder; open it by create or open.

        head.json         what it holds, under a checksum
        utterances.jsonl  [id, first row, rows] of each recording, in the order of ids
        finished.i64      rows that each recording has filled, 0 for none
        L6.f16            rows of one layer [frames, D], little-endian, nothing else; L6.f32 in fp32

    Each recording has its place before the first is read, from the length in its header, so what the cache holds does
    not depend on order, batches, processes or how often it was killed. A recording of more frames than its header
    promised is cut; where one has fewer, or failed, rows from the end stand in its place when the layer is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head, places = read(path)
        self.layers: tuple[str, ...] = tuple(self._head["layers"])
        self.dim: int = self._head["dim"]
        self.precision: CachePrecision = self._head["precision"]
        self._numbers = {name: number for number, (name, _, _) in enumerate(places)}
        self._first = np.array([first for _, first, _ in places], np.int64)
        self._room = np.array([rows for _, _, rows in places], np.int64)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        corpus: Corpus,
        extractor: FeatureExtractor,
        *,
        precision: CachePrecision = "fp16",
        reduce: Reducer = ALONE,
    ) -> Self:
        """A new cache with a place for every recording, or the one at `path` if it is for the same features.

        Of several processes the first makes it, on a disk that all share. InputError if something else is at `path`;
        OutputError if its disk has less space than the cache needs.
        """
        folder = Path(path)
        if precision not in get_args(CachePrecision):
            raise InputError(f"expected precision {', '.join(get_args(CachePrecision))}, got {precision!r}")
        if reduce.rank == 0:
            head, places = plan(corpus, extractor, precision)
            if is_vacant(folder):
                write(folder, head, places)
            else:
                require_same(folder, head)
        meet(reduce)
        if not (folder / HEAD).is_file():
            raise InputError(
                f"{folder} is not there for process {reduce.rank}", hint="name one on a disk that all share"
            )
        cache = cls(folder)
        if reduce.rank == 0:
            cache._require_space()
        meet(reduce)
        return cache

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The cache at `path`. ArtifactError if there is none, or if it is damaged."""
        return cls(Path(path))

    def __len__(self) -> int:
        """Frames that are there."""
        return int(self._filled().sum())

    @property
    def num_bytes(self) -> int:
        """Bytes of all layers when they are full."""
        return len(self.layers) * int(self._room.sum()) * self._row_bytes

    @property
    def finished(self) -> frozenset[str]:
        """Ids of the recordings that are there."""
        filled = self._filled()
        return frozenset(name for name, number in self._numbers.items() if filled[number])

    def fill(
        self, corpus: Corpus, extractor: FeatureExtractor, *, reading: Reading | None = None, reduce: Reducer = ALONE
    ) -> Progress:
        """Extracts what is missing: of several processes, each its share of the recordings.

        What is finished is safe on disk every few seconds, and a run that is killed goes on from there. A recording
        that fails leaves its place empty, and is tried again on the next run. InputError if the cache was made for
        others, or if a frame is not finite in its precision.
        """
        reading = reading or Reading()
        self._require_made_for(corpus, extractor)
        own, done = own_share(corpus, reduce), self.finished
        todo = own.without(done)
        progress = Progress(len(own), skipped=len(own) - len(todo))
        with self._writer() as writer:
            for piece, frames in extract_corpus(todo, extractor, progress, reading):
                with reading.stopwatch.time("cache"):
                    writer.add(piece, frames)
        meet(reduce)
        return progress

    def layer(self, index: int | str, reduce: Reducer = ALONE) -> Float[Tensor, "n d"]:
        """The frames of one layer, in the file and not in memory; of several processes, each gets as many of them.

        Changes to the tensor stay in memory. InputError if there is no such layer, or no frame.
        """
        label = self.layers[index] if isinstance(index, int) else index
        if label not in self.layers:
            raise InputError(f"no layer {label!r} among {', '.join(self.layers)}")
        filled = self._filled()
        if not filled.any():
            raise InputError(f"{self.path} holds no frame", hint="fill it first")
        self._close_gaps(self._file(label), filled)
        shape = int(filled.sum()), self.dim
        # copy on write: torch knows no tensors that must not be changed
        rows = np.memmap(self._file(label), DTYPES[self.precision][1], "c", shape=shape)
        return torch.from_numpy(rows[share(len(rows), reduce)])

    @property
    def _row_bytes(self) -> int:
        return self.dim * np.dtype(DTYPES[self.precision][1]).itemsize

    def _file(self, label: str) -> Path:
        return inside(self.path, label, f".{DTYPES[self.precision][0]}")

    def _filled(self) -> np.ndarray:
        filled = np.fromfile(self.path / FINISHED, "<i8")
        if len(filled) != len(self._room) or (filled < 0).any() or (filled > self._room).any():
            raise ArtifactError(f"{self.path / FINISHED} is damaged", hint=ANEW)
        return filled

    def _close_gaps(self, file: Path, filled: np.ndarray) -> None:
        """Copies rows from the end into the gaps before it. Once or often, by one process or several, is the same.

        What is copied lies behind all gaps that are filled, so it is never overwritten.
        """
        total = int(filled.sum())
        gaps = _ranges(self._first + filled, self._first + self._room, 0, total)
        spare = _ranges(self._first, self._first + filled, total, int(self._room.sum()))
        if not gaps:
            return
        with file.open("r+b") as data:
            for source, target, rows in _pairs(spare, gaps):
                part = os.pread(data.fileno(), rows * self._row_bytes, source * self._row_bytes)
                write_at(data.fileno(), part, target * self._row_bytes)

    def _require_made_for(self, corpus: Corpus, extractor: FeatureExtractor) -> None:
        same = self._head["extractor"] == plain(extractor.config())
        if not (same and all(utterance.id in self._numbers for utterance in corpus)):
            raise InputError(f"{self.path} is the cache of another {'corpus' if same else 'extractor'}", hint=ANEW)

    def _require_space(self) -> None:
        files = [self._file(label) for label in self.layers]
        missing = sum(max(0, file.stat().st_size - 512 * file.stat().st_blocks) for file in files)
        free = shutil.disk_usage(self.path).free
        if missing > free:
            raise OutputError(
                f"{self.path} needs {missing / _GIB:.2f} GiB more, and its disk has {free / _GIB:.2f} GiB",
                hint="name a --cache on a larger disk, fewer --layers, or leave --cache out for a sample",
            )

    @contextmanager
    def _writer(self) -> Iterator[_Writer]:
        names = [*(self._file(label) for label in self.layers), self.path / FINISHED]
        files = [os.open(name, os.O_RDWR) for name in names]
        writer = _Writer(self, files)
        try:
            yield writer
            writer.commit()
        except (KeyboardInterrupt, VocableError):
            writer.commit()
            raise
        finally:
            for file in files:
                os.close(file)


class _Writer:
    """Recordings under way: rows go to their place, and the recording is finished when all of them lie on disk."""

    def __init__(self, cache: FeatureCache, files: list[int]) -> None:
        self._cache, self._layers, self._finished = cache, files[:-1], files[-1]
        self._window = int(cache._head["windows"]["frames"])
        self._kind = torch.float16 if cache.precision == "fp16" else torch.float32
        self._pieces: dict[int, list[int]] = {}
        self._due: dict[int, int] = {}
        self._complete: list[tuple[int, int]] = []
        self._committed = time.monotonic()

    def add(self, piece: Piece, frames: Float[Tensor, "l t d"]) -> None:
        """Writes a window of a recording, as far as there is room for it."""
        number, start = self._cache._numbers[piece.utterance.id], piece.index * self._window
        rows = frames[:, : max(0, int(self._cache._room[number]) - start)].to(self._kind)
        if not bool(rows.isfinite().all()):
            raise InputError(
                f"expected features of {piece.utterance.id} that are finite in {self._cache.precision}, got others",
                hint="larger values fit --cache-precision fp32; look for broken audio or features",
            )
        for file, layer in zip(self._layers, rows, strict=True):
            place = (int(self._cache._first[number]) + start) * self._cache._row_bytes
            write_at(file, layer.contiguous().numpy().tobytes(), place)
        self._note(number, piece, rows.shape[1])
        if time.monotonic() - self._committed > _COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Rows first, then the word that they are there: it is true whenever the machine stops."""
        for file in self._layers:
            os.fdatasync(file)
        for number, rows in self._complete:
            write_at(self._finished, rows.to_bytes(8, "little"), 8 * number)
        os.fdatasync(self._finished)
        self._complete, self._committed = [], time.monotonic()

    def _note(self, number: int, piece: Piece, rows: int) -> None:
        pieces = self._pieces.setdefault(number, [])
        pieces.append(rows)
        if piece.facts is not None:
            self._due[number] = piece.index + 1
        if len(pieces) == self._due.get(number):
            self._complete.append((number, sum(self._pieces.pop(number))))


def _ranges(starts: np.ndarray, stops: np.ndarray, low: int, high: int) -> list[tuple[int, int]]:
    """The ranges [start, stop) that are not empty, cut to [low, high)."""
    starts, stops = starts.clip(low, high), stops.clip(low, high)
    kept = starts < stops
    return list(zip(starts[kept].tolist(), stops[kept].tolist(), strict=True))


def _pairs(sources: list[tuple[int, int]], targets: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(source, target, rows) that take the rows of the sources, in order, to the targets, 4096 at a time at most."""
    ranges = iter(sources)
    source, end = next(ranges)
    for start, stop in targets:
        target = start
        while target < stop:
            if source == end:
                source, end = next(ranges)
            rows = min(stop - target, end - source, 4096)
            yield source, target, rows
            source, target = source + rows, target + rows
