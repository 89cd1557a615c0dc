"""Lloyd's algorithm: against references, bit for bit in any chunks, and with clusters that run empty."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as ReferenceKMeans
from torch import Tensor

from vocable.quantizers import nearest
from vocable.quantizers.lloyd import Outcome, lloyd
from vocable.quantizers.points import Points
from vocable.quantizers.sums import ClusterSums


def blobs(count: int, dim: int, centres: int, seed: int = 0, offset: float = 0.0) -> Tensor:
    rng = np.random.default_rng(seed)
    means = 2 * rng.standard_normal((centres, dim))
    points = means[rng.integers(0, centres, count)] + rng.standard_normal((count, dim)) + offset
    return torch.from_numpy(points.astype(np.float32))


def run(points: Tensor, start: Tensor, iterations: int = 12) -> Outcome:
    return lloyd(Points.of(points), start, iterations=iterations, tolerance=0.0)


def naive(points: Tensor, start: Tensor, iterations: int) -> tuple[np.ndarray, list[float]]:
    values, centroids = points.double().numpy(), start.double().numpy()
    objective = []
    for _ in range(iterations):
        codes = ((values[:, None] - centroids) ** 2).sum(-1).argmin(-1)
        centroids = np.stack([values[codes == k].mean(0) for k in range(len(centroids))])
        objective.append(((values - centroids[codes]) ** 2).sum(-1).mean())
    return centroids, objective


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_equals_a_naive_float64_implementation(offset: float) -> None:
    points = blobs(1500, 40, 50, offset=offset)
    found = run(points, points[:35], iterations=6)
    centroids, objective = naive(points, points[:35], 6)
    assert np.allclose(found.centroids, centroids, atol=1e-6 * max(1.0, offset))
    assert found.objective == pytest.approx(objective, rel=1e-6)
    assert found.counts.sum() == len(points)


def test_reaches_the_objective_of_scikit_learn_from_the_same_start() -> None:
    points = blobs(3000, 32, 25)
    start = points[:25]
    reference = ReferenceKMeans(25, init=start.numpy(), n_init=1, max_iter=300, tol=0.0, algorithm="lloyd").fit(points)
    found = run(points, start, iterations=300)
    assert found.objective[-1] * len(points) == pytest.approx(reference.inertia_, rel=1e-4)
    assert found.objective == sorted(found.objective, reverse=True)


@pytest.mark.filterwarnings("ignore:.*converge")
def test_the_objective_falls_as_that_of_scikit_learn_from_the_same_start() -> None:
    points = blobs(1500, 16, 20)
    start = points[:20]
    inertias = []
    for iterations in range(1, 9):
        reference = ReferenceKMeans(20, init=start.numpy(), n_init=1, max_iter=iterations, tol=0.0).fit(points.numpy())
        found = run(points, start, iterations=iterations)
        assert np.allclose(found.centroids, reference.cluster_centers_, atol=1e-4)
        squared = (points.double()[:, None] - found.centroids.double()).square().sum(-1).amin(1)
        assert float(squared.sum()) == pytest.approx(reference.inertia_, rel=1e-4)
        inertias.append(reference.inertia_ / len(points))
    # an inertia is taken before the means move, an objective after: one lies between two of the other
    assert all(b <= o <= a for a, o, b in zip(inertias, found.objective[1:], inertias[1:], strict=False))


@given(chunk=st.integers(2**14, 2**20), seed=st.integers(0, 100))
@settings(max_examples=5)
def test_chunks_and_the_order_of_points_leave_every_bit_in_place(chunk: int, seed: int) -> None:
    points, start = blobs(300, 70, 50), blobs(40, 70, 50, seed=1)
    expected = run(points, start)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(points)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "CHUNK_BYTES", chunk)
        found = run(points, start)
    shuffled = run(points[order], start)
    assert torch.equal(found.centroids, expected.centroids)
    assert found.objective == expected.objective
    assert torch.equal(shuffled.centroids, expected.centroids)


def test_threads_leave_every_bit_in_place() -> None:
    points, threads = blobs(5000, 70, 50), torch.get_num_threads()
    results = []
    for count in (1, 3):
        torch.set_num_threads(count)
        results.append(run(points, points[:60]))
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert torch.equal(results[0].centroids, results[1].centroids)
    assert results[0].objective == results[1].objective


def test_skipping_distances_changes_no_bit() -> None:
    points, start = blobs(2000, 70, 50), blobs(64, 70, 50, seed=1)
    pruned = run(points, start, iterations=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vocable.quantizers.lloyd.GROUP_WIDTH", 64)  # a single group: nothing is skipped within a row
        whole = run(points, start, iterations=20)
    assert torch.equal(pruned.centroids, whole.centroids)
    assert pruned.objective == whole.objective


def test_an_empty_cluster_goes_to_the_farthest_point() -> None:
    points = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [50.0]])
    found = lloyd(Points.of(points), torch.tensor([[1.0], [20.0], [1000.0]]), iterations=10, tolerance=0.0)
    # first 0 1 2 10 | 11 50 | -: 50 is farthest from its mean 30.5; then 0 1 2 | 10 11 | 50 after two more steps
    assert found.reseeded == 1
    assert sorted(found.centroids[:, 0].tolist()) == [1.0, 10.5, 50.0]
    assert found.objective[-1] == pytest.approx((1 + 0 + 1 + 0.25 + 0.25 + 0) / 6)


def test_more_clusters_than_distinct_points_come_to_an_end() -> None:
    points = torch.tensor([[0.0, 1.0], [3.0, 4.0]]).repeat(50, 1)
    found = run(points, points[:7], iterations=50)
    assert found.objective[-1] == 0.0
    assert len(found.objective) < 5
    assert bool(found.centroids.isfinite().all())


@given(seed=st.integers(0, 2**16))
def test_sums_are_exact_and_reversible(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy((rng.standard_normal((60, 3)) * [1e-3, 1.0, 1e6]).astype(np.float32))
    codes = torch.from_numpy(rng.integers(0, 4, 60))
    sums = ClusterSums(rows.abs().amax(0), 60, 4)
    sums.add(rows, codes)
    for cluster in range(4):
        for dim in range(3):
            exact = sum(Fraction(value) for value in rows[codes == cluster, dim].tolist())
            assert sums.totals()[cluster, dim].item() == pytest.approx(float(exact), abs=1e-14 * 10 ** (3 * dim))
    sums.add(rows.flip(0), codes.flip(0), sign=-1)
    assert not sums.sums.any()
    assert not sums.counts.any()
