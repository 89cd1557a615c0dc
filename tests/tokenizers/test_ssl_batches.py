from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vocable.tokenizers.ssl_batches import Batch, alone, bucketed, fixed, plan

LENGTHS = st.lists(st.integers(1, 100), min_size=1, max_size=20)


def waves(lengths: Sequence[int]) -> list[Tensor]:
    return [torch.full((length,), float(row + 1)) for row, length in enumerate(lengths)]


def rows(batches: Sequence[Batch]) -> list[int]:
    return [row for batch in batches for row in batch.rows]


def check_contents(batches: Sequence[Batch], lengths: Sequence[int]) -> None:
    """Every utterance is there once, whole, with its length and nothing behind it."""
    assert sorted(rows(batches)) == list(range(len(lengths)))
    for batch in batches:
        for place, row in enumerate(batch.rows):
            assert batch.lengths is None or int(batch.lengths[place]) == lengths[row]
            assert batch.samples[place, : lengths[row]].eq(row + 1).all()
            assert not batch.samples[place, lengths[row] :].any()


@given(lengths=LENGTHS)
def test_alone_means_natural_lengths_the_longest_first(lengths: list[int]) -> None:
    batches = list(alone(waves(lengths)))
    check_contents(batches, lengths)
    assert all(batch.samples.shape == (1, lengths[batch.rows[0]]) and batch.lengths is None for batch in batches)
    assert all(before.samples.shape[1] >= after.samples.shape[1] for before, after in pairwise(batches))


@given(lengths=LENGTHS, limit=st.integers(1, 300), step=st.integers(1, 40))
def test_a_fixed_shape_follows_from_the_length_alone(lengths: list[int], limit: int, step: int) -> None:
    batches = list(fixed(waves(lengths), step=step, limit=limit, window=1))
    check_contents(batches, lengths)
    shapes = {row: tuple(batch.samples.shape) for batch in batches for row in batch.rows}
    for row, length in enumerate(lengths):
        (by_itself,) = fixed(waves([length]), step=step, limit=limit, window=1)
        assert tuple(by_itself.samples.shape) == shapes[row]
        assert shapes[row][1] % step == 0
        assert 0 <= shapes[row][1] - length < step
        assert shapes[row][0] == 1 or shapes[row][0] * shapes[row][1] <= limit


def test_fixed_batches_are_filled_up_with_silence_of_one_window() -> None:
    (batch,) = fixed(waves([30, 25]), step=16, limit=160, window=4)
    assert batch.samples.shape == (5, 32)
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [30, 25, 4, 4, 4]
    assert not batch.samples[2:].any()


@given(lengths=LENGTHS, limit=st.integers(1, 300), padding=st.booleans())
def test_buckets_stay_within_the_limit(lengths: list[int], limit: int, padding: bool) -> None:
    batches = list(bucketed(waves(lengths), limit=limit, padding=padding))
    check_contents(batches, lengths)
    for batch in batches:
        assert len(batch.rows) == len(batch.samples) == 1 or batch.samples.numel() <= limit
        assert padding or {lengths[row] for row in batch.rows} == {batch.samples.shape[1]}
        assert (batch.lengths is not None) == padding


def test_the_device_and_the_mode_choose() -> None:
    def shapes(mode: str, *, cpu: bool, padding: bool) -> list[tuple[int, ...]]:
        batches = plan(waves([5, 30, 30, 7]), mode, cpu=cpu, padding=padding, rate=10, window=4)  # type: ignore[arg-type]
        return sorted(tuple(batch.samples.shape) for batch in batches)

    each = [(1, 5), (1, 7), (1, 30), (1, 30)]
    assert shapes("exact", cpu=True, padding=True) == shapes("fast", cpu=True, padding=True) == each
    assert shapes("exact", cpu=False, padding=False) == each
    assert shapes("exact", cpu=False, padding=True) == [(32, 20), (32, 40)]
    assert shapes("fast", cpu=False, padding=True) == [(4, 30)]
    assert shapes("fast", cpu=False, padding=False) == [(1, 5), (1, 7), (2, 30)]


def test_no_utterances_make_no_batches() -> None:
    for batches in (alone([]), fixed([], step=1, limit=1, window=1), bucketed([], limit=1, padding=True)):
        assert list(batches) == []
