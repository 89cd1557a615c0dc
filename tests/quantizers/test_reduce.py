"""Fits by several processes that hold a share of the points each: the bits of one process that holds all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers import FitEvidence, KMeans, fit_kmeans
from vocable.quantizers.points import Points
from vocable.quantizers.reduce import ALONE, Reducer


class Together:
    """Reducers for threads that play processes; each call waits for all, at most ten seconds."""

    def __init__(self, world: int) -> None:
        self.barrier, self.slots = Barrier(world), [torch.empty(0)] * world
        self.members = [Member(self, rank, world) for rank in range(world)]


class Member:
    def __init__(self, all_: Together, rank: int, world: int) -> None:
        self.all, self.rank, self.world = all_, rank, world

    def gather(self, t: Tensor) -> list[Tensor]:
        self.all.slots[self.rank] = t.clone()
        self.all.barrier.wait(10)
        found = list(self.all.slots)
        self.all.barrier.wait(10)
        return found

    def sum_(self, t: Tensor) -> Tensor:
        assert t.dtype == torch.int64
        return t.copy_(torch.stack(self.gather(t)).sum(0))

    def max_(self, t: Tensor) -> Tensor:
        return t.copy_(torch.stack(self.gather(t)).amax(0))


def shared_fit(shares: list[Tensor], clusters: int, **settings: Any) -> list[tuple[KMeans, FitEvidence]]:
    members = Together(len(shares)).members

    def fit(share: Tensor, member: Reducer) -> tuple[KMeans, FitEvidence]:
        torch.set_num_threads(1)
        return fit_kmeans(share, clusters, reduce=member, **settings)

    with ThreadPoolExecutor(len(shares)) as pool:
        return list(pool.map(fit, shares, members))


def points_of(count: int = 1500, dim: int = 12, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    means = 2 * rng.standard_normal((9, dim))
    return torch.from_numpy((means[rng.integers(0, 9, count)] + rng.standard_normal((count, dim))).astype(np.float32))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"schedule": "progressive"},
        {"schedule": "minibatch"},
        {"init": "k-means||"},
        {"init": "random", "restarts": 2},
        {"spherical": True},
    ],
)
@pytest.mark.parametrize("sizes", [[700, 800], [400, 0, 1100]])
def test_shares_of_the_points_give_every_bit_of_all_of_them(
    settings: dict[str, Any], sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vocable.quantizers.schedules.BATCH", 400)
    points = points_of()
    expected, evidence = fit_kmeans(points, 20, iterations=15, **settings)
    for found, theirs in shared_fit(list(points.split(sizes)), 20, iterations=15, **settings):
        assert torch.equal(found.centroids, expected.centroids)
        assert theirs == evidence


def test_empty_clusters_take_the_farthest_points_wherever_they_are() -> None:
    points = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0, 9.0, 50.0, 60.0])[:, None]
    expected, evidence = fit_kmeans(points, 5, init="random", seed=3, rounds=0)
    assert evidence.reseeded
    for found, theirs in shared_fit(list(points.split([7, 2, 1])), 5, init="random", seed=3, rounds=0):
        assert torch.equal(found.centroids, expected.centroids)
        assert theirs == evidence


def test_what_is_wrong_with_one_share_stops_all() -> None:
    points = points_of(40)
    broken = points.clone()
    broken[3, 3] = torch.nan
    for shares, message in (([points, broken], "finite"), ([points, points[:, :5]], "one dimension")):
        members = Together(2).members
        with ThreadPoolExecutor(2) as pool:
            runs = [
                pool.submit(fit_kmeans, *pair, reduce=member)
                for pair, member in zip([(share, 4) for share in shares], members, strict=True)
            ]
        for run in runs:
            with pytest.raises(InputError, match=message):
                run.result()


def test_points_are_collected_by_number_in_the_order_asked_for() -> None:
    points, numbers = points_of(30), torch.tensor([29, 3, 17, 0, 10, 9])
    members = Together(3).members
    with ThreadPoolExecutor(3) as pool:
        shares = pool.map(lambda pair: Points.of(pair[0], reduce=pair[1]), zip(points.split(10), members, strict=True))
        found = list(pool.map(lambda share: share.collect(numbers), list(shares)))
    assert all(torch.equal(rows, points[numbers]) for rows in found)


def test_one_process_is_a_reducer_that_changes_nothing() -> None:
    values = torch.arange(3)
    assert isinstance(ALONE, Reducer)
    assert (ALONE.rank, ALONE.world) == (0, 1)
    assert ALONE.sum_(values) is values
    assert ALONE.max_(values) is values
    assert ALONE.gather(values)[0] is values
