from __future__ import annotations

import numpy as np
import pytest

from vocable.compression.models import LARGEST_TOTAL, MODELS, Model, Order0, Order1, Uniform
from vocable.errors import InputError


def bits(model: Model, codes: list[int]) -> float:
    """What the codes of the first codebook cost."""
    total = 0.0
    for code in codes:
        expected = model.frequencies(0)
        total -= float(np.log2(expected[code] / expected.sum(dtype=np.float64)))
        model.update(0, code)
    return total


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [2, 3, 1024, 4096, 4097, 1 << 18])
def test_frequencies_are_whole_and_their_total_exact(name: str, size: int) -> None:
    """Whatever comes: one code for ever, two in turns, all of them; the total is where it would break first."""
    rng = np.random.default_rng(size)
    steps = 400 if size <= 4097 else 60
    constant, turns, rest = [0] * steps, [0, 1] * steps, rng.integers(0, size, steps).tolist()
    model = MODELS[name]([size])
    for code in [*constant, *turns, *rest, *constant]:
        expected = model.frequencies(0)
        assert expected.dtype == np.float32
        assert expected.shape == (size,)
        model.update(0, code)
        assert expected.min() >= 1
    last = model.frequencies(0)
    assert (last == np.floor(last)).all()
    assert int(last.astype(np.int64).sum()) <= LARGEST_TOTAL


def test_the_total_stays_exact_in_the_worst_case() -> None:
    """A context that has seen as much as it holds, a code that always stays, counts that are about to be halved."""
    model, largest = Order1([4096]), 0
    for _ in range(20_000):
        largest = max(largest, int(model.frequencies(0).sum(dtype=np.float64)))
        model.update(0, 7)
    assert 1 << 20 < largest <= LARGEST_TOTAL


def test_order_0_is_the_estimate_of_krichevsky_and_trofimov() -> None:
    model = Order0([4])
    for code in [2, 2, 1]:
        model.update(0, code)
    expected = model.frequencies(0)
    assert (expected / expected.sum()).tolist() == pytest.approx([0.5 / 5, 1.5 / 5, 2.5 / 5, 0.5 / 5])


def test_counts_that_are_halved_follow_a_change() -> None:
    model = Order0([8])
    for code in [1] * 40_000 + [5] * 20_000:
        model.update(0, code)
    assert model.frequencies(0)[5] > model.frequencies(0)[1]


def test_what_stays_and_what_follows_is_learnt() -> None:
    """A cycle of 16 codes has no order-0 structure at all; one code that stays is cheap; noise costs what it has to."""
    rng = np.random.default_rng(0)
    cycle, noise = list(range(16)) * 20, rng.integers(0, 16, 320).tolist()
    assert bits(Uniform([16]), cycle) == pytest.approx(4 * 320)
    assert bits(Order0([16]), cycle) > 0.95 * 4 * 320
    assert bits(Order1([16]), cycle) < 0.6 * 4 * 320
    assert bits(Order1([16]), [3] * 320) < 0.1 * 4 * 320
    assert bits(Order1([16]), noise) < 1.1 * 4 * 320
    stays = np.repeat(rng.permutation(512)[:160], 2).tolist()
    assert bits(Order1([512]), stays) < 0.75 * bits(Order0([512]), stays)


def test_codebooks_learn_apart() -> None:
    model = Order1([4, 4])
    for _ in range(50):
        model.update(0, 3)
    assert model.frequencies(1).tolist() == MODELS["adaptive"]([4, 4]).frequencies(1).tolist()


@pytest.mark.parametrize("sizes", [[], [0], [(1 << 18) + 1], [1 << 18] * 17])
@pytest.mark.parametrize("name", MODELS)
def test_codebooks_beyond_reason_are_refused(name: str, sizes: list[int]) -> None:
    with pytest.raises(InputError, match="expected codebooks of 1 to 262144 entries"):
        MODELS[name](sizes)
