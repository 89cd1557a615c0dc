"""How close a resynthesis comes to the original.

Every item is judged alone; one that fails is counted and says why, and is never averaged in.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.types import Audio

SILENCE = 2.0**-16  # half a step of 16-bit audio: what never exceeds it is silence
FLOOR = 1e-5  # -100 dB, below which differences of mel magnitudes are not heard
MEL_RESOLUTIONS = (
    (0.032, 40),
    (0.064, 80),
    (0.128, 160),
)  # window in seconds, bands; at 16 kHz 512, 1024, 2048 samples
_STOI_SECONDS = (30 * 128 + 128) / 10_000  # 30 frames of 256 samples, half overlapping, at 10 kHz


class _NotScored(Exception):
    """Why an item has no score."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a batch: values [B] (float64), NaN where an item failed, and the reason of every failure by index."""

    values: Tensor
    failures: Mapping[int, str]

    @property
    def failed(self) -> int:
        return len(self.failures)

    @property
    def count(self) -> int:
        """Number of items that have a score."""
        return len(self.values) - self.failed

    @property
    def mean(self) -> float:
        """Mean over the items that have a score; NaN if there is none."""
        kept = [value for index, value in enumerate(self.values.tolist()) if index not in self.failures]
        return math.fsum(kept) / len(kept) if kept else math.nan

    @classmethod
    def join(cls, parts: Iterable[Scores]) -> Scores:
        """The scores of several batches as those of one, in order."""
        parts = list(parts)
        starts = accumulate((len(part.values) for part in parts), initial=0)
        failures = {
            start + i: why for start, part in zip(starts, parts, strict=False) for i, why in part.failures.items()
        }
        return cls(torch.cat([torch.empty(0, dtype=torch.float64), *(part.values for part in parts)]), failures)


def stoi(reference: Audio, estimate: Audio) -> Scores:
    """Short-time objective intelligibility, at most 1, higher is better (Taal et al. 2011), at 10 kHz by pystoi.

    Fails where less than 0.4 s of speech is left once pystoi has removed the silence, or where either signal is silent.
    """
    return _score(reference, estimate, lambda x, y, rate: _pystoi(x, y, rate, extended=False))


def estoi(reference: Audio, estimate: Audio) -> Scores:
    """Extended STOI, at most 1, higher is better (Jensen and Taal 2016); fails as `stoi` does."""
    return _score(reference, estimate, lambda x, y, rate: _pystoi(x, y, rate, extended=True))


def si_sdr(reference: Audio, estimate: Audio) -> Scores:
    """Scale-invariant signal-to-distortion ratio in dB, higher is better, of signals without their mean.

    Le Roux et al. 2019, eq. 5; infinite where the estimate is an exact multiple. Fails where either signal is silent.
    """
    return _score(reference, estimate, _si_sdr)


def mel_distance(reference: Audio, estimate: Audio) -> Scores:
    """Mean absolute difference of log-mel magnitudes in dB over three resolutions; 0 for equal audio, lower is better.

    The multi-scale mel distance of Kumar et al. 2023 (DAC), with windows fixed in seconds (`MEL_RESOLUTIONS`) and
    magnitudes relative to a full-scale sinusoid, floored at -100 dB.
    """
    return _score(reference, estimate, _mel_distance)


def mel_spectrogram(wave: Tensor, sample_rate: int, *, window: float, hop: float, bands: int, top: float) -> Tensor:
    """Mel magnitudes [bands, 1 + N // hop] of a waveform [N]: means of each band, at most 1 for a full-scale sinusoid.

    window, hop: seconds; the Hann window is zero-padded to a power of two, frame t is centred on sample t * hop.
    top: Hz of the upper edge of the highest band; bands beyond half the sample rate are zero.
    """
    size, step = round(window * sample_rate), round(hop * sample_rate)
    hann = torch.hann_window(size, dtype=wave.dtype)
    fft_size = 1 << (size - 1).bit_length()
    spectrum = torch.stft(wave, fft_size, step, size, hann, center=True, pad_mode="constant", return_complex=True)
    weights = _mel_filters(sample_rate, fft_size, bands, top).to(wave.dtype)
    return weights @ (spectrum.abs() * (2 / hann.sum()))


