from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocable.errors import InputError
from vocable.metrics.ngram import NGram

recordings = st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=5)


def after(model, context, code):
    return model.probabilities([np.array([*context, code])])[-1]


def test_pairs_by_hand():
    # 01 twice, 10, 02 and 20 once: D = 3 / (3 + 2); before 0 were a beginning, 1 and 2, before 1 and 2 only 0: D = 1
    model = NGram([np.array([0, 1, 0, 2, 0, 1])], 3, 2)
    assert after(model, [], 0) == pytest.approx(0.6)
    assert after(model, [], 1) == pytest.approx(0.2)
    assert after(model, [0], 1) == pytest.approx(1.4 / 3 + 0.4 * 0.2)
    assert after(model, [0], 2) == pytest.approx(0.4 / 3 + 0.4 * 0.2)
    assert after(model, [0], 0) == pytest.approx(0.4 * 0.6)
    assert after(model, [1], 0) == pytest.approx(0.4 + 0.6 * 0.6)
    assert model.bits([np.array([0, 2])]) == pytest.approx(-math.log2(0.6) - math.log2(0.4 / 3 + 0.08))


def test_single_codes_by_hand():
    # counts 2, 1, 1 and 0: D = 2 / (2 + 2)
    model = NGram([np.array([0, 0, 1]), np.array([2])], 4, 1)
    assert [after(model, [], code) for code in range(4)] == pytest.approx([0.46875, 0.21875, 0.21875, 0.09375])


@settings(deadline=None, max_examples=60)
@given(recordings, st.integers(1, 4), st.lists(st.integers(0, 3), max_size=4))
def test_probabilities_sum_to_one_in_any_context(rows, order, context):
    model = NGram([np.array(row, np.int64) for row in rows], 4, order)
    chances = [after(model, context, code) for code in range(4)]
    assert sum(chances) == pytest.approx(1, abs=1e-12)
    assert min(chances) > 0


@settings(deadline=None, max_examples=30)
@given(recordings, recordings, st.integers(1, 4))
def test_recordings_do_not_see_each_other(rows, coded, order):
    model = NGram([np.array(row, np.int64) for row in rows], 4, order)
    coded = [np.array(row, np.int64) for row in coded]
    assert model.bits(coded) == pytest.approx(sum(model.bits([row]) for row in coded), abs=1e-9)
    turned = NGram([np.array(row, np.int64) for row in reversed(rows)], 4, order)
    assert turned.bits(coded) == pytest.approx(model.bits(coded), abs=1e-9)


def test_nothing_known_is_a_guess():
    assert NGram([], 8, 3).bits([np.array([0, 7, 3])]) == pytest.approx(9)
    assert NGram([np.array([1, 2])], 8, 3).bits([]) == 0


def test_what_recurs_becomes_cheap_with_context():
    row = np.tile([0, 1, 2, 1], 300)
    bits = [NGram([row], 4, order).bits([row]) / len(row) for order in (1, 2, 3)]
    assert bits[0] == pytest.approx(1.5, abs=0.01)
    assert bits[1] == pytest.approx(0.5, abs=0.02)
    assert bits[2] < 0.02


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"0\.\.3"):
        NGram([np.array([4])], 4, 2)
    with pytest.raises(InputError, match=r"0\.\.3"):
        NGram([np.array([3])], 4, 2).bits([np.array([-1])])
    with pytest.raises(InputError, match="order"):
        NGram([], 4, 0)
