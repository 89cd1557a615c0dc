"""Unit BPE: exact, the same through tokenizers and transformers, and what it gains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from vocable.errors import InputError, OutputError
from vocable.store import Entry, TokenStore
from vocable.tokenizers.bpe import characters, learn_merges
from vocable.tokenizers.bpe_training import save_bpe, train_bpe, unit_stream
from vocable.tokenizers.streams import BPE, Flatten, Special, TokenStream
from vocable.types import Codebook, TokenSpec

SPEC = TokenSpec(16000, 320, (Codebook(12, "L6"), Codebook(5, "L9")), "a" * 64)


def spoken(frames: int, seed: int) -> np.ndarray:
    """Codes [2, frames] in which words of a few units come again and again."""
    rng = np.random.default_rng(seed)
    words = np.random.default_rng(0).integers(0, 12, (6, 4))
    units = words[rng.integers(0, 6, frames)].ravel()
    first = np.repeat(units, rng.integers(1, 4, len(units)))[:frames]
    return np.stack([first, first % 5])


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    store = TokenStore.create(tmp_path / "tokens", SPEC)
    store.append(Entry(f"u{n}", spoken(300, n), SPEC.num_samples(300)) for n in range(12))
    return store


@given(st.lists(st.integers(0, 11), max_size=60), st.integers(0, 5))
def test_merges_are_undone_exactly(units: list[int], seed: int) -> None:
    model = learn_merges([spoken(200, seed)[0]], 12, 40)
    stream = TokenStream(SPEC.take(["L6"])) | Flatten() | model
    ids = stream.forward([units])
    assert stream.inverse(ids).tolist() == [units] and len(ids) <= len(units)
    assert stream.inverse_prefix(ids).tolist() == [units]
    cut = stream.inverse(ids[: len(ids) // 2])[0].tolist()
    assert cut == units[: len(cut)]
    assert TokenStream.from_config(json.loads(json.dumps(stream.config()))) == stream


def test_units_keep_their_ids_and_merges_are_what_they_say() -> None:
    model = BPE(3, ((0, 1), (3, 2), (1, 2), (0, 5)))  # ab, abc, bc, and abc once more
    stream = TokenStream(TokenSpec(16000, 320, (Codebook(3, "a"),), "a" * 64)) | Flatten() | model
    assert stream.vocabulary == 6
    assert stream.forward([[0, 1, 2, 2, 1, 2]]).tolist() == [4, 2, 5]
    assert stream.inverse([4, 5, 3]).tolist() == [[0, 1, 2, 1, 2, 0, 1]]
    assert stream.form.measured and stream.rate == 50


def test_all_units_have_ids_even_if_they_never_came() -> None:
    model = learn_merges([np.array([3, 3, 3, 3, 3, 3])], 1000, 2000)
    stream = TokenStream(TokenSpec(16000, 320, (Codebook(1000, "a"),), "a" * 64)) | Flatten() | model
    every = np.arange(1000)[None]
    assert np.array_equal(stream.forward(every), every[0])
    assert model.vocabulary < 1010


def test_a_long_silence_and_a_long_recording() -> None:
    model = learn_merges([np.zeros(20_000, np.int64)], 4, 3000)
    stream = TokenStream(TokenSpec(16000, 320, (Codebook(4, "a"),), "a" * 64)) | Flatten() | model
    codes = np.zeros((1, 30_000), np.int64)
    codes[0, ::7] = 1
    assert np.array_equal(stream.inverse(stream.forward(codes)), codes)


@pytest.mark.parametrize(("size", "vocabulary"), [(10, 10), (10, 5), (0, 5), ((1 << 17) + 1, 1 << 18)])
def test_vocabularies_that_cannot_be(size: int, vocabulary: int) -> None:
    with pytest.raises(InputError, match=r"vocabulary larger|the units of BPE"):
        learn_merges([np.array([0])], size, vocabulary)


def test_gains_are_counted_on_recordings_apart(store: TokenStore) -> None:
    made, (learned, apart) = train_bpe(store, unit_stream(store, ["L6"]), 40, held_out=0.25)
    assert (learned.recordings, apart.recordings) == (9, 3) and apart.held_out and not learned.held_out
    codes, units, pairs = apart.costs
    assert codes.tokens_per_second == pytest.approx(50, rel=0.01) and codes.vocabulary == 12
    assert codes.tokens_per_second > units.tokens_per_second > 2 * pairs.tokens_per_second
    assert pairs.bits_per_second == pytest.approx(pairs.tokens_per_second * np.log2(pairs.vocabulary))
    assert all(cost.entropy_coded <= cost.bits_per_second * 1.05 for cost in apart.costs)
    assert pairs.entropy_coded < units.entropy_coded < codes.entropy_coded
    assert not made.exact and made.vocabulary == pairs.vocabulary <= 40
    same, _ = train_bpe(store, unit_stream(store, ["L6"]), 40, held_out=0.25)
    assert same == made


def test_less_is_learned_from_than_there_is(store: TokenStore) -> None:
    few, _ = train_bpe(store, unit_stream(store, runs_once=False), 100, most_units=1)
    all_of_it, _ = train_bpe(store, unit_stream(store, runs_once=False), 100)
    assert few != all_of_it and few.exact
    codes = spoken(50, 99)
    assert np.array_equal(few.inverse(few.forward(codes)), codes)


def test_one_recording_and_none(tmp_path: Path) -> None:
    store = TokenStore.create(tmp_path / "one", SPEC)
    with pytest.raises(InputError, match="expected a store with recordings"):
        train_bpe(store, unit_stream(store), 40)
    store.append([Entry("u", spoken(100, 0), SPEC.num_samples(100))])
    _, gains = train_bpe(store, unit_stream(store), 40)
    assert [gain.held_out for gain in gains] == [False]
    with pytest.raises(InputError, match="share of recordings"):
        train_bpe(store, unit_stream(store), 40, held_out=1.0)


def test_tokenizers_and_transformers_read_it(store: TokenStore, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    made, _ = train_bpe(store, unit_stream(store, ["L6"]), 40)
    stream = save_bpe(made, tmp_path / "bpe", special=("pad", "bos", "eos", "sep"))
    assert stream == made | Special(("pad", "bos", "eos", "sep")) == TokenStream.load(tmp_path / "bpe")
    codes = spoken(100, 7)[:1]
    ids = stream.forward(codes)
    units = TokenStream(made.spec, made.transforms[:-1]).forward(codes)
    text = characters(units)

    plain = Tokenizer.from_file(str(tmp_path / "bpe" / "tokenizer.json"))
    assert plain.get_vocab_size() == stream.vocabulary
    assert plain.encode(text).ids == ids.tolist()
    assert plain.decode(ids.tolist()) == text
    by_file = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "bpe" / "tokenizer.json"))
    for fast in (by_file, PreTrainedTokenizerFast.from_pretrained(tmp_path / "bpe")):
        assert fast(text)["input_ids"] == ids.tolist()
        assert fast.decode(ids.tolist(), skip_special_tokens=True) == text
    assert (fast.pad_token_id, fast.bos_token_id, fast.eos_token_id, fast.sep_token_id) == (0, 1, 2, 3)
    with pytest.raises(OutputError):
        save_bpe(made, tmp_path / "bpe")
    assert save_bpe(made, tmp_path / "bpe", special=(), overwrite=True) == made
    assert (
        Tokenizer.from_file(str(tmp_path / "bpe" / "tokenizer.json")).encode(text).ids == made.forward(codes).tolist()
    )
    with pytest.raises(InputError, match="ends in BPE"):
        save_bpe(unit_stream(store), tmp_path / "other")
