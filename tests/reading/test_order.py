"""A shuffled order: a permutation of any size, another one for every seed and epoch, without favourites."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vocable.errors import InputError
from vocable.reading import permuted

SEEDS = st.integers(-(1 << 70), 1 << 70)


@given(size=st.integers(1, 3000), seed=SEEDS, epoch=st.integers(0, 1 << 40))
@example(size=1, seed=0, epoch=0)
@example(size=2, seed=0, epoch=0)
def test_every_number_comes_once(size: int, seed: int, epoch: int) -> None:
    assert np.array_equal(np.sort(permuted(np.arange(size), size, seed, epoch)), np.arange(size))


@given(size=st.integers(1, 1 << 62), seed=SEEDS, data=st.data())
def test_places_are_known_apart_and_stay_in_range(size: int, seed: int, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20, unique=True))
    together = permuted(np.array(places), size, seed)
    assert together.tolist() == [int(permuted(np.array([place]), size, seed)[0]) for place in places]
    assert 0 <= together.min() <= together.max() < size
    assert len(set(together.tolist())) == len(places)


def test_the_order_is_the_same_on_every_machine() -> None:
    assert permuted(np.arange(10), 10, seed=7, epoch=2).tolist() == [4, 2, 7, 8, 5, 0, 6, 1, 3, 9]


@pytest.mark.parametrize("size", [12, 97])
def test_no_number_has_a_favourite_place_or_neighbour(size: int) -> None:
    epochs = 60 * size
    orders = np.stack([permuted(np.arange(size), size, seed=1, epoch=epoch) for epoch in range(epochs)])
    places = np.stack([np.bincount(column, minlength=size) for column in orders.T])
    steps = np.bincount(((orders[:, 1:] - orders[:, :-1]) % size).ravel(), minlength=size)[1:]
    for counts, freedom in ((places, (size - 1) ** 2), (steps, size - 2)):
        deviation = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
        assert deviation < freedom + 5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize(("places", "size"), [([0], 0), ([0], (1 << 62) + 1), ([3], 3), ([-1], 3)])
def test_what_lies_outside_is_refused(places: list[int], size: int) -> None:
    with pytest.raises(InputError, match="expected"):
        permuted(np.array(places), size, 0)
