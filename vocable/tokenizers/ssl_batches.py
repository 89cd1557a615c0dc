"""Which utterances run together: for the same bits in any company, or for speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Mode = Literal["exact", "fast"]

_GRID_SECONDS = 2
_FIXED_SECONDS, _FIXED_ROWS = 240, 32  # of a fixed batch: as many rows as 240 s hold, 32 at most
_FAST_SECONDS = 480  # of a padded batch on an accelerator: 32 utterances of 15 s


class Batch(NamedTuple):
    """Utterances `rows` that run together: samples [b, n], and their lengths [b] where some are padded.

    b may exceed the number of rows: what follows them fills the batch up and stands for nothing.
    """

    rows: list[int]
    samples: Tensor
    lengths: Tensor | None


def plan(waves: Sequence[Tensor], mode: Mode, *, cpu: bool, padding: bool, rate: int, window: int) -> Iterator[Batch]:
    """Batches in which every wave [n] occurs once.

    On a CPU every utterance runs alone in either mode: its matrices fill a core, and padding would only add to them.
    On an accelerator `exact` gives an utterance a shape that follows from its own length, so that the same kernels
    make the same sums whatever is beside it; `fast` fills the device. Without masks (`padding`) only utterances of
    one length are put together, and none in `exact`.
    """
    if cpu or (mode == "exact" and not padding):
        return alone(waves)
    if mode == "exact":
        return fixed(waves, step=_GRID_SECONDS * rate, limit=_FIXED_SECONDS * rate, window=window)
    return bucketed(waves, limit=_FAST_SECONDS * rate, padding=padding)


def alone(waves: Sequence[Tensor]) -> Iterator[Batch]:
    """Each utterance at its natural length, the longest first."""
    for row in sorted(range(len(waves)), key=lambda row: -len(waves[row])):
        yield Batch([row], waves[row][None], None)


def fixed(waves: Sequence[Tensor], *, step: int, limit: int, window: int) -> Iterator[Batch]:
    """Lengths rounded up to multiples of `step`; of each always the same number of rows, at most `limit` samples.

    What is left of a batch holds silent utterances of one window.
    """
    groups: dict[int, list[int]] = {}
    for row, wave in enumerate(waves):
        groups.setdefault(-(-len(wave) // step) * step, []).append(row)
    for length, members in sorted(groups.items(), reverse=True):
        size = min(_FIXED_ROWS, max(1, limit // length))
        for start in range(0, len(members), size):
            rows = members[start : start + size]
            samples, lengths = waves[0].new_zeros(size, length), torch.full((size,), window)
            for place, row in enumerate(rows):
                samples[place, : len(waves[row])] = waves[row]
                lengths[place] = len(waves[row])
            yield Batch(rows, samples, lengths)


def bucketed(waves: Sequence[Tensor], *, limit: int, padding: bool) -> Iterator[Batch]:
    """Utterances of similar length, or of one where nothing may be padded; at most `limit` samples, or one row."""
    group: list[int] = []
    for row in sorted(range(len(waves)), key=lambda row: len(waves[row])):
        full = len(waves[row]) * (len(group) + 1) > limit
        if group and (full or (not padding and len(waves[row]) != len(waves[group[0]]))):
            yield _padded(waves, group, padding)
            group = []
        group.append(row)
    if group:
        yield _padded(waves, group, padding)


def _padded(waves: Sequence[Tensor], rows: list[int], padding: bool) -> Batch:
    samples = torch.nn.utils.rnn.pad_sequence([waves[row] for row in rows], batch_first=True)
    return Batch(rows, samples, torch.tensor([len(waves[row]) for row in rows]) if padding else None)
