"""How many points k-means looks at before it moves its centroids: all, a growing fraction, or small batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.quantizers.lloyd import Outcome, lloyd, renew
from vocable.quantizers.nearest import build_table, nearest, search_rows, squared_distances
from vocable.quantizers.points import Points, spans
from vocable.quantizers.sums import ClusterSums, exact_sum
from vocable.quantizers.workers import workers

Schedule = Literal["full", "progressive", "minibatch"]

STAGES = ((0.1, 8), (0.3, 5))
"""The early stages of the progressive schedule: a fraction of the points, and iterations at most."""

ENOUGH = 20
"""Points a cluster that a sample must have: K = 2,000 from stages of 5 and 15 each ended 1.1 % above, and no sooner."""

BATCH = 10_000
"""Points of a batch, of all processes together, as fairseq sets it; fewer if that makes fewer than 20 batches."""

PASSES = 3
"""How often mini-batches go over the points."""


def run_schedule(
    points: Points,
    start: Float[Tensor, "k d"],
    *,
    schedule: Schedule,
    iterations: int,
    tolerance: float,
    seed: int,
    on_iteration: Callable[[int, float], None],
) -> Outcome:
    """Where the last iterations of Lloyd's algorithm, over all points, led.

    "full": all. "progressive": before them those of STAGES on seeded, nested samples that have ENOUGH points a cluster.
    "minibatch": before one of them, PASSES of mini-batches. Together there are `iterations` at most.

    What the others save beside "full" without rounds of splitting by the default tolerance, and cost in objective, on
    frames of real speech (log-mel: 100,000 x 80, stacked: 80,000 x 320; CPU seconds of one thread; means of two seeds,
    of one in the last row and column):

        |             | log-mel, K = 100   | log-mel, K = 500  | stacked, K = 500 | stacked, K = 2,000 |
        | full        | 2.5 s              | 7.3 s             | 8.6 s            | 26 s               |
        | progressive | 2.0 s, + 0.14 %    | 6.7 s, + 0.08 %   | 9.2 s, + 0.13 %  | as full            |
        | minibatch   | 0.5 s, + 1.7 %     |                   | 2.9 s, + 2.1 %   | 18 s, + 2.8 %      |

    Full iterations, which skip needless distances, reach these objectives about as soon, so "full" is the default. The
    others are for points in files larger than memory, all of which every full iteration may read.
    """
    early: list[float] = []

    def hear(_: int, objective: float) -> None:
        on_iteration(len(early), objective)
        early.append(objective)

    if schedule == "progressive":
        start = _progress(points, start, iterations - 1, tolerance, seed, hear)
    elif schedule == "minibatch":
        start = minibatch(points, start, passes=min(PASSES, iterations - 1), seed=seed, on_pass=hear)
    left = 1 if schedule == "minibatch" else iterations - len(early)
    outcome = lloyd(points, start, iterations=left, tolerance=tolerance, on_iteration=hear)
    return replace(outcome, iterations=len(early))


def _progress(
    points: Points,
    start: Float[Tensor, "k d"],
    iterations: int,
    tolerance: float,
    seed: int,
    on_iteration: Callable[[int, float], None],
) -> Float[Tensor, "k d"]:
    order = _order(points, seed)
    for fraction, most in STAGES:
        sample = points.some(order[: int(fraction * points.total)])
        count = min(most, iterations)
        if count and sample.total >= ENOUGH * len(start):
            start = lloyd(sample, start, iterations=count, tolerance=tolerance, on_iteration=on_iteration).centroids
            iterations -= count
    return start


def minibatch(
    points: Points, start: Float[Tensor, "k d"], *, passes: int, seed: int, on_pass: Callable[[int, float], None]
) -> Float[Tensor, "k d"]:
    """Centroids after mini-batches (Sculley 2010, "Web-scale k-means clustering").

    Each centroid is the mean of all points that were ever nearest to it, a learning rate of one over their number; a
    batch is assigned as a whole, as scikit-learn does. The objective of a pass is the mean squared distance of its last
    batch to the centroids that it met.
    """
    sums = ClusterSums(points.magnitudes, max(1, passes) * points.total, len(start))
    batches = min(points.total, max(20, -(-points.total // BATCH)))
    for number in range(passes):
        for batch in _order(points, seed + number).tensor_split(batches):
            met, taken = start, points.some(batch)
            codes = _absorb(taken, sums, met)
            start = renew(points, sums.over(points.reduce), met)
        squared = squared_distances(taken.take(slice(None)), met[codes])
        on_pass(number, exact_sum(squared, taken.total, taken.reduce) / taken.total)
    return start


def _absorb(batch: Points, sums: ClusterSums, centroids: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    """Puts the points of a batch into `sums`; their codes."""
    table = build_table(centroids)

    def place(places: slice) -> Int[Tensor, " n"]:
        rows = batch.take(places)
        codes = nearest(table, rows).codes
        sums.add(rows, codes)
        return codes

    with workers(batch.device) as team:
        found = team.map(place, spans(len(batch), search_rows(table)))
    return torch.cat([torch.empty(0, dtype=torch.int64, device=batch.device), *found])


def _order(points: Points, seed: int) -> Int[Tensor, " n"]:
    """All numbers of points in a random order; not the one that seeding draws from, whose first points it takes."""
    return torch.randperm(points.total, generator=torch.Generator().manual_seed(seed + 0x5EED))
