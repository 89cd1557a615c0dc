"""The points of a fit: this process's share of them, read as float32 a chunk at a time, and what is known of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers.nearest import chunk_rows, normalized
from vocable.quantizers.reduce import ALONE, Reducer
from vocable.quantizers.workers import workers

Places = Int[Tensor, " m"] | slice


@dataclass(frozen=True, eq=False, slots=True)
class Points:
    """Points [n, D] as they are stored: of any float width, perhaps memory-mapped, never copied as a whole.

    rows: which of `values` count, or all. starts: number of the first of `values` of each process, and at the end of
    all of them. total: points that count, in all processes. magnitudes: bounds on the absolute values. spherical:
    points are scaled to length 1 when they are taken.
    """

    values: Float[Tensor, "n d"]
    rows: Int[Tensor, " m"] | None
    starts: Int[Tensor, " p"]
    total: int
    magnitudes: Float[Tensor, " d"]
    spherical: bool
    reduce: Reducer

    @classmethod
    def of(cls, values: Float[Tensor, "n d"], *, spherical: bool = False, reduce: Reducer = ALONE) -> Points:
        """All points of all processes, looked through once. InputError if one is not finite, or of another D."""
        shapes = torch.stack(reduce.gather(torch.tensor([values.shape], device=values.device)))[:, 0]
        if (shapes[:, 1] != shapes[0, 1]).any():
            raise InputError(f"expected points of one dimension in all processes, got {shapes[:, 1].tolist()}")
        starts = torch.cat([torch.zeros_like(shapes[:1, 0]), shapes[:, 0].cumsum(0)])
        magnitudes = reduce.max_(_magnitudes(values))
        if not bool(magnitudes.isfinite().all()):
            raise InputError("expected finite points, got NaN or infinity", hint="look for broken audio or features")
        magnitudes = torch.ones_like(magnitudes) if spherical else magnitudes
        return cls(values, None, starts, int(starts[-1]), magnitudes, spherical, reduce)

    def __len__(self) -> int:
        return len(self.values if self.rows is None else self.rows)

    @property
    def dim(self) -> int:
        return self.values.shape[1]

    @property
    def device(self) -> torch.device:
        return self.values.device

    @property
    def first(self) -> int:
        """Number of the first of `values` among those of all processes."""
        return int(self.starts[self.reduce.rank])

    def take(self, places: Places) -> Float[Tensor, "m d"]:
        """Some of this process's points, by their places, as float32."""
        rows = places if self.rows is None else self.rows[places]
        taken = self.values[rows] if isinstance(rows, slice) else self.values.index_select(0, rows)
        return normalized(taken.float()) if self.spherical else taken.float()

    def spans(self, row_bytes: int) -> Iterator[slice]:
        """The places of this process's points in chunks, where each point takes so many bytes."""
        return spans(len(self), chunk_rows(row_bytes, self.device))

    def some(self, numbers: Int[Tensor, " m"]) -> Points:
        """Only those of all points that have these numbers, in the order of the points."""
        rows = numbers.to(self.device) - self.first
        rows = rows[(rows >= 0) & (rows < len(self.values))].sort().values
        return replace(self, rows=rows, total=len(numbers))

    def collect(self, numbers: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
        """The points of all processes that have these numbers, in this order, in every process."""
        numbers = numbers.to(self.device)
        ranks = torch.searchsorted(self.starts, numbers, right=True) - 1
        mine = numbers[ranks == self.reduce.rank] - self.first
        found = torch.cat(self.reduce.gather(self.take(mine)))
        collected = torch.empty_like(found)
        collected[ranks.argsort(stable=True)] = found
        return collected


def spans(count: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that make up 0..count-1."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _magnitudes(values: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """The largest absolute value in each dimension, infinite where there is a NaN."""
    size = chunk_rows(12 * values.shape[1], values.device)
    # made beforehand: results that were allocated between chunks would keep the memory of the chunks from being reused
    largest = torch.zeros(max(1, -(-len(values) // size)), values.shape[1], device=values.device)

    def look(places: slice) -> None:
        torch.amax(values[places].float().abs(), 0, out=largest[places.start // size])

    with workers(values.device) as team:
        team.map(look, spans(len(values), size))
    return largest.amax(0).nan_to_num(nan=torch.inf, posinf=torch.inf)
