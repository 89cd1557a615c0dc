"""What quantizers lose and cost, worked out by hand; soft assignments against their formula."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from vocable.errors import InputError
from vocable.quantizers import (
    KMeans,
    ProductKMeans,
    RandomProjection,
    ResidualKMeans,
    ScalarBins,
    judge,
    nearest,
    soft_assign,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_judgement_by_hand() -> None:
    model = ResidualKMeans([torch.tensor([[0.0], [8.0]]), torch.tensor([[-1.0], [1.0], [5.0], [-5.0]])])
    found = judge(model, torch.tensor([[[-1.0], [1.0]], [[2.0], [9.0]]]))  # codes 00 01 01 11, left 0 0 1 0
    assert (found.codebook_sizes, found.num_vectors) == ((2, 4), 4)
    assert found.usage == (1.0, 0.5)
    spread = 2 - 0.75 * math.log2(3)  # of three to one
    assert found.entropy == pytest.approx((spread, spread))
    assert found.raw_bits == 3.0
    assert found.coded_bits == pytest.approx(2 * spread)
    assert found.variance == pytest.approx((3.75**2 + 1.75**2 + 0.75**2 + 6.25**2) / 4)
    assert found.distortion == pytest.approx((7 / 4, 1 / 4))
    assert found.unexplained == pytest.approx((1.75 / found.variance, 0.25 / found.variance))
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["distortion"] == list(found.distortion)
    assert plain["raw_bits"] == 3.0


@pytest.mark.parametrize(
    ("quantizer", "depths"),
    [
        (KMeans(normal(9, 6)), 1),
        (ResidualKMeans(normal(3, 9, 6)), 3),
        (ProductKMeans(normal(3, 9, 2)), 1),
        (ScalarBins(6, low=-2.0, high=2.0), 1),
        (RandomProjection(6, projected=2, size=9, num_codebooks=2), 1),
    ],
)
def test_every_quantizer_answers(quantizer: KMeans, depths: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = normal(300, 6, seed=1)
    whole = judge(quantizer, vectors)
    monkeypatch.setattr(nearest, "CHUNK_BYTES", 2**12)
    parts = judge(quantizer, vectors)
    assert len(whole.usage) == len(whole.entropy) == len(quantizer.codebook_sizes)
    assert len(whole.distortion) == depths
    error = (vectors - quantizer.decode(quantizer.encode(vectors))).double().square().sum(1).mean()
    assert whole.distortion[-1] == pytest.approx(float(error))
    assert whole.variance == pytest.approx(float(vectors.double().var(0, correction=0).sum()))
    assert whole.coded_bits <= whole.raw_bits
    assert (parts.usage, parts.entropy) == (whole.usage, whole.entropy)
    assert parts.distortion == pytest.approx(whole.distortion)


def test_vectors_without_variance_have_a_share_all_the_same() -> None:
    vectors = torch.full((5, 2), 3.0)
    assert judge(KMeans(vectors[:1]), vectors).unexplained == (0.0,)
    assert judge(KMeans(torch.zeros(1, 2)), vectors).unexplained == (1.0,)


@given(temperature=st.floats(0.05, 20.0), offset=st.sampled_from([0.0, 1e3]))
def test_soft_assignments_are_the_softmax_of_distances(temperature: float, offset: float) -> None:
    centroids, vectors = normal(7, 4, seed=1) + offset, normal(3, 5, 4, seed=2) + offset
    found = soft_assign(KMeans(centroids), vectors, temperature)
    squared = torch.cdist(vectors.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist") ** 2
    torch.testing.assert_close(
        found.double(), (-squared / temperature).softmax(-1), atol=2e-4 * (1 + offset / 100), rtol=0
    )
    torch.testing.assert_close(found.sum(-1), torch.ones(3, 5))


def test_of_a_spherical_codebook_the_direction_alone_counts() -> None:
    model, vectors = KMeans(functional.normalize(normal(7, 4, seed=1)), spherical=True), normal(20, 4, seed=2)
    found = soft_assign(model, vectors, 0.3)
    cosines = functional.normalize(vectors) @ model.centroids.T
    torch.testing.assert_close(found, (2 * cosines / 0.3).softmax(-1))
    torch.testing.assert_close(found, soft_assign(model, 100 * vectors, 0.3))


def test_a_cold_soft_assignment_is_the_code_and_chunks_agree() -> None:
    model, vectors = KMeans(normal(30, 8, seed=1)), normal(200, 8, seed=2)
    assert torch.equal(soft_assign(model, vectors, 1e-6).argmax(-1), model.encode(vectors)[:, 0])
    assert bool(soft_assign(model, 1e6 * vectors, 1e-30).isfinite().all())
    parts = torch.cat([soft_assign(model, part, 1.0) for part in vectors.split(7)])
    torch.testing.assert_close(parts, soft_assign(model, vectors, 1.0))


def test_what_cannot_be_judged_is_refused() -> None:
    model = KMeans(normal(3, 4))
    for vectors in (torch.zeros(5, 3), torch.zeros(0, 4), torch.full((2, 4), torch.nan)):
        with pytest.raises(InputError):
            judge(model, vectors)
    for vectors, temperature in (
        (torch.zeros(5, 3), 1.0),
        (torch.zeros(5, 4), 0.0),
        (torch.full((1, 4), torch.inf), 1.0),
    ):
        with pytest.raises(InputError):
            soft_assign(model, vectors, temperature)
