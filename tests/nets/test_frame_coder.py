"""The frame coder starts as principal components, and frozen it is the same function with the same bits everywhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.nets.frame_coder import ExactFrameCoder, FrameCoder


def frames(rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(10, 10, generator=torch.Generator().manual_seed(99))
    return torch.randn(rows, 10, generator=generator) @ mixing * 20 + 300


def trained(latent: int = 6, depth: int = 2) -> FrameCoder:
    torch.manual_seed(0)
    coder = FrameCoder(10, latent, width=16, depth=depth)
    coder.start(frames(500), whiten=False)
    for name, parameter in coder.named_parameters():
        if "second" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return coder


def test_it_starts_as_the_best_linear_code() -> None:
    points = frames(500)
    coder = FrameCoder(10, 3, width=8, depth=2)
    coder.start(points, whiten=False)
    normalized = coder.normalized(points)
    with torch.no_grad():
        error = (coder.decode(coder.encode(normalized)) - normalized).square().sum()
    left = torch.linalg.svdvals(normalized.double())[3:].square().sum()  # Eckart and Young 1936
    assert float(error) == pytest.approx(float(left), rel=1e-3)
    assert float(normalized.square().mean()) == pytest.approx(1.0, rel=1e-4)
    distances = torch.cdist(points, points) / coder.scale
    whole = FrameCoder(10, 10, width=8, depth=1)
    whole.start(points, whiten=False)
    latents = whole.encode(whole.normalized(points))
    torch.testing.assert_close(torch.cdist(latents, latents), distances, rtol=1e-2, atol=0.1)


def test_whitened_latents_have_variance_one_and_decode_alike() -> None:
    points = frames(500)
    plain, white = FrameCoder(10, 4, width=8, depth=0), FrameCoder(10, 4, width=8, depth=0)
    plain.start(points, whiten=False)
    white.start(points, whiten=True)
    latents = white.encode(white.normalized(points))
    torch.testing.assert_close(latents.var(0, correction=0), torch.ones(4), rtol=1e-3, atol=1e-3)
    there = plain.decode(plain.encode(plain.normalized(points)))
    torch.testing.assert_close(white.decode(latents), there, rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("depth", [0, 2])
def test_frozen_it_is_the_same_function(depth: int) -> None:
    coder = trained(depth=depth)
    exact = ExactFrameCoder(coder.state_dict())
    points = frames(300, seed=1)
    latents = coder.encode(coder.normalized(points))
    torch.testing.assert_close(exact.encode(points), latents, rtol=1e-4, atol=1e-4)
    restored = coder.decode(latents) * coder.scale + coder.mean
    torch.testing.assert_close(exact.decode(latents), restored, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_frame_has_the_same_bits_in_any_company(threads: int) -> None:
    exact = ExactFrameCoder(trained().state_dict())
    points = frames(1500)
    alone = torch.cat([exact.encode(row[None]) for row in points[:40]])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = exact.encode(points)
        assert torch.equal(exact.encode(points.flip(0)).flip(0), together)
        assert torch.equal(exact.decode(together)[:40], exact.decode(alone))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together[:40], alone)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="1 to 10 latent dimensions"):
        FrameCoder(10, 11, width=4, depth=1)
    coder = FrameCoder(10, 4, width=4, depth=1)
    for points in (torch.ones(50, 10), torch.full((50, 10), torch.nan)):
        with pytest.raises(InputError, match="finite and differ"):
            coder.start(points, whiten=False)
    weights = trained().state_dict()
    weights["into.weight"][0, 0] = torch.nan
    with pytest.raises(InputError, match="finite weights"):
        ExactFrameCoder(weights)
