"""Encoders of trainable codecs, which see a stretch of sound known to the sample: what they share, and convolutions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.errors import InputError


class Snake(nn.Module):
    """x + sin(a x)^2 / a with a trained `a` for each channel (Ziyin et al. 2020), the activation of DAC."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b c n"]:
        wave: Tensor = (self.alpha * x).sin().square() / (self.alpha + 1e-9)
        return x + wave


_ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {"elu": lambda channels: nn.ELU(), "snake": Snake}


class ResidualUnit(nn.Module):
    """A dilated convolution and one of width 1 beside a shortcut, without padding: the ends are lost.

    causal: whether the shortcut is the newest of the samples that the convolution sees, or the one in their middle.
    """

    def __init__(self, channels: int, kernel: int, dilation: int, activation: str, *, causal: bool) -> None:
        super().__init__()
        act = _ACTIVATIONS[activation]
        self.lost = (kernel - 1) * dilation
        self.first = self.lost if causal else self.lost // 2
        self.block = nn.Sequential(
            act(channels),
            nn.Conv1d(channels, channels, kernel, dilation=dilation),
            act(channels),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b c m"]:
        change: Tensor = self.block(x)
        return x[..., self.first : self.first + change.shape[-1]] + change


class Encoder(nn.Module, ABC):
    """Samples to latents, one for every `hop_length` samples.

    A latent is the same function of its `past` + hop + `future` samples wherever it stands; where sound ends it is
    silent, see `padded`.

    dim: of the latents. past, future: samples before and after its own hop that a latent sees; if `causal`, the latter
    is 0.
    """

    dim: int
    hop_length: int
    past: int
    future: int
    causal: bool

    @abstractmethod
    def forward(self, samples: Float[Tensor, "b 1 n"]) -> Float[Tensor, "b t d"]:
        """Latents of t = (n - past - future) / hop frames, from samples with what each sees before and after it."""

    @abstractmethod
    def standardize(self, padded: Sequence[Float[Tensor, "b 1 n"]]) -> None:
        """Scales its last map so that the latents of such samples get mean 0 and variance 1 in each dimension."""

    def padded(self, samples: Float[Tensor, "b 1 n"]) -> Float[Tensor, "b 1 m"]:
        """Whole hops of samples with silence on either side, as `forward` takes them."""
        return F.pad(samples, (self.past, self.future))


class CodecEncoder(Encoder):
    """The convolutions of SEANet, as in EnCodec and DAC.

    A convolution, then for each stride residual units and a convolution of twice the stride's width that doubles the
    channels, then one to the latents (Tagliasacchi et al. 2020; Zeghidour et al. 2021, section III.A). There is no
    recurrence and nothing is padded inside.

    config: {"channels", "strides", "kernel", "dilations", "activation": "elu" | "snake", "dim", "causal"}; `kernel` of
    the residual units, one for each of the `dilations`; `dim` of the latents.
    InputError for a configuration that is none.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        channels, strides, dim = int(config["channels"]), tuple(config["strides"]), int(config["dim"])
        kernel, dilations = int(config["kernel"]), tuple(config["dilations"])
        activation, self.causal = str(config["activation"]), bool(config["causal"])
        numbers = (channels, dim, kernel, *strides, *dilations)
        if not strides or min(numbers) < 1 or kernel % 2 == 0 or activation not in _ACTIVATIONS:
            raise InputError(f"expected the configuration of a codec's encoder, got {dict(config)}")
        layers: list[nn.Module] = [nn.Conv1d(1, channels, 7)]
        for stride in strides:
            layers += [
                ResidualUnit(channels, kernel, dilation, activation, causal=self.causal) for dilation in dilations
            ]
            layers += [_ACTIVATIONS[activation](channels), nn.Conv1d(channels, 2 * channels, 2 * stride, stride=stride)]
            channels *= 2
        self.layers = nn.Sequential(*layers, _ACTIVATIONS[activation](channels))
        self.out = nn.Conv1d(channels, dim, 3)
        self.dim, self.hop_length = dim, int(math.prod(strides))
        beyond = self._receptive_field() - self.hop_length
        self.past = beyond if self.causal else beyond // 2
        self.future = beyond - self.past
        self._start()

    def forward(self, samples: Float[Tensor, "b 1 n"]) -> Float[Tensor, "b t d"]:
        latents: Tensor = self.out(self.layers(samples))
        return latents.transpose(1, 2)

    @torch.no_grad()
    def standardize(self, padded: Sequence[Float[Tensor, "b 1 n"]]) -> None:
        latents = torch.cat([self(samples).flatten(0, 1) for samples in padded])
        spread = latents.std(0, correction=0).clamp_min(1e-5)
        self.out.weight /= spread[:, None, None]
        bias = cast(Tensor, self.out.bias)
        bias.copy_((bias - latents.mean(0)) / spread)

    def _receptive_field(self) -> int:
        reach, spacing = 1, 1
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                reach += (module.kernel_size[0] - 1) * module.dilation[0] * spacing
                spacing *= module.stride[0]
        return reach

    def _start(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


@torch.no_grad()
def encode_blocks(encoder: Encoder, samples: Float[Tensor, "b 1 n"]) -> Float[Tensor, "b t d"]:
    """The latents of whole hops by a causal encoder, computed in blocks of one shape, each with its past.

    Kernels are chosen by the shape of their input and treat its ends differently, so the last bits of a latent depend
    on the length of the whole and on its own place. In blocks both are the same for a stream: see `EncoderStream`.
    """
    size = _block_frames(encoder) * encoder.hop_length
    frames = samples.shape[-1] // encoder.hop_length
    blocks = F.pad(samples, (encoder.past, -samples.shape[-1] % size)).unfold(-1, encoder.past + size, size)
    parts = [encoder(block.clone(memory_format=torch.contiguous_format)) for block in blocks.unbind(2)]
    return torch.cat(parts, dim=1)[:, :frames]


class EncoderStream:
    """A causal encoder as samples come: the latents of `encode_blocks`, bit for bit.

    At every push the block under way is computed anew from its beginning, with silence for what has not come yet.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self._frames = encoder, _block_frames(encoder)
        self._held = next(encoder.parameters()).new_zeros(1, 1, encoder.past)
        self._done = 0  # frames of this block that were given

    @torch.no_grad()
    def push(self, samples: Float[Tensor, "1 n"], *, last: bool = False) -> Float[Tensor, "t d"]:
        """The latents of a whole number of hops more; nothing is held back, so `last` changes nothing."""
        past, hop = self._encoder.past, self._encoder.hop_length
        width = past + self._frames * hop
        self._held = torch.cat([self._held, samples[None].to(self._held)], dim=-1)
        parts = [self._held.new_zeros(0, self._encoder.dim)]
        while (known := min(self._frames, (self._held.shape[-1] - past) // hop)) > self._done:
            block = F.pad(self._held[..., :width], (0, max(0, width - self._held.shape[-1])))
            parts.append(self._encoder(block.clone(memory_format=torch.contiguous_format))[0, self._done : known])
            self._done = known % self._frames
            if known == self._frames:
                self._held = self._held[..., self._frames * hop :].clone()
        return torch.cat(parts)


def _block_frames(encoder: Encoder) -> int:
    """Frames of a block: twice those that it repeats, so that the whole costs half as much again."""
    return max(8, 2 * math.ceil(encoder.past / encoder.hop_length))
