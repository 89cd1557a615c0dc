from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocable.compression.coding import BlockCoder
from vocable.compression.models import MODELS
from vocable.errors import AudioError, InputError, MissingDependencyError
from vocable.types import Codebook, TokenSpec


def spec_of(*books: tuple[int, int]) -> TokenSpec:
    """Codebooks of (size, stride)."""
    return TokenSpec(16000, 320, tuple(Codebook(size, f"rvq{k}", stride) for k, (size, stride) in enumerate(books)), "")


def coder(spec: TokenSpec, name: str = "adaptive") -> BlockCoder:
    return BlockCoder(spec, MODELS[name]([book.size for book in spec.codebooks]))


def random_codes(spec: TokenSpec, frames: int, seed: int = 0) -> np.ndarray:
    """Codes [K, T] of a few values that like to stay, constant over strides."""
    rng = np.random.default_rng(seed)
    rows = []
    for book in spec.codebooks:
        fresh = rng.integers(0, book.size, max(1, frames)) ** 2 // book.size
        kept = np.where(rng.random(len(fresh)) < 0.5, fresh, fresh[0])
        rows.append(np.repeat(kept, book.stride)[:frames])
    return np.stack(rows).astype(np.int64)


@given(
    books=st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 17, 500, 5000]), st.sampled_from([1, 1, 3])), min_size=1, max_size=4
    ),
    cuts=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    name=st.sampled_from(sorted(MODELS)),
    seed=st.integers(0, 1000),
)
def test_codes_come_back_block_by_block(books: list[tuple[int, int]], cuts: list[int], name: str, seed: int) -> None:
    spec = spec_of(*books)
    codes = random_codes(spec, sum(cuts), seed)
    encoder, decoder = coder(spec, name), coder(spec, name)
    for piece in np.split(codes, np.cumsum(cuts)[:-1], axis=1):
        data = encoder.encode(piece)
        assert np.array_equal(decoder.decode(data, piece.shape[1]), piece)


def test_a_block_takes_what_its_model_says_and_two_bytes() -> None:
    spec = spec_of((1024, 1), (1024, 1))
    codes = random_codes(spec, 500)
    model, expected = MODELS["adaptive"]([1024, 1024]), 0.0
    for column in codes.T:
        for book, code in enumerate(column.tolist()):
            frequencies = model.frequencies(book)
            expected -= float(np.log2(frequencies[code] / frequencies.sum(dtype=np.float64)))
            model.update(book, code)
    assert expected / 8 < len(coder(spec).encode(codes)) < expected / 8 * 1.001 + 4


def test_strides_are_coded_once() -> None:
    spec = spec_of((256, 50))
    codes = np.repeat([[3, 77]], 50, axis=1)
    assert len(coder(spec, "uniform").encode(codes)) <= 4
    with pytest.raises(InputError, match="codes that last 50 frames each"):
        coder(spec).encode(np.arange(50)[None])


@pytest.mark.parametrize("codes", [np.array([[0, 4]]), np.array([[-1]]), np.zeros((2, 3), int), np.zeros((1, 3))])
def test_codes_that_no_codebook_has_are_refused(codes: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"expected (integer codes|codes within)"):
        coder(spec_of((4, 1))).encode(codes)


def test_bytes_that_no_encoder_wrote_give_codes_within_codebooks_or_an_error() -> None:
    spec, rng = spec_of((5, 1), (300, 1)), np.random.default_rng(0)
    seen = set()
    for _ in range(600):
        try:
            codes = coder(spec).decode(rng.bytes(int(rng.integers(0, 9))), 12)
        except AudioError:
            seen.add("error")
        else:
            assert (codes >= 0).all()
            assert (codes < [[5], [300]]).all()
            seen.add("codes")
    assert "codes" in seen


def test_without_the_coder_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(MissingDependencyError, match="compression needs the package constriction"):
        coder(spec_of((4, 1))).encode(np.zeros((1, 2), np.int64))


def test_a_coding_written_once_is_read_for_ever() -> None:
    """Bytes of the first version: whatever changes them breaks every file that there is."""
    spec = spec_of((16, 1), (500, 1))
    codes = np.stack([np.arange(24) ** 2 % 16, np.arange(24) ** 3 % 500])
    data = coder(spec).encode(codes)
    assert data.hex() == GOLDEN
    assert np.array_equal(coder(spec).decode(bytes.fromhex(GOLDEN), 24), codes)


GOLDEN = "00022bd728f83daf0891fd79717aaac4a66ef0684aca9e07c4210f856e0bcc3116c90408"
