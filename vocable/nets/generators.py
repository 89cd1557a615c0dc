"""Generators: frames to waveforms, each with a finite and known receptive field; whole, or stretch by stretch."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vocable.errors import InputError


class Generator(nn.Module, ABC):
    """Frames -> samples. Beyond the ends every layer sees zeros.

    dim: channels of the frames.
    hop_length: samples per frame.
    past, future: the samples of a frame depend on that many frames before and after it, exactly; causal generators
        have a future of 0.
    """

    dim: int
    hop_length: int
    past: int
    future: int

    @abstractmethod
    def forward(self, frames: Float[Tensor, "b d t"]) -> Float[Tensor, "b n"]:
        """Waveforms of n = t x hop_length samples."""

    @abstractmethod
    def prepared(self, dtype: torch.dtype = torch.float32) -> Generator:
        """A copy for use without gradients, its weights laid out for its device; what to save is the original.

        dtype: of the products that take the time, float32 or bfloat16. Waveforms are float32 in any case.
        """


def build_generator(config: Mapping[str, Any]) -> Generator:
    """The generator that plain values describe, with random weights.

    config: "kind" is "istft" or "hifigan", the others are the arguments of `ISTFTGenerator` or `HiFiGANGenerator`.
    InputError for an unknown kind, and for arguments that are missing, unknown or out of range.
    """
    from vocable.nets.hifigan import HiFiGANGenerator
    from vocable.nets.istft_generator import ISTFTGenerator

    kinds: dict[str, type[Generator]] = {"istft": ISTFTGenerator, "hifigan": HiFiGANGenerator}
    settings = dict(config)
    kind = settings.pop("kind", None)
    if kind not in kinds:
        raise InputError(f"expected a generator among {', '.join(kinds)}, got {kind!r}")
    try:
        inspect.signature(kinds[kind]).bind(**settings)
    except TypeError as problem:
        raise InputError(f"expected the settings of a generator {kind}, got others ({problem})") from problem
    return kinds[kind](**settings)


def render(
    generator: Generator, frames: Callable[[int, int], Float[Tensor, "1 d t"]], total: int, stretch: int
) -> Iterator[Float[Tensor, " n"]]:
    """The samples of `total` frames, those of `stretch` frames at a time, in memory of a stretch and its context.

    frames(first, stop) gives the frames first..stop - 1. The samples are those of all frames at once, to rounding.
    InputError unless stretch is at least 1.
    """
    if stretch < 1:
        raise InputError(f"expected a stretch of 1 frame or more, got {stretch}")
    for first in range(0, total, stretch):
        yield render_stretch(generator, frames, total, first, min(total, first + stretch))


@torch.no_grad()
def render_stretch(
    generator: Generator, frames: Callable[[int, int], Float[Tensor, "1 d t"]], total: int, first: int, stop: int
) -> Float[Tensor, " n"]:
    """The samples of the frames first..stop - 1 of `total`: stretches may be rendered in any order, side by side."""
    start, end = max(0, first - generator.past), min(total, stop + generator.future)
    waveform: Tensor = generator(frames(start, end))[0]
    hop = generator.hop_length
    return waveform[(first - start) * hop : (stop - start) * hop]
