"""How much of what was said a speech recognizer still hears: word and character error rates.

A rate is edits over words (or characters) of all recordings: each score carries how many there were as its weight. A
resynthesis in which nothing is heard has every word wrong; where it is the reference that has no words, there is no
score. What a recognizer gets wrong in the original, too, counts against text, and not against its own transcript.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

from vocable.errors import InputError
from vocable.metrics.reconstruction import NotScored, Scores, score_each
from vocable.metrics.robustness import edit_distance
from vocable.types import Audio

Unit = Literal["words", "characters"]
Hear = Callable[[Tensor, int], str]
"""From a waveform [N] and its rate to what is said in it, normalized."""


def normalized(text: str) -> str:
    """Lower case; letters and digits, apostrophes within words, the rest one space at most."""
    plain = text.lower().replace("’", "'")
    kept = "".join(char if char.isalnum() or char == "'" else " " for char in plain)
    return " ".join(word for word in (word.strip("'") for word in kept.split()) if word)


def error_rate(texts: Sequence[str], estimate: Audio, hear: Hear, unit: Unit) -> Scores:
    """Word or character error rate of what is heard in the resynthesis against what was said; 0 is best, no bound.

    (Insertions + deletions + substitutions) / words of the text, both normalized. Fails where there is no text.
    InputError unless there are as many texts as items.
    """
    if len(texts) != len(estimate):
        raise InputError(f"expected a text for each of {len(estimate)} items, got {len(texts)}")
    items = [Audio.of([estimate.waveform(index)], estimate.sample_rate) for index in range(len(estimate))]
    said = [_units(normalized(text), unit) for text in texts]
    return Scores.join(
        _rates(item, item, lambda *_, wanted=wanted: _some(wanted, "no text"), hear, unit)
        for item, wanted in zip(items, said, strict=True)
    )


def drift(reference: Audio, estimate: Audio, hear: Hear, unit: Unit) -> Scores:
    """The same against what the recognizer hears in the original: 0 for equal audio. Fails where that is nothing."""
    nothing = "no words are heard in the original"
    return _rates(reference, estimate, lambda x, rate: _some(_units(hear(x, rate), unit), nothing), hear, unit)


def without_text(reference: Audio, estimate: Audio) -> Scores:
    """In place of a rate against text where there is none: a failure for each item."""
    return score_each(reference, estimate, lambda *_: len(_some((), "no text")))


def _rates(
    reference: Audio, estimate: Audio, wanted: Callable[[Tensor, int], Sequence[str]], hear: Hear, unit: Unit
) -> Scores:
    def errors(x: Tensor, y: Tensor, rate: int) -> float:
        right = wanted(x, rate)
        return edit_distance(right, _units(hear(y, rate), unit)) / len(right)

    found = score_each(reference, estimate, errors)
    counts = score_each(reference, estimate, lambda x, _, rate: len(wanted(x, rate)))
    return Scores(found.values, found.failures, counts.values)


def _units(text: str, unit: Unit) -> Sequence[str]:
    return text.split() if unit == "words" else text


def _some(units: Sequence[str], why: str) -> Sequence[str]:
    if not units:
        raise NotScored(why)
    return units
