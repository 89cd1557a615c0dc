"""Which crops are drawn, and which recordings are never learned from."""

from __future__ import annotations

import numpy as np
import pytest

from vocable.errors import InputError
from vocable.training.crops import Crops, Lottery, held_out, random_numbers


def test_recordings_come_up_in_proportion_to_their_length() -> None:
    lottery, random = Lottery([100, 0, 300, 5], 10), np.random.default_rng(0)
    drawn = [lottery.draw(random) for _ in range(20000)]
    counts = np.bincount([index for index, _ in drawn], minlength=4) / len(drawn)
    assert counts[1] == 0
    assert counts == pytest.approx(np.array([100, 0, 300, 5]) / 405, abs=0.01)
    places = {index: [first for number, first in drawn if number == index] for index in (0, 2, 3)}
    assert (min(places[0]), max(places[0])) == (0, 90)
    assert (min(places[2]), max(places[2])) == (0, 290)
    assert set(places[3]) == {0}
    assert np.mean(places[2]) == pytest.approx(145, abs=3)


def test_a_corpus_shorter_than_one_crop_is_refused() -> None:
    Lottery([4, 6], 10)
    with pytest.raises(InputError, match="as much sound as one crop"):
        Lottery([4, 5], 10)
    with pytest.raises(InputError, match="as much sound as one crop"):
        Lottery([], 1)


def test_random_numbers_are_those_of_seed_step_and_process() -> None:
    first = random_numbers(0, 1, 2).integers(2**40)
    assert first == random_numbers(0, 1, 2).integers(2**40)
    others = [random_numbers(*key).integers(2**40) for key in ((1, 1, 2), (0, 2, 2), (0, 1, 3), (-1, 1, 2))]
    assert len({first, *others}) == 5


def test_held_out_are_few_and_depend_on_their_own_id() -> None:
    names = [f"speaker/{number}" for number in range(5000)]
    held = held_out(names)
    assert 70 < len(held) < 130
    assert held_out(names[:2500]) == held & set(names[:2500])
    assert held_out(names[::-1]) == held
    assert held_out(["a"]) == frozenset()
    for count in range(2, 40):
        assert 1 <= len(held_out(names[:count])) < count


def test_crops_are_whole_frames() -> None:
    assert Crops(4, 0.5).frames(16000, 160) == 50
    assert Crops(4, 0.0001).frames(16000, 160) == 1
    with pytest.raises(InputError, match="more than 0 s"):
        Crops(0, 1.0)
    with pytest.raises(InputError, match="more than 0 s"):
        Crops(1, 0.0)
