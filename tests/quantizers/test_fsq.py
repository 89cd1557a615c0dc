"""Scalar levels and signs: every code is reached and none is left, in any number type, as vector-quantize-pytorch's."""

from __future__ import annotations

import math

import pytest
import torch
import vector_quantize_pytorch as library
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers.fsq import FSQ, LFQ, ResidualFSQ
from vocable.testing import check_fixed_points, check_quantizer

LEVELS = st.lists(st.integers(3, 9), min_size=1, max_size=4)


def vectors(rows: int, dim: int, seed: int = 0) -> Tensor:
    return 1.5 * torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def centres(count: int) -> Tensor:
    """A number in the middle of each level's interval, by bisection on the library's own rounding."""
    fsq = library.FSQ([count], return_indices=False)
    grid = torch.linspace(-4, 4, 20001, dtype=torch.float64)
    levels = (fsq.quantize(grid[:, None])[:, 0] * (count // 2) + count // 2).round().long()
    return torch.stack([grid[levels == level].mean() for level in range(count)]).float()


@given(LEVELS)
def test_all_codes_are_different_levels_and_come_back(levels: list[int]) -> None:
    fsq = FSQ(levels)
    codes = torch.arange(math.prod(levels))[:, None]
    decoded = fsq.decode(codes)
    assert len(decoded.unique(dim=0)) == len(codes)
    assert float(decoded.abs().max()) <= 1
    half = torch.tensor(levels) // 2
    digits = (decoded * half + half).round().long()
    basis = torch.tensor([1, *levels[:-1]]).cumprod(0)
    assert torch.equal((digits * basis).sum(1, keepdim=True), codes)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("count", [3, 4, 5, 8, 15, 16, 33, 64])
def test_every_level_is_reached_and_none_left_in_any_number_type(count: int, dtype: torch.dtype) -> None:
    fsq = FSQ([count])
    assert fsq.encode(centres(count)[:, None].to(dtype))[:, 0].tolist() == list(range(count))
    extremes = torch.tensor([[-torch.finfo(dtype).max], [torch.finfo(dtype).max]], dtype=dtype)
    assert fsq.encode(extremes)[:, 0].tolist() == [0, count - 1]


@given(LEVELS, st.integers(0, 99))
def test_codes_are_those_of_the_library(levels: list[int], seed: int) -> None:
    rows = vectors(200, len(levels), seed)
    out, codes = library.FSQ(levels)(rows[None])
    assert torch.equal(FSQ(levels).encode(rows)[:, 0], codes[0].long())
    torch.testing.assert_close(FSQ(levels).decode(codes[0, :, None]), out[0])


@given(st.lists(st.integers(2, 7), min_size=1, max_size=4), st.integers(1, 4), st.integers(0, 99))
def test_residual_codes_are_those_of_the_library(levels: list[int], depth: int, seed: int) -> None:
    rows = vectors(200, len(levels), seed)
    ours, theirs = ResidualFSQ(levels, depth), library.ResidualFSQ(levels=levels, num_quantizers=depth).eval()
    out, codes = theirs(rows[None])
    # levels and remainders that lie on a boundary fall either way in float32
    assert (ours.encode(rows) == codes[0]).all(1).float().mean().item() > 0.97
    torch.testing.assert_close(ours.decode(codes[0].long()), out[0], rtol=1e-5, atol=1e-5)


def test_residual_error_falls_with_depth() -> None:
    ours, rows = ResidualFSQ([5, 4, 3], 4), vectors(500, 3)
    bound = 1 + 1 / (torch.tensor([5.0, 4.0, 3.0]) - 1)
    target, codes = (rows / bound).tanh() * bound, ours.encode(rows)
    errors = [float((ours.decode(codes[:, :k]) - target).square().mean()) for k in range(1, 5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 50


@given(st.integers(1, 10), st.integers(1, 3), st.integers(0, 99))
def test_signs_are_those_of_the_library(bits: int, count: int, seed: int) -> None:
    rows = vectors(100, bits * count, seed)
    ours = LFQ(bits, count)
    out, codes, _ = library.LFQ(codebook_size=2**bits, num_codebooks=count, dim=bits * count).eval()(rows[None])
    assert torch.equal(ours.encode(rows), codes[0].view(100, count))
    assert torch.equal(ours.decode(ours.encode(rows)), out[0])


@pytest.mark.parametrize("quantizer", [FSQ([8, 5, 5, 5]), LFQ(5, 3), ResidualFSQ([4, 3], 1)])
def test_codes_are_functions_of_the_vector(quantizer: FSQ | LFQ | ResidualFSQ) -> None:
    rows = vectors(300, quantizer.dim)
    codes = quantizer.encode(rows)
    assert torch.equal(torch.cat([quantizer.encode(part) for part in rows.split(7)]), codes)
    assert torch.equal(quantizer.encode(rows.view(3, 100, -1)), codes.view(3, 100, -1))
    assert type(quantizer).from_config(quantizer.config(), quantizer.tensors()).config() == quantizer.config()
    check_quantizer(quantizer)
    if isinstance(quantizer, LFQ):
        check_fixed_points(quantizer)


@pytest.mark.parametrize("levels", [[], [2, 5], [257], [256, 256, 256, 256]])
def test_levels_that_cannot_be_are_refused(levels: list[int]) -> None:
    with pytest.raises(InputError, match="levels from 3 to 256"):
        FSQ(levels)


def test_vectors_and_codes_that_do_not_fit_are_refused() -> None:
    fsq = FSQ([3, 3])
    for rows in (torch.zeros(2, 3), torch.zeros(2, 2).long(), torch.full((1, 2), torch.inf)):
        with pytest.raises(InputError, match="vectors"):
            fsq.encode(rows)
    for codes in (torch.full((1, 1), 9), torch.full((1, 1), -1), torch.zeros(1, 2).long(), torch.zeros(1, 1)):
        with pytest.raises(InputError, match="codes"):
            fsq.decode(codes)
    with pytest.raises(InputError, match="bits"):
        LFQ(17)
    with pytest.raises(InputError, match="codebook"):
        ResidualFSQ([3], 0)
