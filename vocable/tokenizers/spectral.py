"""Features without weights: log-mel spectra and mel-frequency cepstra, the same bits alone, in any batch, in any window."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.nets.spectral import ExactMatrix, dct_matrix, deltas, fft_length, frame, log_mel, mel_filters
from vocable.types import Audio, Features

FLOOR = 1e-9


class LogMel:
    def __init__(self, *, sample_rate: int = 16000, hop_length: int = 160, num_bands: int = 80,
                 window_length: int = 400, floor: float = FLOOR, low: float = 60.0) -> None:
        self.sample_rate, self.hop_length, self.num_bands, self.floor = sample_rate, hop_length, num_bands, floor
        self.window_length = window_length
        self.window_shape = torch.hann_window(window_length)
        self.filters = mel_filters(sample_rate, fft_length(window_length), num_bands, low, sample_rate / 2)
        self._exact = ExactMatrix(self.filters)
        self.dim = num_bands

    def extract(self, audio: Audio) -> Features:
        frames = frame(audio.samples[:, 0].float(), audio.lengths, self.window_length, self.hop_length)
        mel = log_mel(frames, self.window_shape, self._exact, self.floor)
        return Features(mel[:, None], -(-audio.lengths // self.hop_length), self.hop_length, self.sample_rate)
