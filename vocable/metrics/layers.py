"""Which layer to choose: how well each layer's units fit its frames, what they cost, what they say about phones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from vocable.corpus import Corpus, Failure, Piece, Utterance, batches
from vocable.errors import InputError
from vocable.metrics.tokens import (
    Contingency,
    cluster_purity,
    code_counts,
    contingency,
    deduplicated_bitrate,
    entropy,
    frame_labels,
    phone_purity,
    phones_of,
    pnmi,
    run_counts,
    usage,
)
from vocable.nets.threads import one_thread_each
from vocable.progress import Progress, Watcher, unwatched
from vocable.tokenizers.joined import JoinedTokenizer
from vocable.tokenizers.training import batch_samples
from vocable.tokenizers.units import UnitTokenizer
from vocable.types import Audio, Quantizer, TokenSpec

Phones = list[tuple[float, str]]


@dataclass(frozen=True)
class LayerRow:
    """One codebook. `explained` is of the layer, by all its codebooks together; None is what is not defined.

    explained: 1 - within / total variance of the frames, at most 1, below 0 where their mean would be nearer than what
        the codes decode to; not defined where the frames do not vary.
    usage: share of the entries that occur. entropy: bits. bitrate: bit/s of the raw codes.
    deduplicated: bit/s where a run of equal codes is sent once, without its duration.
    pnmi, phone_purity, cluster_purity: see `vocable.metrics.tokens`; not defined without labels, PNMI not with one.
    """

    label: str
    size: int
    explained: float | None
    usage: float
    entropy: float
    bitrate: float
    deduplicated: float
    pnmi: float | None
    phone_purity: float | None
    cluster_purity: float | None


@dataclass(frozen=True)
class LayerReport:
    """A row for each codebook, and what they were measured on; `labelled` counts the frames that have a phone."""

    spec: TokenSpec
    rows: tuple[LayerRow, ...]
    recordings: int
    seconds: float
    frames: int
    labelled: int
    failures: tuple[Failure, ...]


def layer_report(
    units: UnitTokenizer | JoinedTokenizer,
    corpus: Corpus,
    *,
    labels: str = "phones",
    workers: int = 0,
    batch_seconds: float | None = None,
    watcher: Watcher = unwatched,
) -> LayerReport:
    """Measures the units of every layer on audio that they need not have seen, in one pass and bounded memory.

    labels: the field of the manifest's lines that says which phone is heard when, [[end_seconds, phone], ...].
    Codes and counts do not depend on workers or batches; `explained` does in its last bits.
    InputError if no recording can be read, or a line's labels are not such a list in order of time.
    """
    for utterance in corpus:
        phones_of(utterance.id, utterance.fields, labels)
    progress, totals = Progress(len(corpus)), _Totals(units, labels)
    pieces = corpus.pieces(units.spec.sample_rate, units.windows, workers=workers)
    limit = batch_samples(batch_seconds, units.spec.sample_rate)
    for batch in batches(totals.readable(pieces), max_samples=limit, multiple=torch.get_num_threads()):
        for piece, layers in zip(batch, _judge(units, batch), strict=True):
            totals.add(piece, layers)
        progress.done, progress.failed = totals.recordings, len(totals.failures)
        progress.audio_seconds = totals.samples / units.spec.sample_rate
        watcher(progress)
    return totals.report()


@dataclass(frozen=True)
class _Part:
    """A window of one layer: codes [K, T], the sum [D] of its frames, and the sums of their squares and errors."""

    codes: Tensor
    total: Tensor
    square: float
    error: float


def _judge(units: UnitTokenizer | JoinedTokenizer, batch: list[Piece]) -> list[list[_Part]]:
    """What is to be known of each window, layer by layer."""
    audio = Audio.of([torch.from_numpy(piece.samples) for piece in batch], units.spec.sample_rate)
    parts = zip(*(_judge_units(part, audio, batch) for part in units.parts), strict=True)
    return [list(chain.from_iterable(window)) for window in parts]


def _judge_units(units: UnitTokenizer, audio: Audio, batch: list[Piece]) -> list[list[_Part]]:
    """The same of the layers of one extractor; each window is on a thread of its own, without its context."""
    features = units.extractor.extract(audio)
    windows = [features.utterance(i)[:, p.skip : p.skip + p.frames] for i, p in enumerate(batch)]

    def judged(window: Tensor) -> list[_Part]:
        return [_judge_layer(quantizer, frames) for quantizer, frames in zip(units.quantizers, window, strict=True)]

    with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
        return list(pool.map(judged, windows))


def _judge_layer(quantizer: Quantizer, frames: Tensor) -> _Part:
    # a codebook may be on another device than features that need no model
    frames = frames.to(getattr(quantizer, "centroids", frames).device)
    codes = quantizer.encode(frames)
    error = (frames.double() - quantizer.decode(codes).double()).square().sum()
    exact = frames.double()
    return _Part(codes.T.cpu(), exact.sum(dim=0).cpu(), float(exact.square().sum()), float(error))


class _Totals:
    """What is added up. A recording counts when its last window is there; one that fails on the way does not."""

    def __init__(self, units: UnitTokenizer | JoinedTokenizer, labels: str) -> None:
        self.units, self.spec, self.labels = units, units.spec, labels
        self.recordings = self.samples = self.frames = 0
        self.failures: list[Failure] = []
        self._failed: set[str] = set()
        self._parts: dict[str, dict[int, list[_Part]]] = {}
        self._expected: dict[str, tuple[int, int]] = {}
        self._counts = [torch.zeros(book.size, dtype=torch.int64) for book in self.spec.codebooks]
        self._runs = torch.zeros(self.spec.num_codebooks, dtype=torch.int64)
        self._tables: list[Contingency] = [Counter() for _ in self.spec.codebooks]
        layers = len(units.quantizers)
        self._sums = [torch.zeros(quantizer.dim, dtype=torch.float64) for quantizer in units.quantizers]
        self._squares, self._errors = [0.0] * layers, [0.0] * layers

    def readable(self, items: Iterable[Piece | Failure]) -> Iterator[Piece]:
        """The pieces; failures are noted, and what came of such a recording before is dropped."""
        for item in items:
            if isinstance(item, Piece):
                yield item
            else:
                self.failures.append(item)
                self._failed.add(item.id)
                self._parts.pop(item.id, None)

    def add(self, piece: Piece, layers: list[_Part]) -> None:
        """One window, and the recording if that completes it."""
        name = piece.utterance.id
        if name in self._failed:
            return
        parts = self._parts.setdefault(name, {})
        parts[piece.index] = layers
        if piece.facts is not None:
            self._expected[name] = piece.index + 1, piece.facts.samples
        windows, samples = self._expected.get(name, (0, 0))
        if len(parts) == windows:
            del self._parts[name], self._expected[name]
            self._settle(piece.utterance, [parts[index] for index in range(windows)], samples)

    def report(self) -> LayerReport:
        """The rows. InputError if there is no recording to speak of."""
        if not self.recordings:
            reason = f": {self.failures[0].path}: {self.failures[0].reason}" if self.failures else ""
            raise InputError(f"no recording could be read{reason}")
        seconds = self.samples / self.spec.sample_rate
        labelled = sum(self._tables[0].values())
        rows = tuple(self._rows(seconds))
        return LayerReport(self.spec, rows, self.recordings, seconds, self.frames, labelled, tuple(self.failures))

    def _settle(self, utterance: Utterance, windows: list[list[_Part]], samples: int) -> None:
        codes = torch.cat([torch.cat([part.codes for part in layers]) for layers in windows], dim=1)
        self.recordings += 1
        self.samples += samples
        self.frames += codes.shape[1]
        for layers in windows:
            for index, part in enumerate(layers):
                self._sums[index] += part.total
                self._squares[index] += part.square
                self._errors[index] += part.error
        self._runs += run_counts(codes)
        phones = frame_labels(phones_of(utterance.id, utterance.fields, self.labels), self.spec, codes.shape[1])
        for row, counts, table in zip(codes, self._counts, self._tables, strict=True):
            counts.add_(code_counts(row, len(counts)))
            table.update(contingency(row, phones))

    def _rows(self, seconds: float) -> Iterator[LayerRow]:
        explained = [self._explained(index) for index in range(len(self._errors))]
        layers = [i for i, quantizer in enumerate(self.units.quantizers) for _ in quantizer.codebook_sizes]
        for index, (book, layer, table) in enumerate(zip(self.spec.codebooks, layers, self._tables, strict=True)):
            yield LayerRow(
                label=book.label,
                size=book.size,
                explained=explained[layer],
                usage=usage(self._counts[index]),
                entropy=entropy(self._counts[index]),
                bitrate=self.spec.take([index]).bitrate,
                deduplicated=deduplicated_bitrate(self._runs[index : index + 1], [book.size], seconds),
                **_phonetics(table),
            )

    def _explained(self, layer: int) -> float | None:
        total = self._squares[layer] - float(self._sums[layer].square().sum()) / self.frames
        # what cancellation leaves of frames that are all equal is rounding
        return 1 - self._errors[layer] / total if total > 1e-12 * self._squares[layer] else None


def _phonetics(table: Contingency) -> dict[str, Any]:
    if not table:
        return {"pnmi": None, "phone_purity": None, "cluster_purity": None}
    phones = {phone for _, phone in table}
    return {
        "pnmi": pnmi(table) if len(phones) > 1 else None,
        "phone_purity": phone_purity(table),
        "cluster_purity": cluster_purity(table),
    }
