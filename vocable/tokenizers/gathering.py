"""The features of a corpus as they come: every window of every recording once, in batches that fill the machine."""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from vocable.corpus import Corpus, Failure, Piece, batches
from vocable.errors import InputError
from vocable.progress import Progress, Watcher, unwatched
from vocable.quantizers.reduce import ALONE, Reducer
from vocable.tokenizers.units import default_windows
from vocable.types import Audio, FeatureExtractor

T = TypeVar("T")

_THREAD_BYTES = 64 << 20  # of features that a batch has for each thread


def ignore(failure: Failure) -> None:
    """Nobody hears of failures."""


@dataclass
class Stopwatch:
    """Wall time in seconds by stage of a long run, in the order of their ends."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Adds the time that the block takes to a stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - started

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items; the time that making them takes counts for a stage."""
        rest = iter(items)
        while True:
            with self.time(stage):
                item = next(rest, None)
            if item is None:
                return
            yield item
            del item  # the next may be as large, and is made while this one would still be held


@dataclass(frozen=True)
class Reading:
    """How a corpus is read: decoding processes, audio at a time (s), who watches, and who hears of failures."""

    workers: int = 0
    batch_seconds: float | None = None
    watcher: Watcher = unwatched
    on_failure: Callable[[Failure], None] = ignore
    stopwatch: Stopwatch = field(default_factory=Stopwatch)


def extract_corpus(
    corpus: Corpus, extractor: FeatureExtractor, progress: Progress, reading: Reading
) -> Iterator[tuple[Piece, Float[Tensor, "l t d"]]]:
    """The windows of all recordings (see default_windows) with their frames [L, T, D] on the CPU, without context.

    Those of one recording may come in another order. A recording that breaks off has given what came before that.
    """
    items = corpus.pieces(extractor.sample_rate, default_windows(extractor), workers=reading.workers)
    pieces = _sound(items, progress, reading.on_failure)
    limit = batch_samples(reading.batch_seconds, extractor.sample_rate)
    if reading.batch_seconds is None:  # many layers of a wide model would fill the memory
        frames_of_batch = _THREAD_BYTES * torch.get_num_threads() // (4 * len(extractor.layers) * extractor.dim)
        limit = min(limit, frames_of_batch * extractor.hop_length)
    found = _extracted(batches(pieces, max_samples=limit, multiple=torch.get_num_threads()), extractor)
    for batch, features in reading.stopwatch.each("features", found):
        for piece, frames in zip(batch, features, strict=True):
            # a copy: who looks at a view would hold the whole batch while the next is made
            yield piece, frames[:, piece.skip : piece.skip + piece.frames].clone()
            progress.audio_seconds += piece.frames * extractor.hop_length / extractor.sample_rate
            progress.done += piece.facts is not None
        reading.watcher(progress)
        del batch, features, piece, frames
        _give_back()


def batch_samples(seconds: float | None, sample_rate: int) -> int:
    """Samples per batch: as many seconds as asked for, else several windows for each thread.

    Threads wait for the last of a batch, the less the more there is in it; its features are what limits it.
    """
    threads = torch.get_num_threads()
    return round((min(160 * threads, max(640, 80 * threads)) if seconds is None else seconds) * sample_rate)


def own_share(corpus: Corpus, reduce: Reducer = ALONE) -> Corpus:
    """The recordings that this process reads: with a stride, in the order of ids.

    InputError if there are fewer recordings than processes.
    """
    if reduce.world == 1:
        return corpus
    if len(corpus) < reduce.world:
        expected = f"expected a recording for each of {reduce.world} processes"
        raise InputError(f"{expected}, got {len(corpus)}", hint="start fewer processes")
    return Corpus(sorted(corpus, key=lambda utterance: utterance.id)[reduce.rank :: reduce.world])


def joined(progress: Progress, failures: list[Failure], reduce: Reducer) -> tuple[Progress, list[Failure]]:
    """The progress and the failures of all processes together, in each of them."""
    counts = [progress.total, progress.done, progress.skipped, progress.failed, round(1000 * progress.audio_seconds)]
    total, done, skipped, failed, milliseconds = reduce.sum_(torch.tensor(counts)).tolist()
    text = json.dumps([[failure.id, failure.path, failure.reason] for failure in failures]).encode()
    told = reduce.gather(torch.frombuffer(bytearray(text), dtype=torch.uint8))
    everything = [Failure(*fields) for part in told for fields in json.loads(part.numpy().tobytes())]
    return Progress(total, done, skipped, failed, milliseconds / 1000, progress.started), everything


def _extracted(batches: Iterable[list[Piece]], extractor: FeatureExtractor) -> Iterator[tuple[list[Piece], Tensor]]:
    for batch in batches:
        audio = Audio.of([torch.from_numpy(piece.samples) for piece in batch], extractor.sample_rate)
        yield batch, extractor.extract(audio).frames.cpu()


def _give_back() -> None:
    """Gives what the batch took back to the system, where the C library can.

    Every batch has threads of its own, and glibc keeps what each of them let go in one of several heaps: over hours
    these grew by 800 MB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _sound(
    items: Iterable[Piece | Failure], progress: Progress, on_failure: Callable[[Failure], None]
) -> Iterator[Piece]:
    for item in items:
        if isinstance(item, Piece):
            yield item
        else:
            progress.failed += 1
            on_failure(item)
