"""Residual k-means: sums of entries, coarse to fine, against brute force and the library that trains them."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers import KMeans, ResidualKMeans, books, fit_kmeans, fit_residual
from vocable.testing import check_fixed_points, check_quantizer
from vocable.types import Quantizer


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_hand(centroids: list[Tensor], vectors: Tensor) -> Tensor:
    rest, codes = vectors, []
    for entries in centroids:
        codes.append(
            torch.cdist(rest.double(), entries.double(), compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
        )
        rest = rest - entries[codes[-1]]
    return torch.stack(codes, dim=1)


def test_codes_and_every_prefix_by_hand() -> None:
    model = ResidualKMeans(
        [torch.tensor([[0.0, 0.0], [10.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.0, 2.0]])]
    )
    assert isinstance(model, Quantizer)
    assert (model.dim, model.codebook_sizes) == (2, (2, 3))
    codes = model.encode(torch.tensor([[[10.2, 1.7]], [[0.1, -0.8]]]))
    assert codes.dtype == torch.int64
    assert codes.tolist() == [[[1, 2]], [[0, 1]]]
    assert model.decode(codes).tolist() == [[[10.0, 2.0]], [[0.0, -1.0]]]
    assert model.decode(codes[..., :1]).tolist() == [[[10.0, 0.0]], [[0.0, 0.0]]]
    assert model.encode(torch.zeros(0, 5, 2)).shape == (0, 5, 2)
    assert torch.equal(model.to("cpu").encode(normal(9, 2)), model.encode(normal(9, 2)))


def test_what_refines_in_steps_small_enough_keeps_all_laws() -> None:
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    nested = ResidualKMeans([corners, corners / 4, corners / 16])
    check_quantizer(nested)
    check_fixed_points(nested)


def test_equals_brute_force_and_the_library_with_the_same_codebooks() -> None:
    library = pytest.importorskip("vector_quantize_pytorch")
    centroids = [0.8**depth * normal(40, 6, seed=depth) for depth in range(4)]
    theirs = library.ResidualVQ(dim=6, num_quantizers=4, codebook_size=40).eval()
    for layer, entries in zip(theirs.layers, centroids, strict=True):
        layer._codebook.embed.data.copy_(entries[None])
        layer._codebook.initted.fill_(True)
    vectors = normal(500, 6, seed=9)
    ours = ResidualKMeans(torch.stack(centroids)).encode(vectors)
    sums, codes, _ = theirs(vectors[None])
    assert torch.equal(ours, by_hand(centroids, vectors))
    assert torch.equal(ours, codes[0])
    torch.testing.assert_close(ResidualKMeans(centroids).decode(ours), sums[0])


@given(rows=st.integers(1, 40), threads=st.integers(1, 3), seed=st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_chunks_threads_and_company_leave_every_code_in_place(rows: int, threads: int, seed: int) -> None:
    model, vectors = ResidualKMeans([normal(17, 5, seed=1), normal(9, 5, seed=2)]), normal(60, 5, seed=seed)
    expected, before = model.encode(vectors), torch.get_num_threads()
    torch.set_num_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(books, "ROWS_AT_ONCE", rows)
        assert torch.equal(model.encode(vectors), expected)
    assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert torch.equal(torch.cat([model.encode(part) for part in vectors.split(rows)]), expected)


@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 12), min_size=2, max_size=4))
@settings(max_examples=15, deadline=None)
def test_the_error_on_what_it_was_fitted_on_never_grows_with_depth(seed: int, sizes: list[int]) -> None:
    points = normal(120, 4, seed=seed)
    model, evidence = fit_residual(points, sizes, fit=partial(fit_kmeans, iterations=5))
    codes = model.encode(points)
    errors = [
        float((points - model.decode(codes[:, :depth])).square().sum(1).mean()) for depth in range(1, 1 + len(sizes))
    ]
    assert all(after <= before * (1 + 1e-5) for before, after in pairwise(errors))
    assert all(error <= fit.objective[-1] * (1 + 1e-5) for error, fit in zip(errors, evidence, strict=True))


def test_each_depth_is_fitted_on_what_is_left() -> None:
    points = normal(400, 6).half()
    untouched = points.clone()
    model, evidence = fit_residual(points, [7, 5], fit=partial(fit_kmeans, seed=3))
    first, _ = fit_kmeans(points, 7, seed=3)
    rest = points.float() - first.decode(first.encode(points))
    second, went = fit_kmeans(rest, 5, seed=3)
    assert torch.equal(model.books[0].centroids, first.centroids)
    assert torch.equal(model.books[1].centroids, second.centroids)
    assert evidence[1] == went
    assert torch.equal(points, untouched)
    single, _ = fit_residual(points.float(), [7], fit=partial(fit_kmeans, seed=3))
    assert torch.equal(single.books[0].centroids, first.centroids)


def test_float32_points_are_not_written_to() -> None:
    points = normal(50, 3)
    fit_residual(points, [4, 4, 4])
    assert torch.equal(points, normal(50, 3))


def test_vectors_that_want_gradients_and_other_widths_are_read() -> None:
    model, vectors = ResidualKMeans([normal(17, 5, seed=1), normal(9, 5, seed=2)]), normal(30, 5).bfloat16()
    assert torch.equal(model.encode(vectors), model.encode(vectors.float().requires_grad_()))
    assert not model.decode(model.encode(vectors)).requires_grad


@pytest.mark.parametrize(
    "centroids", [[], [torch.zeros(2, 3), torch.zeros(2, 4)], torch.zeros(2, 3), [torch.zeros(0, 3)]]
)
def test_codebooks_that_do_not_fit_are_refused(centroids: list[Tensor] | Tensor) -> None:
    with pytest.raises(InputError):
        ResidualKMeans(centroids)


def test_vectors_and_codes_that_do_not_fit_are_refused() -> None:
    model = ResidualKMeans(normal(2, 4, 3))
    for vectors in (torch.zeros(5, 4), torch.zeros(5, 3).long(), torch.tensor(1.0), torch.full((5, 3), torch.nan)):
        with pytest.raises(InputError, match="vectors"):
            model.encode(vectors)
    for codes in (torch.zeros(5, 3).long(), torch.zeros(5, 0).long(), torch.zeros(5, 2), torch.full((5, 2), 4)):
        with pytest.raises(InputError, match="codes"):
            model.decode(codes)
    with pytest.raises(InputError, match="at least one codebook"):
        fit_residual(normal(9, 3), [])


def test_one_codebook_is_kmeans() -> None:
    entries, vectors = normal(30, 8, seed=1), normal(100, 8)
    assert torch.equal(ResidualKMeans([entries]).encode(vectors), KMeans(entries).encode(vectors))
