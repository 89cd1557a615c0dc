"""Token streams as lines of text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocable.errors import InputError
from vocable.tokenizers.streams import Flatten, Offset, TokenStream
from vocable.tokenizers.streams_text import Characters, Integers, Spelling, Tagged, TextStream
from vocable.types import Codebook, TokenSpec


def stream(*sizes: int) -> TokenStream:
    books = tuple(Codebook(size, f"c{index}") for index, size in enumerate(sizes))
    return TokenStream(TokenSpec(16000, 320, books, "a" * 64)) | Offset() | Flatten()


SPELLINGS = (Integers(), Characters(), Characters(0xF0000, 1 << 17), Tagged(), Tagged(""), Tagged("unit_"))


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(codes=st.lists(st.tuples(st.integers(0, 499), st.integers(0, 20000)), max_size=20))
def test_every_line_is_read_back(spelling: Spelling, codes: list[tuple[int, int]]) -> None:
    text = TextStream(stream(500, 20001) if spelling != Characters() else stream(500, 20492), spelling)
    grid = np.array(codes, np.int64).reshape(-1, 2).T
    line = text.forward(grid)
    assert len(line.splitlines()) <= 1
    assert np.array_equal(text.inverse(line), grid)


def test_how_lines_look() -> None:
    codes = [[12, 7, 7]]
    assert TextStream(stream(100)).forward(codes) == "12 7 7"
    assert TextStream(stream(100), Tagged()).forward(codes) == "<u12><u7><u7>"
    assert TextStream(stream(100), Characters()).forward([[0, 1]]) == "一丁"
    assert TextStream(stream(100)).forward([[]]) == ""


@pytest.mark.parametrize(
    ("spelling", "line"),
    [
        *[(Integers(), line) for line in ("1  2", " 1", "1 ", "1\n", "a", "-1", "1_0", "١", "1.0", "9" * 30, "100")],
        *[(Tagged(), line) for line in ("<u1", "<u1> <u2>", "<v1>", "<u>", "<u-1>", "<u1>\n", "<u100>")],
        *[(Characters(), line) for line in ("a", "一 丁", "一\n", "\ud800", chr(0x4E00 + 100))],
    ],
)
def test_lines_that_are_none(spelling: Spelling, line: str) -> None:
    with pytest.raises(InputError):
        TextStream(stream(100), spelling).inverse(line)


def test_what_has_no_spelling() -> None:
    with pytest.raises(InputError, match="20,993 ids have no spelling as 20,992 characters"):
        TextStream(stream(20993), Characters())
    with pytest.raises(InputError, match="expects a flat sequence"):
        TextStream(TokenStream(stream(5).spec))
    with pytest.raises(InputError, match="surrogates"):
        Characters(0xD000, 0x1000)
    for prefix in ("u1", "<", "a b"):
        with pytest.raises(InputError, match="expected a prefix"):
            Tagged(prefix)
