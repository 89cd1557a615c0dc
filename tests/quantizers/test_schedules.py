"""Schedules of k-means: what they look at, what they cost in objective, and that a seed decides everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from vocable.quantizers import fit_kmeans, nearest, schedules
from vocable.quantizers.points import Points


def blobs(count: int, dim: int = 16, centres: int = 30, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((centres, dim))
    return torch.from_numpy(
        (means[rng.integers(0, centres, count)] + rng.standard_normal((count, dim))).astype(np.float32)
    )


@pytest.mark.parametrize(("schedule", "loss"), [("progressive", 5e-3), ("minibatch", 5e-2)])
def test_the_objective_is_near_that_of_all_iterations_in_full(schedule: Any, loss: float) -> None:
    points = blobs(10_000)
    _, full = fit_kmeans(points, 20, rounds=0)
    _, other = fit_kmeans(points, 20, schedule=schedule)
    assert other.objective[-1] < (1 + loss) * full.objective[-1]
    assert other.schedule == schedule
    assert len(other.objective) < other.iterations


def test_progressive_looks_at_a_tenth_then_at_three_then_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    points, seen = blobs(2000), []

    def watch(part: Points, *args: Any, **settings: Any) -> Any:
        seen.append((part.total, settings["iterations"]))
        return original(part, *args, **settings)

    original = schedules.lloyd
    monkeypatch.setattr(schedules, "lloyd", watch)
    heard: list[int] = []
    _, evidence = fit_kmeans(
        points,
        10,
        schedule="progressive",
        tolerance=0.0,
        iterations=16,
        on_iteration=lambda iteration, objective: heard.append(iteration),
    )
    assert seen == [(200, 8), (600, 5), (2000, 16 - (evidence.iterations - len(evidence.objective)))]
    assert heard == list(range(evidence.iterations))
    seen.clear()
    fit_kmeans(points, 25, schedule="progressive", iterations=4)  # a tenth of the points is fewer than 20 a cluster
    assert [total for total, _ in seen] == [600, 2000]


@pytest.mark.parametrize("schedule", ["progressive", "minibatch"])
def test_one_iteration_looks_at_all_points(schedule: Any) -> None:
    points = blobs(500)
    model, evidence = fit_kmeans(points, 10, schedule=schedule, iterations=1)
    full, expected = fit_kmeans(points, 10, iterations=1, rounds=0)
    assert torch.equal(model.centroids, full.centroids)
    assert (evidence.iterations, evidence.objective) == (1, expected.objective)


def test_samples_are_nested_drawn_by_the_seed_and_read_in_place() -> None:
    points = Points.of(torch.arange(100.0)[:, None])
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    few, many = points.some(order[:10]), points.some(order[:30])
    assert (len(few), few.total, many.total) == (10, 10, 30)
    assert set(few.take(slice(None))[:, 0].tolist()) == set(order[:10].tolist())
    assert set(few.take(slice(None))[:, 0].tolist()) < set(many.take(slice(None))[:, 0].tolist())
    assert few.values is points.values


def test_a_batch_moves_each_centroid_to_the_mean_of_all_it_ever_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "BATCH", 2)
    points = torch.tensor([[0.0], [2.0], [10.0], [12.0]])
    start = torch.tensor([[1.0], [11.0]])
    heard: list[tuple[int, float]] = []
    found = schedules.minibatch(Points.of(points), start, passes=3, seed=0, on_pass=lambda *event: heard.append(event))
    assert found[:, 0].tolist() == [1.0, 11.0]
    assert [number for number, _ in heard] == [0, 1, 2]


def test_mini_batches_equal_those_of_scikit_learn() -> None:
    points, start = blobs(400), blobs(12, seed=1)
    reference = MiniBatchKMeans(12, init=start.numpy(), n_init=1, reassignment_ratio=0.0)
    mine, batches = Points.of(points), schedules._order(Points.of(points), 0).tensor_split(4)
    sums, centroids = schedules.ClusterSums(mine.magnitudes, 400, 12), start
    for batch in batches:
        reference.partial_fit(points[batch].numpy())
        schedules._absorb(mine.some(batch), sums, centroids)
        centroids = schedules.renew(mine, sums, centroids)
    assert np.allclose(centroids, reference.cluster_centers_, atol=1e-5)


@pytest.mark.parametrize("schedule", ["progressive", "minibatch"])
def test_chunks_and_threads_leave_every_bit_in_place(schedule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "BATCH", 700)
    points, threads = blobs(3000), torch.get_num_threads()
    expected, evidence = fit_kmeans(points, 25, schedule=schedule, iterations=8)
    torch.set_num_threads(3)
    monkeypatch.setattr(nearest, "CHUNK_BYTES", 2**18)
    found, again = fit_kmeans(points, 25, schedule=schedule, iterations=8)
    torch.set_num_threads(threads)
    assert torch.equal(found.centroids, expected.centroids)
    assert again == evidence
    assert not torch.equal(
        fit_kmeans(points, 25, schedule=schedule, iterations=8, seed=1)[0].centroids, expected.centroids
    )
