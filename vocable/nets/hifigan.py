"""HiFi-GAN's generator: transposed convolutions from frames up to samples, residual convolutions at every rate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from vocable.errors import InputError
from vocable.nets.generators import Generator

_STAGES = 4
_SLOPE = 0.1
_DILATIONS = (1, 3, 5)
_KERNELS = (3, 7, 11)
_OUTER_KERNEL = 7


class HiFiGANGenerator(Generator):
    """HiFi-GAN (Kong et al. 2020): V1 with 512 channels, V2 with 128. Tensors have the names of the original.

    dim: channels of the frames. channels: after the first convolution; halved by each transposed one.
    hop_length: samples per frame, the product of the strides.
    causal: no sample depends on a later frame.
    strides: of the transposed convolutions, whose kernels are twice as long; None for `even_strides`.
    Weights are normalised (Salimans & Kingma 2016) while training.
    InputError if a number is out of range, or strides do not make up the hop.
    """

    def __init__(
        self,
        *,
        dim: int,
        channels: int,
        hop_length: int,
        causal: bool = False,
        strides: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        strides = even_strides(hop_length) if strides is None else tuple(strides)
        widths = [channels >> index for index in range(len(strides) + 1)]
        if min(dim, hop_length, *strides, widths[-1]) < 1 or math.prod(strides) != hop_length:
            raise InputError(
                f"expected positive sizes, strides that make {hop_length} and {1 << len(strides)} channels or more, "
                f"got dim {dim}, channels {channels}, strides {strides}"
            )
        self.dim, self.hop_length = dim, hop_length
        self._channels, self._causal, self._strides = channels, causal, strides
        self.conv_pre = Conv(dim, channels, _OUTER_KERNEL, causal=causal)
        self.ups = nn.ModuleList(
            Upsample(*pair, stride, causal=causal)
            for pair, stride in zip(itertools.pairwise(widths), strides, strict=True)
        )
        self.resblocks = nn.ModuleList(
            ResBlock(width, kernel, causal=causal) for width in widths[1:] for kernel in _KERNELS
        )
        self.conv_post = Conv(widths[-1], 1, _OUTER_KERNEL, causal=causal)
        self.past, self.future = self._reach()
        for module in (*self.ups, *self.resblocks, self.conv_post):
            module.apply(_start)
        self.apply(_normalise)

    def forward(self, frames: Float[Tensor, "b d t"]) -> Float[Tensor, "b n"]:
        hidden = self.conv_pre(frames.to(next(self.parameters()).dtype))
        for upsample, blocks in self._stages():
            hidden = upsample(F.leaky_relu(hidden, _SLOPE))
            hidden = sum(block(hidden) for block in blocks) / len(blocks)
        return self._waveform(hidden)

    def prepared(self, dtype: torch.dtype = torch.float32) -> Generator:
        # no deepcopy: it would share classes with this one, and a parametrization is taken out of the class
        other = type(self)(
            dim=self.dim,
            channels=self._channels,
            hop_length=self.hop_length,
            causal=self._causal,
            strides=self._strides,
        )
        other.load_state_dict(self.state_dict())
        for module in list(other.modules()):
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
        other.to(self.conv_pre.weight.device, dtype).conv_post.float()
        return other.eval().requires_grad_(False)

    def _waveform(self, hidden: Float[Tensor, "b c n"]) -> Float[Tensor, "b n"]:
        """Samples, not in low precision, whose steps would be heard. As in the original, the slope is PyTorch's own."""
        with torch.autocast(hidden.device.type, enabled=False):
            samples: Tensor = self.conv_post(F.leaky_relu(hidden).to(self.conv_post.weight.dtype))
            return samples[:, 0].tanh()

    def _stages(self) -> list[tuple[Upsample, list[ResBlock]]]:
        blocks = cast("list[ResBlock]", list(self.resblocks))
        count = len(_KERNELS)
        return [(cast(Upsample, up), blocks[i * count : (i + 1) * count]) for i, up in enumerate(self.ups)]

    def _reach(self) -> tuple[int, int]:
        """Frames before and after the first that its samples depend on, followed from the samples back."""
        first, last = self.conv_post.needs(0, self.hop_length - 1)
        for upsample, blocks in reversed(self._stages()):
            reaches = [block.needs(first, last) for block in blocks]
            first, last = upsample.needs(min(a for a, _ in reaches), max(b for _, b in reaches))
        first, last = self.conv_pre.needs(first, last)
        return -first, last


class Conv(nn.Conv1d):
    """As many values as came, zeros around them; a causal one sees none that are later."""

    def __init__(self, channels: int, out: int, kernel: int, dilation: int = 1, *, causal: bool) -> None:
        super().__init__(channels, out, kernel, dilation=dilation)
        span = (kernel - 1) * dilation
        self.before = span if causal else span // 2
        self.after = span - self.before

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b o n"]:
        return super().forward(F.pad(x, (self.before, self.after)))

    def needs(self, first: int, last: int) -> tuple[int, int]:
        """The first and last input that outputs `first` to `last` depend on."""
        return first - self.before, last + self.after


class Upsample(nn.ConvTranspose1d):
    """`stride` values for each that came, which reach over two strides; a causal one reaches forwards only."""

    def __init__(self, channels: int, out: int, stride: int, *, causal: bool) -> None:
        super().__init__(channels, out, 2 * stride, stride)
        self.cut = 0 if causal else stride // 2

    def forward(self, x: Float[Tensor, "b c t"], output_size: list[int] | None = None) -> Float[Tensor, "b o n"]:
        y = super().forward(x, output_size)
        return y[..., self.cut : self.cut + x.shape[-1] * self.stride[0]]

    def needs(self, first: int, last: int) -> tuple[int, int]:
        """The first and last input that outputs `first` to `last` depend on."""
        stride = self.stride[0]
        return (first + self.cut) // stride - 1, (last + self.cut) // stride


class ResBlock(nn.Module):
    """Three times two convolutions, the first of each pair dilated; added to what came."""

    def __init__(self, channels: int, kernel: int, *, causal: bool) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(Conv(channels, channels, kernel, d, causal=causal) for d in _DILATIONS)
        self.convs2 = nn.ModuleList(Conv(channels, channels, kernel, causal=causal) for _ in _DILATIONS)

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b c n"]:
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = x + second(F.leaky_relu(first(F.leaky_relu(x, _SLOPE)), _SLOPE))
        return x

    def needs(self, first: int, last: int) -> tuple[int, int]:
        """The first and last input that outputs `first` to `last` depend on."""
        for conv in (*self.convs1, *self.convs2):
            first, last = cast(Conv, conv).needs(first, last)
        return first, last


def even_strides(hop_length: int) -> tuple[int, ...]:
    """At most four strides that make up the hop, merged from its smallest prime factors: 160 is 5 x 4 x 4 x 2."""
    strides, divisor = [], 2
    while hop_length > 1:
        if hop_length % divisor:
            divisor += 1
            continue
        strides.append(divisor)
        hop_length //= divisor
    while len(strides) > _STAGES:
        first, second, *others = sorted(strides)
        strides = [first * second, *others]
    return tuple(sorted(strides, reverse=True)) or (1,)


def _start(module: nn.Module) -> None:
    if isinstance(module, Conv | Upsample):
        nn.init.normal_(module.weight, std=0.01)


def _normalise(module: nn.Module) -> None:
    """The length of each weight becomes a parameter of its own, apart from its direction."""
    if isinstance(module, Conv | Upsample):
        parametrizations.weight_norm(module)
