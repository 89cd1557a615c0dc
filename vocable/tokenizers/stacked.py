"""Log-mel frames side by side in one: the input of random-projection codes and of quantizers over mel spectra."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.tokenizers.spectral import LogMel, settings_of
from vocable.types import Audio, Features

SPEECH_MEAN = (
    *(-12.0, -10.9, -10.6, -10.8, -11.4, -11.8, -12.0, -12.1, -12.1, -12.2, -12.5, -12.7, -13.0, -13.4, -13.7, -13.8),
    *(-14.0, -14.1, -14.3, -14.5, -14.5, -14.6, -14.6, -14.6, -14.7, -14.8, -14.8, -14.7, -14.6, -14.9, -14.8, -15.0),
    *(-14.8, -14.9, -14.9, -14.8, -14.9, -14.9, -14.9, -14.8, -14.8, -14.8, -15.0, -15.1, -15.1, -15.1, -14.9, -14.8),
    *(-14.7, -14.6, -14.6, -14.6, -14.8, -14.9, -14.8, -14.7, -14.8, -14.9, -15.0, -15.1, -15.2, -15.2, -15.0, -14.8),
    *(-14.9, -15.2, -15.2, -15.3, -15.6, -15.7, -15.8, -15.8, -15.9, -15.8, -15.8, -15.6, -15.5, -15.3, -15.2, -16.2),
)
"""Means of the bands of `LogMel()` over all frames of the bundled speech, to one decimal."""

SPEECH_STD = (
    *(4.0, 4.5, 4.7, 4.5, 4.3, 4.1, 4.0, 4.1, 4.1, 4.0, 4.0, 3.9, 3.8, 3.7, 3.7, 3.7, 3.6, 3.6, 3.5, 3.4),
    *(3.4, 3.3, 3.3, 3.2, 3.1, 3.1, 3.1, 3.2, 3.2, 3.1, 3.1, 3.0, 3.1, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.1),
    *(3.1, 3.0, 3.0, 2.9, 2.8, 2.8, 2.9, 2.9, 3.0, 3.1, 3.1, 3.1, 3.1, 3.0, 3.1, 3.1, 3.0, 2.9, 2.8, 2.8),
    *(2.8, 2.8, 3.0, 3.1, 3.2, 3.0, 2.9, 2.8, 2.8, 2.8, 2.8, 2.9, 3.0, 3.0, 2.9, 2.9, 2.9, 2.9, 2.9, 2.5),
)
"""Their standard deviations, likewise."""


@dataclass(frozen=True, kw_only=True)
class StackedMel:
    """`stack` log-mel frames in one, [B, 1, T, stack x num_bands], T = ceil(N / hop_length).

    The earliest frame comes first. Frames beyond the end of an utterance, which fill up the last stack, are those of
    zeros after it. With 24 kHz, 128 bands and stacks of 4, which is 25 Hz, these are the features on which Mel-RVQ is
    fitted (Zhu et al. 2025, "MuQ: Self-Supervised Music Representation Learning with Mel Residual Vector
    Quantization"); with the defaults, those that BEST-RQ quantizes (Chiu et al. 2022).

    mel_hop_length: samples between two log-mel frames. stack: frames in one.
    mean, std: of each band, taken off and divided by; constants, because statistics of an utterance would make a frame
        depend on sound that a window or a stream does not have. Empty for bands as they are.
    The other settings are those of `LogMel`.
    """

    sample_rate: int = 16000
    mel_hop_length: int = 160
    stack: int = 4
    num_bands: int = 80
    window_seconds: float = 0.025
    low: float = 60.0
    floor: float = 1e-8
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    layers = ("stacked-mel",)
    window = 1
    longest = None

    def __post_init__(self) -> None:
        if self.stack < 1:
            raise InputError(f"expected stacks of at least one frame, got {self.stack}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, self.num_bands):
                raise InputError(f"expected {name} of none or of {self.num_bands} bands, got {len(values)}")
        if not all(value > 0 for value in self.std):
            raise InputError("expected positive std")

    @property
    def hop_length(self) -> int:
        """Samples between two stacks."""
        return self.mel_hop_length * self.stack

    @property
    def context(self) -> int:
        """Stacks on either side that the windows of a stack's frames reach into."""
        return -(-self.mel.context // self.stack)

    @property
    def dim(self) -> int:
        return self.stack * self.num_bands

    @cached_property
    def mel(self) -> LogMel:
        """The log-mel spectra that are stacked."""
        return LogMel(
            sample_rate=self.sample_rate,
            hop_length=self.mel_hop_length,
            num_bands=self.num_bands,
            window_seconds=self.window_seconds,
            low=self.low,
            floor=self.floor,
        )

    def extract(self, audio: Audio) -> Features:
        """Stacks of mono audio. InputError if the rate is another or there are several channels."""
        audio.require_mono(self.sample_rate)
        lengths = (audio.lengths + self.hop_length - 1) // self.hop_length
        frames = self._normalised(self.mel.extract(self._whole_stacks(audio, lengths)).frames)
        stacks = frames.reshape(len(audio), 1, -1, self.dim)
        return Features(stacks, lengths, self.hop_length, self.sample_rate)

    def config(self) -> dict[str, Any]:
        """Plain values that say which features these are; `from_config` is the inverse."""
        return {"kind": self.layers[0], **asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The extractor that `config` described. InputError if a field is unknown."""
        settings = settings_of(config, cls.layers[0], {field.name for field in fields(cls)})
        return cls(**{**settings, "mean": tuple(settings.get("mean", ())), "std": tuple(settings.get("std", ()))})

    def _whole_stacks(self, audio: Audio, lengths: Tensor) -> Audio:
        """The audio with zeros from each utterance's end to the end of its last stack."""
        count = audio.samples.shape[-1]
        beyond = torch.arange(count) >= audio.lengths[:, None]
        samples = audio.samples.masked_fill(beyond[:, None].to(audio.samples.device), 0.0)
        padded = torch.nn.functional.pad(samples, (0, -count % self.hop_length))
        return Audio(padded, lengths * self.hop_length, self.sample_rate)

    def _normalised(self, frames: Tensor) -> Tensor:
        if self.mean:
            frames = frames - torch.tensor(self.mean, device=frames.device)
        return frames / torch.tensor(self.std, device=frames.device) if self.std else frames
