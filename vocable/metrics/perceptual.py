"""What listeners would say, as ITU-T P.862 predicts it; needs the pip extra `metrics`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vocable.audio import resample
from vocable.errors import MissingDependencyError
from vocable.metrics.reconstruction import NotScored, Scores, require_sound, score_each
from vocable.types import Audio

STRETCH = 19.0  # seconds that are judged at once


def pesq_nb(reference: Audio, estimate: Audio) -> Scores:
    """PESQ of narrow-band audio (ITU-T P.862.1) at 8 kHz: 1.0 to 4.55 MOS-LQO, higher is better.

    Brings both to one level and aligns them itself: neither level nor a delay matters much. Other rates are resampled.
    Fails where either signal is silent or too short, or the original holds no speech.

    Audio of more than 19 s is cut into equal stretches of at most that; the score is the mean of those in which the
    original speaks, and there is none if PESQ hears nothing in the resynthesis of one. The ITU's program, which the
    package `pesq` wraps, overwrites its memory where it finds more than 50 utterances, which 19 s cannot hold.

    MissingDependencyError without the package; the ITU's licence for its program limits commercial use.
    """
    return score_each(reference, estimate, lambda x, y, rate: _pesq(x, y, rate, 8000, "nb"))


def pesq_wb(reference: Audio, estimate: Audio) -> Scores:
    """PESQ of wide-band audio (ITU-T P.862.2) at 16 kHz: 1.0 to 4.64 MOS-LQO, higher is better; see `pesq_nb`."""
    return score_each(reference, estimate, lambda x, y, rate: _pesq(x, y, rate, 16000, "wb"))


def _pesq(x: Tensor, y: Tensor, sample_rate: int, judge_rate: int, mode: str) -> float:
    require_sound(x, y)
    both = resample(Audio.of([x, y], sample_rate), judge_rate).samples[:, 0].double()
    count = math.ceil(both.shape[1] / (STRETCH * judge_rate))
    stretches = torch.tensor_split(both, count, dim=1)
    answers = [_judged(stretch[0], stretch[1], judge_rate, mode) for stretch in stretches]
    scores = [answer for answer in answers if answer is not None]
    if not scores:
        raise NotScored("PESQ finds no speech")
    return math.fsum(scores) / len(scores)


def _judged(original: Tensor, resynthesis: Tensor, rate: int, mode: str) -> float | None:
    """The score of a stretch, or None where the original holds no speech."""
    score = _asked(original, resynthesis, rate, mode)
    # a stretch may be left out for what the original is, never for what became of it
    if score is None and _asked(original, original, rate, mode) is not None:
        raise NotScored("PESQ hears nothing in the resynthesis where the original speaks")
    return score


def _asked(x: Tensor, y: Tensor, rate: int, mode: str) -> float | None:
    """What the package says of a stretch, or None where it finds nothing to compare."""
    try:
        from pesq import BufferTooShortError, NoUtterancesError, pesq
    except ImportError as problem:
        raise MissingDependencyError(
            "PESQ is computed by the package pesq, which is not installed", hint="pip install 'vocable[metrics]'"
        ) from problem
    try:
        return float(pesq(rate, x.numpy(), y.numpy(), mode)) if bool(x.any()) else None
    except (NoUtterancesError, ValueError):  # the latter of a resynthesis whose power is nothing, by which it divides
        return None
    except BufferTooShortError as problem:
        raise NotScored("less than 0.25 s, too short for PESQ") from problem
