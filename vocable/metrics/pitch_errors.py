"""How well the melody of speech survives: pitch where both are voiced, and whether they are voiced at the same time.

Pitch is estimated by SwiftF0 (pip extra `pitch`, MissingDependencyError without it), a frame every 10 ms; frames are
compared one by one, so a delay counts. The level hardly matters (a few cents) above -60 dB of full scale.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from vocable.metrics.reconstruction import NotScored, Scores, require_sound, score_each
from vocable.tokenizers.pitch import PitchExtractor
from vocable.types import Audio

FRAME_RATE = 100  # Hz


def f0_rmse(reference: Audio, estimate: Audio) -> Scores:
    """Root mean square error of log-f0 in cents (1200 an octave); 0 for equal audio, lower is better.

    sqrt(mean of (1200 lb(f / f'))^2) over the frames in which both are voiced; fails where there are none, or where
    either signal is silent. Halved and doubled pitch counts as it is: 1200 cents.
    """
    return score_each(reference, estimate, _f0_rmse)


def voicing_error(reference: Audio, estimate: Audio) -> Scores:
    """Share of the frames that are voiced in one and not in the other, 0..1; lower is better.

    Fails where either signal is silent.
    """
    return score_each(reference, estimate, _voicing_error)


def _f0_rmse(x: Tensor, y: Tensor, sample_rate: int) -> float:
    octaves, voiced = _tracks(x, y, sample_rate).unbind(-1)
    both = voiced.bool().all(0)
    if not bool(both.any()):
        raise NotScored("no frame is voiced in both")
    return float(1200 * (octaves[0] - octaves[1])[both].square().mean().sqrt())


def _voicing_error(x: Tensor, y: Tensor, sample_rate: int) -> float:
    voiced = _tracks(x, y, sample_rate)[..., 1]
    return float((voiced[0] != voiced[1]).double().mean())


def _tracks(x: Tensor, y: Tensor, sample_rate: int) -> Tensor:
    """log2 of pitch, and voicing, [2, T, 2]."""
    require_sound(x, y)
    return torch.stack([_track(wave.numpy().tobytes(), sample_rate) for wave in (x, y)])


@lru_cache(maxsize=2)
def _track(wave: bytes, sample_rate: int) -> Tensor:
    # remembered, because both metrics ask for the tracks of the same two waveforms, and the estimator is slow
    samples = torch.frombuffer(bytearray(wave), dtype=torch.float64)
    return _extractor(sample_rate).extract(Audio.of([samples], sample_rate)).frames[0, 0].double()


@lru_cache(maxsize=8)
def _extractor(sample_rate: int) -> PitchExtractor:
    return PitchExtractor(sample_rate=sample_rate, hop_length=max(1, round(sample_rate / FRAME_RATE)))
