from __future__ import annotations

import numpy as np
import pytest

from vocable.errors import InputError
from vocable.metrics.runs import codebook_use, deduplicated, read_streams, run_lengths
from vocable.store import Entry, TokenStore
from vocable.types import Codebook, TokenSpec

SPEC = TokenSpec(1000, 100, (Codebook(8, "L6"), Codebook(4, "slow", stride=2)), "made-up")


def store_of(path, spec, *recordings):
    store = TokenStore.create(path, spec)
    codes = [np.array(rows, np.uint8) for rows in recordings]
    store.append(Entry(f"r{index}", rows, samples=rows.shape[1] * spec.hop_length) for index, rows in enumerate(codes))
    return store


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_runs_by_hand(dtype):
    units, lengths = run_lengths(np.array([7, 7, 7, 2, 255, 255], dtype))
    assert units.tolist() == [7, 2, 255]
    assert lengths.tolist() == [3, 1, 2]
    assert deduplicated(np.array([5], dtype)).tolist() == [5]
    assert [part.tolist() for part in run_lengths(np.zeros(0, dtype))] == [[], []]


def test_runs_undo():
    codes = np.random.default_rng(0).integers(0, 3, 200)
    assert np.array_equal(np.repeat(*run_lengths(codes)), codes)
    with pytest.raises(InputError, match="shape"):
        run_lengths(codes[None])


def test_use_of_codebooks_by_hand(tmp_path):
    store = store_of(tmp_path / "s", SPEC, [[1, 1, 1, 2], [0, 0, 3, 3]], [[2, 2, 4, 4], [1, 1, 1, 1]])
    fast, slow = codebook_use(store)
    assert (fast.label, fast.size, fast.dead, fast.usage) == ("L6", 8, 5, 3 / 8)
    assert fast.tokens_per_second == 10
    assert fast.deduplicated_per_second == 4 / 0.8
    assert fast.run_histogram == (1, 2, 1)
    assert fast.mean_run == 2
    assert fast.entropy == pytest.approx(-2 * 3 / 8 * np.log2(3 / 8) + 0.5)
    assert fast.normalized_entropy == pytest.approx(fast.entropy / 3)
    assert fast.perplexity == pytest.approx(2**fast.entropy)
    assert slow.tokens_per_second == 5
    assert slow.run_histogram == (2, 1)


def test_streams_have_one_code_a_stride_and_no_order_of_writing(tmp_path):
    one = store_of(tmp_path / "a", SPEC, [[1, 2, 3], [1, 1, 0]], [[4, 5, 6], [2, 2, 3]])
    streams = read_streams(one)
    assert streams.seconds == 0.6
    assert sorted(row.tolist() for row in streams.codes[1]) == [[1, 0], [2, 3]]
    other = TokenStore.create(tmp_path / "b", SPEC)
    for entry in sorted(one, key=lambda entry: entry.id, reverse=True):
        other.append([entry])
    again = read_streams(other)
    assert [row.tolist() for row in again.codes[0]] == [row.tolist() for row in streams.codes[0]]


def test_an_empty_store_is_refused(tmp_path):
    with pytest.raises(InputError, match="with recordings"):
        codebook_use(TokenStore.create(tmp_path / "s", SPEC))
