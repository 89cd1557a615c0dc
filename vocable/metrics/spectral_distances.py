"""How far apart two short-time spectra are: at several resolutions, in dB per bin, and as cepstra.

Frames are compared one by one as they stand: a delay counts as a difference. Windows and hops are fixed in seconds, so
that a value means the same at any rate; magnitudes are relative to a sinusoid of full scale and floored at -100 dB.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from vocable.metrics.reconstruction import FLOOR, NotScored, Scores, mel_spectrogram, require_sound, score_each
from vocable.types import Audio

STFT_RESOLUTIONS = ((0.01, 0.002), (0.025, 0.005), (0.05, 0.01))
"""Window and hop in seconds: 240, 600 and 1200 samples at 24 kHz, where Yamamoto et al. 2020 use them."""

LSD_WINDOW, LSD_HOP = 0.032, 0.008  # seconds
CEPSTRUM_WINDOW, CEPSTRUM_HOP = 0.032, 0.005  # seconds
CEPSTRUM_BANDS, CEPSTRUM_ORDER, CEPSTRUM_TOP = 40, 24, 8000.0  # mel bands up to so many Hz


def stft_distance(reference: Audio, estimate: Audio) -> Scores:
    """Multi-resolution STFT distance; 0 for equal audio, lower is better, no unit; level and delay matter.

    The mean over `STFT_RESOLUTIONS` of | |X| - |Y| | / | |X| | (Frobenius norms) + mean |ln |X| - ln |Y||, the spectral
    convergence and the log-magnitude distance of Yamamoto et al. 2020 (Parallel WaveGAN), eq. 4 to 6. Hann windows,
    zero-padded to the next power of two. Fails where the original is silent, of which the first has no share.
    """
    return score_each(reference, estimate, _stft_distance)


def log_spectral_distance(reference: Audio, estimate: Audio) -> Scores:
    """Log-spectral distance in dB; 0 for equal audio, lower is better; level and delay matter.

    The mean over frames of sqrt(mean over bins of (20 lg |X| - 20 lg |Y|)^2) (Gray and Markel 1976), in windows of
    32 ms every 8 ms. Silence is a spectrum at the floor, and scored.
    """
    return score_each(reference, estimate, _log_spectral_distance)


def mel_cepstral_distortion(reference: Audio, estimate: Audio) -> Scores:
    """Mel-cepstral distortion in dB; 0 for equal audio, lower is better; a delay matters, the level does not.

    The mean over frames of (10 / ln 10) sqrt(2 sum over d = 1..24 of (c_d - c'_d)^2) (Kubichek 1993), frame against
    frame without warping of time, silent frames included. The cepstrum is that of 40 mel bands up to 8 kHz, in windows
    of 32 ms every 5 ms: c_d = (2 / 40) sum over b = 0..39 of ln M_b cos(pi d (b + 1/2) / 40), so that ln M_b = c_0 +
    sum of c_d cos(...), as in a mel-cepstral synthesis filter. It is therefore the distance in dB, root mean square
    over bands, of smooth mel spectra without their level. Cepstra of another scale, order or make have other values.
    Fails where either signal is silent.
    """
    return score_each(reference, estimate, _mel_cepstral_distortion)


def cepstrum(mel: Tensor) -> Tensor:
    """Cepstral coefficients [24, T] of orders 1 to 24 from mel magnitudes [40, T], as the distortion takes them."""
    return _cosines() @ mel.clamp(min=FLOOR).log()


@lru_cache(maxsize=1)
def _cosines() -> Tensor:
    order = torch.arange(1, CEPSTRUM_ORDER + 1, dtype=torch.float64)[:, None]
    band = torch.arange(CEPSTRUM_BANDS, dtype=torch.float64) + 0.5
    return torch.cos(math.pi / CEPSTRUM_BANDS * order * band) * (2 / CEPSTRUM_BANDS)


def _stft_distance(x: Tensor, y: Tensor, sample_rate: int) -> float:
    gaps = [_stft_gap(x, y, sample_rate, *resolution) for resolution in STFT_RESOLUTIONS]
    return math.fsum(gaps) / len(gaps)


def _stft_gap(x: Tensor, y: Tensor, sample_rate: int, window: float, hop: float) -> float:
    ours, theirs = _magnitudes(x, y, sample_rate, window, hop)
    if float(ours.max()) <= FLOOR:
        raise NotScored("the original is silent")
    convergence = (ours - theirs).square().sum().sqrt() / ours.square().sum().sqrt()
    return float(convergence + (ours.log() - theirs.log()).abs().mean())


def _log_spectral_distance(x: Tensor, y: Tensor, sample_rate: int) -> float:
    ours, theirs = _magnitudes(x, y, sample_rate, LSD_WINDOW, LSD_HOP)
    return float(20 * (ours.log10() - theirs.log10()).square().mean(0).sqrt().mean())


def _mel_cepstral_distortion(x: Tensor, y: Tensor, sample_rate: int) -> float:
    require_sound(x, y)
    top = min(CEPSTRUM_TOP, sample_rate / 2)
    ours, theirs = (
        cepstrum(
            mel_spectrogram(z, sample_rate, window=CEPSTRUM_WINDOW, hop=CEPSTRUM_HOP, bands=CEPSTRUM_BANDS, top=top)
        )
        for z in (x, y)
    )
    return float(10 / math.log(10) * (2 * (ours - theirs).square().sum(0)).sqrt().mean())


def _magnitudes(x: Tensor, y: Tensor, sample_rate: int, window: float, hop: float) -> Tensor:
    """Magnitudes [2, bins, 1 + N // hop], at least the floor; frame t is centred on sample t * hop."""
    size, step = max(1, round(window * sample_rate)), max(1, round(hop * sample_rate))
    hann = torch.hann_window(size, dtype=torch.float64)
    fft_size = 1 << (size - 1).bit_length()
    waves = torch.stack([x, y])
    spectra = torch.stft(waves, fft_size, step, size, hann, center=True, pad_mode="constant", return_complex=True)
    return (spectra.abs() * (2 / hann.sum())).clamp(min=FLOOR)
