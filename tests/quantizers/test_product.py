"""Product k-means: the nearest of all products of entries, by brute force."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers import ProductKMeans, books, fit_kmeans, fit_product
from vocable.testing import check_fixed_points, check_quantizer
from vocable.types import Quantizer


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_codes_by_hand() -> None:
    model = ProductKMeans([torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [2.0], [9.0]])])
    assert isinstance(model, Quantizer)
    assert (model.dim, model.codebook_sizes) == (2, (2, 3))
    codes = model.encode(torch.tensor([[[3.0, 1.8]], [[-5.0, 7.0]]]))
    assert codes.dtype == torch.int64
    assert codes.tolist() == [[[1, 1]], [[0, 2]]]
    assert model.decode(codes).tolist() == [[[4.0, 2.0]], [[0.0, 9.0]]]
    assert model.encode(torch.zeros(0, 5, 2)).shape == (0, 5, 2)


@pytest.mark.parametrize("sizes", [[5, 5, 5], [3, 1, 20]])
def test_keeps_the_laws(sizes: list[int]) -> None:
    quantizer = ProductKMeans([normal(size, 4, seed=index) for index, size in enumerate(sizes)])
    check_quantizer(quantizer)
    check_fixed_points(quantizer)


@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
def test_decodes_to_the_nearest_of_all_products(seed: int, sizes: list[int]) -> None:
    groups = [normal(size, 3, seed=seed + index) for index, size in enumerate(sizes)]
    model, vectors = ProductKMeans(groups), normal(20, 3 * len(sizes), seed=seed + 99)
    every = torch.cartesian_prod(*[torch.arange(size) for size in sizes]).view(-1, len(sizes))
    products = torch.cat([entries[column] for entries, column in zip(groups, every.T, strict=True)], dim=1)
    nearest = torch.cdist(vectors.double(), products.double(), compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    assert torch.equal(model.encode(vectors), every[nearest])
    assert torch.equal(model.decode(model.encode(vectors)), products[nearest])


@given(rows=st.integers(1, 40), seed=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_chunks_leave_every_code_in_place(rows: int, seed: int) -> None:
    model, vectors = ProductKMeans(normal(3, 9, 2, seed=1)), normal(60, 6, seed=seed)
    expected = model.encode(vectors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(books, "ROWS_AT_ONCE", rows)
        assert torch.equal(model.encode(vectors), expected)
    assert torch.equal(torch.cat([model.encode(part) for part in vectors.split(rows)]), expected)


def test_each_group_is_fitted_by_itself_and_objectives_add_up() -> None:
    points = normal(300, 6)
    model, evidence = fit_product(points, [8, 4], fit=partial(fit_kmeans, seed=3))
    for book, group, size in zip(model.books, points.split(3, dim=1), (8, 4), strict=True):
        alone, _ = fit_kmeans(group.contiguous(), size, seed=3)
        assert torch.equal(book.centroids, alone.centroids)
    error = float((points - model.decode(model.encode(points))).square().sum(1).mean())
    assert error == pytest.approx(sum(fit.objective[-1] for fit in evidence), rel=1e-3)


def test_what_does_not_fit_is_refused() -> None:
    model = ProductKMeans(normal(2, 4, 3))
    for vectors in (torch.zeros(5, 3), torch.zeros(5, 6).long(), torch.full((5, 6), torch.inf)):
        with pytest.raises(InputError, match="vectors"):
            model.encode(vectors)
    for codes in (torch.zeros(5, 1).long(), torch.zeros(5, 2), torch.full((5, 2), -1)):
        with pytest.raises(InputError, match="codes"):
            model.decode(codes)
    with pytest.raises(InputError, match="spherical"):
        fit_product(normal(9, 4), [2, 2], fit=partial(fit_kmeans, spherical=True))
    for points, sizes in ((normal(9, 5), [2, 2]), (normal(9, 4), []), (normal(9), [2])):
        with pytest.raises(InputError, match="groups"):
            fit_product(points, sizes)
