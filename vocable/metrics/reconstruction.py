"""How close a resynthesis comes to the original, as intelligibility, as a ratio of energies and as a mel spectrum.

Every item is judged alone, sample by sample as it stands: nothing is aligned (`alignment` is for that) or brought to a
level unless a metric says so of itself. One that fails is counted and says why, and is never averaged in.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from operator import mul

import numpy as np
import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.nets.threads import one_thread_each
from vocable.types import Audio

SILENCE = 2.0**-16  # half a step of 16-bit audio: what never exceeds it is silence
FLOOR = 1e-5  # -100 dB, below which differences of mel magnitudes are not heard
MEL_RESOLUTIONS = (
    (0.032, 40),
    (0.064, 80),
    (0.128, 160),
)  # window in seconds, bands; at 16 kHz 512, 1024, 2048 samples
_STOI_SECONDS = (30 * 128 + 128) / 10_000  # 30 frames of 256 samples, half overlapping, at 10 kHz


_FILTER = 512  # taps of the filter that SDR forgives


class NotScored(Exception):
    """Why an item has no score: what a judge raises, `score_each` counts."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a batch: values [B] (float64), NaN where an item failed, and the reason of every failure by index.

    weights: [B] what each item counts in a mean, such as the words of which its score is the share that is wrong; None
    where all count alike. Those of failed items are not looked at.
    """

    values: Tensor
    failures: Mapping[int, str]
    weights: Tensor | None = None

    @property
    def failed(self) -> int:
        return len(self.failures)

    @property
    def count(self) -> int:
        """Number of items that have a score."""
        return len(self.values) - self.failed

    @property
    def mean(self) -> float:
        """Mean over the items that have a score, by their weights if they have any; NaN if there is none.

        NaN as well where scores are infinite in both directions.
        """
        values, weights = (part.tolist() for part in self.scored)
        if math.inf in values and -math.inf in values:
            return math.nan
        if self.weights is None:
            return math.fsum(values) / len(values) if values else math.nan
        total = math.fsum(weights)
        return math.fsum(map(mul, values, weights)) / total if total else math.nan

    @property
    def scored(self) -> tuple[Tensor, Tensor]:
        """Values and weights of the items that have a score, weights of one where there are none."""
        kept = torch.tensor([index not in self.failures for index in range(len(self.values))], dtype=torch.bool)
        weights = torch.ones_like(self.values) if self.weights is None else self.weights
        return self.values[kept], weights[kept]

    @classmethod
    def join(cls, parts: Iterable[Scores]) -> Scores:
        """The scores of several batches as those of one, in order; what has no weights counts one an item."""
        parts = list(parts)
        starts = accumulate((len(part.values) for part in parts), initial=0)
        failures = {
            start + i: why for start, part in zip(starts, parts, strict=False) for i, why in part.failures.items()
        }
        nothing = torch.empty(0, dtype=torch.float64)
        weighted = any(part.weights is not None for part in parts)
        weights = [torch.ones_like(part.values) if part.weights is None else part.weights for part in parts]
        values = torch.cat([nothing, *(part.values for part in parts)])
        return cls(values, failures, torch.cat([nothing, *weights]) if weighted else None)


def stoi(reference: Audio, estimate: Audio) -> Scores:
    """Short-time objective intelligibility, at most 1, higher is better (Taal et al. 2011), at 10 kHz by pystoi.

    The level does not matter, a delay does. Fails where less than 0.4 s of speech is left once pystoi has removed the
    silence, or where either signal is silent.
    """
    return score_each(reference, estimate, lambda x, y, rate: _pystoi(x, y, rate, extended=False))


def estoi(reference: Audio, estimate: Audio) -> Scores:
    """Extended STOI, at most 1, higher is better (Jensen and Taal 2016); fails as `stoi` does."""
    return score_each(reference, estimate, lambda x, y, rate: _pystoi(x, y, rate, extended=True))


def si_sdr(reference: Audio, estimate: Audio) -> Scores:
    """Scale-invariant signal-to-distortion ratio in dB, higher is better, of signals without their mean.

    Le Roux et al. 2019, eq. 5; infinite where the estimate is an exact multiple. Fails where either signal is silent.
    The level does not matter, a delay does.
    """
    return score_each(reference, estimate, _si_sdr)


def snr(reference: Audio, estimate: Audio) -> Scores:
    """Signal-to-noise ratio in dB, 10 lg(|x|^2 / |y - x|^2), higher is better; both level and delay matter.

    Infinite where the two are equal. Fails where either signal is silent.
    """
    return score_each(reference, estimate, _snr)


def sdr(reference: Audio, estimate: Audio) -> Scores:
    """Signal-to-distortion ratio of BSS Eval in dB, higher is better (Vincent et al. 2006, a single source).

    10 lg(|h * x|^2 / |y - h * x|^2), h the filter of 512 taps that comes nearest to the estimate: level, delays below
    512 samples and what a short filter does are forgiven. Fails where either signal is silent.
    """
    return score_each(reference, estimate, _sdr)


def mel_distance(reference: Audio, estimate: Audio) -> Scores:
    """Mean absolute difference of log-mel magnitudes in dB over three resolutions; 0 for equal audio, lower is better.

    The multi-scale mel distance of Kumar et al. 2023 (DAC), with windows fixed in seconds (`MEL_RESOLUTIONS`) and
    magnitudes relative to a full-scale sinusoid, floored at -100 dB. Level and delay matter, the sign does not. Silence
    is a spectrum at the floor, and scored: 0 against silence, tens of dB against speech.
    """
    return score_each(reference, estimate, _mel_distance)


def mel_spectrogram(wave: Tensor, sample_rate: int, *, window: float, hop: float, bands: int, top: float) -> Tensor:
    """Mel magnitudes [bands, 1 + N // hop] of a waveform [N]: means of each band, at most 1 for a full-scale sinusoid.

    window, hop: seconds; the Hann window is zero-padded to a power of two, frame t is centred on sample t * hop.
    top: Hz of the upper edge of the highest band; bands beyond half the sample rate are zero.
    """
    size, step = max(1, round(window * sample_rate)), max(1, round(hop * sample_rate))
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


def score_each(reference: Audio, estimate: Audio, judge: Callable[[Tensor, Tensor, int], float]) -> Scores:
    """What `judge` says of each pair of waveforms [N] (float64, CPU) and their rate, or why it raised NotScored.

    Operations run on one thread: how they are split moves the last bits. InputError unless the two are as many mono
    items at one rate; an item whose lengths differ, or that is empty or not finite (as float32), fails, and so does one
    of which `judge` says NaN.
    """
    require_comparable(reference, estimate)
    values = torch.full((len(reference),), math.nan, dtype=torch.float64)
    failures = {}
    with one_thread_each():
        for index in range(len(reference)):
            try:
                values[index] = _number(judge(*_pair(reference, estimate, index), reference.sample_rate))
            except NotScored as reason:
                failures[index] = str(reason)
    return Scores(values, failures)


def require_comparable(reference: Audio, estimate: Audio) -> None:
    """InputError unless the two are as many mono items at one rate."""
    ours, theirs = (reference.sample_rate, len(reference)), (estimate.sample_rate, len(estimate))
    if ours != theirs:
        raise InputError(
            f"expected {ours[1]} items at {ours[0]} Hz to compare with, got {theirs[1]} at {theirs[0]} Hz",
            hint="resample one of the two before they are compared",
        )
    if reference.samples.shape[1] != 1 or estimate.samples.shape[1] != 1:
        raise InputError("expected mono audio, got more channels", hint="mix the channels before they are compared")


def _number(value: float) -> float:
    if math.isnan(value):
        raise NotScored("the metric gives no number")
    return value


def _pair(reference: Audio, estimate: Audio, index: int) -> tuple[Tensor, Tensor]:
    x, y = (audio.waveform(index)[0].detach().cpu().double() for audio in (reference, estimate))
    if len(x) != len(y):
        raise NotScored(f"{len(x)} samples in the original, {len(y)} in the resynthesis")
    if not len(x):
        raise NotScored("no samples")
    # what only float64 can hold is no sound, and squares of it overflow
    if not bool(x.float().isfinite().all() and y.float().isfinite().all()):
        raise NotScored("samples that are not finite numbers")
    return x, y


def require_sound(x: Tensor, y: Tensor) -> None:
    """NotScored where either waveform is silent: never further than `SILENCE` from its mean, so a constant is, too."""
    for name, wave in (("original", x), ("resynthesis", y)):
        if float((wave - wave.mean()).abs().max()) < SILENCE:
            raise NotScored(f"the {name} is silent")


def _si_sdr(x: Tensor, y: Tensor, _: int) -> float:
    require_sound(x, y)
    x, y = x - x.mean(), y - y.mean()
    target = x * (x.dot(y) / x.dot(x))
    return float(10 * torch.log10(target.square().sum() / (y - target).square().sum()))


def _snr(x: Tensor, y: Tensor, _: int) -> float:
    require_sound(x, y)
    return float(10 * torch.log10(x.square().sum() / (y - x).square().sum()))


def _sdr(x: Tensor, y: Tensor, _: int) -> float:
    require_sound(x, y)
    size = 1 << (len(x) + _FILTER - 1).bit_length()
    ours, theirs = torch.fft.rfft(x, size), torch.fft.rfft(y, size)
    correlation = torch.fft.irfft(ours.abs().square(), size)[:_FILTER]
    lags = torch.arange(_FILTER)
    taps = _solve(correlation[(lags[:, None] - lags).abs()], torch.fft.irfft(ours.conj() * theirs, size)[:_FILTER])
    target = torch.fft.irfft(ours * torch.fft.rfft(taps, size), size)
    residual = torch.nn.functional.pad(y, (0, size - len(y))) - target
    return float(10 * torch.log10(target.square().sum() / residual.square().sum()))


def _solve(matrix: Tensor, vector: Tensor) -> Tensor:
    taps: Tensor
    taps, singular = torch.linalg.solve_ex(matrix, vector)
    if int(singular):
        taps = torch.linalg.lstsq(matrix, vector[:, None], driver="gelsd").solution[:, 0]
    return taps


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

    require_sound(x, y)
    too_short = NotScored("less than 0.4 s of speech")
    if len(x) / sample_rate <= _STOI_SECONDS:
        raise too_short
    with warnings.catch_warnings(record=True) as caught, _fixed_noise():
        warnings.simplefilter("always")
        value = float(judge(x.numpy(), y.numpy(), sample_rate, extended=extended))
    # pystoi answers a clip that is too short with 1e-5 and a warning
    if any("Not enough STFT frames" in str(warning.message) for warning in caught):
        raise too_short
    if not math.isfinite(value):
        raise NotScored(f"pystoi answers {value}")
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
