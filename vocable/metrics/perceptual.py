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
_NO_SPEECH = "PESQ finds no speech"


def pesq_nb(reference: Audio, estimate: Audio) -> Scores:
    """PESQ of narrow-band audio (ITU-T P.862.1) at 8 kHz: 1.0 to 4.55 MOS-LQO, higher is better.

    Brings both to one level and aligns them itself: neither level nor a delay matters much. Other rates are resampled.
    Fails where either signal is silent or holds no speech.

    Audio of more than 19 s is cut into equal stretches of at most that; the score is the mean of those with speech. The
    ITU's program, which the package `pesq` wraps, overwrites its memory where it finds more than 50 utterances, which
    19 s cannot hold.

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
    answers = [_judged(stretch, judge_rate, mode) for stretch in torch.tensor_split(both, count, dim=1)]
    scores = [answer for answer in answers if isinstance(answer, float)]
    if not scores:
        raise NotScored(str(answers[0]))
    return math.fsum(scores) / len(scores)


def _judged(both: Tensor, judge_rate: int, mode: str) -> float | str:
    """The score of a stretch [2, n], or why it has none."""
    try:
        from pesq import BufferTooShortError, NoUtterancesError, pesq
    except ImportError as problem:
        raise MissingDependencyError(
            "PESQ is computed by the package pesq, which is not installed", hint="pip install 'vocable[metrics]'"
        ) from problem
    try:
        # the package divides by the peak
        return float(pesq(judge_rate, *both.numpy(), mode)) if bool(both.any()) else _NO_SPEECH
    except NoUtterancesError:
        return _NO_SPEECH
    except BufferTooShortError:
        return "less than 0.25 s, too short for PESQ"
