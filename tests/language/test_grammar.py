"""Whatever is drawn among the ids that the grammar allows are codes, and all codes are among them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocable.errors import InputError
from vocable.language.grammar import Bounds, Grammar
from vocable.tokenizers.streams import (
    BPE,
    CoarseFirst,
    Collapse,
    Deduplicate,
    Delay,
    Flatten,
    Offset,
    Special,
    TokenStream,
    Transform,
)
from vocable.types import Codebook, TokenSpec

_SPECIAL = Special(("pad", "bos", "eos"))


def spec(*books: tuple[int, int]) -> TokenSpec:
    """Codebooks of (size, stride)."""
    made = tuple(Codebook(size, f"c{index}", stride) for index, (size, stride) in enumerate(books))
    return TokenSpec(16000, 320, made, "0" * 64)


def stream(books: tuple[tuple[int, int], ...], *steps: Transform) -> TokenStream:
    return TokenStream(spec(*books), (*steps, _SPECIAL))


THREE = ((4, 1), (3, 1), (5, 1))
STREAMS = {
    "one": stream(((5, 1),), Flatten()),
    "flat": stream(THREE, Flatten()),
    "own ids": stream(THREE, Offset(), Flatten()),
    "strides": stream(((3, 2), (4, 1), (3, 4)), Offset(), Flatten()),
    "delay": stream(THREE, Delay(), Offset(), Flatten()),
    "delay after offsets": stream(THREE, Offset(), Delay(), Flatten()),
    "delays of its own": stream(THREE, Delay((2, 0, 0)), Offset(), Flatten()),
    "delays of one": stream(THREE, Delay((1, 1, 1)), Flatten()),
    "no delays": stream(THREE, Delay((0, 0, 0)), Offset(), Flatten()),
    "timed runs": stream(THREE, Deduplicate(3), Offset(), Flatten()),
    "timed, delayed": stream(((4, 1), (3, 1)), Deduplicate(3), Delay((0, 1, 3)), Offset(), Flatten()),
    "runs once": stream(THREE, Collapse(), Offset(), Flatten()),
    "coarse first": stream(THREE, Offset(), CoarseFirst()),
    "coarse first, strides": stream(((3, 4), (4, 1), (3, 2)), Offset(), CoarseFirst()),
    "pairs": stream(((3, 1),), Flatten(), BPE(3, ((0, 1), (3, 3), (2, 2)))),
    "pairs of several": stream(((2, 1), (2, 1)), Offset(), Flatten(), BPE(4, ((0, 2), (2, 1), (4, 4), (0, 3)))),
    "pairs, strides": stream(((2, 2), (2, 1)), Offset(), Flatten(), BPE(4, ((0, 2), (2, 3), (3, 1)))),
}
names = st.sampled_from(sorted(STREAMS))


def codes_of(one: TokenStream, frames: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = [np.repeat(random.integers(book.size, size=frames), book.stride)[:frames] for book in one.spec.codebooks]
    return np.stack(rows)


@given(names, st.integers(1, 12), st.integers(0, 2**32))
def test_all_codes_are_allowed(name: str, frames: int, seed: int) -> None:
    one = STREAMS[name]
    walk = Grammar(one).walk(Bounds())
    ids = one.forward(codes_of(one, frames, seed))
    for id in ids[1:]:
        assert walk.allowed()[id]
        walk.push(int(id))


@given(names, st.integers(1, 6), st.integers(0, 6), st.integers(0, 2**32))
def test_what_is_drawn_are_codes(name: str, least: int, more: int, seed: int) -> None:
    one, random = STREAMS[name], np.random.default_rng(seed)
    walk, ids = Grammar(one).walk(Bounds(least, least + more)), [one.special["bos"]]
    while ids[-1] != one.special["eos"]:
        assert len(ids) < 2000
        ids.append(int(random.choice(np.flatnonzero(walk.allowed()))))
        walk.push(ids[-1])
    columns = one.inverse(np.array(ids)).shape[1]
    if not one.form.measured:
        assert least <= columns <= least + more
    assert np.array_equal(one.inverse_prefix(np.array(ids)), one.inverse(np.array(ids)))


@given(names, st.integers(1, 8), st.integers(1, 4), st.integers(0, 2**32))
def test_what_is_known_comes_again(name: str, frames: int, more: int, seed: int) -> None:
    """A sequence that begins with known codes begins with just these, whatever is drawn behind them."""
    one, random = STREAMS[name], np.random.default_rng(seed)
    grammar, codes = Grammar(one), codes_of(STREAMS[name], frames, seed)
    known = grammar.known(codes)
    columns = known.shape[1] - max(grammar.delays, default=0)
    walk, ids = grammar.walk(Bounds(columns + 1, columns + more, known)), [one.special["bos"]]
    while ids[-1] != one.special["eos"]:
        told = walk.given()
        assert told is None or walk.allowed()[told]
        ids.append(int(random.choice(np.flatnonzero(walk.allowed()))) if told is None else told)
        walk.push(ids[-1])
    begun = codes if one.exact else one.inverse(one.forward(codes))
    assert np.array_equal(one.inverse(np.array(ids))[:, : begun.shape[1]], begun)


@pytest.mark.parametrize(
    "steps",
    [(CoarseFirst(),), (Delay(), Offset(), CoarseFirst()), (Delay(), Collapse(), Offset(), Flatten())],
)
def test_streams_without_a_grammar(steps: tuple[Transform, ...]) -> None:
    with pytest.raises(InputError):
        Grammar(stream(THREE, *steps))


def test_bounds() -> None:
    with pytest.raises(InputError):
        Bounds(4, 3)
