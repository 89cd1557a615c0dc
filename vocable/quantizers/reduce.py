"""How a fit forms the statistics of all points when several processes hold a share of them each."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Reducer(Protocol):
    """Joins the tensors of all processes, which call the same methods in the same order with the same shapes and types.

    The points of all processes are those of rank 0, then those of rank 1, and so on. Tensors lie on the device of the
    points. Sums are of int64, so they do not depend on the order of additions; maxima are of numbers without NaN.
    """

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def world(self) -> int:
        """How many processes there are."""
        ...

    def sum_(self, t: Tensor) -> Tensor:
        """`t` itself, holding now the sum over all processes."""
        ...

    def max_(self, t: Tensor) -> Tensor:
        """`t` itself, holding now the elementwise maximum over all processes."""
        ...

    def gather(self, t: Tensor) -> list[Tensor]:
        """The tensors of all processes by rank; they may differ in the length of their first axis, which may be 0."""
        ...


class _Alone:
    rank = 0
    world = 1

    def sum_(self, t: Tensor) -> Tensor:
        return t

    def max_(self, t: Tensor) -> Tensor:
        return t

    def gather(self, t: Tensor) -> list[Tensor]:
        return [t]


ALONE: Reducer = _Alone()
"""One process that holds all points."""
