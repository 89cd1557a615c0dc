"""Transforms of codes [K, T] to codes: runs of equal frames, delays, one vocabulary for all codebooks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from vocable.errors import InputError
from vocable.tokenizers.streams_forms import Form, Row, Transform, require_whole

_LONGEST = 1 << 16  # frames of a run: what comes from a file may not fill the memory


def _run_starts(codes: np.ndarray) -> np.ndarray:
    """The columns of codes [K, T] that differ from the one before, in any codebook."""
    fresh = np.zeros(codes.shape[1], bool)
    fresh[:1] = True
    for row in codes:
        fresh[1:] |= row[1:] != row[:-1]
    return np.flatnonzero(fresh)


def _collapsed(given: Form, name: str) -> Form:
    given.require_grid(name)
    # codes that came once every stride may now begin anywhere
    rate = max(row.rate * row.stride for row in given.rows)
    return replace(given, rows=tuple(replace(row, rate=rate, stride=1) for row in given.rows), measured=True)


@dataclass(frozen=True)
class Deduplicate(Transform):
    """Each run of equal frames once, [K, T] -> [K+1, R]: the last row is its duration minus one.

    longest: frames, at most 65,536; a longer run becomes several. A frame is the codes of all codebooks together.
    """

    longest: int = 64

    name: ClassVar[str] = "deduplicate"

    def __post_init__(self) -> None:
        require_whole("the longest run of Deduplicate", self.longest, 1, _LONGEST)

    def form(self, given: Form) -> Form:
        after = _collapsed(given, "Deduplicate")
        return replace(after, rows=(*after.rows, Row("durations", self.longest, after.rows[0].rate)))

    def forward(self, ids: np.ndarray, given: Form) -> np.ndarray:
        starts = _run_starts(ids)
        frames = np.diff(starts, append=ids.shape[1])
        if frames.max(initial=0) > self.longest:
            pieces = -(-frames // self.longest)
            last = np.cumsum(pieces) - 1
            starts, rest = np.repeat(starts, pieces), frames - (pieces - 1) * self.longest
            frames = np.full(len(starts), self.longest)
            frames[last] = rest
        return np.concatenate([ids[:, starts], frames[None] - 1])

    def inverse(self, ids: np.ndarray, given: Form) -> np.ndarray:
        return np.repeat(ids[:-1], ids[-1] + 1, axis=1)


@dataclass(frozen=True)
class Collapse(Transform):
    """Each run of equal frames once, [K, T] -> [K, R], and its duration forgotten, as in GSLM (Lakhotia et al. 2021).

    Not exact: its inverse gives every unit one frame. A vocoder that knows durations gives them back.
    """

    name: ClassVar[str] = "collapse"
    exact: ClassVar[bool] = False

    def form(self, given: Form) -> Form:
        return _collapsed(given, "Collapse")

    def forward(self, ids: np.ndarray, given: Form) -> np.ndarray:
        return ids[:, _run_starts(ids)]

    def inverse(self, ids: np.ndarray, given: Form) -> np.ndarray:
        return ids


@dataclass(frozen=True)
class Delay(Transform):
    """Codebook k comes delays[k] frames later, [K, T] -> [K, T + max(delays)] (MusicGen, Copet et al. 2023, fig. 1).

    What is not there has an id of its own, the one after the codebook's last. delays: frames; () for 0, 1, 2, ...
    """

    delays: tuple[int, ...] = ()

    name: ClassVar[str] = "delay"

    def __post_init__(self) -> None:
        for delay in self.delays:
            require_whole("a delay", delay, 0, _LONGEST)

    def form(self, given: Form) -> Form:
        given.require_grid("Delay")
        if self.delays and len(self.delays) != len(given.rows):
            raise InputError(f"expected a delay for each of {len(given.rows)} codebooks, got {list(self.delays)}")
        rows = (replace(row, size=row.size + 1, rate=row.rate * row.stride, stride=1) for row in given.rows)
        return replace(given, rows=tuple(rows))

    def _of(self, given: Form) -> tuple[int, ...]:
        return self.delays or tuple(range(len(given.rows)))

    def forward(self, ids: np.ndarray, given: Form) -> np.ndarray:
        delays = self._of(given)
        frames = ids.shape[1]
        out = np.empty((len(ids), frames + max(delays)), np.int64)
        for target, row, delay, form in zip(out, ids, delays, given.rows, strict=True):
            target[:delay] = target[delay + frames :] = form.end
            target[delay : delay + frames] = row
        return out

    def inverse(self, ids: np.ndarray, given: Form) -> np.ndarray:
        delays = self._of(given)
        frames = ids.shape[1] - max(delays)
        if frames < 0:
            raise InputError(f"delayed codes have at least {max(delays)} columns, got {ids.shape[1]}")
        for row, delay, form in zip(ids, delays, given.rows, strict=True):
            outside = np.r_[row[:delay], row[delay + frames :]]
            if (outside != form.end).any():
                wrong = int(outside[outside != form.end][0])
                raise InputError(
                    f"{form.label}, {delay} columns late, must hold {form.end} where nothing is, got {wrong}",
                    hint="of a language model's output, `inverse_prefix` takes what is right",
                )
        return self._aligned(ids, given, frames)

    def inverse_prefix(self, ids: np.ndarray, given: Form) -> np.ndarray:
        delays = self._of(given)
        heads = zip(ids, delays, given.rows, strict=True)
        begun = all((row[:delay] == form.end).all() for row, delay, form in heads)
        return self._aligned(ids, given, max(0, ids.shape[1] - max(delays)) if begun else 0)

    def _aligned(self, ids: np.ndarray, given: Form, frames: int) -> np.ndarray:
        rows = zip(ids, self._of(given), strict=True)
        return np.stack([row[:frames] if frames == 0 else row[delay : delay + frames] for row, delay in rows])


@dataclass(frozen=True)
class Offset(Transform):
    """One vocabulary for all codebooks: those of the second begin after the last of the first, and so on."""

    name: ClassVar[str] = "offset"

    def form(self, given: Form) -> Form:
        given.require_grid("Offset")
        rows: list[Row] = []
        for row in given.rows:
            rows.append(replace(row, first=rows[-1].end if rows else 0))
        return replace(given, rows=tuple(rows))

    def _shifts(self, given: Form) -> np.ndarray:
        pairs = zip(self.form(given).rows, given.rows, strict=True)
        return np.array([after.first - before.first for after, before in pairs])[:, None]

    def forward(self, ids: np.ndarray, given: Form) -> np.ndarray:
        shifted: np.ndarray = ids + self._shifts(given)
        return shifted

    def inverse(self, ids: np.ndarray, given: Form) -> np.ndarray:
        shifted: np.ndarray = ids - self._shifts(given)
        return shifted
