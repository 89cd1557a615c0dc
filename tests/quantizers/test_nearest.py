"""The search for the nearest centroid: right to the last tie, and a function of the vector alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers import KMeans, nearest


def brute_force(vectors: Tensor, centroids: Tensor) -> Tensor:
    """argmin of float64 distances, written in another way: the first of equal minima, as numpy does."""
    differences = vectors.double().numpy()[:, None] - centroids.double().numpy()
    return torch.from_numpy((differences**2).sum(-1).argmin(-1))


def draw(kind: str, count: int, dim: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    clusters = rng.standard_normal((5, dim))[rng.integers(0, 5, count)]
    values = {
        "random": rng.standard_normal((count, dim)),
        "clustered": clusters + 1e-3 * rng.standard_normal((count, dim)),
        "lattice": rng.integers(-1, 2, (count, dim)),  # full of exact ties
        "duplicates": clusters,
        "offset": 1e4 + rng.standard_normal((count, dim)),
        "near ties": 1 + 1e-6 * rng.integers(-2, 3, (count, dim)),
        "tiny": 1e-25 * rng.standard_normal((count, dim)),
        "huge": 1e25 * rng.standard_normal((count, dim)),
    }
    return torch.from_numpy(values[kind].astype(np.float32))


KINDS = ["random", "clustered", "lattice", "duplicates", "offset", "near ties", "tiny", "huge"]


@given(kind=st.sampled_from(KINDS), dim=st.integers(1, 70), size=st.integers(1, 100), seed=st.integers(0, 2**16))
@settings(max_examples=80)
def test_equals_brute_force_in_float64(kind: str, dim: int, size: int, seed: int) -> None:
    vectors, centroids = draw(kind, 120, dim, seed), draw(kind, size, dim, seed + 1)
    assert torch.equal(KMeans(centroids).encode(vectors)[:, 0], brute_force(vectors, centroids))


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**16), chunk=st.integers(1, 2**18))
@settings(max_examples=15)
def test_batch_order_chunks_and_strides_have_no_part_in_it(kind: str, seed: int, chunk: int) -> None:
    vectors, model = draw(kind, 60, 33, seed), KMeans(draw(kind, 70, 33, seed + 1))
    whole = model.encode(vectors)
    alone = torch.stack([model.encode(vector) for vector in vectors])
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(vectors)))
    wide = torch.zeros(33, 2 * len(vectors))
    wide[:, ::2] = vectors.T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "CHUNK_BYTES", chunk)
        assert torch.equal(model.encode(vectors), whole)
    assert torch.equal(alone, whole)
    assert torch.equal(model.encode(vectors[order]), whole[order])
    assert torch.equal(model.encode(wide.T[::2]), whole)
    assert torch.equal(model.encode(vectors.view(3, 4, 5, 33)), whole.view(3, 4, 5, 1))


@pytest.fixture
def settings_of_torch() -> Iterator[None]:
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


@pytest.mark.usefixtures("settings_of_torch")
def test_threads_reduced_precision_and_autocast_change_nothing() -> None:
    vectors, centroids = draw("near ties", 3000, 96, 0), draw("near ties", 90, 96, 1)
    expected = KMeans(centroids).encode(vectors)
    torch.set_num_threads(2)
    assert torch.equal(KMeans(centroids).encode(vectors), expected)
    torch.set_float32_matmul_precision("medium")
    model = KMeans(centroids)
    assert torch.equal(model.encode(vectors), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.encode(vectors), expected)


def test_ties_go_to_the_lowest_index() -> None:
    model = KMeans(torch.tensor([[5.0], [2.0], [0.0], [2.0], [4.0]]))
    assert model.encode(torch.tensor([[1.0], [2.0], [3.0], [4.5], [9.0]]))[:, 0].tolist() == [1, 1, 1, 0, 0]


@given(seed=st.integers(0, 2**16), kind=st.sampled_from(KINDS))
def test_bounds_are_true_and_skipping_groups_by_them_changes_nothing(seed: int, kind: str) -> None:
    vectors, centroids = draw(kind, 80, 24, seed), draw(kind, 40, 24, seed + 1)
    table = nearest.build_table(centroids, 8)
    found = nearest.nearest(table, vectors)
    distances = (vectors.double()[:, None] - centroids.double()).square().sum(-1).sqrt()
    own = distances.gather(1, found.codes[:, None])
    assert not (found.upper < own[:, 0]).any()  # where squares overflow a bound is NaN and says nothing
    others = distances.masked_fill(~table.live, torch.inf).scatter(1, found.codes[:, None], torch.inf)
    assert not (found.lower > others.view(80, 5, 8).amin(2)).any()
    stale = torch.from_numpy(np.random.default_rng(seed).integers(0, 40, 80))
    valid = distances.scatter(1, stale[:, None], torch.inf).view(80, 5, 8).amin(2).float() * 0.999
    again = nearest.nearest(table, vectors, stale, valid)
    assert torch.equal(again.codes, found.codes)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_vector_that_is_not_finite_is_refused(value: float) -> None:
    vectors = torch.zeros(4, 3)
    vectors[2, 1] = value
    with pytest.raises(InputError, match="finite"):
        KMeans(torch.eye(3)).encode(vectors)


@given(width=st.integers(1, 300), seed=st.integers(0, 2**16))
def test_folding_is_a_sum_of_each_row_alone(width: int, seed: int) -> None:
    rows = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, width)))
    sums = nearest.fold(rows)
    assert all(torch.equal(nearest.fold(row[None])[0], total) for row, total in zip(rows, sums, strict=True))
    assert np.allclose(sums, [math.fsum(row.tolist()) for row in rows], rtol=1e-12, atol=1e-12)
