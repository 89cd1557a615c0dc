from __future__ import annotations

import math

import numpy as np
import pytest

from vocable.errors import InputError
from vocable.metrics.coding import bitrates, empirical_bits, held_out_bits, learn_pairs, pair_encodings
from vocable.metrics.runs import deduplicated
from vocable.store import Entry, TokenStore
from vocable.types import Codebook, TokenSpec

SPEC = TokenSpec(1000, 100, (Codebook(8, "L6"), Codebook(4, "slow", stride=2)), "made-up")


def arrays(*rows):
    return [np.array(row, np.uint8) for row in rows]


def store_of(path, recordings, spec=SPEC):
    store = TokenStore.create(path, spec)
    store.append(
        Entry(f"r{index}", codes, samples=codes.shape[1] * spec.hop_length) for index, codes in enumerate(recordings)
    )
    return store


def random_store(path, count=6, frames=40):
    draw = np.random.default_rng(0)
    recordings = []
    for _ in range(count):
        fast = np.repeat(draw.integers(0, 8, frames), draw.integers(1, 4, frames))[:frames]
        slow = np.repeat(draw.integers(0, 4, frames // 2), 2)
        recordings.append(np.stack([fast, slow]).astype(np.uint8))
    return store_of(path, recordings), recordings


def test_empirical_bits_by_hand():
    assert empirical_bits(arrays([0, 0], [1, 2]), 0) == pytest.approx(6)
    assert empirical_bits(arrays([0, 1, 0, 1], [0, 1]), 1) == 0
    # both begin with 0; after 0 come 0, 1 and 1
    assert empirical_bits(arrays([0, 0, 1], [0, 1]), 1) == pytest.approx(3 * (math.log2(3) - 2 / 3))
    assert empirical_bits([], 0) == empirical_bits(arrays([]), 1) == 0
    with pytest.raises(InputError, match="order"):
        empirical_bits([], 2)


def test_held_out_bits_by_hand():
    # 0 0 teaches 0.875 and 0.125, which 0 1 is coded with; 0 1 teaches 0.5 and 0.5
    expected = -math.log2(0.875) + 3 + 2
    assert held_out_bits(arrays([0, 0], [0, 1]), 2, 0) == pytest.approx(expected)
    with pytest.raises(InputError, match="two recordings"):
        held_out_bits(arrays([0, 0]), 2, 0)


def test_random_codes_cannot_be_coded():
    rows = list(np.random.default_rng(1).integers(0, 8, (4, 500)))
    for order in (0, 1, 3):
        assert held_out_bits(rows, 8, order) > 0.995 * 3 * 2000
    assert empirical_bits(rows, 1) < 3 * 2000


def test_rates_of_a_store(tmp_path):
    store, recordings = random_store(tmp_path / "s")
    fast, slow, total = bitrates(store, order=2)
    assert (fast.label, slow.label, total.label) == ("L6", "slow", "all")
    seconds = 6 * 40 / 10
    assert fast.raw == pytest.approx(30)
    assert slow.raw == pytest.approx(2 * 5)
    assert total.raw == pytest.approx(store.spec.bitrate)
    assert fast.entropy0 == pytest.approx(empirical_bits([codes[0] for codes in recordings], 0) / seconds)
    assert slow.entropy1 == pytest.approx(empirical_bits([codes[1, ::2] for codes in recordings], 1) / seconds)
    units = sum(len(deduplicated(codes[0])) for codes in recordings)
    assert fast.units == pytest.approx(3 * units / seconds)
    assert fast.units < fast.timed_units < fast.raw
    assert fast.held_out1 < fast.held_out0
    assert total.held_out_units == pytest.approx(fast.held_out_units + slow.held_out_units)


def test_pairs_by_hand():
    count, entries = learn_pairs(arrays([0, 1, 0, 1, 2, 0, 1]), 3, 4)
    assert entries == 4
    assert count(np.array([0, 1, 0, 1])) == 2
    assert count(np.array([1, 0, 2])) == 3
    assert count(np.array([], np.int64)) == 0


def test_codes_of_large_codebooks_are_characters_too():
    codes = np.array([55_039, 55_040, 57_088, 65_535])
    count, entries = learn_pairs([np.tile(codes, 5)], 65_536, 65_537)
    assert entries == 65_537
    assert count(codes) == 3


def test_pair_encoding_of_a_store(tmp_path):
    phrase = np.array([[0, 1, 2, 3], [0, 0, 1, 1]], np.uint8)
    store = store_of(tmp_path / "s", [np.tile(phrase, 5)] * 4)
    fast, slow = pair_encodings(store, 10)
    assert (fast.label, slow.label) == ("L6", "slow")
    # 8 units and 01, 23, of which the phrase is two
    assert fast.vocabulary == 10
    assert fast.tokens_per_second == 5
    assert fast.bits_per_second == pytest.approx(5 * math.log2(10))
    assert pair_encodings(store, 8)[0].tokens_per_second == 10
