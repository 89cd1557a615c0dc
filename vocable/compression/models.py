"""What a coder expects of the next code: whole numbers, learnt from the codes before in the same way on either side.

A model says how often each entry of a codebook is expected, and is then told which one came. Encoder and decoder ask
and tell the same, so they agree, provided that the numbers do: they are integers, held in float32 below 2^24, where
sums and products of integers are exact in any order, on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from vocable.errors import InputError

LARGEST_TOTAL = 1 << 24
"""What frequencies of one code may add up to at most: up to here float32 holds every integer."""

LARGEST_BOOK, MOST_ENTRIES = 1 << 18, 1 << 22
"""Entries of a codebook that a model can have frequencies of, and of all codebooks together."""

_KEPT = 1 << 17  # frequencies without contexts are halved when they add up to twice this
_FINEST = 16  # frequency of a code that was never seen, in small codebooks
_CONTEXTS = 4096  # entries of a codebook, above which pairs of codes are too rare to learn from
_PRIOR = 12  # occurrences of a code after which what followed it counts as much as all else
_PAIRS = 80  # occurrences of a context that are held at most; then they are halved
_STAYS = 7  # codes that stay as they are for each that changes: more is not believed, for the sake of the total


class Model(Protocol):
    """Frequencies of the codes of one recording, which come frame by frame, in a frame codebook by codebook.

    A codebook with a stride has a code in every stride-th frame only; one of a single entry is never asked for.
    """

    def frequencies(self, codebook: int) -> np.ndarray:
        """How often each entry is expected as the next code: float32 [V], integers >= 1, at most 2^24 together.

        What is returned belongs to the model and may change with the next call.
        """

    def update(self, codebook: int, code: int) -> None:
        """The next code of this codebook was this one."""


ModelFactory = Callable[[Sequence[int]], Model]
"""The sizes of codebooks -> a model at the beginning of a recording."""


class Uniform:
    """Every code as likely as any other: log2(V) bits each, and nothing is learnt."""

    def __init__(self, sizes: Sequence[int]) -> None:
        _check(sizes)
        self._flat = [np.ones(size, np.float32) for size in sizes]

    def frequencies(self, codebook: int) -> np.ndarray:
        """Ones [V]."""
        return self._flat[codebook]

    def update(self, codebook: int, code: int) -> None:
        """Changes nothing."""


class Order0:
    """How often each code came so far in its codebook, and a half: the estimate of Krichevsky and Trofimov (1981)."""

    def __init__(self, sizes: Sequence[int]) -> None:
        _check(sizes)
        self._steps = [2 * max(1, min(_FINEST, _KEPT // size)) for size in sizes]
        self._seen = [np.full(size, step // 2, np.float32) for size, step in zip(sizes, self._steps, strict=True)]
        self._totals = [size * (step // 2) for size, step in zip(sizes, self._steps, strict=True)]

    def frequencies(self, codebook: int) -> np.ndarray:
        """Frequencies [V] so far."""
        return self._seen[codebook]

    def update(self, codebook: int, code: int) -> None:
        """Counts the code; when the counts get large all of them are halved, so that the recent ones weigh more."""
        seen, step = self._seen[codebook], self._steps[codebook]
        seen[code] += step
        self._totals[codebook] += step
        if self._totals[codebook] >= 2 * _KEPT + len(seen):
            np.floor(seen / 2, out=seen)
            np.maximum(seen, 1, out=seen)
            self._totals[codebook] = int(seen.sum(dtype=np.int64))


class Order1(Order0):
    """What followed the code before, mixed with that it stays, mixed with `Order0`.

    With n occurrences of the code before, what followed it has the share n / (n + 12): a Dirichlet prior (MacKay and
    Peto 1995) of that strength, around how often codes of the codebook stay as they are and how often each one comes at
    all. Units stay half of the time, and to learn that once for all of them is most of the gain in short recordings.
    Codebooks of more than 4096 entries learn no pairs.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        self._mixed = [np.empty(size, np.float32) for size in sizes]
        self._before: list[int | None] = [None] * len(sizes)
        self._followers: list[dict[int, np.ndarray]] = [{} for _ in sizes]
        self._pairs: list[dict[int, int]] = [{} for _ in sizes]
        self._stays = [1] * len(sizes)
        self._changes = [8] * len(sizes)

    def frequencies(self, codebook: int) -> np.ndarray:
        """Frequencies [V] after the last code of this codebook."""
        seen, before = self._seen[codebook], self._before[codebook]
        if before is None:
            return seen
        mixed, total = self._mixed[codebook], self._totals[codebook]
        stays = min(_STAYS * total, total * self._stays[codebook] // self._changes[codebook])
        followers = self._followers[codebook].get(before)
        if followers is None:
            mixed[:] = seen
        else:
            np.multiply(followers, np.float32((total + stays) // _PRIOR), out=mixed, dtype=np.float32)
            mixed += seen
        mixed[before] += stays
        return mixed

    def update(self, codebook: int, code: int) -> None:
        """Counts the code, that it followed the one before, and whether it is the same."""
        super().update(codebook, code)
        before = self._before[codebook]
        self._before[codebook] = code
        if before is None:
            return
        self._stays[codebook] += code == before
        self._changes[codebook] += code != before
        if len(self._seen[codebook]) <= _CONTEXTS:
            self._pair(codebook, before, code)

    def _pair(self, codebook: int, before: int, code: int) -> None:
        rows, pairs = self._followers[codebook], self._pairs[codebook]
        if before not in rows:
            rows[before], pairs[before] = np.zeros(len(self._seen[codebook]), np.uint8), 0
        rows[before][code] += 1
        pairs[before] += 1
        if pairs[before] > _PAIRS:
            rows[before] //= 2
            pairs[before] = int(rows[before].sum(dtype=np.int64))


def _check(sizes: Sequence[int]) -> None:
    if not sizes or not 1 <= min(sizes) <= max(sizes) <= LARGEST_BOOK or sum(sizes) > MOST_ENTRIES:
        raise InputError(
            f"expected codebooks of 1 to {LARGEST_BOOK} entries, {MOST_ENTRIES} together, to compress, got up to "
            f"{max(sizes, default=0)}, {sum(sizes)} together"
        )


MODELS: dict[str, ModelFactory] = {"adaptive": Order1, "order0": Order0, "uniform": Uniform}
"""The models that need nothing but the file, by the names that files have for them."""
