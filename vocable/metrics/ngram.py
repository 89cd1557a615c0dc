"""An n-gram language model over codes: how many bits each code costs whoever knows the codes before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vocable.errors import InputError


@dataclass(frozen=True, eq=False)
class _Level:
    """The k-grams that occurred, as sorted keys (id of their first k - 1 codes) x V + last code, with P's two parts.

    kept: c - D of each k-gram. totals: c of all that begin with the same k - 1 codes; given: the D of all of them.
    """

    keys: np.ndarray
    kept: np.ndarray
    totals: np.ndarray
    given: np.ndarray


class NGram:
    """P(code | the order - 1 codes before it): interpolated Kneser-Ney, down to 1 / V.

    P(w | h) = (max(c(hw) - D, 0) + D T(h) P(w | h')) / c(h), where h' is h without its first code and T(h) the number
    of different codes that followed h. c counts at the highest order; below it, it is the number of different codes
    that came before (the beginning of a recording is one of them). D = n1 / (n1 + 2 n2) of each order, from the numbers
    of k-grams with c = 1 and 2 (Kneser and Ney 1995; Chen and Goodman 1999, section 2.7 and eq. 27); 0.5 where none has
    c = 1. A context that nothing followed gives way to the shorter one. A recording begins without context, and its end
    is not predicted: its length is known.

    sequences: codes [T] of each recording. size: V. order: 1 for single codes, 2 for pairs, and so on.
    InputError if the order is less than 1 or a code lies outside 0..V-1.
    """

    def __init__(self, sequences: Sequence[np.ndarray], size: int, order: int) -> None:
        if order < 1 or size < 1:
            raise InputError(f"expected order >= 1 and size >= 1, got order {order}, size {size}")
        self.size, self.order = size, order
        self._levels: list[_Level] = []
        codes, starts = self._joined(sequences)
        left, grams, nodes = codes, np.zeros(len(codes), np.int64), 1
        for length in range(1, order + 1):
            context = _shifted(grams, starts, -1) if length > 1 else grams
            left = _shifted(left, starts, size)
            keys, grams = _numbered(context * size + codes, context >= 0)
            counts = np.bincount(grams[grams >= 0]) if length == order else _continuations(grams, left, size)
            self._levels.append(_discounted(keys, counts, keys // size, nodes))
            nodes = len(keys)

    def bits(self, sequences: Sequence[np.ndarray]) -> float:
        """Bits that all codes of these recordings cost: the sum of -log2 P. InputError as above."""
        return float(-np.log2(self.probabilities(sequences)).sum())

    def probabilities(self, sequences: Sequence[np.ndarray]) -> np.ndarray:
        """P of each code given those before it, [all T] (float64), recording after recording. InputError as above."""
        codes, starts = self._joined(sequences)
        chances = np.full(len(codes), 1 / self.size)
        for level, context, kept in self._walk(codes, starts):
            totals = level.totals[context]
            better = (kept + level.given[context] * chances) / np.maximum(1, totals)
            chances = np.where((context >= 0) & (totals > 0), better, chances)
        return chances

    def _walk(self, codes: np.ndarray, starts: np.ndarray) -> Iterator[tuple[_Level, np.ndarray, np.ndarray]]:
        """For each length of context: the level, each code's context (-1: none, or never seen), and its c - D."""
        grams = np.zeros(len(codes), np.int64)
        for contexts, level in enumerate(self._levels):
            if not len(level.keys):
                return
            context = _shifted(grams, starts, -1) if contexts else grams
            keys = context * self.size + codes
            places = np.minimum(np.searchsorted(level.keys, keys), len(level.keys) - 1)
            found = (context >= 0) & (level.keys[places] == keys)
            yield level, context, np.where(found, level.kept[places], 0)
            grams = np.where(found, places, -1)

    def _joined(self, sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """All codes end to end, and where recordings start."""
        codes = np.concatenate([np.zeros(0, np.int64), *(sequence.astype(np.int64) for sequence in sequences)])
        if len(codes) and not 0 <= codes.min() <= codes.max() < self.size:
            raise InputError(f"expected codes in 0..{self.size - 1}, got {codes.min()}..{codes.max()}")
        starts = np.cumsum([0, *map(len, sequences)])
        return codes, starts[starts < len(codes)]


def _shifted(values: np.ndarray, starts: np.ndarray, fill: int) -> np.ndarray:
    """What was there one code before, `fill` where a recording begins."""
    before = np.roll(values, 1)
    before[starts] = fill
    return before


def _numbered(keys: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different keys among the valid, sorted, and the place of each key among them, -1 where it is not valid."""
    known, inverse = np.unique(keys[valid], return_inverse=True)
    places = np.full(len(keys), -1, np.int64)
    places[valid] = inverse
    return known, places


def _continuations(grams: np.ndarray, left: np.ndarray, size: int) -> np.ndarray:
    """For each gram, how many different codes (or `size`, a beginning) came before it."""
    pairs = np.unique((grams * (size + 1) + left)[grams >= 0])
    return np.bincount(pairs // (size + 1))


def _discounted(keys: np.ndarray, counts: np.ndarray, parents: np.ndarray, nodes: int) -> _Level:
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    discount = once / (once + 2 * twice) if once else 0.5
    totals = np.bincount(parents, weights=counts, minlength=nodes)
    return _Level(keys, counts - discount, totals, discount * np.bincount(parents, minlength=nodes))
