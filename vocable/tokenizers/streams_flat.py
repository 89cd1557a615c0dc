"""Transforms to and of flat sequences: frame by frame, codebook by codebook, special ids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from vocable.errors import InputError
from vocable.tokenizers.streams_forms import Form, Row, Transform

_CUT = "of a sequence that may be cut off, `inverse_prefix` takes what is whole"


def _flattened(given: Form, name: str) -> Form:
    given.require_grid(name)
    if min(row.stride for row in given.rows) > 1:
        labels = ", ".join(row.label for row in given.rows)
        raise InputError(
            f"{name} needs a codebook with a code for every frame, got {labels} with fewer",
            hint="their sequence would not say how many frames there were",
        )
    if len(given.rows) == 1:
        return replace(given, flat=True)
    first = min(row.first for row in given.rows)
    size = max(row.end for row in given.rows) - first
    return replace(given, rows=(Row("the sequence", size, given.rate, first),), flat=True)


def _strides(given: Form) -> np.ndarray:
    return np.array([row.stride for row in given.rows])


def _counts(frames: int, strides: np.ndarray) -> np.ndarray:
    """How many codes each codebook has in so many frames."""
    counts: np.ndarray = -(-frames // strides)
    return counts


def _most_frames(count: int, strides: np.ndarray) -> int:
    """The frames of which all codes are among so many ids, in order of frames."""
    low, high = 0, count  # the codebook with a code for every frame bounds them
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if int(_counts(middle, strides).sum()) <= count else (low, middle - 1)
    return low


def _cut_off(name: str, count: int, labels: int) -> InputError:
    return InputError(f"{count} ids are no whole frames of {labels} codebooks, as {name} makes them", hint=_CUT)


@dataclass(frozen=True)
class Flatten(Transform):
    """All codes of the first frame, then all of the second, [K, T] -> [K T]; a code that lasts a stride comes once."""

    name: ClassVar[str] = "flatten"

    def form(self, given: Form) -> Form:
        return _flattened(given, "Flatten")

    def forward(self, ids: np.ndarray, given: Form) -> np.ndarray:
        strides = _strides(given)
        if (strides == 1).all():
            return ids.T.reshape(-1)
        sent: np.ndarray = ids.T[self._there(ids.shape[1], strides)]
        return sent

    def inverse(self, ids: np.ndarray, given: Form) -> np.ndarray:
        strides = _strides(given)
        frames = _most_frames(len(ids), strides)
        if int(_counts(frames, strides).sum()) != len(ids):
            raise _cut_off("Flatten", len(ids), len(given.rows))
        if (strides == 1).all():
            return np.ascontiguousarray(ids.reshape(frames, len(strides)).T)
        grid = np.empty((frames, len(strides)), np.int64)
        grid[self._there(frames, strides)] = ids
        held = np.arange(frames)[:, None] // strides * strides  # where the code of each frame came
        return np.take_along_axis(grid, held, axis=0).T

    def inverse_prefix(self, ids: np.ndarray, given: Form) -> np.ndarray:
        strides = _strides(given)
        whole = int(_counts(_most_frames(len(ids), strides), strides).sum())
        return self.inverse(ids[:whole], given)

    @staticmethod
    def _there(frames: int, strides: np.ndarray) -> np.ndarray:
        there: np.ndarray = np.arange(frames)[:, None] % strides == 0
        return there


@dataclass(frozen=True)
class CoarseFirst(Transform):
    """All codes of the first codebook, then all of the second, [K, T] -> [K T], as stages of AudioLM and VALL-E."""

    name: ClassVar[str] = "coarse-first"

    def form(self, given: Form) -> Form:
        return _flattened(given, "CoarseFirst")

    def forward(self, ids: np.ndarray, given: Form) -> np.ndarray:
        return np.concatenate([row[:: form.stride] for row, form in zip(ids, given.rows, strict=True)])

    def inverse(self, ids: np.ndarray, given: Form) -> np.ndarray:
        strides = _strides(given)
        frames = _most_frames(len(ids), strides)
        counts = _counts(frames, strides)
        if int(counts.sum()) != len(ids):
            raise _cut_off("CoarseFirst", len(ids), len(strides))
        return self._stretched(np.split(ids, np.cumsum(counts)[:-1]), strides, frames)

    def inverse_prefix(self, ids: np.ndarray, given: Form) -> np.ndarray:
        """The frames of which all codes are there: none before the last codebook has begun.

        InputError unless every codebook has ids of its own: where it begins could not be told.
        """
        ends = [row.end for row in given.rows]
        if any(row.first < end for row, end in zip(given.rows[1:], ends, strict=False)):
            raise InputError(
                "of a cut sequence of codebooks one after the other it cannot be told where each begins",
                hint="give each ids of its own: put Offset() before CoarseFirst()",
            )
        books = np.searchsorted(ends, ids, side="right")
        back = np.diff(books, prepend=0) < 0
        books = books[: int(back.argmax())] if back.any() else books
        strides, bounds = _strides(given), np.searchsorted(books, np.arange(len(ends) + 1))
        counts = np.diff(bounds)
        frames = int((counts * strides).min())  # every codebook reaches as far
        parts = [ids[start : start + count] for start, count in zip(bounds, _counts(frames, strides), strict=False)]
        return self._stretched(parts, strides, frames)

    @staticmethod
    def _stretched(parts: list[np.ndarray], strides: np.ndarray, frames: int) -> np.ndarray:
        rows = zip(parts, strides, strict=True)
        return np.stack([np.repeat(part, stride)[:frames] if stride > 1 else part for part, stride in rows])


@dataclass(frozen=True)
class Special(Transform):
    """Ids that are no codes, the first of all: 0..len(names)-1. "bos" and "eos" are put around every sequence.

    The ids of codes move up as far as they must. Others ("pad", "sep", "mask") are kept free for who needs them.
    """

    names: tuple[str, ...] = ("pad", "bos", "eos")

    name: ClassVar[str] = "special"

    def __post_init__(self) -> None:
        sound = all(isinstance(name, str) and name.isidentifier() for name in self.names)
        if not self.names or not sound or len(set(self.names)) != len(self.names):
            raise InputError(f"expected distinct names of special ids such as pad, bos, eos, got {list(self.names)}")

    def form(self, given: Form) -> Form:
        given.require_flat("Special")
        if given.special:
            taken = ", ".join(name for name, _ in given.special)
            raise InputError(f"the stream has special ids already ({taken})", hint="name all of them at once")
        row = given.rows[0]
        last = replace(row, label="the sequence", first=0, size=row.end + self._shift(given))
        return replace(given, rows=(last,), special=tuple((name, id) for id, name in enumerate(self.names)))

    def _shift(self, given: Form) -> int:
        return max(0, len(self.names) - given.rows[0].first)

    def _around(self, name: str) -> list[int]:
        return [self.names.index(name)] if name in self.names else []

    def forward(self, ids: np.ndarray, given: Form) -> np.ndarray:
        return np.concatenate(
            [np.array(part, np.int64) for part in (self._around("bos"), ids + self._shift(given), self._around("eos"))]
        )

    def inverse(self, ids: np.ndarray, given: Form) -> np.ndarray:
        begin, end = self._around("bos"), self._around("eos")
        framed = ids[: len(begin)].tolist() == begin and ids[len(ids) - len(end) :].tolist() == end
        if len(ids) < len(begin) + len(end) or not framed:
            wanted = " and ".join(f"{word} {id[0]}" for word, id in (("begins with", begin), ("ends with", end)) if id)
            raise InputError(f"expected a sequence that {wanted}, got {len(ids)} other ids", hint=_CUT)
        return ids[len(begin) : len(ids) - len(end)] - self._shift(given)

    def inverse_prefix(self, ids: np.ndarray, given: Form) -> np.ndarray:
        """What comes before the first special id but "bos" in its place, which may be missing."""
        begin = self._around("bos")
        body = ids[len(begin) :] if begin and ids[:1].tolist() == begin else ids
        special = body < len(self.names)
        return (body[: int(special.argmax())] if special.any() else body) - self._shift(given)
