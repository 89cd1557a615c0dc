"""Pitch as features: the fundamental frequency and whether there is one, on the clock of any tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vocable.audio import resample
from vocable.clock import num_frames
from vocable.errors import ArtifactError, InputError, MissingDependencyError
from vocable.nets.threads import one_thread_each
from vocable.tokenizers.spectral import settings_of
from vocable.types import Audio, Features

_RATE, _HOP = 16000, 256  # of the estimator, whose frame i is centred on sample 256 i
_REACH = 12 * _HOP  # samples on either side on which its frame depends: 2815, in whole frames
_LOWEST, _HIGHEST = 46.875, 2093.75
_WEIGHTS = "6385e8c2ebc3872e82c9ff5946228de44cd3be77a750ea53698b7dbfe94b0a22"  # swift-f0 0.3.0


class Track(Protocol):
    """What an estimator found in each of its frames: pitch in Hz, and how sure it is that there is one, 0..1."""

    @property
    def pitch_hz(self) -> np.ndarray: ...
    @property
    def confidence(self) -> np.ndarray: ...


class Detector(Protocol):
    """swift_f0.SwiftF0: pitch of mono sound at 16 kHz, a frame of 256 samples each."""

    def detect(self, audio: np.ndarray, sample_rate: float, fmin: float, fmax: float) -> Track: ...


@dataclass(frozen=True, kw_only=True)
class PitchExtractor:
    """Pitch and voicing [B, 1, T, 2], T = num_frames(N, hop_length, window), by SwiftF0 (pip extra `pitch`).

    The first number is log2(f0 / Hz), 0 where unvoiced; the second is 1 where voiced, else 0. Frame t is the
    estimator's frame (of 16 ms) nearest to the middle of the hop, sample (t + 1/2) hop_length. Nieradzik 2025,
    "SwiftF0: Fast and Accurate Monophonic Pitch Detection"; it runs on processors alone, each utterance alone on one
    core. It hears any pitched sound, not only voices, and nothing in sound below -60 dB of full scale.

    Windows of 30 s with `context` have the frames of the whole, up to rounding, where a hop divides 30 s: they begin
    where a frame of the estimator does, and its frames depend on 0.18 s on either side.

    sample_rate, hop_length, window: the clock of the tokens that the pitch is to go with.
    low, high: Hz; where the best pitch lies outside there is none. At least 46.875 and at most 2093.75.
    weights: SHA-256 of the network in the package, which decides the features as much as the settings do.
    """

    sample_rate: int = 16000
    hop_length: int = 160
    window: int = 1
    low: float = 50.0
    high: float = 800.0
    weights: str = _WEIGHTS

    layers = ("f0",)
    longest = None
    dim = 2

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.hop_length, self.window) < 1:
            raise InputError(f"expected positive settings, got {self}")
        if not _LOWEST <= self.low < self.high <= _HIGHEST:
            raise InputError(f"expected {_LOWEST} <= low < high <= {_HIGHEST} Hz, got {self.low} and {self.high}")

    @property
    def context(self) -> int:
        """Frames on either side: as far as the estimator looks, and a whole number of its frames where that is near."""
        hop = self.hop_length * _RATE
        reach = -(-(_REACH * self.sample_rate) // hop) + 1
        period = math.lcm(hop, _HOP * self.sample_rate) // hop
        return -(-reach // period) * period

    @cached_property
    def detector(self) -> Detector:
        """The estimator. MissingDependencyError without the package, ArtifactError if its network is another."""
        try:
            import swift_f0
        except ImportError as problem:
            raise MissingDependencyError(
                "pitch is estimated by swift-f0, which is not installed", hint="pip install 'vocable[pitch]'"
            ) from problem
        network = Path(swift_f0.__file__).with_name("model.onnx")
        found = sha256(network.read_bytes()).hexdigest()
        if found != self.weights:
            raise ArtifactError(
                f"expected the pitch estimator {self.weights[:12]}, got {found[:12]} in {network}",
                hint="install the release of swift-f0 with which the tokenizer was made",
            )
        detector: Detector = swift_f0.SwiftF0(threads=1, spin=False)
        return detector

    def extract(self, audio: Audio) -> Features:
        """Pitch of mono audio, on the CPU. InputError if the rate is another or there are several channels."""
        audio.require_mono(self.sample_rate)
        lengths = [num_frames(n, self.hop_length, self.window) for n in audio.lengths.tolist()]
        frames = pad_sequence(self._side_by_side(audio, lengths), batch_first=True)
        return Features(frames[:, None], torch.tensor(lengths), self.hop_length, self.sample_rate)

    def config(self) -> dict[str, Any]:
        """Plain values that say which features these are; `from_config` is the inverse."""
        return {"kind": "pitch", **asdict(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The extractor that `config` described. InputError if a field is unknown."""
        return cls(**settings_of(config, "pitch", {field.name for field in fields(cls)}))

    def _side_by_side(self, audio: Audio, lengths: Sequence[int]) -> list[Tensor]:
        detector, waves = self.detector, [audio.waveform(index) for index in range(len(audio))]
        with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
            return list(pool.map(lambda wave, count: self._track(detector, wave, count), waves, lengths))

    def _track(self, detector: Detector, wave: Tensor, count: int) -> Tensor:
        """Frames [T, 2] of one utterance [1, n]."""
        sound = resample(Audio.of([wave.float().cpu()], self.sample_rate), _RATE).waveform(0)[0]
        track = detector.detect(sound.numpy(), _RATE, self.low, self.high)
        nearest = self._nearest(count).clip(max=len(track.pitch_hz) - 1)
        voiced = track.confidence[nearest] >= 0.5
        octaves = np.log2(track.pitch_hz[nearest], where=voiced, out=np.zeros(count))
        return torch.from_numpy(np.stack([octaves, voiced], axis=1)).float()

    def _nearest(self, count: int) -> np.ndarray:
        """The estimator's frame nearest to the middle of each hop, the later of two as near."""
        middles = (2 * np.arange(count, dtype=np.int64) + 1) * self.hop_length * _RATE
        step = 2 * _HOP * self.sample_rate
        return (2 * middles + step) // (2 * step)