@lru_cache(maxsize=32)
def _mel_filters(sample_rate: int, fft_size: int, bands: int, top: float) -> Tensor:
    # triangles on the HTK mel scale; each sums to one, so that neither rate nor resolution moves the level
    highest = 2595 * math.log10(1 + top / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, bands + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.arange(fft_size // 2 + 1, dtype=torch.float64) * (sample_rate / fft_size)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clamp(min=0)
    return triangles / triangles.sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def _score(reference: Audio, estimate: Audio, judge: Callable[[Tensor, Tensor, int], float]) -> Scores:
    _require_comparable(reference, estimate)
    values = torch.full((len(reference),), math.nan, dtype=torch.float64)
    failures = {}
    for index in range(len(reference)):
        try:
            values[index] = judge(*_pair(reference, estimate, index), reference.sample_rate)
        except _NotScored as reason:
            failures[index] = str(reason)
    return Scores(values, failures)


def _require_comparable(reference: Audio, estimate: Audio) -> None:
    ours, theirs = (reference.sample_rate, len(reference)), (estimate.sample_rate, len(estimate))
    if ours != theirs:
        raise InputError(
            f"expected {ours[1]} items at {ours[0]} Hz to compare with, got {theirs[1]} at {theirs[0]} Hz",
            hint="resample one of the two before they are compared",
        )
    if reference.samples.shape[1] != 1 or estimate.samples.shape[1] != 1:
        raise InputError("expected mono audio, got more channels", hint="mix the channels before they are compared")


def _pair(reference: Audio, estimate: Audio, index: int) -> tuple[Tensor, Tensor]:
    x, y = (audio.waveform(index)[0].detach().cpu().double() for audio in (reference, estimate))
    if len(x) != len(y):
        raise _NotScored(f"{len(x)} samples in the original, {len(y)} in the resynthesis")
    if not len(x):
        raise _NotScored("no samples")
    if not bool(x.isfinite().all() and y.isfinite().all()):
        raise _NotScored("samples that are not finite numbers")
    return x, y


def _require_sound(x: Tensor, y: Tensor) -> None:
    for name, wave in (("original", x), ("resynthesis", y)):
        if float((wave - wave.mean()).abs().max()) < SILENCE:
            raise _NotScored(f"the {name} is silent")


def _si_sdr(x: Tensor, y: Tensor, _: int) -> float:
    _require_sound(x, y)
    x, y = x - x.mean(), y - y.mean()
    target = x * (x.dot(y) / x.dot(x))
    return float(10 * torch.log10(target.square().sum() / (y - target).square().sum()))


def _mel_distance(x: Tensor, y: Tensor, sample_rate: int) -> float:
    return math.fsum(_log_mel_gap(x, y, sample_rate, *setting) for setting in MEL_RESOLUTIONS) / len(MEL_RESOLUTIONS)


def _log_mel_gap(x: Tensor, y: Tensor, sample_rate: int, window: float, bands: int) -> float:
    ours, theirs = (
        mel_spectrogram(wave, sample_rate, window=window, hop=window / 4, bands=bands, top=sample_rate / 2)
        for wave in (x, y)
    )
    return float(20 * (ours.clamp(min=FLOOR).log10() - theirs.clamp(min=FLOOR).log10()).abs().mean())


def _pystoi(x: Tensor, y: Tensor, sample_rate: int, *, extended: bool) -> float:
    from pystoi import stoi as judge

    _require_sound(x, y)
    too_short = _NotScored("less than 0.4 s of speech")
    if len(x) / sample_rate <= _STOI_SECONDS:
        raise too_short
    with warnings.catch_warnings(record=True) as caught, _fixed_noise():
        warnings.simplefilter("always")
        value = float(judge(x.numpy(), y.numpy(), sample_rate, extended=extended))
    # pystoi answers a clip that is too short with 1e-5 and a warning
    if any("Not enough STFT frames" in str(warning.message) for warning in caught):
        raise too_short
    if not math.isfinite(value):
        raise _NotScored(f"pystoi answers {value}")
    return value


@contextmanager
def _fixed_noise() -> Iterator[None]:
    # pystoi adds rounding-sized noise from numpy's global generator to ESTOI: the same audio must give the same bits
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
