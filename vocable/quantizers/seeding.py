"""Where k-means starts: greedy k-means++ on a random subsample, k-means|| over all points, or points at random."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.quantizers.nearest import GROUP_WIDTH, Table, build_table, nearest, search_rows, squared_distances
from vocable.quantizers.points import Points, spans
from vocable.quantizers.sums import exact_sum
from vocable.quantizers.workers import Workers, workers

Init = Literal["k-means++", "k-means||", "random"]

SAMPLE_PER_CLUSTER = 8
"""Points of the subsample per cluster; the cost of seeding grows with its size, the objective hardly falls."""

ROUNDS = 5
"""Passes of k-means|| over all points, of about K candidates each."""


def starting_centroids(points: Points, num_clusters: int, init: Init, seed: int) -> Float[Tensor, "k d"]:
    """K points to start from, near ones together; the same in all processes.

    "k-means++": see kmeans_plus_plus; its cost does not depend on n. "k-means||": see kmeans_parallel; took two more
    seconds of nine and ended within 0.3 %. "random": a uniform sample, which costs nothing and leaves more to Lloyd's
    algorithm; ended 1.1 % above with K = 500, 1.9 % with 2,000 (80,000 frames of speech of 320 dimensions).
    """
    with workers(points.device) as team:  # serial float32 sums: they decide where to start, so their order must be one
        if init == "k-means++":
            start = kmeans_plus_plus(points, num_clusters, seed)
        elif init == "k-means||":
            start = kmeans_parallel(points, num_clusters, seed, team)
        else:
            start = points.collect(_shuffled(points.total, torch.Generator().manual_seed(seed))[:num_clusters])
        return points.reduce.gather(by_similarity(start, GROUP_WIDTH))[0]


def kmeans_plus_plus(points: Points, num_clusters: int, seed: int) -> Float[Tensor, "k d"]:
    """K of the points, far from one another, as float32: greedy k-means++ (Arthur and Vassilvitskii 2007).

    Each next centroid is the best of 2 + log K candidates drawn in proportion to their squared distance from the
    centroids so far. Works on a seeded subsample of at most 8 K points, so that its cost does not depend on n.
    """
    generator = torch.Generator().manual_seed(seed)
    sample = points.collect(_shuffled(points.total, generator)[: SAMPLE_PER_CLUSTER * num_clusters])
    return sample[_pick(sample - sample.mean(0), None, _draws(num_clusters, generator).to(points.device))]


def kmeans_parallel(points: Points, num_clusters: int, seed: int, team: Workers) -> Float[Tensor, "k d"]:
    """K of the points as float32: k-means|| (Bahmani et al. 2012, "Scalable K-Means++", algorithm 2).

    Five passes over all points, each of which takes every point with probability K d^2 / sum of d^2, where d is its
    distance from those taken before; then greedy k-means++ among these, weighted by the points nearest to them.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = _shuffled(points.total, generator)[:num_clusters]
    search, new = _Closest(points, team), points.collect(shuffled[:1])
    candidates = [new]
    for _ in range(ROUNDS):
        cost = search.update(new)
        if not cost:
            break
        draws = torch.rand(points.total, generator=generator, dtype=torch.float64)
        mine = draws[points.first : points.first + len(points)].to(points.device)
        new = torch.cat(
            points.reduce.gather(points.take((mine * cost < num_clusters * search.squared).nonzero()[:, 0]))
        )
        candidates.append(new)
    search.update(new)
    found = torch.cat(candidates)
    if len(found) < num_clusters:  # most points are equal
        return torch.cat([found, points.collect(shuffled[: num_clusters - len(found)])])
    weights = points.reduce.sum_(search.codes.bincount(minlength=len(found))).double()
    return found[_pick(found - found.mean(0), weights, _draws(num_clusters, generator).to(points.device))]


def by_similarity(centroids: Float[Tensor, "k d"], width: int) -> Float[Tensor, "k d"]:
    """The centroids in an order that puts near ones into the same group of `width`: halved again and again.

    Each half lies towards one of two centroids that are far from each other.
    """
    if len(centroids) <= width:
        return centroids
    one = centroids[squared_distances(centroids, centroids.mean(0).expand_as(centroids)).argmax()]
    far = squared_distances(centroids, one.expand_as(centroids))
    other = centroids[far.argmax()]
    order = (far - squared_distances(centroids, other.expand_as(centroids))).argsort(stable=True)
    middle = width * ((len(centroids) + width - 1) // width // 2)
    near = by_similarity(centroids[order[:middle]], width)
    return torch.cat([near, by_similarity(centroids[order[middle:]], width)])


class _Closest:
    """The candidate closest to each point, and the squared distance to it."""

    def __init__(self, points: Points, team: Workers) -> None:
        self.points, self.team, self.known = points, team, 0
        self.codes = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        self.squared = torch.full((len(points),), torch.inf, dtype=torch.float64, device=points.device)

    def update(self, new: Float[Tensor, "m d"]) -> float:
        """Takes new candidates into account; the sum of the squared distances of all points."""
        if len(new):
            table = build_table(new)
            self.team.map(lambda places: self._compare(table, places), spans(len(self.points), search_rows(table)))
        self.known += len(new)
        return exact_sum(self.squared, self.points.total, self.points.reduce)

    def _compare(self, table: Table, places: slice) -> None:
        rows = self.points.take(places)
        codes = nearest(table, rows).codes
        squared = squared_distances(rows, table.centroids[codes])
        closer = squared < self.squared[places]
        self.codes[places] = torch.where(closer, codes + self.known, self.codes[places])
        self.squared[places] = torch.where(closer, squared, self.squared[places])


def _shuffled(count: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    return torch.randperm(count, generator=generator)


def _draws(num_clusters: int, generator: torch.Generator) -> Float[Tensor, "k t"]:
    return torch.rand(num_clusters, 2 + int(math.log(num_clusters)), generator=generator, dtype=torch.float64)


def _pick(
    sample: Float[Tensor, "n d"], weights: Float[Tensor, " n"] | None, draws: Float[Tensor, "k t"]
) -> Int[Tensor, " k"]:
    norms = sample.square().sum(1)
    chosen = torch.zeros(len(draws), dtype=torch.int64, device=sample.device)
    closest = _distances(sample, norms, chosen[:1])[0]  # the first of the sample is a random point
    for step in range(1, len(draws)):
        cumulated = _weighted(closest, weights).cumsum(0, dtype=torch.float64)
        candidates = torch.searchsorted(cumulated, draws[step] * cumulated[-1], right=True).clamp(max=len(sample) - 1)
        remaining = torch.minimum(closest, _distances(sample, norms, candidates))
        best = _weighted(remaining, weights).sum(1, dtype=torch.float64).argmin()
        chosen[step], closest = candidates[best], remaining[best]
    return chosen


def _weighted(values: Tensor, weights: Float[Tensor, " n"] | None) -> Tensor:
    return values if weights is None else values * weights


def _distances(sample: Float[Tensor, "n d"], norms: Float[Tensor, " n"], indices: Tensor) -> Float[Tensor, "t n"]:
    return (norms[indices, None] + norms - 2 * (sample[indices] @ sample.T)).clamp(min=0)
