"""Lloyd's algorithm for k-means: exact, and the same bits whatever the chunks, the threads, the order of sums and
the processes that share the points.

Skipped distances (Ding et al. 2015) change the time, never the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from vocable.quantizers.nearest import (
    GROUP_WIDTH,
    UNIT_ROUNDOFF,
    Table,
    build_table,
    fold,
    nearest,
    normalized,
    parts,
    search_rows,
    squared_distances,
)
from vocable.quantizers.points import Points
from vocable.quantizers.sums import ClusterSums, exact_sum
from vocable.quantizers.workers import Workers, workers


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """Where Lloyd's algorithm stopped: centroids, points in each cluster, mean squared distance per iteration.

    iterations: those of `objective`, and of schedules those that came before on fewer points.
    """

    centroids: Float[Tensor, "k d"]
    counts: Int[Tensor, " k"]
    objective: list[float]
    reseeded: int
    iterations: int


class Assignment:
    """Which cluster each point is in, with bounds on its distances that tell which points and groups can stay unseen.

    Memory: 12 bytes a point, and 4 for each group of centroids, of which there are at most D / 32, or one.
    """

    def __init__(self, points: Points, num_clusters: int) -> None:
        self.width = min(max(GROUP_WIDTH, -(-GROUP_WIDTH * num_clusters // points.dim)), num_clusters)
        self.points, self.fresh = points, True
        self.codes = torch.full((len(points),), -1, device=points.device)
        self.upper = torch.full((len(points),), torch.inf, device=points.device)
        self.lower = torch.zeros(len(points), -(-num_clusters // self.width), device=points.device)

    def assign(self, table: Table, sums: ClusterSums, team: Workers) -> int:
        """Put every point into its nearest cluster, and into `sums`; returns how many points moved."""
        unsure = (~(self.upper < self.lower.amin(1))).nonzero()[:, 0]
        chunks = parts(unsure, search_rows(table))
        moved = sum(team.map(lambda rows: self._assign_rows(table, sums, rows), chunks))
        self.fresh = False
        return moved

    def _assign_rows(self, table: Table, sums: ClusterSums, rows: Int[Tensor, " m"]) -> int:
        points, old = self.points.take(rows), self.codes[rows]
        # one large product is faster than many small ones elsewhere
        bounded = points.device.type == "cpu" and self.lower.shape[1] > 1 and not self.fresh
        found = nearest(table, points, old, self.lower[rows]) if bounded else nearest(table, points)
        self.codes[rows], self.upper[rows], self.lower[rows] = found.codes, found.upper, found.lower
        moved = (found.codes != old).nonzero()[:, 0]
        points = points.index_select(0, moved)
        sums.add(points, found.codes[moved])
        if not self.fresh:
            sums.add(points, old[moved], sign=-1)
        return len(moved)

    def loosen(self, table: Table, centroids: Float[Tensor, "k d"]) -> None:
        """Keep the bounds true when the centroids of `table` go to new places: the triangle inequality."""
        drift = squared_distances(centroids, table.centroids).sqrt().float() * (1 + 4 * UNIT_ROUNDOFF)
        drift[~table.live[: len(drift)]] = torch.inf  # the search did not see these
        by_group = functional.pad(drift, (0, len(table.weights) - len(drift))).view(table.groups, table.width).amax(1)
        self.upper.add_(drift[self.codes]).mul_(1 + 4 * UNIT_ROUNDOFF)
        self.lower.sub_(by_group).mul_(1 - 4 * UNIT_ROUNDOFF).clamp_(min=0)


class Descent:
    """Lloyd's algorithm one iteration at a time, of which the centroids may be moved in between.

    Needless distances are skipped wherever the centroids go: the bounds follow them.
    """

    def __init__(self, points: Points, centroids: Float[Tensor, "k d"]) -> None:
        self.points, self.centroids = points, centroids
        self.members = Assignment(points, len(centroids))
        self.sums = self._local = ClusterSums(points.magnitudes, points.total, len(centroids))
        self._table: Table | None = None
        self._spread: float | None = None

    def step(self, team: Workers) -> tuple[float, int, int]:
        """One iteration: its objective, how many points changed their cluster, how many empty clusters were placed."""
        table = build_table(self.centroids, self.members.width)
        if self._table is not None:
            self.members.loosen(self._table, self.centroids)
        self._table = table
        moved = _everywhere(self.points, self.members.assign(table, self._local, team))
        self.sums = self._local.over(self.points.reduce)
        if self._spread is None:
            self._spread = _spread(self.points, self.sums.mean(), team)
        self.centroids = renew(self.points, self.sums, self.centroids)
        objective = max(0.0, self._spread + _shift(self.centroids, self.sums)) / self.points.total
        return objective, moved, _reseed(self.members, self.centroids, self.sums.counts)


def lloyd(
    points: Points,
    centroids: Float[Tensor, "k d"],
    *,
    iterations: int,
    tolerance: float,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Outcome:
    """Nearest centroids and means in turn (Lloyd 1982) until the objective falls by less than `tolerance` of itself.

    The objective of an iteration is the mean squared distance of the points to the new centroids of their clusters:
    their means, or of spherical points the means scaled to length 1. A cluster without points takes the point that is
    farthest from its own centroid: the objective falls by the whole error of the point, and there is no step size to
    choose.
    """
    descent, objective, reseeded = Descent(points, centroids), list[float](), 0
    with workers(points.device) as team:
        for iteration in range(iterations):
            value, moved, placed = descent.step(team)
            objective.append(value)
            reseeded += placed
            if on_iteration is not None:
                on_iteration(iteration, value)
            if not placed and (not moved or settled(objective, tolerance)):
                break
    return Outcome(descent.centroids, descent.sums.counts, objective, reseeded, len(objective))


def renew(points: Points, sums: ClusterSums, centroids: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    """The best centroids for the members in `sums`; those without members, or without direction, stay."""
    means = sums.means(otherwise=centroids)
    if not points.spherical:
        return means
    means = normalized(means)
    return torch.where((means != 0).any(1, keepdim=True), means, centroids)


def settled(objective: list[float], tolerance: float) -> bool:
    """Whether the last iteration lowered the objective by no more than `tolerance` of itself."""
    return len(objective) > 1 and objective[-2] - objective[-1] <= tolerance * objective[-2]


def _everywhere(points: Points, count: int) -> int:
    return int(points.reduce.sum_(torch.tensor(count, device=points.device)))


def _spread(points: Points, centre: Float[Tensor, " d"], team: Workers) -> float:
    """Sum of squared distances of all points to `centre`."""
    # made beforehand: results that were allocated between chunks would keep the memory of the chunks from being reused
    found = torch.empty(len(points), dtype=torch.float64, device=points.device)

    def measure(places: slice) -> None:
        found[places] = fold((points.take(places).double() - centre).square())

    team.map(measure, points.spans(40 * points.dim))
    return exact_sum(found, points.total, points.reduce)


def _shift(centroids: Float[Tensor, "k d"], sums: ClusterSums) -> float:
    """What the sum of squared distances loses when each point is measured to its own centroid instead of the mean."""
    centre = sums.mean()
    there = centroids.double() - centre
    counts = sums.counts.double()[:, None]
    return float(fold(fold(there * (counts * there - 2 * (sums.totals() - counts * centre)))[None]))


def _reseed(members: Assignment, centroids: Float[Tensor, "k d"], counts: Int[Tensor, " k"]) -> int:
    """Put the centroids of empty clusters on the points farthest from their own centroids; returns how many."""
    empty = (counts == 0).nonzero()[:, 0]
    if not len(empty):
        return 0
    points, codes = members.points, members.codes
    chunks = points.spans(32 * points.dim)
    found = [squared_distances(points.take(places), centroids[codes[places]]) for places in chunks]
    distances = torch.cat([counts[:0].double(), *found])
    farthest = distances.argsort(descending=True, stable=True)[: len(empty)]
    offered = torch.cat(points.reduce.gather(points.take(farthest)))
    distances = torch.cat(points.reduce.gather(distances[farthest]))
    order = distances.argsort(descending=True, stable=True)[: len(empty)]
    order = order[distances[order] > 0]
    centroids[empty[: len(order)]] = offered[order]
    return len(order)
