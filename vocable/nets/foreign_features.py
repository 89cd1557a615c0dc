"""What networks of transformers' classes take instead of samples, and what their frames know of their places."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

KALDI_WINDOW, MEL_HOP, WHISPER_WINDOW = 400, 160, 400


class KaldiMel:
    """Log mel energies as Kaldi has them, each band of zero mean and unit variance over the utterance.

    The values of transformers' SeamlessM4TFeatureExtractor, of all frames at once.
    """

    def __init__(self, bands: int, sample_rate: int) -> None:
        from transformers.audio_utils import mel_filter_bank, window_function

        filters = mel_filter_bank(
            257, bands, 20, sample_rate // 2, sample_rate, mel_scale="kaldi", triangularize_in_mel_space=True
        )
        self.filters = torch.from_numpy(filters)
        self.taper = torch.from_numpy(window_function(KALDI_WINDOW, "povey", periodic=False).astype(np.float64))

    def __call__(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b t m"]:
        frames = (samples.float() * 2**15).double().unfold(1, KALDI_WINDOW, MEL_HOP)
        frames = frames - frames.mean(-1, keepdim=True)
        frames = torch.cat([(1 - 0.97) * frames[..., :1], frames[..., 1:] - 0.97 * frames[..., :-1]], dim=-1)
        # upstream rounds the spectrum to single precision
        spectrum = torch.fft.rfft(frames * self.taper.to(samples.device), 512).to(torch.complex64)
        power = spectrum.real.double().square() + spectrum.imag.double().square()
        bands: Tensor = (power @ self.filters.to(samples.device)).clamp_min(2.0**-23).log().float().double()
        variance, mean = torch.var_mean(bands, dim=1, keepdim=True)
        return ((bands - mean) / (variance + 1e-7).sqrt()).float()


class WhisperMel:
    """Log mel power, from 8 decades below the utterance's loudest entry up, as Whisper has it.

    The values of transformers' WhisperFeatureExtractor.
    """

    def __init__(self, bands: int, sample_rate: int) -> None:
        from transformers.audio_utils import mel_filter_bank

        filters = mel_filter_bank(
            WHISPER_WINDOW // 2 + 1, bands, 0.0, sample_rate / 2, sample_rate, norm="slaney", mel_scale="slaney"
        )
        self.filters = torch.from_numpy(filters).float().T.contiguous()

    def __call__(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b m t"]:
        window = torch.hann_window(WHISPER_WINDOW, device=samples.device)
        spectrum = torch.stft(samples.float(), WHISPER_WINDOW, MEL_HOP, window=window, return_complex=True)
        power = spectrum[..., :-1].abs().square().contiguous()
        bands = (self.filters.to(samples.device) @ power).clamp_min(1e-10).log10()
        return (torch.maximum(bands, bands.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def relative_positions(frames: int, like: Float[Tensor, "b t d"]) -> Float[Tensor, "1 p d"]:
    """Sinusoids of the p = 2 frames - 1 distances, the largest first (Dai et al. 2019, "Transformer-XL").

    Computed for each call, because upstream keeps them in the module, where threads would share them.
    """
    width = like.shape[-1]
    distance = torch.arange(frames - 1, -frames, -1, device=like.device).float()
    rates = torch.exp(torch.arange(0, width, 2, device=like.device).float() * -(math.log(10000.0) / width))
    angles = distance[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[None].to(like.dtype)


def rotary_positions(
    frames: int, width: int, base: float, like: Float[Tensor, "b t d"]
) -> Float[Tensor, "2 t 1 1 width"]:
    """Cosines and sines of rotary embeddings (Su et al. 2021, "RoFormer"), for heads of this width; see above."""
    rates = 1.0 / (base ** (torch.arange(0, width, 2, device=like.device).float() / width))
    angles = torch.arange(frames, device=like.device).float()[:, None] * rates
    angles = angles.repeat(1, 2)[:, None, None]
    return torch.stack([angles.cos(), angles.sin()]).to(like.dtype)
