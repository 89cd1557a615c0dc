"""What ids stand where between two transforms of a token stream, and what a transform is.

Ids are int64 arrays: a grid [K, T] with a row for each codebook, or a flat sequence [N].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from vocable.errors import InputError
from vocable.types import TokenSpec


@dataclass(frozen=True, slots=True)
class Row:
    """Ids first..first+size-1, at most `rate` of them a second; one id stands for `stride` columns of its grid."""

    label: str
    size: int
    rate: float
    first: int = 0
    stride: int = 1

    @property
    def end(self) -> int:
        """The id after the last."""
        return self.first + self.size


@dataclass(frozen=True, slots=True)
class Form:
    """Which ids an array may hold: row by row of a grid, or one row for a flat sequence.

    measured: whether the rate depends on what is said, so that `rate` is only the most that it can be.
    special: name -> id of those that are no codes.
    """

    rows: tuple[Row, ...]
    flat: bool = False
    measured: bool = False
    special: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, spec: TokenSpec) -> Form:
        """The codes [K, T] of a spec, one column a frame."""
        books = spec.codebooks
        return cls(tuple(Row(book.label, book.size, spec.frame_rate / book.stride, 0, book.stride) for book in books))

    @property
    def rate(self) -> float:
        """Ids per second, of a long recording; where `measured`, the most that it can be."""
        return sum(row.rate for row in self.rows)

    @property
    def vocabulary(self) -> int:
        """All ids lie in 0..vocabulary-1."""
        return max(row.end for row in self.rows)

    def require_grid(self, name: str) -> None:
        """InputError unless the ids are a grid."""
        if self.flat:
            raise InputError(f"{name} expects codes [K, T], got a flat sequence", hint=f"put {name} before the layout")

    def require_flat(self, name: str) -> None:
        """InputError unless the ids are a flat sequence."""
        if not self.flat:
            hint = "put Flatten() or CoarseFirst() before it"
            raise InputError(f"{name} expects a flat sequence, got codes [K={len(self.rows)}, T]", hint=hint)

    def shaped(self, ids: Any) -> np.ndarray:
        """The ids as int64, [K, T] or [N]. InputError unless they are integers of this shape."""
        array = np.asarray(ids)
        wanted = "ids [N]" if self.flat else f"codes [K={len(self.rows)}, T]"
        fits = array.ndim == 1 if self.flat else array.ndim == 2 and len(array) == len(self.rows)
        if not fits:
            raise InputError(f"expected {wanted}, got shape {list(array.shape)}")
        if array.size and not np.issubdtype(array.dtype, np.integer):
            raise InputError(f"expected {wanted} of integers, got {array.dtype}")
        return array.astype(np.int64, copy=False)

    def check(self, ids: np.ndarray) -> np.ndarray:
        """The ids, all of which lie where they may. InputError that names the first that does not."""
        for row, values in zip(self.rows, np.atleast_2d(ids), strict=True):
            if values.size and (int(values.min()) < row.first or int(values.max()) >= row.end):
                place = int(np.flatnonzero((values < row.first) | (values >= row.end))[0])
                raise InputError(
                    f"id {int(values[place])} at place {place} is none of {row.label} ({row.first}..{row.end - 1})",
                    hint="of a language model's output, `inverse_prefix` takes what is right",
                )
        return ids

    def valid(self, ids: np.ndarray) -> np.ndarray:
        """What comes before the first id, or the first column, that may not be there."""
        grid = np.atleast_2d(ids)
        first, end = (np.array([getattr(row, name) for row in self.rows])[:, None] for name in ("first", "end"))
        wrong = ((grid < first) | (grid >= end)).any(axis=0)
        return ids[..., : int(wrong.argmax())] if wrong.any() else ids


class Transform(ABC):
    """One reversible step. It is plain values; `given` is always the form before it, as its stream knows it.

    A subclass is a frozen dataclass whose fields are JSON values. `exact`: whether inverse(forward(x)) is x; of all
    transforms forward(inverse(y)) is y for every y that `forward` gave. Neither has to check that ids lie in their
    form: a stream does, on both sides.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    exact: ClassVar[bool] = True

    @abstractmethod
    def form(self, given: Form) -> Form:
        """What comes out. InputError if this step cannot follow what was before."""

    @abstractmethod
    def forward(self, ids: np.ndarray, given: Form) -> np.ndarray: ...

    @abstractmethod
    def inverse(self, ids: np.ndarray, given: Form) -> np.ndarray:
        """What `forward` was given. InputError if the ids are not whole."""

    def inverse_prefix(self, ids: np.ndarray, given: Form) -> np.ndarray:
        """What is whole of ids that may stop, or go wrong, anywhere."""
        return self.inverse(ids, given)

    def config(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}  # type: ignore[arg-type]
        return {"name": self.name, "version": self.version, **values}


def require_whole(name: str, value: object, least: int, most: int) -> None:
    """InputError unless the value is an integer in least..most; it may come from a file."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(f"{name} must be an integer in {least}..{most}, got {value!r}")
