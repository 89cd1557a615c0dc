"""Lloyd's algorithm for k-means: exact, and the same bits whatever the chunks, the threads and the order of sums.

Skipped distances (Ding et al. 2015) change the time, never the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from vocable.errors import InputError
from vocable.quantizers.nearest import (
    GROUP_WIDTH,
    UNIT_ROUNDOFF,
    Table,
    build_table,
    chunk_rows,
    fold,
    nearest,
    parts,
    search_rows,
    squared_distances,
)
from vocable.quantizers.workers import Workers, workers


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """Where Lloyd's algorithm stopped: centroids, points in each cluster, mean squared distance per iteration."""

    centroids: Float[Tensor, "k d"]
    counts: Int[Tensor, " k"]
    objective: list[float]
    reseeded: int


class ClusterSums:
    """Sums of the members of each cluster as fixed-point integers [K, D], so that the order of additions has no effect.

    Each dimension is scaled by a power of two that leaves room for the sum over all n points: at least 61 - log2(n)
    bits below the largest magnitude, 43 for 200,000 points, where float32 has 24. Members can be added and taken
    away any number of times without drift.
    """

    def __init__(self, magnitudes: Float[Tensor, " d"], num_points: int, num_clusters: int) -> None:
        exponents = torch.frexp(magnitudes).exponent
        bits = 62 - num_points.bit_length() - exponents
        self.scale = torch.ldexp(torch.ones_like(magnitudes), bits.clamp(max=126))
        self.sums = torch.zeros(num_clusters, len(magnitudes), dtype=torch.int64, device=magnitudes.device)
        self.counts = torch.zeros(num_clusters, dtype=torch.int64, device=magnitudes.device)
        self._lock = Lock()

    def add(self, rows: Float[Tensor, "n d"], codes: Int[Tensor, " n"], sign: int = 1) -> None:
        """Count the rows in (or out, with sign -1) under their codes."""
        units = (rows * self.scale).to(torch.int64)
        counts = torch.bincount(codes, minlength=len(self.counts))
        with self._lock:
            self.sums.index_add_(0, codes, units, alpha=sign)
            self.counts.add_(counts, alpha=sign)

    def means(self, otherwise: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
        """The mean of each cluster in float32; of an empty one the row of `otherwise`."""
        means = self.totals() / self.counts.clamp(min=1)[:, None]
        return torch.where(self.counts[:, None] > 0, means.float(), otherwise)

    def totals(self) -> Float[Tensor, "k d"]:
        """The sums in float64."""
        return self.sums.double() / self.scale.double()

    def mean(self) -> Float[Tensor, " d"]:
        """The mean of all members in float64."""
        return self.sums.sum(0).double() / self.scale.double() / self.counts.sum()


class Assignment:
    """Which cluster each point is in, with bounds on its distances that tell which points and groups can stay unseen.

    Memory: 12 bytes a point, and 4 for each group of centroids, of which there are at most D / 32, or one.
    """

    def __init__(self, points: Float[Tensor, "n d"], num_clusters: int) -> None:
        self.width = min(max(GROUP_WIDTH, -(-GROUP_WIDTH * num_clusters // points.shape[1])), num_clusters)
        self.points = points
        self.codes = torch.full((len(points),), -1, device=points.device)
        self.upper = torch.full((len(points),), torch.inf, device=points.device)
        self.lower = torch.zeros(len(points), -(-num_clusters // self.width), device=points.device)

    def assign(self, table: Table, sums: ClusterSums, team: Workers) -> int:
        """Put every point into its nearest cluster, and into `sums`; returns how many points moved."""
        unsure = (~(self.upper < self.lower.amin(1))).nonzero()[:, 0]
        chunks = parts(unsure, search_rows(table))
        return sum(team.map(lambda rows: self._assign_rows(table, sums, rows), chunks))

    def _assign_rows(self, table: Table, sums: ClusterSums, rows: Int[Tensor, " m"]) -> int:
        points, old = self.points.index_select(0, rows).float(), self.codes[rows]
        first = int(old[0]) < 0
        # one large product is faster than many small ones elsewhere
        bounded = points.device.type == "cpu" and self.lower.shape[1] > 1 and not first
        found = nearest(table, points, old, self.lower[rows]) if bounded else nearest(table, points)
        self.codes[rows], self.upper[rows], self.lower[rows] = found.codes, found.upper, found.lower
        moved = (found.codes != old).nonzero()[:, 0]
        points = points.index_select(0, moved)
        sums.add(points, found.codes[moved])
        if not first:
            sums.add(points, old[moved], sign=-1)
        return len(moved)

    def loosen(self, table: Table, centroids: Float[Tensor, "k d"]) -> None:
        """Keep the bounds true when the centroids of `table` go to new places: the triangle inequality."""
        drift = squared_distances(centroids, table.centroids).sqrt().float() * (1 + 4 * UNIT_ROUNDOFF)
        drift[~table.live[: len(drift)]] = torch.inf  # the search did not see these
        by_group = functional.pad(drift, (0, len(table.weights) - len(drift))).view(table.groups, table.width).amax(1)
        self.upper.add_(drift[self.codes]).mul_(1 + 4 * UNIT_ROUNDOFF)
        self.lower.sub_(by_group).mul_(1 - 4 * UNIT_ROUNDOFF).clamp_(min=0)


def lloyd(
    points: Float[Tensor, "n d"],
    centroids: Float[Tensor, "k d"],
    *,
    iterations: int,
    tolerance: float,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Outcome:
    """Nearest centroids and means in turn (Lloyd 1982) until the objective falls by less than `tolerance` of itself.

    The objective of an iteration is the mean squared distance of the points to the new means of their clusters.
    A cluster without points takes the point farthest from its own mean: that lowers the objective by the whole
    error of the point, and there is no step size to choose. InputError if a point is not finite.
    """
    with workers(points.device) as team:
        sums = ClusterSums(_magnitudes(points, team), len(points), len(centroids))
        members = Assignment(points, len(centroids))
        return _iterate(members, sums, centroids, team, iterations, tolerance, on_iteration)


def _iterate(
    members: Assignment,
    sums: ClusterSums,
    centroids: Float[Tensor, "k d"],
    team: Workers,
    iterations: int,
    tolerance: float,
    on_iteration: Callable[[int, float], None] | None,
) -> Outcome:
    objective: list[float] = []
    spread, reseeded = 0.0, 0
    for iteration in range(iterations):
        table = build_table(centroids, members.width)
        moved = members.assign(table, sums, team)
        spread = spread if iteration else _spread(members.points, sums.mean(), team)
        centroids = sums.means(otherwise=centroids)
        objective.append(max(0.0, spread + _shift(centroids, sums)) / len(members.points))
        placed = _reseed(members, centroids, sums.counts)
        reseeded += placed
        members.loosen(table, centroids)
        if on_iteration is not None:
            on_iteration(iteration, objective[-1])
        if not placed and (not moved or _settled(objective, tolerance)):
            break
    return Outcome(centroids, sums.counts, objective, reseeded)


def _settled(objective: list[float], tolerance: float) -> bool:
    return len(objective) > 1 and objective[-2] - objective[-1] <= tolerance * objective[-2]


def _magnitudes(points: Float[Tensor, "n d"], team: Workers) -> Float[Tensor, " d"]:
    chunks = parts(points, chunk_rows(12 * points.shape[1]))
    largest = torch.stack(team.map(lambda rows: rows.float().abs().amax(0), chunks)).amax(0)
    if not bool(largest.isfinite().all()):
        raise InputError("expected finite points, got NaN or infinity", hint="look for broken audio or features")
    return largest


def _spread(points: Float[Tensor, "n d"], centre: Float[Tensor, " d"], team: Workers) -> float:
    """Sum of squared distances of all points to `centre`."""
    chunks = parts(points, chunk_rows(40 * points.shape[1]))
    return _total(torch.cat(team.map(lambda rows: fold((rows.float().double() - centre).square()), chunks)))


def _shift(centroids: Float[Tensor, "k d"], sums: ClusterSums) -> float:
    """What the sum of squared distances loses when each point is measured to its own centroid instead of the mean."""
    centre = sums.mean()
    there = centroids.double() - centre
    counts = sums.counts.double()[:, None]
    return _total(fold(there * (counts * there - 2 * (sums.totals() - counts * centre))))


def _total(values: Float[Tensor, " n"]) -> float:
    return float(values.cpu().numpy().sum())  # numpy adds in one order, whatever the number of threads


def _reseed(members: Assignment, centroids: Float[Tensor, "k d"], counts: Int[Tensor, " k"]) -> int:
    """Put the centroids of empty clusters on the points farthest from their own centroids; returns how many."""
    empty = (counts == 0).nonzero()[:, 0]
    if not len(empty):
        return 0
    size = chunk_rows(32 * centroids.shape[1])
    pairs = zip(parts(members.points, size), parts(members.codes, size), strict=True)
    distances = torch.cat([squared_distances(rows.float(), centroids[codes]) for rows, codes in pairs])
    farthest = distances.argsort(descending=True, stable=True)[: len(empty)]
    farthest = farthest[distances[farthest] > 0]
    centroids[empty[: len(farthest)]] = members.points[farthest].float()
    return len(farthest)
