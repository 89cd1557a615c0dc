from __future__ import annotations

import hashlib
import io
import json
import zlib

import numpy as np
import pytest

from vocable.compression import container
from vocable.compression.container import Head, Reader, Writer, block_frames
from vocable.compression.models import MODELS, Order1
from vocable.errors import AudioError, InputError, VocableError
from vocable.types import Codebook, TokenSpec

SPEC = TokenSpec(16000, 320, (Codebook(16, "rvq0"), Codebook(16, "rvq1")), "ab" * 32)


def random_codes(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 16, (2, frames)).cumsum(axis=1) % 16


def written(codes: np.ndarray, samples: int, *, frames: int = 8, piece: int = 5, rate: int = 16000) -> bytes:
    sink = io.BytesIO()
    writer = Writer(sink, Head(SPEC, rate, frames))
    for first in range(0, codes.shape[1], piece):
        writer.write(codes[:, first : first + piece])
    writer.finish(samples)
    assert writer.num_bytes == len(sink.getvalue())
    return sink.getvalue()


def read(data: bytes) -> tuple[np.ndarray, Reader]:
    reader = Reader(io.BytesIO(data))
    return np.concatenate(list(reader), axis=1), reader


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 16, 17, 30])
def test_codes_and_length_come_back(frames: int) -> None:
    codes = random_codes(frames)
    data = written(codes, 320 * frames - 7)
    again, reader = read(data)
    assert np.array_equal(again, codes)
    assert (reader.samples, reader.source_samples) == (320 * frames - 7, 320 * frames - 7)
    assert (reader.head.spec, reader.head.block_frames, reader.head.coder) == (SPEC, 8, "adaptive")
    assert data == written(codes, 320 * frames - 7, piece=1)


def test_lengths_are_those_of_the_recording_at_its_own_rate() -> None:
    _, reader = read(written(random_codes(10), 8820, rate=44100))
    assert (reader.source_samples, reader.samples, reader.head.source_rate) == (8820, 3200, 44100)


def test_ten_thousand_corruptions_are_all_found_and_nothing_wrong_is_given() -> None:
    """Flips, cuts, insertions, removals, repetitions: an error each time, and before it only codes of the original."""
    codes, rng = random_codes(26), np.random.default_rng(1)
    data = written(codes, 320 * 26)
    given_before = 0
    for _ in range(10_000):
        damaged = corrupted(data, rng)
        if damaged == data:
            continue
        given = 0
        with pytest.raises(VocableError) as problem:
            for block in Reader(io.BytesIO(damaged)):
                assert np.array_equal(block, codes[:, given : given + block.shape[1]])
                given += block.shape[1]
        assert problem.value.message
        # all of them only if nothing but the end is too much
        assert given < 26 or damaged.startswith(data)
        given_before += given > 0
    assert given_before > 1000


def corrupted(data: bytes, rng: np.random.Generator) -> bytes:
    at, width = int(rng.integers(len(data))), int(rng.integers(1, 9))
    kind = rng.integers(6)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + rng.bytes(width) + data[at:]
    if kind == 3:
        return data[:at] + data[at + width :]
    if kind == 4:
        return data[:at] + rng.bytes(width) + data[at + width :]
    return data[: at + width] + data[at:]


def test_every_cut_and_every_flipped_bit_is_found() -> None:
    data = written(random_codes(9), 320 * 9)
    for at in range(len(data)):
        with pytest.raises(AudioError, match=r"cut off|got something else"):
            read(data[:at])
        for bit in range(8):
            with pytest.raises(VocableError):
                read(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])


def test_the_place_of_damage_is_told() -> None:
    sink, codes = io.BytesIO(), random_codes(100)
    writer = Writer(sink, Head(SPEC, 16000, 25))
    places = []
    for first in range(0, 100, 5):
        writer.write(codes[:, first : first + 5])
        places.append(sink.tell())
    writer.finish(32000)
    data = bytearray(sink.getvalue())
    data[sorted(set(places))[1] + 5] ^= 1  # in the second block
    with pytest.raises(AudioError, match=r"the block at 0\.5 s of the compressed file is damaged"):
        read(bytes(data))
    with pytest.raises(AudioError, match=r"cut off in the block at 0\.5 s"):
        read(bytes(data[: sorted(set(places))[1] + 5]))


def test_blocks_of_another_file_do_not_pass() -> None:
    one, other = written(random_codes(40), 12800), written(random_codes(40, seed=3), 12800)
    sink = io.BytesIO()
    Writer(sink, Head(SPEC, 16000, 8))
    for at in range(sink.tell() + 3, min(len(one), len(other)), 5):
        with pytest.raises(AudioError):
            read(one[:at] + other[at:])


def test_a_model_that_computes_something_else_here_is_found() -> None:
    """The bytes are as they were written; what they mean is not."""

    class Elsewhere(Order1):
        def frequencies(self, codebook: int) -> np.ndarray:
            expected = super().frequencies(codebook).copy()
            expected[3] += expected[3] > 40
            return expected

    data = written(random_codes(200), 64000, frames=50)
    with pytest.raises(AudioError, match="damaged"):
        list(Reader(io.BytesIO(data), {"adaptive": Elsewhere}))


