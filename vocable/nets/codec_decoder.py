"""The decoder of a trainable codec: latents at the codec's frame rate to a waveform, by any of the generators."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.errors import InputError
from vocable.nets.generators import build_generator

_BLOCK = 8  # frames that a stream computes at a time


class CodecDecoder(nn.Module):
    """Quantized latents, one per frame -> waveforms, whose samples depend on a known number of frames.

    Generators want some 100 frames a second, codecs have fewer: a linear map makes `subframes` frames of each latent.

    config: {"dim": of the latents, "subframes", "generator": see `build_generator`}.
    past, future: frames before and after a frame on which its samples depend.
    InputError for a configuration that is none.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        dim, self.subframes = int(config["dim"]), int(config["subframes"])
        if min(dim, self.subframes) < 1:
            raise InputError(f"expected the configuration of a codec's decoder, got {dict(config)}")
        self.generator = build_generator(config["generator"])
        self.spread = nn.Linear(dim, self.subframes * self.generator.dim)
        self.hop_length = self.subframes * self.generator.hop_length
        self.past = math.ceil(self.generator.past / self.subframes)
        self.future = math.ceil(self.generator.future / self.subframes)

    def forward(self, latents: Float[Tensor, "b t z"]) -> Float[Tensor, "b n"]:
        """Waveforms of n = t hop samples."""
        frames: Tensor = self.spread(latents).unflatten(2, (self.subframes, -1)).flatten(1, 2)
        waveform: Tensor = self.generator(frames.transpose(1, 2))
        return waveform

    def prepared(self, dtype: torch.dtype = torch.float32) -> CodecDecoder:
        """A copy for use, see `Generator.prepared`."""
        other = copy.copy(self)
        other._modules = {**self._modules, "generator": self.generator.prepared(dtype)}
        return other


class DecoderStream:
    """A causal decoder as latents come: the samples of the whole to rounding, whatever the pieces the same bits.

    Blocks of `_BLOCK` frames are computed with the frames that they look back at, anew at every push, with zeros for
    what has not come yet; so shapes depend on the place alone, and nothing is kept inside the modules.
    InputError for a decoder that looks ahead.
    """

    def __init__(self, decoder: CodecDecoder) -> None:
        if decoder.future:
            raise InputError(f"expected a causal decoder, got one that looks {decoder.future} frames ahead")
        self._decoder = decoder
        self._held = decoder.spread.weight.new_zeros(0, decoder.spread.in_features)
        self._lead = 0  # held frames before the block under way
        self._done = 0  # frames of it that were given

    @torch.no_grad()
    def push(self, latents: Float[Tensor, "t z"], *, last: bool = False) -> Float[Tensor, " n"]:
        """The samples of these frames; nothing is held back, so `last` changes nothing."""
        self._held = torch.cat([self._held, latents])
        parts, hop = [self._held.new_zeros(0)], self._decoder.hop_length
        while (known := min(_BLOCK, len(self._held) - self._lead)) > self._done:
            width = self._lead + _BLOCK
            block = F.pad(self._held[:width], (0, 0, 0, max(0, width - len(self._held))))
            waveform = self._decoder(block[None].clone(memory_format=torch.contiguous_format))[0]
            parts.append(waveform[(self._lead + self._done) * hop : (self._lead + known) * hop])
            self._done = known
            if known == _BLOCK:
                self._next_block(width)
        return torch.cat(parts)

    def _next_block(self, width: int) -> None:
        self._lead = min(self._decoder.past, width)
        self._held, self._done = self._held[width - self._lead :].clone(), 0
