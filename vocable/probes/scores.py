"""What a probe is scored by: weighted statistics over test recordings, and intervals by resampling these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Statistic = Callable[[Numbers], float]
"""A figure of N recordings, of which each counts as often as its weight says."""

_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Figure:
    """The mean over seeds, its 95 % interval by bootstrap over the test recordings, and what each seed gave.

    resampled: the mean on each of the resamples, which are the same for every system; empty where nothing was drawn.
    """

    value: float
    low: float
    high: float
    seeds: tuple[float, ...]
    resampled: tuple[float, ...] = ()

    def not_worse(self, best: Figure, *, higher_is_better: bool) -> bool:
        """Whether this is as good as the best but for chance: zero is not below the 95 % interval of what it lacks.

        Paired bootstrap (Efron and Tibshirani 1993, chapter 16) over the same test recordings.
        """
        sign = 1 if higher_is_better else -1
        lacks = sign * (np.array(best.resampled) - np.array(self.resampled))
        return bool(np.nanquantile(lacks, 0.025) <= 0)


def figure(statistics: Sequence[Statistic], count: int, *, resamples: int = _RESAMPLES) -> Figure:
    """The figure of one statistic for each seed, on the same `count` recordings.

    Percentile bootstrap (Efron & Tibshirani 1993, chapter 13). All systems are resampled alike, and where a statistic
    is not defined (NaN) for a resample, that one is left out. Where no recording went wrong the interval has no width;
    that nothing would ever go wrong does not follow.
    """
    seeds = tuple(statistic(np.ones(count)) for statistic in statistics)
    draw = np.random.default_rng(0)
    means = []
    for _ in range(resamples):
        weights = np.bincount(draw.integers(count, size=count), minlength=count).astype(np.float64)
        means.append(float(np.mean([statistic(weights) for statistic in statistics])))
    kept = [mean for mean in means if not np.isnan(mean)]
    low, high = np.quantile(kept, [0.025, 0.975]) if kept else (np.nan, np.nan)
    return Figure(float(np.mean(seeds)), float(low), float(high), seeds, tuple(means))


def ratio(parts: Sequence[float], wholes: Sequence[float]) -> Statistic:
    """The sum of parts over the sum of wholes: errors over words, or right answers over questions."""
    above, below = np.array(parts, dtype=np.float64), np.array(wholes, dtype=np.float64)
    return lambda weights: float(weights @ above / (weights @ below))


def mean_recall(right: Sequence[bool], classes: Sequence[int]) -> Statistic:
    """The share of right answers in each class, the mean over the classes that occur (unweighted average recall)."""
    named = np.array(classes)
    members = [named == index for index in np.unique(named)]
    answers = np.array(right, dtype=np.float64)

    def recall(weights: Numbers) -> float:
        shares = [weights[m] @ answers[m] / total for m in members if (total := weights[m].sum())]
        return float(np.mean(shares))

    return recall


def equal_error_rate(scores: Numbers, same: npt.NDArray[np.bool_], pairs: npt.NDArray[np.int64]) -> Statistic:
    """Where as many trials of one speaker are refused as of two are accepted, between trials by linear interpolation.

    scores, same: of each trial, a higher score for those held to be the same; pairs [trials, 2]: its two recordings.
    A trial counts as often as its recordings' weights multiplied. NaN if either kind of trial is missing.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, wanted, (one, other) = scores[order], same[order], pairs[order].T
    last = np.append(ordered[1:] != ordered[:-1], True)  # equal scores are accepted together

    def rate(weights: Numbers) -> float:
        counts = weights[one] * weights[other]
        hits, alarms = np.cumsum(counts * wanted)[last], np.cumsum(counts * ~wanted)[last]
        if not hits[-1] or not alarms[-1]:
            return float("nan")
        refused, accepted = np.append(1.0, 1 - hits / hits[-1]), np.append(0.0, alarms / alarms[-1])
        gap = refused - accepted
        after = int(np.argmax(gap <= 0))
        share = gap[after - 1] / (gap[after - 1] - gap[after])
        return float(accepted[after - 1] + share * (accepted[after] - accepted[after - 1]))

    return rate
