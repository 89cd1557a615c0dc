"""Better clusters than Lloyd's algorithm finds alone: merge those that cost little, split those that gain much."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.quantizers.lloyd import Descent
from vocable.quantizers.nearest import GROUP_WIDTH, fold, normalized, parts
from vocable.quantizers.points import Points
from vocable.quantizers.seeding import by_similarity
from vocable.quantizers.sums import ClusterSums
from vocable.quantizers.workers import Workers, workers

SAMPLE_PER_CLUSTER = 100
"""Points per cluster that the search looks at; of 50 it learns what is not true of the others."""

LEAST = 50_000
"""Points that the search looks at however few clusters there are, if there are as many."""

BEFORE = 4
"""Iterations of Lloyd's algorithm before the first round."""

STEPS = 2
"""Iterations of Lloyd's algorithm after the moves of each round."""

OPTIMISM = 4.0
"""How many times its gain in place a split counts for in the first round; falls to 1 after the last."""

BISECTIONS = 2
"""Iterations of two-means in each cluster."""

_PARTNER_ROWS = 128


def split_and_merge(points: Points, start: Float[Tensor, "k d"], *, rounds: int, seed: int) -> Float[Tensor, "k d"]:
    """Centroids of a lower objective than Lloyd's algorithm reaches from `start`; the same in all processes.

    Two clusters of n and m points whose means are at a distance d cost n m / (n + m) d^2 to merge, and gain as much to
    split (Ward 1963). In each round clusters that cost little are merged with their cheapest partners, and as many that
    gain most are split in two, each cluster taking part once; then Lloyd's algorithm goes on. The gain in place is less
    than what a split brings once the clusters around have moved, so it counts for more, as in annealing: early rounds
    may raise the objective, and the best centroids that were met are returned, near ones together.

    Looks at a seeded sample of 100 points per cluster and at least 50,000, so that its cost does not grow with n.
    """
    generator = torch.Generator().manual_seed(seed + 0x5917)
    sample = _sample(points, max(LEAST, SAMPLE_PER_CLUSTER * len(start)), generator)
    descent = Descent(sample, start)
    with workers(points.device) as team:
        for _ in range(BEFORE):
            objective = descent.step(team)[0]
        best, lowest = descent.centroids, objective
        for number in range(rounds):
            direction = torch.randn(points.dim, generator=generator).to(points.device)
            if not _move(descent, direction, OPTIMISM ** (1 - number / rounds), team):
                break
            for _ in range(STEPS):
                objective = descent.step(team)[0]
            if objective < lowest:
                best, lowest = descent.centroids, objective
        return points.reduce.gather(by_similarity(best, GROUP_WIDTH))[0]


def _sample(points: Points, most: int, generator: torch.Generator) -> Points:
    if points.total <= most:
        return points
    return points.some(torch.randperm(points.total, generator=generator)[:most])


def _move(descent: Descent, direction: Float[Tensor, " d"], optimism: float, team: Workers) -> bool:
    """Merges and splits as many clusters as pay; whether there were any."""
    counts, old = descent.sums.counts.double(), descent.centroids
    costs, partners = _merge_costs(old, counts)
    gains, halves = _split_gains(descent, direction, team)
    first, second, split = _choose(costs, partners, optimism * gains).to(old.device).unbind(1)
    share = (counts[first] / (counts[first] + counts[second]).clamp(min=1))[:, None]
    new = old.clone()
    new[first] = (share * old[first] + (1 - share) * old[second]).float()
    new[split], new[second] = halves[split].unbind(1)
    new = normalized(new) if descent.points.spherical else new
    descent.centroids = descent.points.reduce.gather(new)[0]
    return bool((descent.centroids != old).any())


def _merge_costs(
    centroids: Float[Tensor, "k d"], counts: Float[Tensor, " k"]
) -> tuple[Float[Tensor, " k"], Int[Tensor, " k"]]:
    """What the sum of squared distances rises by when a cluster joins its cheapest partner, and which that is."""
    shifted = centroids.double() - centroids.double().mean(0)
    norms = fold(shifted.square())
    costs, partners = [], []
    for rows in parts(torch.arange(len(centroids), device=counts.device), _PARTNER_ROWS):
        cost = (norms[rows, None] + norms - 2 * shifted[rows] @ shifted.T).clamp_(min=0)
        cost *= counts[rows, None] * counts / (counts[rows, None] + counts).clamp(min=1)
        lowest, partner = cost.scatter_(1, rows[:, None], torch.inf).min(1)
        costs.append(lowest)
        partners.append(partner)
    return torch.cat(costs), torch.cat(partners)


def _split_gains(
    descent: Descent, direction: Float[Tensor, " d"], team: Workers
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k 2 d"]]:
    """What the sum of squared distances falls by when a cluster is split, and the two means: two-means in each cluster.

    The first cut is across `direction`; the means on its two sides differ along the directions of most variance.
    """
    points, codes, size = descent.points, descent.members.codes, len(descent.centroids)
    middles, axes = descent.centroids, direction.expand_as(descent.centroids)
    for _ in range(BISECTIONS):
        sums = _sides(points, codes, middles, axes, team)
        halves = sums.means(otherwise=middles.repeat_interleave(2, 0)).view(size, 2, -1)
        middles, axes = halves.mean(1), halves[:, 1] - halves[:, 0]
    counts = sums.counts.double().view(size, 2)
    return counts.prod(1) / counts.sum(1).clamp(min=1) * fold(axes.double().square()), halves


def _sides(
    points: Points, codes: Int[Tensor, " n"], middles: Float[Tensor, "k d"], axes: Float[Tensor, "k d"], team: Workers
) -> ClusterSums:
    """Sums of the members of each cluster on the near side of its middle, and on the far side, as 2 K clusters."""
    sums = ClusterSums(points.magnitudes, points.total, 2 * len(middles))

    def divide(places: slice) -> None:
        rows, own = points.take(places), codes[places]
        sums.add(rows, 2 * own + (fold((rows - middles[own]) * axes[own]) > 0))

    team.map(divide, points.spans(40 * points.dim))
    return sums.over(points.reduce)


def _choose(costs: Float[Tensor, " k"], partners: Int[Tensor, " k"], gains: Float[Tensor, " k"]) -> Int[Tensor, "m 3"]:
    """Rows of two clusters to merge and one to split: the cheapest with the best, each once, while it pays."""
    free, chosen = [True] * len(costs), []
    cost, partner, gain = costs.tolist(), partners.tolist(), gains.tolist()
    splits = gains.argsort(descending=True, stable=True).tolist()
    for first in costs.argsort(stable=True).tolist():
        trio = (first, partner[first])
        if not free[first] or not free[partner[first]]:
            continue
        split = next((one for one in splits if free[one] and one not in trio), first)
        if gain[split] <= cost[first] or split == first:
            break
        for one in (*trio, split):
            free[one] = False
        chosen.append((*trio, split))
    return torch.tensor(chosen, dtype=torch.int64).view(-1, 3)
