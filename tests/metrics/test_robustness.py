from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocable import audio
from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.metrics.augment import Noise, TimeStretch
from vocable.metrics.robustness import edit_distance, robustness, unit_edit_distance
from vocable.types import Audio, Codebook, Tokens, TokenSpec

sequences = st.lists(st.integers(0, 3), max_size=12)


class Signs:
    """A code for the sign of every tenth sample, and for that of every twentieth."""

    spec = TokenSpec(1000, 10, (Codebook(2, "sign"), Codebook(2, "slow", stride=2)), "made-up")

    def encode(self, audio):
        codes = [(audio.waveform(i)[0, ::10] > 0).long() for i in range(len(audio))]
        slow = [row[::2].repeat_interleave(2)[: len(row)] for row in codes]
        return Tokens.of(
            [torch.stack(pair) for pair in zip(codes, slow, strict=True)], self.spec, audio.lengths.tolist()
        )


@dataclass(frozen=True)
class Nothing:
    name: str = "nothing"

    def apply(self, audio, seed):
        return audio


@dataclass(frozen=True)
class Flip:
    name: str = "flip"

    def apply(self, audio, seed):
        return Audio(-audio.samples, audio.lengths, audio.sample_rate)


@pytest.fixture
def corpus(tmp_path):
    square = np.repeat([0.5, -0.5, 0.5, -0.5, 0.5], 400)
    for name, wave in {"a": square, "b": np.full(100, 0.25)}.items():
        audio.write(tmp_path / f"{name}.wav", Audio.of([torch.from_numpy(wave).float()], 1000))
    lines = [{"path": f"{name}.wav", "id": name} for name in ("a", "b", "missing")]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return Corpus.of(tmp_path / "all.jsonl")


def recursive(one, other):
    @lru_cache
    def edits(n, m):
        if not n or not m:
            return n + m
        return min(edits(n - 1, m) + 1, edits(n, m - 1) + 1, edits(n - 1, m - 1) + (one[n - 1] != other[m - 1]))

    return edits(len(one), len(other))


@settings(deadline=None, max_examples=80)
@given(sequences, sequences)
def test_edit_distance_is_that_of_the_definition(one, other):
    assert edit_distance(np.array(one, np.int64), np.array(other, np.int64)) == recursive(tuple(one), tuple(other))


def test_unit_edit_distance_by_hand():
    assert unit_edit_distance(np.array([1, 2, 3]), np.array([1, 9, 3])) == 1 / 3
    assert unit_edit_distance(np.array([1, 1, 2, 3, 3]), np.array([1, 2, 2, 2, 3])) == 0
    assert unit_edit_distance(np.array([5]), np.array([1, 2, 1])) == 3
    assert unit_edit_distance(np.array([1, 2]), np.array([], np.int64)) == 1
    with pytest.raises(InputError, match="at least one"):
        unit_edit_distance(np.array([], np.int64), np.array([1]))


def test_table_by_hand(corpus):
    result = robustness(Signs(), corpus, (Nothing(), Flip()))
    # + - + - + flipped: one insertion and one deletion in five units; + flipped: its only unit
    rows = {(row.augmentation, row.label): (row.distance, row.standard_error) for row in result.rows}
    assert list(rows) == [(a, c) for a in ("nothing", "flip") for c in ("sign", "slow")]
    assert rows["nothing", "sign"] == rows["nothing", "slow"] == (0, 0)
    assert rows["flip", "sign"] == pytest.approx(((2 / 5 + 1) / 2, 0.3))
    assert result.recordings == 2
    assert [failure.id for failure in result.failures] == ["missing"]


def test_units_without_repetitions_bear_another_speed(corpus):
    stretched = robustness(Signs(), corpus, (TimeStretch(1.1), TimeStretch(1.3)))
    assert [row.distance for row in stretched.rows if row.label == "sign"] == [0, 0]


def test_neither_order_nor_company_shows(corpus):
    kinds = (Noise(0),)
    whole = {row.label: row.distance for row in robustness(Signs(), corpus, kinds, seed=3).rows}
    turned = Corpus(reversed(list(corpus)))
    assert {row.label: row.distance for row in robustness(Signs(), turned, kinds, seed=3).rows} == whole
    singles = [robustness(Signs(), corpus.without({other, "missing"}), kinds, seed=3) for other in "ab"]
    assert math.fsum(single.rows[0].distance for single in singles) / 2 == whole["sign"]
    assert math.isnan(singles[0].rows[0].standard_error)
    assert {row.label: row.distance for row in robustness(Signs(), corpus, kinds, seed=4).rows} != whole


def test_what_cannot_be_judged_is_refused(corpus):
    with pytest.raises(InputError, match="distinct names"):
        robustness(Signs(), corpus, (Nothing(), Nothing()))
    with pytest.raises(InputError, match="no recording"):
        robustness(Signs(), corpus.without({"a", "b"}), (Nothing(),))
