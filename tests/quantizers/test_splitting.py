"""Merging and splitting clusters: costs and gains worked out by hand, and a lower objective than Lloyd's alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers import fit_kmeans, nearest, splitting
from vocable.quantizers.lloyd import Descent, lloyd
from vocable.quantizers.points import Points
from vocable.quantizers.workers import Workers


def blobs(count: int, dim: int = 12, centres: int = 40, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    means = 2 * rng.standard_normal((centres, dim))
    points = means[rng.integers(0, centres, count)] + rng.standard_normal((count, dim))
    return torch.from_numpy(points.astype(np.float32))


def test_merging_costs_what_the_sum_of_squares_rises_by() -> None:
    points = torch.tensor([[0.0], [2.0], [4.0], [10.0], [12.0], [50.0]])
    codes = torch.tensor([0, 0, 1, 2, 2, 3])
    means = torch.tensor([[1.0], [4.0], [11.0], [50.0]])
    costs, partners = splitting._merge_costs(means, codes.bincount().double())
    assert partners.tolist() == [1, 0, 1, 2]
    within = [float((points[codes == code] - points[codes == code].mean()).square().sum()) for code in range(4)]
    joint = float((points[:3] - points[:3].mean()).square().sum())
    assert costs[0].item() == pytest.approx(joint - within[0] - within[1])
    assert costs[1].item() == costs[0].item()


def test_splitting_gains_what_the_sum_of_squares_falls_by() -> None:
    points = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 9.0], [2.0, 9.0], [50.0, 0.0]])
    descent = Descent(Points.of(points), torch.tensor([[1.0, 4.0], [50.0, 1.0]]))
    descent.step(Workers(None))
    gains, halves = splitting._split_gains(descent, torch.tensor([0.1, 1.0]), Workers(None))
    assert sorted(halves[0].tolist()) == [[1.0, 0.0], [1.0, 9.0]]
    assert gains.tolist() == pytest.approx([4 * 4.5**2, 0.0])


def test_each_cluster_takes_part_in_one_move_and_only_in_moves_that_pay() -> None:
    costs, partners = torch.tensor([1.0, 1.0, 3.0, 4.0, 9.0, 9.0]), torch.tensor([1, 0, 1, 2, 5, 4])
    found = splitting._choose(costs, partners, torch.tensor([9.0, 8.0, 0.0, 0.5, 7.0, 5.0]))
    assert found.tolist() == [[0, 1, 4], [3, 2, 5]]
    assert splitting._choose(costs, partners, torch.zeros(6)).shape == (0, 3)


def test_two_centroids_in_one_cluster_and_one_in_two_change_places() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [100.0, 0.0], [108.0, 0.0], [0.0, 90.0]])
    points = torch.from_numpy((centres.repeat(50, 0) + 0.5 * rng.standard_normal((200, 2))).astype(np.float32))
    start = torch.tensor([[0.0, -1.0], [0.0, 1.0], [104.0, 0.0], [0.0, 90.0]])
    stuck = lloyd(Points.of(points), start, iterations=50, tolerance=0.0)
    found = splitting.split_and_merge(Points.of(points), start, rounds=2, seed=0)
    assert stuck.objective[-1] > 8
    assert np.allclose(sorted(found.round().tolist()), sorted(centres.tolist()), atol=1.0)


def test_ends_lower_than_lloyd_alone() -> None:
    points = blobs(4000)
    for seed in (0, 1):
        _, alone = fit_kmeans(points, 40, seed=seed, rounds=0, iterations=200)
        _, found = fit_kmeans(points, 40, seed=seed)
        assert found.objective[-1] < 0.995 * alone.objective[-1]


def test_chunks_and_threads_leave_every_bit_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "LEAST", 1500)
    monkeypatch.setattr(splitting, "SAMPLE_PER_CLUSTER", 20)
    points, threads = blobs(2000), torch.get_num_threads()
    start = points[:50]
    expected = splitting.split_and_merge(Points.of(points), start, rounds=3, seed=0)
    torch.set_num_threads(3)
    monkeypatch.setattr(nearest, "CHUNK_BYTES", 2**16)
    found = splitting.split_and_merge(Points.of(points), start, rounds=3, seed=0)
    torch.set_num_threads(threads)
    assert torch.equal(found, expected)
    assert not torch.equal(found, splitting.split_and_merge(Points.of(points), start, rounds=3, seed=1))


def test_rounds_below_none_are_refused() -> None:
    with pytest.raises(InputError, match="no fewer than 0 rounds"):
        fit_kmeans(blobs(50), 4, rounds=-1)
