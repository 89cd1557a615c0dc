"""Speakers of other sizes: spectra with their frequencies warped (Jaitly and Hinton 2013, "Vocal Tract Length
Perturbation").
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_LOWEST_HZ, _HIGHEST_HZ = 20.0, 8000.0  # of Kaldi's mel bands at 16 kHz
_FORMANTS_HZ = 4800.0  # their F_hi: the formants that matter lie below


def warped(mel: Float[Tensor, "b s m"], factors: Float[Tensor, " b"]) -> Float[Tensor, "b s m"]:
    """Log-mel spectra whose every frequency f is heard at f * factor; near the upper end less, so that it stays.

    Harmonics move with the formants: the voice of a smaller speaker (factor > 1) is a higher one, too. Between bands
    spectra are interpolated.
    """
    places = _places(mel.shape[-1], factors)
    below = places.floor().clamp(0, mel.shape[-1] - 2)
    share = (places - below).clamp(0, 1)
    bands = torch.arange(mel.shape[-1], device=mel.device)[:, None]
    first = (bands == below[:, None]) * (1 - share[:, None])
    second = (bands == below[:, None] + 1) * share[:, None]
    return mel @ (first + second).to(mel.dtype)


def _places(bands: int, factors: Float[Tensor, " b"]) -> Float[Tensor, "b m"]:
    """Where among the bands each band of a warped spectrum is found in the original, as fractions."""
    low, high = _mel(torch.tensor([_LOWEST_HZ, _HIGHEST_HZ], device=factors.device))
    step = (high - low) / (bands + 1)
    centres = _hertz(low + step * torch.arange(1, bands + 1, device=factors.device))
    found: Tensor = (_mel(_unwarped(centres[None], factors[:, None])) - low) / step - 1
    return found


def _unwarped(heard: Float[Tensor, "1 m"], factors: Float[Tensor, "b 1"]) -> Float[Tensor, "b m"]:
    """The frequency that is heard at another: the inverse of Jaitly and Hinton's piecewise linear map."""
    knee = _FORMANTS_HZ * factors.clamp_max(1)  # heard; its original is knee / factor
    above = _HIGHEST_HZ - (_HIGHEST_HZ - knee / factors) / (_HIGHEST_HZ - knee) * (_HIGHEST_HZ - heard)
    return torch.where(heard <= knee, heard / factors, above)


def _mel(hertz: Tensor) -> Tensor:
    return 1127 * torch.log1p(hertz / 700)


def _hertz(mel: Tensor) -> Tensor:
    return 700 * torch.expm1(mel / 1127)
