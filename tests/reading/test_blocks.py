"""Blocks of packed tokens: each token in one of them, recordings whole where that is promised."""

from __future__ import annotations

import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tests.exports.stores import SPEC, make_store
from tests.reading.packs import SIZE, pack
from vocable.errors import InputError
from vocable.exports import PackedTokens, export
from vocable.reading import TokenBlocks, Utterances, WholeUtterances
from vocable.tokenizers.streams import CoarseFirst, Offset, Special, TokenStream

LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=20)


@settings(max_examples=15)
@given(lengths=LENGTHS, length=st.integers(1, 40), pads=st.booleans())
def test_blocks_are_all_tokens_in_a_row(lengths: list[int], length: int, pads: bool) -> None:
    total = sum(lengths)
    wanted = list(range(total)) + [-1] * (-total % length) if pads else list(range(total - total % length))
    with TemporaryDirectory() as folder:
        packed = pack(Path(folder), lengths)
        if not wanted:
            with pytest.raises(InputError, match=f"at least one block of {length} tokens, got {total} tokens"):
                TokenBlocks(packed, length, pad=-1 if pads else None)
            return
        blocks = list(TokenBlocks(packed, length, pad=-1 if pads else None))
    assert all(block.dtype == torch.int64 and block.shape == (length,) for block in blocks)
    assert torch.cat(blocks).tolist() == wanted


@settings(max_examples=15)
@given(lengths=LENGTHS.filter(any), length=st.integers(1, 40))
def test_whole_recordings_are_packed_as_one_after_the_other_fits(lengths: list[int], length: int) -> None:
    with TemporaryDirectory() as folder:
        blocks = list(WholeUtterances(pack(Path(folder), lengths), length, pad=SIZE))
    assert [block.tolist() for block in blocks] == packed_naively(lengths, length)


def packed_naively(lengths: list[int], length: int) -> list[list[int]]:
    """Piece by piece into the block at hand, or into the next."""
    blocks: list[list[int]] = [[]]
    token = 0
    for count in lengths:
        for first in range(0, count, length):
            piece = range(token + first, token + min(first + length, count))
            if len(blocks[-1]) + len(piece) > length:
                blocks.append([])
            blocks[-1].extend(piece)
        token += count
    return [block + [SIZE] * (length - len(block)) for block in blocks]


def test_recordings_come_one_by_one(tmp_path: Path) -> None:
    recordings = list(Utterances(pack(tmp_path, [3, 0, 2])))
    assert [one.tolist() for one in recordings] == [[0, 1, 2], [], [3, 4]]
    assert all(one.dtype == torch.int64 for one in recordings)


def test_separators_are_those_of_the_stream(tmp_path: Path) -> None:
    stream = TokenStream(SPEC, (Offset(), CoarseFirst(), Special(("pad", "bos", "eos"))))
    export(make_store(tmp_path / "tokens"), tmp_path / "packed", "packed", stream=stream)
    packed = PackedTokens.open(tmp_path / "packed")
    for recording in Utterances(packed):
        assert (recording[0], recording[-1]) == (1, 2)
    row = torch.cat(list(TokenBlocks(packed, 16, pad=0)))
    assert np.array_equal(row[: len(packed.tokens)], packed.tokens)
    for block in WholeUtterances(packed, 400, pad=0):
        assert block[0] == 1
        assert (block == 1).sum() == (block == 2).sum()


def test_large_vocabularies_keep_their_tokens(tmp_path: Path) -> None:
    packed = pack(tmp_path, [70000], size=1 << 20)
    assert torch.equal(TokenBlocks(packed, 70000)[0], torch.arange(70000))


def test_loaders_and_other_processes_read_the_files_themselves(tmp_path: Path) -> None:
    packed = pack(tmp_path, [5000] * 20)
    for dataset in (TokenBlocks(packed, 256), WholeUtterances(packed, 256, pad=-100), Utterances(packed)):
        data = pickle.dumps(dataset)
        assert len(data) < 8192  # 200 kB of tokens stay where they are
        again = pickle.loads(data)
        assert len(again) == len(dataset)
        assert torch.equal(again[len(dataset) - 1], dataset[len(dataset) - 1])
    batches = list(DataLoader(TokenBlocks(packed, 256), batch_size=4, shuffle=True))
    assert torch.equal(torch.cat(batches).flatten().bincount(minlength=SIZE)[:5].clamp(max=1), torch.ones(5).long())
    assert batches[0].shape == (4, 256)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    packed, empty = pack(tmp_path / "a", [10]), pack(tmp_path / "b", [0])
    with pytest.raises(InputError, match="at least 1 token, got 0"):
        TokenBlocks(packed, 0)
    with pytest.raises(InputError, match="an int64 to pad with"):
        WholeUtterances(packed, 4, pad=1 << 63)
    with pytest.raises(InputError, match="got 0 tokens"):
        WholeUtterances(empty, 4, pad=0)
    for index in (-1, 2):
        with pytest.raises(IndexError, match=r"expected blocks 0\.\.1"):
            TokenBlocks(packed, 5)[index]
