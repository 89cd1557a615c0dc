"""Packed tokens as map-style datasets of torch: blocks of one length, or recording by recording.

| dataset           | an item                                             | what remains                               |
|-------------------|-----------------------------------------------------|--------------------------------------------|
| `TokenBlocks`     | [length] tokens in a row, across recordings         | dropped at the end of all, or padded       |
| `WholeUtterances` | [length]: as many whole recordings in a row as fit  | padded; what is longer than a block is cut |
| `Utterances`      | [n] tokens of a recording                           | nothing                                    |

All are int64. Between recordings stands what the stream put there: `Special(("bos", "eos"))`, or nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vocable.errors import InputError
from vocable.exports.packed import PackedTokens


class _Mapped(Dataset[Tensor]):
    """A dataset of packed tokens that goes to worker processes as the path of its files: they map them themselves."""

    packed: PackedTokens

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "packed": self.packed.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, packed=PackedTokens.open(state["packed"]))


class Blocks(_Mapped, ABC):
    """Stretches of packed tokens as int64 tensors [length]; each token is in one of them, or in what is dropped.

    length: tokens of a block. pad: what fills a block that has fewer, None where none has.
    InputError for a length below 1, for a pad outside of int64, and if there is not a single block.
    """

    def __init__(self, packed: PackedTokens, length: int, pad: int | None) -> None:
        if length < 1:
            raise InputError(f"expected blocks of at least 1 token, got {length}")
        if pad is not None and not -(1 << 63) <= pad < 1 << 63:
            raise InputError(f"expected an int64 to pad with, got {pad}")
        self.packed, self.length, self.pad = packed, int(length), None if pad is None else int(pad)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def span(self, index: int) -> tuple[int, int]:
        """The first token of block `index` among all, and the one after its last."""

    def __getitem__(self, index: int) -> Tensor:
        """Block `index` [length]. IndexError beyond the last."""
        return self.read([index])[0]

    def read(self, indices: Iterable[int]) -> Tensor:
        """Several blocks [n, length]. IndexError beyond the last."""
        wanted = list(indices)
        if wanted and not 0 <= min(wanted) <= max(wanted) < len(self):
            raise IndexError(f"expected blocks 0..{len(self) - 1}, got {min(wanted)}..{max(wanted)}")
        tokens = np.asarray(self.packed.tokens)  # slices of memmap objects are slow to make
        read = np.empty((len(wanted), self.length), np.int64)
        for row, index in zip(read, wanted, strict=True):
            start, stop = self.span(index)
            row[: stop - start] = tokens[start:stop]
            if self.pad is not None:
                row[stop - start :] = self.pad
        return torch.from_numpy(read)

    def _require_one(self) -> None:
        if not len(self):
            raise InputError(
                f"expected at least one block of {self.length} tokens, got {len(self.packed.tokens)} tokens",
                hint="choose a shorter length, or a `pad`" if len(self.packed.tokens) else "export more recordings",
            )


class TokenBlocks(Blocks):
    """All tokens in a row, cut into blocks: block i is tokens i * length .. (i + 1) * length - 1.

    What remains at the end, fewer tokens than a block, is dropped, or with `pad` a block of its own.
    """

    def __init__(self, packed: PackedTokens, length: int, *, pad: int | None = None) -> None:
        super().__init__(packed, length, pad)
        self._require_one()

    def __len__(self) -> int:
        whole, rest = divmod(len(self.packed.tokens), self.length)
        return whole + (rest > 0 and self.pad is not None)

    def span(self, index: int) -> tuple[int, int]:
        start = index * self.length
        return start, min(start + self.length, len(self.packed.tokens))


class WholeUtterances(Blocks):
    """Whole recordings in their order, as many in a block as fit, and the rest of the block filled with `pad`.

    A recording longer than a block is cut into blocks and a remainder, to which others are added. `pad` is best an id
    that no token has, such as `packed.vocabulary`. Holds 8 bytes for each block.
    """

    def __init__(self, packed: PackedTokens, length: int, *, pad: int) -> None:
        super().__init__(packed, length, pad)
        self._starts = _next_fit(_cut(np.asarray(packed.offsets), length), length)
        self._require_one()

    def __len__(self) -> int:
        return len(self._starts) - 1

    def span(self, index: int) -> tuple[int, int]:
        return int(self._starts[index]), int(self._starts[index + 1])


class Utterances(_Mapped):
    """Recording by recording: int64 tensors [n], which may be empty."""

    def __init__(self, packed: PackedTokens) -> None:
        self.packed = packed

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, index: int) -> Tensor:
        """The tokens [n] of recording `index`. IndexError beyond the last."""
        return torch.from_numpy(self.packed[index].astype(np.int64))


def _cut(offsets: np.ndarray, length: int) -> np.ndarray:
    """Where recordings, and the pieces of those longer than a block, begin and end (int64 [P + 1])."""
    begins = offsets.astype(np.int64)
    pieces = -(-np.diff(begins) // length)
    firsts = np.repeat(begins[:-1], pieces)
    within = np.arange(len(firsts)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return np.append(firsts + within * length, begins[-1])


def _next_fit(cuts: np.ndarray, length: int) -> np.ndarray:
    """Where blocks begin and end (int64 [n + 1]): each goes on to the last cut that it reaches."""
    reached = (np.searchsorted(cuts, cuts + length, side="right") - 1).tolist()
    places, place = [0], 0
    while place < len(cuts) - 1:
        place = reached[place]
        places.append(place)
    return np.asarray(cuts[places])
