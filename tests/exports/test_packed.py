"""Packed tokens: every recording is found again, other readers need nothing of ours, damage shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.exports.stores import SPEC, entries, make_store
from vocable.errors import InputError, StoreError
from vocable.exports import PackedTokens, export, stream_of
from vocable.exports.packed import packed_dtype
from vocable.store import TokenStore
from vocable.tokenizers.streams import TokenStream
from vocable.types import Codebook

STREAM = stream_of(SPEC, layout="delay")
FILES = ("pack.json", "tokens.bin", "offsets.bin", "utterances.jsonl")


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    export(make_store(tmp_path / "tokens"), tmp_path / "packed", "packed", stream=STREAM)
    return tmp_path / "packed"


def test_every_recording_is_found_again(packed: Path) -> None:
    held, wanted = PackedTokens.open(packed), {entry.id: entry for entry in entries()}
    held.verify()
    assert (held.spec, held.vocabulary, held.stream) == (SPEC, STREAM.vocabulary, STREAM)
    assert held.tokens.dtype == np.uint16
    found = list(held.utterances())
    assert {name for name, _ in found} == wanted.keys()
    assert len(held) == len(found) == len(wanted)
    for index, (name, samples) in enumerate(found):
        assert samples == wanted[name].samples
        assert np.array_equal(held.stream.inverse(held[index]), wanted[name].codes)
    with pytest.raises(IndexError, match="expected a recording 0"):
        held[len(held)]


def test_numpy_alone_reads_the_files(packed: Path) -> None:
    tokens, offsets = np.fromfile(packed / "tokens.bin", "<u2"), np.fromfile(packed / "offsets.bin", "<u8")
    ids = [json.loads(line)["id"] for line in (packed / "utterances.jsonl").read_text().splitlines()]
    wanted = {entry.id: STREAM.forward(entry.codes) for entry in entries()}
    for name, start, stop in zip(ids, offsets[:-1], offsets[1:], strict=True):
        assert np.array_equal(tokens[start:stop], wanted[name])


@pytest.mark.parametrize(("size", "kind"), [(65536, "uint16"), (65537, "uint32"), (1 << 32, "uint32")])
def test_tokens_are_as_small_as_their_vocabulary_allows(tmp_path: Path, size: int, kind: str) -> None:
    spec = replace(SPEC, codebooks=(Codebook(size, "x"),))
    entry = replace(entries()[0], codes=np.array([[0, 1, size - 1]]), samples=spec.num_samples(3))
    store = TokenStore.create(tmp_path / "tokens", spec)
    store.append([entry])
    export(store, tmp_path / "packed", "packed")
    held = PackedTokens.open(tmp_path / "packed")
    assert held.tokens.dtype == kind
    assert held[0].tolist() == [0, 1, size - 1]
    assert held.stream == TokenStream(spec)


def test_a_vocabulary_beyond_32_bits_is_refused() -> None:
    with pytest.raises(InputError, match="1 to 4294967296 tokens, got 4294967297"):
        packed_dtype((1 << 32) + 1)


@pytest.mark.parametrize("name", FILES)
def test_missing_and_cut_files_are_refused_at_once(packed: Path, name: str) -> None:
    data = (packed / name).read_bytes()
    for left in (data[:-2], b""):
        (packed / name).write_bytes(left)
        with pytest.raises(StoreError):
            PackedTokens.open(packed)
    (packed / name).unlink()
    with pytest.raises(StoreError, match=name if name != "pack.json" else "holds no packed tokens"):
        PackedTokens.open(packed)


def test_every_flipped_byte_is_found(packed: Path) -> None:
    held = PackedTokens.open(packed)
    for name in FILES:
        data = (packed / name).read_bytes()
        for place in range(0, len(data), 1 + len(data) // 60):
            (packed / name).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            with pytest.raises(StoreError):
                held.verify()
        (packed / name).write_bytes(data)
    held.verify()


def test_another_version_says_what_to_do(packed: Path) -> None:
    from vocable.exports import packed as module

    head = json.loads((packed / "pack.json").read_bytes())
    del head["checksum"]
    head["version"] = 2
    head["checksum"] = module.sha256(module._canonical(head)).hexdigest()
    (packed / "pack.json").write_text(json.dumps(head))
    with pytest.raises(StoreError, match="of version 2, this version reads 1") as caught:
        PackedTokens.open(packed)
    assert caught.value.hint == "update vocable"