def test_what_is_no_compressed_file_and_what_is_of_the_future_is_told() -> None:
    with pytest.raises(AudioError, match="expected a file of `vocable compress`, got something else"):
        read(b"RIFF" + bytes(100))
    data = written(random_codes(3), 960)
    with pytest.raises(AudioError, match="expected a compressed file of version 1, got 2") as problem:
        read(data[:4] + b"\x02" + data[5:])
    assert problem.value.hint == "update vocable"
    with pytest.raises(AudioError, match="cut off in the head"):
        read(b"")


def test_a_coder_that_is_not_there_is_told() -> None:
    with pytest.raises(InputError, match="expected a coder among adaptive, order0, uniform, got 'lm'"):
        Writer(io.BytesIO(), Head(SPEC, 16000, 8, "lm"))
    sink = io.BytesIO()
    writer = Writer(sink, Head(SPEC, 16000, 8, "lm"), MODELS["order0"]([16, 16]))
    writer.write(random_codes(4))
    writer.finish(1280)
    with pytest.raises(InputError, match="got 'lm'"):
        read(sink.getvalue())
    reader = Reader(io.BytesIO(sink.getvalue()), {"lm": MODELS["order0"]})
    assert np.array_equal(np.concatenate(list(reader), axis=1), random_codes(4))


@pytest.mark.parametrize(
    "change",
    [
        {"frames": 0},
        {"frames": 1 << 30},
        {"frames": 2.5},
        {"rate": "16000"},
        {"rate": True},
        {"coder": None},
        {"spec": []},
        {"spec": {}},
        {"spec": SPEC.to_dict() | {"codebooks": [{"size": "7", "label": "a"}]}},
        {"spec": SPEC.to_dict() | {"codebooks": [{"size": 7, "label": []}]}},
        {"spec": SPEC.to_dict() | {"codebooks": [{"size": 1 << 31, "label": "a"}]}},
        {"spec": SPEC.to_dict() | {"codebooks": [{"size": 1 << 18, "label": f"a{k}"} for k in range(200)]}},
        {"spec": SPEC.to_dict() | {"hop_length": 0.5}},
        {"spec": SPEC.to_dict() | {"sample_rate": -1}},
    ],
)
def test_a_forged_head_is_refused(change: dict[str, object]) -> None:
    """Its checksum is right: somebody took the trouble."""
    values = {"coder": "adaptive", "frames": 8, "rate": 16000, "spec": SPEC.to_dict()} | change
    with pytest.raises((AudioError, InputError)):
        read(forged(json.dumps(values).encode()))


def test_a_head_that_grows_when_inflated_is_refused() -> None:
    with pytest.raises(AudioError, match="expected the head"):
        read(forged(b"[" * 10_000_000))
    with pytest.raises(AudioError, match="expected the head"):
        read(forged(b"[" * 60_000))


def forged(text: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=container._KNOWN_HEAD)
    head = deflate.compress(text) + deflate.flush()
    length = bytes([len(head) & 127 | 128, len(head) >> 7]) if len(head) > 127 else bytes([len(head)])
    data = b"\x89VCB\x01" + length + head
    return data + hashlib.sha256(data).digest()[:4]


def test_heads_that_cannot_be_are_refused_and_so_are_lengths() -> None:
    with pytest.raises(InputError, match="blocks of at most"):
        Head(SPEC, 16000, 1 << 20)
    writer = Writer(io.BytesIO(), Head(SPEC, 16000, 8))
    writer.write(random_codes(4))
    for samples in (0, 960, 1281):
        with pytest.raises(InputError, match="expected the frames of"):
            writer.finish(samples)


def test_a_short_head_and_few_bytes_a_block() -> None:
    """What is not codes: some 55 bytes for the head, 12 for the end, 8 for a block."""
    books = tuple(Codebook(1024, f"rvq{k}") for k in range(8))
    spec = TokenSpec(16000, 320, books, hashlib.sha256(b"x").hexdigest())
    sink = io.BytesIO()
    Writer(sink, Head(spec, 16000, block_frames(spec)))
    assert sink.tell() < 60


def test_blocks_have_two_kilobytes_within_1_to_30_seconds() -> None:
    def frames(size: int, count: int, hop: int = 320) -> int:
        return block_frames(TokenSpec(16000, hop, tuple(Codebook(size, str(k)) for k in range(count)), ""))

    assert frames(1024, 8) == 200
    assert frames(500, 1) == 1500
    assert frames(1024, 200) == 50
    assert block_frames(SPEC, 0.5) == 25
    assert block_frames(SPEC, 0.001) == 1


def test_a_reader_reads_no_further_than_it_must() -> None:
    """So that sound comes as the file does."""
    codes, data = random_codes(30), written(random_codes(30), 9600)
    source = io.BytesIO(data)
    reader = Reader(source)
    blocks = iter(reader)
    assert np.array_equal(next(blocks), codes[:, :8])
    first = source.tell()
    assert np.array_equal(next(blocks), codes[:, 8:16])
    assert first < source.tell() < len(data) - 20


@pytest.mark.parametrize("source", ["", "maker", "AB" * 32, "é" * 32, "0" * 64, "0" * 63])
def test_any_fingerprint_comes_back(source: str) -> None:
    head = Head(TokenSpec(24000, 320, (Codebook(1024, 'a "label"', 3),), source, 400), 44100, 75, "order0")
    assert Head.from_bytes(head.to_bytes()) == head
