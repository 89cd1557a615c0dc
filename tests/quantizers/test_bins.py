from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers import ScalarBins
from vocable.testing import check_fixed_points, check_quantizer
from vocable.types import Quantizer

BINS = ScalarBins(1, low=-1.0, high=3.0, size=4)


def test_the_laws() -> None:
    for bins in (BINS, ScalarBins(80, low=-18.42, high=-2.0), ScalarBins(3, low=0.0, high=1e-3, size=1000)):
        assert isinstance(bins, Quantizer)
        check_quantizer(bins)
        check_fixed_points(bins)


@pytest.mark.parametrize(
    ("value", "code"), [(-1.0, 0), (-0.01, 0), (0.0, 1), (0.99, 1), (1.0, 2), (2.99, 3), (3.0, 3), (9.0, 3), (-9.0, 0)]
)
def test_bins_by_hand(value: float, code: int) -> None:
    assert BINS.encode(torch.tensor([[value]])).tolist() == [[code]]


def test_centres_by_hand() -> None:
    assert BINS.decode(torch.arange(4)[:, None]).flatten().tolist() == [-0.5, 0.5, 1.5, 2.5]


@given(st.lists(st.floats(-1, 3, width=32), min_size=1, max_size=30))
def test_what_lies_in_the_range_comes_back_to_half_a_bin(values: list[float]) -> None:
    vectors = torch.tensor(values)[:, None]
    assert (BINS.decode(BINS.encode(vectors)) - vectors).abs().max().item() <= 0.5 * BINS.width


def test_every_dimension_is_a_codebook() -> None:
    bins = ScalarBins(3, low=0.0, high=1.0, size=10)
    assert bins.codebook_sizes == (10, 10, 10)
    vectors = torch.rand(2, 5, 3)
    assert torch.equal(bins.encode(vectors), (vectors.double() * 10).long())
    assert bins.decode(bins.encode(vectors)).shape == (2, 5, 3)
    assert bins.decode(bins.encode(vectors)).dtype == torch.float32


def test_configuration_goes_through_json() -> None:
    bins = ScalarBins(7, low=-0.1, high=0.3, size=11)
    again = ScalarBins.from_config(json.loads(json.dumps(bins.config())))
    assert again.config() == bins.config()
    vectors = torch.randn(50, 7) / 5
    assert torch.equal(again.encode(vectors), bins.encode(vectors))


@pytest.mark.parametrize(
    "vectors", [torch.zeros(3, 2), torch.zeros(3, 1).long(), torch.tensor([[torch.nan]]), torch.tensor([[torch.inf]])]
)
def test_vectors_that_do_not_fit_are_refused(vectors: Tensor) -> None:
    with pytest.raises(InputError, match="vectors"):
        BINS.encode(vectors)


@pytest.mark.parametrize(
    "codes", [torch.zeros(3, 2).long(), torch.zeros(3, 1), torch.tensor([[4]]), torch.tensor([[-1]])]
)
def test_codes_that_do_not_fit_are_refused(codes: Tensor) -> None:
    with pytest.raises(InputError, match="codes"):
        BINS.decode(codes)


@pytest.mark.parametrize(
    ("dim", "low", "high", "size"), [(0, 0.0, 1.0, 4), (1, 0.0, 1.0, 0), (1, 1.0, 1.0, 4), (1, 0.0, 1e999, 4)]
)
def test_settings_that_cannot_be_are_refused(dim: int, low: float, high: float, size: int) -> None:
    with pytest.raises(InputError):
        ScalarBins(dim, low=low, high=high, size=size)
