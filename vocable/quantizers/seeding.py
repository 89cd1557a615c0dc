"""Where k-means starts: greedy k-means++ on a random subsample."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vocable.quantizers.nearest import squared_distances

SAMPLE_PER_CLUSTER = 8
"""Points of the subsample per cluster; the cost of seeding grows with its size, the objective hardly falls."""


def kmeans_plus_plus(points: Float[Tensor, "n d"], num_clusters: int, seed: int) -> Float[Tensor, "k d"]:
    """K of the points, far from one another, as float32: greedy k-means++ (Arthur and Vassilvitskii 2007).

    Each next centroid is the best of 2 + log K candidates drawn in proportion to their squared distance from the
    centroids so far. Works on a seeded subsample of at most 8 K points, so that its cost does not depend on n.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(points), generator=generator)[: SAMPLE_PER_CLUSTER * num_clusters]
    sample = points.index_select(0, order.to(points.device)).float()
    draws = torch.rand(num_clusters, 2 + int(math.log(num_clusters)), generator=generator, dtype=torch.float64)
    return sample[_pick(sample - sample.mean(0), draws.to(points.device))]


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


def _pick(sample: Float[Tensor, "n d"], draws: Float[Tensor, "k t"]) -> Tensor:
    norms = sample.square().sum(1)
    chosen = torch.zeros(len(draws), dtype=torch.int64, device=sample.device)
    closest = _distances(sample, norms, chosen[:1])[0]  # the sample is shuffled: its first point is a random one
    for step in range(1, len(draws)):
        cumulated = closest.cumsum(0, dtype=torch.float64)
        candidates = torch.searchsorted(cumulated, draws[step] * cumulated[-1], right=True).clamp(max=len(sample) - 1)
        remaining = torch.minimum(closest, _distances(sample, norms, candidates))
        best = remaining.sum(1, dtype=torch.float64).argmin()
        chosen[step], closest = candidates[best], remaining[best]
    return chosen


def _distances(sample: Float[Tensor, "n d"], norms: Float[Tensor, " n"], indices: Tensor) -> Float[Tensor, "t n"]:
    return (norms[indices, None] + norms - 2 * (sample[indices] @ sample.T)).clamp(min=0)
