"""Each dimension of vectors brought to mean 0 and standard deviation 1, so that none outweighs the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers.points import Places, Points
from vocable.quantizers.reduce import ALONE, Reducer
from vocable.quantizers.sums import ClusterSums
from vocable.quantizers.workers import workers

_LEAST_DEVIATION = 2.0**-20
"""Of the largest magnitude in a dimension: what varies less is the rounding of float32, and counts as constant."""


@dataclass(frozen=True, eq=False, slots=True)
class Scaling:
    """Vectors [..., D] in standard units: (vector - mean) / deviation, dimension by dimension, in float32.

    mean, deviation: [D]. InputError if they differ in length, are not finite, or a deviation is not above 0.
    """

    mean: Float[Tensor, " d"]
    deviation: Float[Tensor, " d"]

    def __post_init__(self) -> None:
        mean, deviation = self.mean, self.deviation
        if mean.ndim != 1 or mean.shape != deviation.shape or {mean.dtype, deviation.dtype} != {torch.float32}:
            told = " and ".join(f"{part.dtype} {list(part.shape)}" for part in (mean, deviation))
            raise InputError(f"expected mean and deviation [D] in float32, got {told}")
        if not bool((mean.isfinite() & deviation.isfinite() & (deviation > 0)).all()):
            raise InputError("expected finite means and deviations above 0, got others")

    @classmethod
    def of(cls, points: Tensor, *, reduce: Reducer = ALONE) -> Scaling:
        """The mean and the standard deviation of all points [n, D] of all processes; of a constant dimension 1.

        Points are looked through a chunk at a time, and may be memory-mapped. Sums are exact, so the result depends on
        nothing but the points. InputError if there is none, or one is not finite.
        """
        if points.ndim != 2 or not points.is_floating_point():
            raise InputError(f"expected points [n, D] of floats, got {points.dtype} {list(points.shape)}")
        mine = Points.of(points.detach(), reduce=reduce)
        if not mine.total:
            raise InputError("expected at least one point, got none")
        mean = _mean(mine, lambda rows: rows, mine.magnitudes)
        farthest = _farthest(mine, mean)
        reach = torch.where(farthest > 0, farthest, 1.0)
        squares = _mean(mine, lambda rows: ((rows - mean) / reach).square(), torch.ones_like(mine.magnitudes))
        deviation = (squares.sqrt() * reach).float()
        least = (_LEAST_DEVIATION * mine.magnitudes).clamp_min(torch.finfo(torch.float32).tiny)
        return cls(mean.float(), torch.where(deviation > least, deviation, 1.0))

    @property
    def dim(self) -> int:
        return len(self.mean)

    def to(self, device: torch.device | str) -> Scaling:
        """The same on another device."""
        return Scaling(self.mean.to(device), self.deviation.to(device))

    def apply(self, vectors: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Vectors in standard units, a copy."""
        return vectors.float().sub(self.mean).div_(self.deviation)

    def undo(self, vectors: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Vectors in standard units as they were before, a copy."""
        return vectors.mul(self.deviation).add_(self.mean)


@dataclass(frozen=True, eq=False, slots=True)
class ScaledPoints(Points):
    """Points that are brought to standard units when they are taken; in memory or in a file they stay as they are."""

    scaling: Scaling

    @classmethod
    def scaled(cls, values: Float[Tensor, "n d"], scaling: Scaling, *, reduce: Reducer = ALONE) -> ScaledPoints:
        """All points of all processes. InputError as `Points.of` raises it, or if the scaling is of another D."""
        raw = Points.of(values, reduce=reduce)
        if raw.dim != scaling.dim:
            raise InputError(f"expected a scaling of {raw.dim} dimensions, got one of {scaling.dim}")
        bounds = (raw.magnitudes + scaling.mean.abs()) / scaling.deviation
        return cls(raw.values, None, raw.starts, raw.total, bounds * (1 + _LEAST_DEVIATION), False, reduce, scaling)

    def take(self, places: Places) -> Float[Tensor, "m d"]:
        """Some of this process's points, by their places, in standard units."""
        return self.scaling.apply(Points.take(self, places))


def _farthest(points: Points, mean: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """The largest distance of all points to the mean in each dimension, in float64."""

    def look(places: slice) -> Float[Tensor, " d"]:
        return (points.take(places).double() - mean).abs().amax(0)

    with workers(points.device) as team:
        found = team.map(look, points.spans(40 * points.dim))
    return points.reduce.max_(torch.stack([torch.zeros_like(mean), *found]).amax(0))


def _mean(
    points: Points, change: Callable[[Float[Tensor, "m d"]], Float[Tensor, "m d"]], magnitudes: Float[Tensor, " d"]
) -> Float[Tensor, " d"]:
    """The mean of what all points, as float64, become by `change`; absolute values are within `magnitudes`."""
    sums = ClusterSums(magnitudes, points.total, 1)

    def add(places: slice) -> None:
        rows = change(points.take(places).double())
        sums.add(rows, torch.zeros(len(rows), dtype=torch.int64, device=rows.device))

    with workers(points.device) as team:
        team.map(add, points.spans(40 * points.dim))
    return sums.over(points.reduce).mean()
