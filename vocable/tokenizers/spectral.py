"""Features without weights, log-mel spectra and mel-frequency cepstra: the same bits in any batch and any window."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.nets.spectral import ExactProduct, dct_matrix, deltas, fft_length, frame, log_mel, mel_filters
from vocable.nets.threads import one_thread_each
from vocable.types import Audio, Features


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Natural logarithm of the power in mel bands, [B, 1, T, num_bands], T = ceil(N / hop_length).

    Frame t is centred on sample (t + 1/2) hop_length, and outside the utterance there are zeros. No normalisation over
    an utterance: it would make a frame depend on sound that a window or a stream does not have.

    sample_rate: Hz; the bands reach up to half of it.
    hop_length: samples from frame to frame; 160 is 100 Hz at 16 kHz, 320 is 50 Hz.
    num_bands: triangles on Slaney's mel scale; 80 as text-to-speech systems have it.
    window_seconds: length of the Hann window; 25 ms, the custom for speech, holds two periods of a low voice.
    low: Hz where the lowest band begins; below lie hum and rumble, no speech.
    floor: the least power of a band, where a sine of amplitude 1 has 1/4; digital silence has it. Lower floors spend
        units on kinds of silence, higher ones lose quiet speech: of 1e-9 to 1e-6 this one resynthesizes best.
    """

    sample_rate: int = 16000
    hop_length: int = 160
    num_bands: int = 80
    window_seconds: float = 0.025
    low: float = 60.0
    floor: float = 1e-8

    layers = ("logmel",)
    window = 1
    longest = None

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.hop_length, self.num_bands) < 1 or not self.floor > 0:
            raise InputError(f"expected positive settings, got {self}")
        if self.window_length < self.hop_length:
            raise InputError(f"a window of {self.window_length} samples leaves gaps at hop length {self.hop_length}")

    @property
    def window_length(self) -> int:
        """Samples of the analysis window."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def context(self) -> int:
        """Frames on either side that a frame's window reaches into."""
        return -(-(self.window_length - self.hop_length + 1) // 2 // self.hop_length)

    @property
    def dim(self) -> int:
        return self.num_bands

    @cached_property
    def taper(self) -> Tensor:
        """The analysis window [window_length]."""
        return torch.hann_window(self.window_length)

    @cached_property
    def filters(self) -> Tensor:
        """The mel bands [bins, num_bands] over the power spectrum."""
        bins = fft_length(self.window_length)
        return mel_filters(self.sample_rate, bins, self.num_bands, self.low, self.sample_rate / 2)

    @cached_property
    def _exact_filters(self) -> ExactProduct:
        return ExactProduct(self.filters)

    @one_thread_each()
    def extract(self, audio: Audio) -> Features:
        """Log-mel frames of mono audio. InputError if the rate is another or there are several channels."""
        audio.require_mono(self.sample_rate)
        frames = frame(audio.samples[:, 0].float(), audio.lengths, self.window_length, self.hop_length)
        mel = log_mel(frames, self.taper, self._exact_filters, self.floor)
        lengths = (audio.lengths + self.hop_length - 1) // self.hop_length
        return Features(mel[:, None], lengths, self.hop_length, self.sample_rate)

    def config(self) -> dict[str, Any]:
        """Plain values that say which features these are; `from_config` is the inverse."""
        return {"kind": self.layers[0], **asdict(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The extractor that `config` described. InputError if a field is unknown."""
        return cls(**settings_of(config, cls.layers[0], {field.name for field in fields(cls)}))


@dataclass(frozen=True, kw_only=True)
class MFCC:
    """Mel-frequency cepstra with their first and second slopes, [B, 1, T, 3 num_coefficients].

    The orthonormal DCT-II of log-mel bands, then deltas and deltas of deltas over five frames: with the defaults the
    39 numbers at 100 Hz on which HuBERT's first units were fitted (Hsu et al. 2021, section IV-B).

    num_coefficients: cepstra kept, the zeroth (loudness) among them.
    The other settings are those of `LogMel`.
    """

    sample_rate: int = 16000
    hop_length: int = 160
    num_coefficients: int = 13
    num_bands: int = 40
    window_seconds: float = 0.025
    low: float = 60.0
    floor: float = 1e-8

    layers = ("mfcc",)
    window = 1
    longest = None

    def __post_init__(self) -> None:
        if not 1 <= self.num_coefficients <= self.num_bands:
            raise InputError(f"expected 1 to {self.num_bands} coefficients, got {self.num_coefficients}")

    @property
    def context(self) -> int:
        """Frames on either side: those of the spectra, and two for each of the two slopes."""
        return self.mel.context + 4

    @property
    def dim(self) -> int:
        return 3 * self.num_coefficients

    @cached_property
    def mel(self) -> LogMel:
        """The log-mel spectra under the cepstra."""
        shared = asdict(self)
        del shared["num_coefficients"]
        return LogMel(**shared)

    @cached_property
    def dct(self) -> Tensor:
        """The cosines [num_bands, num_coefficients]."""
        return dct_matrix(self.num_bands, self.num_coefficients)

    @cached_property
    def _exact_dct(self) -> ExactProduct:
        return ExactProduct(self.dct)

    @one_thread_each()
    def extract(self, audio: Audio) -> Features:
        """Cepstra and slopes of mono audio. InputError if the rate is another or there are several channels."""
        mel = self.mel.extract(audio)
        cepstra = self._exact_dct(mel.frames[:, 0]).float()
        slopes = deltas(cepstra, mel.lengths)
        frames = torch.cat([cepstra, slopes, deltas(slopes, mel.lengths)], dim=-1)
        return Features(frames[:, None], mel.lengths, mel.hop_length, mel.sample_rate)

    def config(self) -> dict[str, Any]:
        """Plain values that say which features these are; `from_config` is the inverse."""
        return {"kind": self.layers[0], **asdict(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The extractor that `config` described. InputError if a field is unknown."""
        return cls(**settings_of(config, cls.layers[0], {field.name for field in fields(cls)}))


def settings_of(config: dict[str, Any], kind: str, known: set[str]) -> dict[str, Any]:
    """The settings in a configuration of that kind. InputError for another kind, or if a setting is unknown."""
    settings = {name: value for name, value in config.items() if name != "kind"}
    if config.get("kind") != kind or not settings.keys() <= known:
        raise InputError(f"expected the configuration of {kind} features, got {config}")
    return settings
