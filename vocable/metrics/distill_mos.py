"""The network of Distill-MOS: convolutions over a complex spectrum, a transformer, attention over time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn

SAMPLES = 122_880  # 7.68 s at 16 kHz, 384 frames after the convolutions
HOP = 16_000  # samples between stretches, at most
_CHANNELS = (2, 64, 64, 128, 256, 256, 256)
_BINS = 4  # of frequency, that convolutions leave of 161
_WIDTH = 200
_NAMES = {
    "cnn.cnn.": "convolutions.",
    "transformer_pool_attn.norm_input.": "norms.0.",
    "transformer_pool_attn.transformer.norm.": "norms.1.",
    "transformer_pool_attn.transformer.linear_proj.": "narrow.",
    "transformer_pool_attn.transformer.position_encoding.pe": "positions",
    "transformer_pool_attn.transformer.transformer_encoder.": "transformer.",
    "transformer_pool_attn.norm_trans.": "norm.",
    "transformer_pool_attn.pool.linear1.": "attention.0.",
    "transformer_pool_attn.pool.linear2.": "attention.2.",
    "transformer_pool_attn.pool.linear3.": "answer.",
}


class DistillMOS(nn.Module):
    """Waveforms [B, 122880] to scores [B] from 1 to 5 (Stahl and Gamper 2025)."""

    positions: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, (came, goes) in enumerate(pairwise(_CHANNELS)):
            stride = (2 if index else 1, 2 if index == len(_CHANNELS) - 2 else 1)
            layers += [nn.Conv2d(came, goes, 3, stride, padding=(0, 1)), nn.LeakyReLU(0.1)]
        self.convolutions = nn.Sequential(*layers)
        self.norms = nn.Sequential(*(nn.BatchNorm1d(_CHANNELS[-1] * _BINS) for _ in range(2)))
        self.narrow = nn.Linear(_CHANNELS[-1] * _BINS, _WIDTH)
        self.register_buffer("positions", torch.zeros(1, 384, _WIDTH))
        layer = nn.TransformerEncoderLayer(_WIDTH, nhead=8, dim_feedforward=2 * _WIDTH, dropout=0.0, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, num_layers=7, enable_nested_tensor=False)
        self.norm = nn.BatchNorm1d(_WIDTH)
        self.attention = nn.Sequential(nn.Linear(_WIDTH, 2 * _WIDTH), nn.ReLU(), nn.Linear(2 * _WIDTH, 1))
        self.answer = nn.Linear(_WIDTH, 1)

    @classmethod
    def of(cls, published: Mapping[str, Tensor]) -> Self:
        """The network with weights by the names under which they are published, to be used, not trained."""
        network, state = cls(), {}
        for name, tensor in published.items():
            begin = next(begin for begin in _NAMES if name.startswith(begin))
            state[_NAMES[begin] + name.removeprefix(begin)] = tensor
        network.load_state_dict(state)
        return network.eval().requires_grad_(requires_grad=False)

    def forward(self, waves: Tensor) -> Tensor:
        level = waves.abs().amax(dim=1, keepdim=True) + 1e-8
        maps = self.convolutions(_compressed_spectrum(waves / level))
        x = self.norms(maps.flatten(1, 2)).transpose(1, 2)
        x = self.transformer(self.narrow(x) + self.positions)
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        shares = self.attention(x).softmax(dim=1)
        scores: Tensor = 1 + 4 * self.answer((shares * x).sum(dim=1)).sigmoid()
        return scores[:, 0]

    def opinion(self, wave: Tensor) -> float:
        """The mean over stretches of a waveform [n] of any length."""
        wave = nn.functional.pad(wave, (0, max(0, SAMPLES - len(wave))))
        # one at a time: a long recording must not take more memory than a short one
        scores = [float(self(wave[None, start : start + SAMPLES])) for start in starts(len(wave))]
        return math.fsum(scores) / len(scores)


def starts(samples: int) -> list[int]:
    """First samples of the stretches of a recording of so many, which is not shorter than one."""
    beyond = samples - SAMPLES
    places = torch.linspace(0, 1, math.ceil(beyond / HOP) + 1, dtype=torch.float64) * beyond
    return [int(place) for place in places.tolist()]


def _compressed_spectrum(waves: Tensor) -> Tensor:
    """Spectra [B, 2, 161, 768], real and imaginary parts, magnitudes to the power of 0.3."""
    padded = nn.functional.pad(waves, (80, 80), mode="reflect")
    window = torch.hann_window(320)
    spectrum = torch.stft(padded, 320, 160, window=window, center=False, return_complex=True)
    parts = torch.view_as_real(spectrum)
    magnitude = parts.square().sum(dim=-1, keepdim=True).sqrt().clamp(min=1e-12)
    return (magnitude**0.3 * parts / magnitude).permute(0, 3, 1, 2)
