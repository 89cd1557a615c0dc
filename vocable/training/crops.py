"""Which crops of which recordings a step of training sees, and which recordings it never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from vocable.errors import InputError

_HELD_OUT = 0.02


@dataclass(frozen=True, slots=True)
class Crops:
    """A step of training takes `batch` crops of `seconds` s in each process. InputError if one is not positive."""

    batch: int = 16
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.batch < 1 or not self.seconds > 0:
            raise InputError(f"expected crops of more than 0 s, one at least, got {self.batch} of {self.seconds} s")

    def frames(self, sample_rate: int, hop_length: int) -> int:
        """Frames of a crop, one at least."""
        return max(1, round(self.seconds * sample_rate / hop_length))


class Lottery:
    """Draws crops of `size` units out of recordings of `lengths` units, so that every unit comes up alike.

    A recording is drawn in proportion to its length; a crop lies within it, or begins with it where it is shorter.
    InputError if all recordings together are shorter than one crop.
    """

    def __init__(self, lengths: Sequence[int], size: int) -> None:
        self._ends = np.cumsum(np.asarray(lengths, np.int64))
        self._room = np.maximum(0, np.asarray(lengths, np.int64) - size)
        if not len(self._ends) or self._ends[-1] < size:
            raise InputError(
                f"expected as much sound as one crop to train on, got {len(lengths)} recordings, all of them shorter",
                hint="give more audio, or shorter --crop-seconds",
            )

    def draw(self, random: np.random.Generator) -> tuple[int, int]:
        """The number of a recording and where in it the crop begins."""
        index = int(np.searchsorted(self._ends, random.integers(self._ends[-1]), side="right"))
        return index, int(random.integers(self._room[index] + 1))


def random_numbers(seed: int, step: int, rank: int) -> np.random.Generator:
    """The random numbers of one step in one process, whatever came before."""
    return np.random.default_rng([seed % 2**63, step, rank])


def held_out(ids: Sequence[str]) -> frozenset[str]:
    """Recordings to judge by, never to train on: the 2 % whose hashes are lowest, one at least; of a single one none.

    Whether a recording is among them depends on its own id alone, but for the one that is needed.
    """
    if len(ids) < 2:
        return frozenset()
    numbers = {name: int.from_bytes(sha256(name.encode("utf-8", "surrogatepass")).digest()[:8]) for name in ids}
    chosen = {name for name, number in numbers.items() if number < _HELD_OUT * 2**64}
    return frozenset(chosen - {max(numbers, key=numbers.__getitem__)} or {min(numbers, key=numbers.__getitem__)})
