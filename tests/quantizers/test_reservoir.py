"""The reservoir: a uniform sample, the same whatever the order and the chunks, in memory of a stated size."""

from __future__ import annotations

import tracemalloc
from hashlib import sha256

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vocable.errors import InputError
from vocable.quantizers.reservoir import FrameReservoir

MASK = 2**64 - 1


def frames_of(utterance: int, count: int) -> torch.Tensor:
    """Frames [2, T, 1] that say where they come from; the second layer is the negative of the first."""
    numbers = utterance * 1000.0 + torch.arange(count, dtype=torch.float32)
    return torch.stack([numbers, -numbers])[..., None]


def key(name: str, place: int) -> int:
    """SplitMix64 in plain integers, after the reference implementation."""
    z = (int.from_bytes(sha256(name.encode()).digest()[:8], "little") + (place + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_the_smallest_keys_stay_in_their_order() -> None:
    reservoir = FrameReservoir(7, 2, 1, seed=3)
    for utterance in range(5):
        reservoir.add(f"u{utterance}", 0, frames_of(utterance, 11))
    keys = sorted((key(f"3:u{u}", i), u * 1000.0 + i) for u in range(5) for i in range(11))
    assert reservoir.layer(0)[:, 0].tolist() == [number for _, number in keys[:7]]
    assert torch.equal(reservoir.layer(1), -reservoir.layer(0))
    assert (len(reservoir), reservoir.seen) == (7, 55)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 120), st.data())
def test_order_and_chunks_change_nothing(counts: list[int], capacity: int, data: st.DataObject) -> None:
    whole, chopped = FrameReservoir(capacity, 2, 1), FrameReservoir(capacity, 2, 1)
    chunks = []
    for utterance, count in enumerate(counts):
        frames = frames_of(utterance, count)
        whole.add(f"u{utterance}", 0, frames)
        edge = data.draw(st.integers(0, count))
        chunks += [(utterance, 0, frames[:, :edge]), (utterance, edge, frames[:, edge:])]
    for utterance, first, frames in data.draw(st.permutations(chunks)):
        chopped.add(f"u{utterance}", first, frames)
        chopped.layer(0)  # looking changes nothing either
        assert len(chopped) == len(chopped.layer(0)) == min(capacity, chopped.seen)
    assert len(whole) == len(chopped) == min(capacity, sum(counts))
    for layer in range(2):
        assert torch.equal(whole.layer(layer), chopped.layer(layer))


def test_everything_stays_while_there_is_room() -> None:
    reservoir = FrameReservoir(100, 2, 1)
    assert reservoir.layer(0).shape == (0, 1)
    reservoir.add("u", 0, frames_of(1, 60))
    assert sorted(reservoir.layer(0)[:, 0].tolist()) == [1000 + i for i in range(60)]


def test_more_frames_at_once_than_the_capacity() -> None:
    at_once, one_by_one = FrameReservoir(10, 2, 1), FrameReservoir(10, 2, 1)
    frames = frames_of(0, 900)
    at_once.add("u", 0, frames)
    for place in range(900):
        one_by_one.add("u", place, frames[:, place : place + 1])
    assert torch.equal(at_once.layer(0), one_by_one.layer(0))


def test_the_sample_is_uniform() -> None:
    """Over 400 seeds each of 60 frames in utterances of unequal length stays about as often as any other."""
    counts = np.zeros(60)
    lengths = (1, 2, 7, 50)
    for seed in range(400):
        reservoir = FrameReservoir(15, 2, 1, seed=seed)
        for utterance, length in enumerate(lengths):
            reservoir.add(f"u{utterance}", 0, frames_of(utterance, length))
        for number in reservoir.layer(0)[:, 0].tolist():
            counts[sum(lengths[: int(number // 1000)]) + int(number % 1000)] += 1
    expected = 400 * 15 / 60
    chi_square = ((counts - expected) ** 2 / (expected * (1 - 15 / 60))).sum()
    assert 30 < chi_square < 100, "59 degrees of freedom: beyond this once in a thousand"
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected * 0.75)


def test_another_seed_is_another_sample_and_the_same_seed_the_same() -> None:
    def kept(seed: int) -> list[float]:
        reservoir = FrameReservoir(20, 2, 1, seed=seed)
        reservoir.add("u", 0, frames_of(0, 400))
        return sorted(reservoir.layer(0)[:, 0].tolist())

    assert kept(0) == kept(0)
    assert kept(0) != kept(1)


def test_names_of_any_make_and_frames_of_any_float() -> None:
    for name in ("", "\udcff", "a\0b", "Ж" * 10000):
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            reservoir = FrameReservoir(5, 2, 1)
            reservoir.add(name, 0, frames_of(0, 3).to(dtype).requires_grad_())
            assert sorted(reservoir.layer(0)[:, 0].tolist()) == [0, 1, 2]


def test_memory_is_what_is_stated() -> None:
    capacity, layers, dim = 4000, 2, 64
    frames = torch.randn(layers, 500, dim)
    tracemalloc.start()
    reservoir = FrameReservoir(capacity, layers, dim)
    for utterance in range(200):
        reservoir.add(f"u{utterance}", 0, frames)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    stated = capacity * 17 / 16 * (layers * dim * 4 + 8)
    assert held == pytest.approx(stated, rel=0.01)
    assert peak < 1.3 * stated


def test_room_for_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="at least one frame"):
        FrameReservoir(0, 1, 1)
