"""Ways to change how speech sounds but not what it says: speed, pitch, noise, room. Each is a function of its seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from vocable.audio import resample
from vocable.errors import InputError
from vocable.types import Audio

_FRAME = 0.032  # seconds of sound that overlap-add moves as a whole: two periods of a low voice
_SEARCH = 0.008  # seconds to either side where it may be taken from


class Augmentation(Protocol):
    """Audio -> Audio at the same rate; each utterance alone, so that neither batch nor order shows."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    def apply(self, audio: Audio, seed: int) -> Audio:
        """Other audio, a function of this one and of the seed. Mono; InputError for more channels."""


@dataclass(frozen=True)
class TimeStretch:
    """Speech `rate` times as fast, N / rate samples rounded half up, at the same pitch.

    By waveform-similarity overlap-add (Verhelst and Roelands 1993): frames of 32 ms, half overlapping, each taken from
    within 8 ms of where it is due, where it best continues the one before.
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0.25 <= self.rate <= 4:
            raise InputError(f"expected a rate in 0.25..4, got {self.rate}")

    @property
    def name(self) -> str:
        return f"{self.rate:g} times as fast"

    def apply(self, audio: Audio, seed: int) -> Audio:
        """See the class; the seed has no part in it."""
        return _each(audio, lambda wave: stretch(wave, max(1, math.floor(len(wave) / self.rate + 0.5)), _grid(audio)))


@dataclass(frozen=True)
class PitchShift:
    """Speech `semitones` higher (lower where negative), as long as before: stretched, then resampled.

    Formants move with the pitch. The factor 2 ** (semitones / 12) is rounded so that it makes whole Hz of the rate.
    """

    semitones: float

    def __post_init__(self) -> None:
        if not -24 <= self.semitones <= 24:
            raise InputError(f"expected -24..24 semitones, got {self.semitones}")

    @property
    def name(self) -> str:
        return f"{self.semitones:+g} semitones"

    def apply(self, audio: Audio, seed: int) -> Audio:
        """See the class; the seed has no part in it."""
        rate = round(audio.sample_rate * 2 ** (self.semitones / 12))

        def shifted(wave: np.ndarray) -> np.ndarray:
            longer = stretch(wave, math.ceil(len(wave) * rate / audio.sample_rate), _grid(audio))
            played = resample(Audio.of([torch.from_numpy(longer)], rate), audio.sample_rate)
            return _exactly(played.waveform(0)[0].numpy(), len(wave))

        return _each(audio, shifted)


@dataclass(frozen=True)
class Noise:
    """White Gaussian noise, `snr` dB below the speech: powers of both are means over the whole utterance."""

    snr: float

    @property
    def name(self) -> str:
        return f"noise at {self.snr:g} dB"

    def apply(self, audio: Audio, seed: int) -> Audio:
        """See the class. The noise depends on the seed and the length alone, its level on the speech."""

        def noisy(wave: np.ndarray) -> np.ndarray:
            noise = np.random.default_rng(seed).standard_normal(len(wave))
            power = np.square(wave, dtype=np.float64).mean() / np.square(noise).mean()
            return wave + noise * math.sqrt(power * 10 ** (-self.snr / 10))

        return _each(audio, noisy)


@dataclass(frozen=True)
class Reverberation:
    """A room: direct sound, then noise that decays by 60 dB in `seconds`; as loud and as long as the speech was.

    `direct`: dB of the direct sound's energy over that of the noise. Polack's model of late reverberation (1988).
    """

    seconds: float = 0.5
    direct: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= 10:
            raise InputError(f"expected a reverberation time in 0..10 s, got {self.seconds}")

    @property
    def name(self) -> str:
        return f"reverberation of {self.seconds:g} s"

    def apply(self, audio: Audio, seed: int) -> Audio:
        """See the class. The room depends on the seed and the sample rate alone."""
        response = self.response(audio.sample_rate, seed)

        def heard(wave: np.ndarray) -> np.ndarray:
            size = 1 << (len(wave) + len(response) - 2).bit_length()
            wet = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(response, size), size)[: len(wave)]
            before, after = (np.square(sound, dtype=np.float64).mean() for sound in (wave, wet))
            return wet * math.sqrt(before / after) if after else wet

        return _each(audio, heard)

    def response(self, sample_rate: int, seed: int) -> np.ndarray:
        """The impulse response [seconds x sample_rate] (float64), which begins with the direct sound, 1."""
        count = max(2, round(self.seconds * sample_rate))
        tail = np.random.default_rng(seed).standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
        tail[0] = 0
        tail *= math.sqrt(10 ** (-self.direct / 10) / np.square(tail).sum())
        tail[0] = 1
        return tail


STANDARD: tuple[Augmentation, ...] = (TimeStretch(1.2), PitchShift(4), Noise(10), Reverberation(0.5))


def stretch(wave: np.ndarray, length: int, grid: tuple[int, int]) -> np.ndarray:
    """A waveform [N] made `length` samples long by overlap-add; see `TimeStretch`. float32.

    grid: samples of a frame (even), and of the search to either side.
    """
    size, search = grid
    step, window = size // 2, np.hanning(size + 1)[:-1]
    padded = np.pad(wave.astype(np.float64), (size + search, 6 * size + 2 * search))
    out, place = np.zeros(length + 2 * size), size + search - step
    for start in range(0, length + step, step):
        out[start : start + size] += padded[place : place + size] * window
        due = size + search - step + round((start + step) * len(wave) / length)
        place = _most_similar(padded, place + step, due, size, search)
    return out[step : step + length].astype(np.float32)


def _most_similar(padded: np.ndarray, follows: int, due: int, size: int, search: int) -> int:
    """The place within `search` of `due` whose frame is most like what follows the last, by normalized correlation."""
    first = max(0, due - search)
    region = padded[first : due + search + size]
    match = np.correlate(region, padded[follows : follows + size])
    energy = np.concatenate([[0.0], np.cumsum(np.square(region))])
    power = np.maximum(energy[size:] - energy[:-size], 1e-12)
    likeness = match / np.sqrt(power)
    # in silence all places are alike: to take the first would move all that comes after it
    best = first + np.flatnonzero(likeness >= likeness.max() - 1e-9)
    return int(best[np.abs(best - due).argmin()])


def _each(audio: Audio, change: Callable[[np.ndarray], np.ndarray]) -> Audio:
    """Every utterance, [N] float32, changed by itself."""
    if audio.samples.shape[1] != 1 or not len(audio) or int(audio.lengths.min()) < 1:
        raise InputError(f"expected mono audio with samples, got {list(audio.samples.shape)}", hint="mix the channels")
    waves = [audio.waveform(index)[0].cpu().float().numpy() for index in range(len(audio))]
    return Audio.of([torch.from_numpy(change(wave).astype(np.float32)) for wave in waves], audio.sample_rate)


def _grid(audio: Audio) -> tuple[int, int]:
    return 2 * max(1, round(_FRAME * audio.sample_rate / 2)), max(1, round(_SEARCH * audio.sample_rate))


def _exactly(wave: np.ndarray, length: int) -> np.ndarray:
    return np.pad(wave[:length], (0, max(0, length - len(wave))))
