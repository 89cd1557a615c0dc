"""A constant delay between two recordings, found and taken away: codecs and other programs have delays of their own."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vocable.metrics.reconstruction import mel_spectrogram, require_comparable
from vocable.types import Audio

VERSION = 1
"""Grows whenever other delays are found."""

ALIKE = 0.5
"""Correlation of two waveforms from which on one is taken for a copy of the other, with whatever came to it."""

_WINDOW, _HOP, _BANDS, _TOP = 0.016, 0.001, 20, 4000.0  # seconds, and mel bands up to so many Hz
_QUIET = 1e-4  # -80 dB: below it, the noise of one recording is not the other's


def aligned(reference: Audio, estimate: Audio, max_shift: float) -> Audio:
    """The estimate moved by a constant delay of each item, and cut or filled with zeros to the reference's lengths.

    The delay, within +-`max_shift` seconds, is that at which the waveforms correlate most, whatever their sign, if they
    do by half at least. Parametric codecs and vocoders keep the spectrum and not the phase: their waveforms correlate
    at random, and theirs is the delay at which levels of mel bands correlate most, to 1 ms, within which the waveforms
    decide. Of equal ones it is the smallest. No metric calls it. InputError as metrics raise it.
    """
    require_comparable(reference, estimate)
    rate = reference.sample_rate
    pairs = [[audio.waveform(index)[0] for audio in (reference, estimate)] for index in range(len(reference))]
    delays = [delay(x.cpu().double(), y.cpu().double(), rate, max_shift) for x, y in pairs]
    return Audio.of([_moved(y, late, len(x)) for (x, y), late in zip(pairs, delays, strict=True)], rate)


def delay(x: Float[Tensor, " n"], y: Float[Tensor, " m"], sample_rate: int, max_shift: float) -> int:
    """Samples by which y comes after x, as `aligned` finds them."""
    most = round(max_shift * sample_rate)
    waves = _correlation(x[None], y[None], most).abs()
    if float(waves.max()) >= ALIKE * float(x.norm() * y.norm()):
        return _nearest_peak(waves, most)
    step = max(1, round(_HOP * sample_rate))
    steps = most // step
    late = step * _nearest_peak(_correlation(_levels(x, sample_rate), _levels(y, sample_rate), steps), steps)
    first = max(0, most + late - step)
    return first - most + int(waves[first : most + late + step + 1].argmax())


def _correlation(x: Float[Tensor, "b n"], y: Float[Tensor, "b m"], most: int) -> Float[Tensor, " t"]:
    """Cross-correlation, summed over rows, at delays of y from -most to most."""
    size = 1 << (x.shape[1] + y.shape[1] + most).bit_length()
    spectrum = torch.fft.rfft(x, size).conj() * torch.fft.rfft(y, size)
    found = torch.fft.irfft(spectrum, size).sum(0)
    return torch.cat([found[size - most :], found[: most + 1]])


def _nearest_peak(found: Float[Tensor, " t"], most: int) -> int:
    """The delay of the largest value, the smallest of equal ones."""
    delays = sorted(range(-most, most + 1), key=abs)
    return delays[int(found[[most + late for late in delays]].argmax())]


def _levels(wave: Float[Tensor, " n"], sample_rate: int) -> Float[Tensor, "b t"]:
    """Logarithms of mel magnitudes, without the mean of each band."""
    top = min(_TOP, sample_rate / 2)
    mel = mel_spectrogram(wave, sample_rate, window=_WINDOW, hop=_HOP, bands=_BANDS, top=top)
    levels = mel.clamp(min=_QUIET).log()
    return levels - levels.mean(1, keepdim=True)


def _moved(wave: Tensor, late: int, length: int) -> Tensor:
    moved = torch.nn.functional.pad(wave, (max(0, -late), 0))[max(0, late) :][:length]
    return torch.nn.functional.pad(moved, (0, length - len(moved)))
