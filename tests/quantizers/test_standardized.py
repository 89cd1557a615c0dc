"""K-means in standard units: what it is equal to, what a constant dimension does, and that it is saved whole."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tests.quantizers.test_reduce import Together
from vocable import testing
from vocable.errors import ArtifactError, InputError
from vocable.quantizers import (
    FitEvidence,
    KMeans,
    ProductKMeans,
    ResidualKMeans,
    decodes_prefixes,
    fit_kmeans,
    fit_product,
    fit_residual,
    judge,
    quantizer_config,
    quantizer_from,
    quantizer_tensors,
)
from vocable.quantizers.reduce import Reducer
from vocable.quantizers.scaling import Scaling
from vocable.quantizers.standardized import Standardized, fit_standardized


def points_of(count: int = 600, dim: int = 8, seed: int = 0) -> Tensor:
    """Nine clusters whose dimensions have ranges from 0.01 to 1,000, far from 0, the widest ones mere noise."""
    generator = torch.Generator().manual_seed(seed)
    means = 4 * torch.randn(9, dim, generator=generator)
    means[:, -2:] = 0
    rows = means[torch.randint(9, (count,), generator=generator)] + torch.randn(count, dim, generator=generator)
    return rows * torch.logspace(-2, 3, dim) + torch.linspace(-500, 500, dim)


@given(seed=st.integers(0, 1000), dim=st.integers(1, 9), count=st.integers(2, 300), half=st.booleans())
def test_the_scaling_is_that_of_the_formula(seed: int, dim: int, count: int, half: bool) -> None:
    points = points_of(count, dim, seed)
    points = points.half() if half else points
    found, exact = Scaling.of(points), points.double()
    reach = exact.abs().amax(0)
    assert (found.mean.double() - exact.mean(0)).abs().le(1e-7 * reach).all()
    deviation = exact.std(0, correction=0)
    expected = torch.where(deviation > 2e-6 * reach, deviation, found.deviation.double())  # below that it counts as 1
    assert torch.allclose(found.deviation.double(), expected, rtol=1e-6)
    standard = found.apply(points)
    assert torch.allclose(found.undo(standard).double(), exact, rtol=0, atol=1e-6 * float(reach.max()))


@given(seed=st.integers(0, 1000), clusters=st.integers(1, 12))
@settings(max_examples=8)
@pytest.mark.parametrize("way", [{}, {"schedule": "progressive"}, {"backend": "faiss"}, {"init": "random"}])
def test_a_fit_in_standard_units_is_a_fit_of_points_scaled_before(
    way: dict[str, Any], seed: int, clusters: int
) -> None:
    points = points_of(200, 5, seed)
    fit = partial(fit_kmeans, iterations=10, seed=seed, **way)
    found, evidence = fit_standardized(points, [clusters], fit=fit)
    scaled = (points - found.scaling.mean) / found.scaling.deviation
    expected, theirs = fit(scaled, clusters)
    assert torch.allclose(found.quantizer.centroids, expected.centroids, atol=1e-6)
    assert evidence[0].objective == pytest.approx(theirs.objective, rel=1e-6)
    assert torch.equal(found.encode(points), expected.encode(scaled))
    undone = expected.centroids * found.scaling.deviation + found.scaling.mean
    assert torch.allclose(found.decode(found.encode(points)), undone[expected.encode(scaled)[:, 0]], rtol=1e-5)


@pytest.mark.parametrize(("several", "kind"), [(fit_product, ProductKMeans), (fit_residual, ResidualKMeans)])
def test_several_codebooks_in_standard_units(several: Any, kind: type) -> None:
    points = points_of()
    found, evidence = fit_standardized(points, [6, 5], several=several)
    scaled = found.scaling.apply(points)
    expected, theirs = several(scaled, [6, 5])
    assert isinstance(found.quantizer, kind)
    assert evidence == theirs
    assert torch.equal(found.encode(points), expected.encode(scaled))
    assert decodes_prefixes(found) == (kind is ResidualKMeans)
    testing.check_quantizer(found)


def test_a_dimension_of_wide_noise_no_longer_decides() -> None:
    """Two clusters told apart in one dimension, beside one with a hundred times the range that says nothing."""
    truth = torch.arange(400) % 2
    generator = torch.Generator().manual_seed(1)
    clear = truth + 0.1 * torch.randn(400, generator=generator)
    points = torch.stack([clear, 100 * torch.rand(400, generator=generator)], dim=1)

    def share(codes: Tensor) -> float:
        same = float((codes[:, 0] == truth).double().mean())
        return max(same, 1 - same)

    assert share(fit_kmeans(points, 2)[0].encode(points)) < 0.6
    assert share(fit_standardized(points, [2])[0].encode(points)) == 1.0


def test_a_constant_dimension_does_no_harm() -> None:
    points = points_of()
    padded = torch.cat([points, torch.full((len(points), 1), 1234.567)], dim=1)
    with_it, evidence = fit_standardized(padded, [9])
    zero = functional.pad(points, (0, 1))
    without, theirs = fit_standardized(zero, [9])
    assert float(with_it.scaling.deviation[-1]) == 1.0
    assert torch.equal(with_it.encode(padded), without.encode(zero))
    assert evidence[0].objective == pytest.approx(theirs[0].objective)
    elsewhere = torch.cat([points, torch.full((len(points), 1), -4.0)], dim=1)  # seen only now: all entries lose alike
    assert torch.equal(with_it.encode(elsewhere), with_it.encode(padded))
    assert torch.equal(with_it.decode(with_it.encode(padded))[:, -1], padded[:, -1])
    silent, _ = fit_standardized(torch.zeros(7, 3), [2])
    assert torch.equal(silent.decode(silent.encode(torch.zeros(7, 3))), torch.zeros(7, 3))


def test_codes_do_not_depend_on_the_batch_and_objectives_say_what_is_explained() -> None:
    points = points_of()
    found, evidence = fit_standardized(points, [9])
    testing.check_quantizer(found)
    testing.check_fixed_points(found)
    alone = torch.cat([found.encode(row[None]) for row in points[:50]])
    assert torch.equal(alone, found.encode(points[:50].double())[:50])
    assert found.encode(points.view(20, 30, 8)).shape == (20, 30, 1)
    single, whole = fit_standardized(points, [1])
    assert whole[0].objective[-1] == pytest.approx(8, rel=1e-4)  # a unit of variance for each dimension
    assert torch.allclose(single.decode(torch.zeros(1, 1).long())[0], points.mean(0), rtol=1e-5)
    in_units = judge(found.quantizer, found.scaling.apply(points))
    assert in_units.distortion[-1] == pytest.approx(evidence[0].objective[-1], rel=1e-4)
    with pytest.raises(InputError, match="finite"):
        found.encode(torch.full((1, 8), torch.nan))
    with pytest.raises(InputError, match=r"\[\.\.\., 8\]"):
        found.encode(torch.zeros(3, 7))


@pytest.mark.parametrize("sizes", [[250, 350], [100, 0, 500]])
def test_shares_of_the_points_give_every_bit_of_all_of_them(sizes: list[int]) -> None:
    points = points_of()

    def fit(share: Tensor, reduce: Reducer) -> tuple[Standardized, list[FitEvidence]]:
        torch.set_num_threads(1)
        return fit_standardized(share, [12], fit=partial(fit_kmeans, iterations=8, reduce=reduce), reduce=reduce)

    expected, evidence = fit_standardized(points, [12], fit=partial(fit_kmeans, iterations=8))
    with ThreadPoolExecutor(len(sizes)) as pool:
        results = list(pool.map(fit, points.split(sizes), Together(len(sizes)).members))
    for found, theirs in results:
        assert torch.equal(found.scaling.mean, expected.scaling.mean)
        assert torch.equal(found.scaling.deviation, expected.scaling.deviation)
        assert torch.equal(found.quantizer.centroids, expected.quantizer.centroids)
        assert theirs == evidence


@pytest.mark.parametrize("sizes", [[9], [4, 3]])
def test_saved_and_read_again(sizes: list[int]) -> None:
    points = points_of()
    model, _ = fit_standardized(points, sizes)
    config = json.loads(json.dumps(quantizer_config(model)))
    tensors = quantizer_tensors(model, "codebooks.L6")
    again = quantizer_from(config, {"codebooks.L60": torch.zeros(1), **tensors}, "codebooks.L6")
    assert isinstance(again, Standardized)
    assert quantizer_config(again) == config
    codes = model.encode(points)
    assert torch.equal(again.encode(points), codes)
    assert torch.equal(again.decode(codes), model.decode(codes))


def test_what_makes_no_sense_is_told() -> None:
    model, _ = fit_standardized(points_of(), [4])
    config, tensors = quantizer_config(model), quantizer_tensors(model, "L6")
    with pytest.raises(ArtifactError, match=r"without L6\.deviation"):
        quantizer_from(config, {name: t for name, t in tensors.items() if name != "L6.deviation"}, "L6")
    with pytest.raises(ArtifactError, match="above 0"):
        quantizer_from(config, {**tensors, "L6.deviation": torch.zeros(8)}, "L6")
    with pytest.raises(ArtifactError, match="8 dimensions, got one of 7"):
        quantizer_from(config, {**tensors, "L6.mean": torch.zeros(7), "L6.deviation": torch.ones(7)}, "L6")
    with pytest.raises(ArtifactError, match="again"):
        quantizer_from({"kind": "standardized", "quantizer": config}, tensors, "L6")
    with pytest.raises(ArtifactError, match="kind standardized"):
        quantizer_from({"kind": "standardized", "quantizer": 3}, tensors, "L6")
    with pytest.raises(InputError, match="another kind"):
        Standardized(KMeans(functional.normalize(torch.randn(4, 8)), spherical=True), model.scaling)
    with pytest.raises(InputError, match="spherical or standardized"):
        fit_kmeans(points_of(), 4, spherical=True, scaling=model.scaling)
    with pytest.raises(InputError, match="3 dimensions, got one of 8"):
        fit_kmeans(torch.randn(9, 3), 2, scaling=model.scaling)
    for wrong, message in ((torch.zeros(0, 3), "at least one point"), (torch.zeros(3), r"\[n, D\]")):
        with pytest.raises(InputError, match=message):
            fit_standardized(wrong, [1])
    with pytest.raises(InputError, match="at least one codebook"):
        fit_standardized(points_of(), [])
    assert torch.equal(model.to("cpu").encode(points_of()), model.encode(points_of()))
