"""Known answers of the scores, and scikit-learn's."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_curve

from vocable.metrics.robustness import edit_distance
from vocable.probes.scores import equal_error_rate, figure, mean_recall, ratio


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("abc", "ca", 3), ("ab", "ba", 2)],
)
def test_edit_distance(one: str, other: str, edits: int) -> None:
    assert edit_distance(one, other) == edits == edit_distance(other, one)


def test_edit_distance_of_words() -> None:
    assert edit_distance(["one", "two", "three"], ["one", "too", "three", "four"]) == 2


def _rate(scores: list[float], same: list[bool]) -> float:
    pairs = np.array([[2 * i, 2 * i + 1] for i in range(len(scores))])
    return equal_error_rate(np.array(scores), np.array(same), pairs)(np.ones(2 * len(scores)))


def test_equal_error_rate_by_hand() -> None:
    assert _rate([0.9, 0.8, 0.3, 0.1], [True, True, False, False]) == 0
    assert _rate([0.9, 0.8, 0.3, 0.1], [False, False, True, True]) == 1
    assert _rate([0.9, 0.8, 0.7, 0.6], [True, False, True, False]) == 0.5
    assert _rate([0.5, 0.5, 0.5, 0.5], [True, False, True, False]) == 0.5  # equal scores have no order
    assert np.isnan(_rate([0.5, 0.6], [True, True]))


def test_equal_error_rate_against_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    classes = draw.integers(0, 3, 40)
    pairs = np.array(list(combinations(range(40), 2)))
    same = classes[pairs[:, 0]] == classes[pairs[:, 1]]
    scores = np.round(draw.normal(size=len(pairs)) + 1.5 * same, 2)  # with ties
    false, true, _ = roc_curve(same, scores, drop_intermediate=False)
    gap = 1 - true - false
    index = int(np.argmax(gap <= 0))
    share = gap[index - 1] / (gap[index - 1] - gap[index])
    expected = false[index - 1] + share * (false[index] - false[index - 1])
    assert equal_error_rate(scores, same, pairs)(np.ones(40)) == pytest.approx(expected, abs=1e-12)


def test_a_recording_that_counts_nothing_is_not_there() -> None:
    draw = np.random.default_rng(1)
    pairs = np.array(list(combinations(range(12), 2)))
    scores, same = draw.normal(size=len(pairs)), draw.random(len(pairs)) < 0.4
    weights = np.ones(12)
    weights[5] = 0
    kept = (pairs != 5).all(1)
    without = equal_error_rate(scores[kept], same[kept], pairs[kept])(np.ones(12))
    assert equal_error_rate(scores, same, pairs)(weights) == pytest.approx(without, abs=1e-12)


def test_interval_of_a_share_is_that_of_the_binomial() -> None:
    right = [1.0] * 320 + [0.0] * 80
    found = figure([ratio(right, [1.0] * 400), ratio(right[::-1], [1.0] * 400)], 400)
    assert found.value == 0.8 and found.seeds == (0.8, 0.8)
    one = figure([ratio(right, [1.0] * 400)], 400)
    assert one.high - one.low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 400), rel=0.1)
    sure = figure([ratio([1.0] * 9, [1.0] * 9)], 9)
    assert (sure.value, sure.low, sure.high) == (1, 1, 1)


def test_long_recordings_count_more_in_a_ratio() -> None:
    assert ratio([1, 0], [2, 8])(np.ones(2)) == 0.1
    assert ratio([1, 0], [2, 8])(np.array([2.0, 0.0])) == 0.5


def test_mean_recall_against_scikit_learn() -> None:
    draw = np.random.default_rng(2)
    wanted, guessed = draw.integers(0, 4, 100), draw.integers(0, 4, 100)
    ours = mean_recall((wanted == guessed).tolist(), wanted.tolist())(np.ones(100))
    assert ours == pytest.approx(balanced_accuracy_score(wanted, guessed))
