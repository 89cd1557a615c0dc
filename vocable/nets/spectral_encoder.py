"""An encoder of codecs that is quick on processors: spectra of known stretches, then blocks at the frame rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.errors import InputError
from vocable.nets.codec_encoder import Encoder
from vocable.nets.istft_generator import ConvNeXtBlock, Pointwise

_FLOOR = 1e-5  # of magnitudes, -100 dB, as in the losses
_MIDDLE, _SPREAD = -7.0, 2.5  # of log magnitudes of speech, about
_COMPRESSION = 0.3  # power to which magnitudes are raised beside their phases


class SpectralEncoder(Encoder):
    """The mirror of the iSTFT generator: spectra, and blocks at the frame rate.

    Each frame has `subframes` spectra, Hann windows of `fft_size` samples that lie a subframe apart. Their logarithms,
    and real and imaginary parts whose magnitudes are compressed, go through a linear map, ConvNeXt blocks at the frame
    rate (Liu et al. 2022; Siuzdak 2023, "Vocos", has them on the other side) and a linear map to the latents.
    Nothing is padded: each block loses the frames that do not have all their neighbours. Latents have one length, so
    that nothing is won by making them smaller than the codebooks that follow them.

    config: {"kind": "spectral", "hop_length", "subframes", "fft_size", "channels" of the blocks, "width" within them,
    "depth", "kernel", "dim" of the latents, "causal"}.
    InputError for a configuration that is none.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        names = ("hop_length", "subframes", "fft_size", "channels", "width", "depth", "kernel", "dim")
        hop, subframes, fft_size, channels, width, depth, kernel, dim = numbers = [int(config[name]) for name in names]
        if min(numbers) < 1 or hop % subframes or fft_size % 2 or fft_size * subframes < hop:
            raise InputError(f"expected the configuration of a spectral encoder, got {dict(config)}")
        self.causal = bool(config["causal"])
        self.hop_length, self.dim, self._subframes, self._fft_size = hop, dim, subframes, fft_size
        self.into = Pointwise(subframes * 3 * (fft_size // 2 + 1), channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.convnext = nn.ModuleList(
            ConvNeXtBlock(channels, width, kernel, 1 / depth, causal=self.causal) for _ in range(depth)
        )
        self.final_layer_norm = nn.LayerNorm(channels, eps=1e-6)
        self.out = nn.Linear(channels, dim)
        self._sides = (kernel - 1, 0) if self.causal else (kernel // 2, kernel - 1 - kernel // 2)
        beyond = max(0, fft_size - hop // subframes)  # samples of the spectra of a frame that are not its own
        before = beyond if self.causal else beyond // 2
        self.past = before + depth * self._sides[0] * hop
        self.future = beyond - before + depth * self._sides[1] * hop
        self.apply(_start)

    def forward(self, samples: Float[Tensor, "b 1 n"]) -> Float[Tensor, "b t d"]:
        return F.layer_norm(self._mapped(samples), (self.dim,))

    @torch.no_grad()
    def standardize(self, padded: Sequence[Float[Tensor, "b 1 n"]]) -> None:
        """As told there, but for their length."""
        latents = torch.cat([self._mapped(samples).flatten(0, 1) for samples in padded])
        spread = latents.std(0, correction=0).clamp_min(1e-5)
        self.out.weight /= spread[:, None]
        self.out.bias.copy_((self.out.bias - latents.mean(0)) / spread)

    def _mapped(self, samples: Float[Tensor, "b 1 n"]) -> Float[Tensor, "b t d"]:
        weight = self.norm.weight
        hidden = self.norm(self.into(self._spectra(samples[:, 0].float()).to(weight.dtype)).to(weight.dtype))
        first, last = self._sides
        for block in self.convnext:
            # outputs at the ends have seen padding
            hidden = block(hidden)[:, first : hidden.shape[1] - last]
        latents: Tensor = self.out(self.final_layer_norm(hidden))
        return latents

    def _spectra(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b t s"]:
        """What is seen of each frame; in float32, of which there is a Fourier transform. Nothing here is trained."""
        step = self.hop_length // self._subframes
        with torch.autocast(samples.device.type, enabled=False), torch.no_grad():
            taper = torch.hann_window(self._fft_size, device=samples.device)
            spectra = torch.fft.rfft(samples.unfold(1, self._fft_size, step) * (taper * 2 / taper.sum()))
            magnitudes = spectra.abs().clamp_min(_FLOOR)
            logarithms = (magnitudes.log() - _MIDDLE) / _SPREAD
            compressed = torch.view_as_real(spectra * magnitudes ** (_COMPRESSION - 1))
            seen = torch.cat([logarithms, compressed.flatten(2)], dim=2)
            stacked: Tensor = seen.unflatten(1, (-1, self._subframes)).flatten(2)
            return stacked


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv1d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
