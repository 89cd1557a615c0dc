from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.tiny_models import tiny_config, tiny_net
from vocable.nets import linear as module
from vocable.nets.linear import Linear, linear, pack
from vocable.nets.ssl_positions import WeightNormConv


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("shape", [(1, 17), (5, 17), (2, 3, 17), (0, 17)])
def test_packed_and_public_operations_agree(shape: tuple[int, ...], gelu: bool) -> None:
    x, weight, bias = random(*shape), random(33, 17, seed=1), random(33, seed=2)
    expected = F.linear(x, weight, bias)
    expected = F.gelu(expected) if gelu else expected
    for form in (weight, pack(weight)):
        torch.testing.assert_close(linear(x, form, bias, gelu=gelu), expected, rtol=1e-5, atol=1e-5)
        without = linear(x, form, None)
        torch.testing.assert_close(without, x @ weight.T, rtol=1e-5, atol=1e-5)


def test_packing_keeps_the_numbers() -> None:
    weight = random(33, 17)
    packed = pack(weight)
    assert torch.equal(packed.to_dense() if packed.is_mkldnn else packed, weight)


def test_runs_where_the_processor_has_no_such_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    net, wave = tiny_net(tiny_config()), random(1, 4000)
    net.prepare(torch.float32)
    fast = net(wave)
    monkeypatch.setattr(module, "_fused", lambda dtype: False)
    plain = tiny_net(tiny_config())
    plain.prepare(torch.float32)
    assert isinstance(plain.feature_projection.projection, Linear)
    assert not plain.feature_projection.projection.weight.is_mkldnn
    torch.testing.assert_close(plain(wave), fast, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [4, 5, 16])
@pytest.mark.parametrize("frames", [1, 2, 17, 18, 100])
def test_convolution_by_spectrum_is_the_convolution(kernel: int, frames: int) -> None:
    conv = WeightNormConv(8, kernel, 2).requires_grad_(False)
    for seed, tensor in enumerate((conv.weight_g, conv.weight_v, conv.bias)):
        tensor.copy_(random(*tensor.shape, seed=seed) + 0.1)
    weight = conv.weight_v * conv.weight_g / conv.weight_v.norm(dim=(0, 1), keepdim=True)
    hidden = random(2, frames, 8, seed=9)
    expected = F.conv1d(hidden.transpose(1, 2), weight, conv.bias, padding=kernel // 2, groups=2)[..., :frames]
    for _ in range(2):
        torch.testing.assert_close(conv(hidden), expected.transpose(1, 2), rtol=1e-5, atol=1e-5)
        conv.prepare()


def test_convolution_without_spectrum_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = WeightNormConv(8, 16, 2).requires_grad_(False)
    conv.weight_v.copy_(random(8, 4, 16))
    hidden = random(2, 50, 8)
    expected = conv(hidden)
    monkeypatch.setattr(WeightNormConv, "_spectrum", lambda self, weight: weight)
    torch.testing.assert_close(conv(hidden), expected, rtol=1e-5, atol=1e-5)
