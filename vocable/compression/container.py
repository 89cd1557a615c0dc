r"""The file: a head that says what the codes are, blocks of codes, an end; all of it checked before it is believed.

    89 56 43 42     magic, "\x89VCB"
    version         1 byte
    n, head         n bytes: deflated JSON, the tokenizer's fingerprint (32 bytes); check, 4 bytes
    n > 0, block    n bytes of a range coder, as many frames as the head says; check, 4 bytes
    ...
    0, N            the end: N samples of the recording, at its own rate
    n, block        the remaining frames, at least one; check, 4 bytes

Numbers are LEB128. A check is the first bytes of the SHA-256 of all there is before it, of the codes of all blocks too:
a block that was changed, lost, added or moved shows, and so does a model of codes that computes something else here
than where the file was made. No block is longer than its codes can be. The checks find damage; whoever wants to deceive
can compute them anew, and then gets codes within their codebooks, and no more memory than a block's.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from vocable.clock import resampled_length
from vocable.compression.coding import BlockCoder
from vocable.compression.models import MODELS, Model, ModelFactory
from vocable.errors import AudioError, InputError
from vocable.types import TokenSpec

MAGIC = b"\x89VCB"
VERSION = 1

_CHECK = 4  # bytes: one in 4 billion damaged files would pass
_LONGEST_HEAD = 1 << 16  # bytes, deflated or not
_MOST_CODES = 1 << 20  # of a block
_BLOCK_BITS = 16_000  # of raw codes: the 8 bytes that a block costs are then below half a percent
_BLOCK_SECONDS = (1.0, 30.0)
_DIGEST = re.compile("[0-9a-f]{64}")
_DAMAGED = "the file is damaged: get it anew"

# deflate refers to what it knows: this is a part of the format, and never changes
_KNOWN_HEAD = json.dumps(
    {
        "coder": "adaptive",
        "frames": 200,
        "rate": 16000,
        "spec": {
            "codebooks": [{"label": f"rvq{k}", "size": 1024, "stride": 1} for k in range(8)],
            "hop_length": 320,
            "sample_rate": 16000,
            "window": 1,
        },
    },
    separators=(",", ":"),
).encode()


@dataclass(frozen=True)
class Head:
    """What a compressed file says of itself.

    spec: of its codes. source_rate: Hz of the recording. block_frames: frames of every block but the last, at most 2^20
    codes in all. coder: the name of the model of its codes.
    """

    spec: TokenSpec
    source_rate: int
    block_frames: int
    coder: str = "adaptive"

    def __post_init__(self) -> None:
        spec = self.spec
        numbers = [spec.sample_rate, spec.hop_length, spec.window, self.source_rate, self.block_frames]
        numbers += [number for book in spec.codebooks for number in (book.size, book.stride)]
        texts = [spec.source, self.coder, *spec.labels]
        if not all(type(n) is int and 0 < n < 1 << 32 for n in numbers) or not all(type(t) is str for t in texts):
            raise InputError("expected whole positive numbers and names in the head of a compressed file, got others")
        if self.block_frames * spec.num_codebooks > _MOST_CODES:
            raise InputError(f"expected blocks of at most {_MOST_CODES} codes, got {self.block_frames} frames")

    def to_bytes(self) -> bytes:
        """Deflated JSON, and the fingerprint of the tokenizer; `from_bytes` is the inverse."""
        spec = self.spec.to_dict()
        spec["codebooks"] = [dict(sorted(book.items())) for book in spec["codebooks"]]
        digest = bytes.fromhex(self.spec.source) if _DIGEST.fullmatch(self.spec.source) else b""
        order = ("codebooks", "hop_length", "sample_rate", "window", *(() if digest else ("source",)))
        values = {"coder": self.coder, "frames": self.block_frames, "rate": self.source_rate}
        text = json.dumps(values | {"spec": {name: spec[name] for name in order}}, separators=(",", ":"))
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=_KNOWN_HEAD)
        return deflate.compress(text.encode()) + deflate.flush() + digest

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        """The head that `to_bytes` wrote. AudioError if it is none."""
        inflate = zlib.decompressobj(-15, zdict=_KNOWN_HEAD)
        try:
            values = json.loads(inflate.decompress(data, _LONGEST_HEAD))
            spec = TokenSpec.from_dict({"source": inflate.unused_data.hex(), **values["spec"]})
            return cls(spec, values["rate"], values["frames"], values["coder"])
        except (zlib.error, ValueError, KeyError, TypeError, RecursionError) as problem:
            raise AudioError("expected the head of a compressed file, got something else", hint=_DAMAGED) from problem


def block_frames(spec: TokenSpec, seconds: float | None = None) -> int:
    """Frames of a block: of so many seconds, or of some 2,000 bytes of raw codes within 1 to 30 s; at least one."""
    if seconds is None:
        low, high = _BLOCK_SECONDS
        seconds = min(high, max(low, _BLOCK_BITS / max(spec.bitrate, 1.0)))
    return max(1, min(round(seconds * spec.frame_rate), _MOST_CODES // spec.num_codebooks))


class Writer:
    """Codes [K, t] in pieces of any length -> a compressed file, a block as soon as it is full; `finish` ends it.

    sink: where bytes are written, and flushed after each block. model: of the codes, for coders that are not in MODELS.
    InputError for a coder that is unknown, or codebooks too large for it.
    """

    def __init__(self, sink: BinaryIO, head: Head, model: Model | None = None) -> None:
        self.head, self.num_bytes, self.frames = head, 0, 0
        self._sink, self._hash = sink, hashlib.sha256()
        self._coder = BlockCoder(head.spec, model or _model(head, MODELS))
        self._held = np.zeros((head.spec.num_codebooks, 0), np.int64)
        data = head.to_bytes()
        if len(data) > _LONGEST_HEAD:
            raise InputError(f"expected a spec of at most {_LONGEST_HEAD} bytes, got {len(data)}")
        self._write(MAGIC + bytes([VERSION]) + _number(len(data)) + data)

    def write(self, codes: np.ndarray) -> None:
        """The next t frames. InputError for codes that are not of the head's spec."""
        self._held = np.concatenate([self._held, codes], axis=1)
        # a full block waits for the next frame, because the last one is the end's
        while self._held.shape[1] > self.head.block_frames:
            self._block(self._held[:, : self.head.block_frames], b"")
            self._held = self._held[:, self.head.block_frames :]

    def finish(self, source_samples: int) -> None:
        """Ends the file of a recording of so many samples at its own rate. InputError if its frames are not these."""
        samples, spec = _samples(self.head, source_samples), self.head.spec
        frames = self.frames + self._held.shape[1]
        if not samples or spec.num_frames(samples) != frames:
            raise InputError(f"expected the frames of {source_samples} samples, got {frames}")
        self._block(self._held, b"\0" + _number(source_samples))

    def _block(self, codes: np.ndarray, before: bytes) -> None:
        data = self._coder.encode(codes) or b"\0"
        self.frames += codes.shape[1]
        self._write(before + _number(len(data)) + data, codes)

    def _write(self, data: bytes, codes: np.ndarray | None = None) -> None:
        self._hash.update(data)
        if codes is not None:
            self._hash.update(_plain(codes))
        mark = self._hash.digest()[:_CHECK]
        self._hash.update(mark)
        self._sink.write(data + mark)
        self._sink.flush()
        self.num_bytes += len(data) + len(mark)


class Reader:
    """A compressed file -> codes [K, t], block by block, each checked before it is given; iterate once.

    source: where bytes are read, no further than they are needed. models: by the names of coders.
    After the iteration, and when the last block is given, `source_samples` and `samples` are known: of the recording at
    its own rate, and at the codes'.
    AudioError, when it is come across, for whatever is not as it was written. InputError for a coder that is not among
    the models.
    """

    def __init__(self, source: BinaryIO, models: Mapping[str, ModelFactory] = MODELS) -> None:
        self._source, self._hash = source, hashlib.sha256()
        self._place = "the head"
        self.head = self._read_head()
        self._coder = BlockCoder(self.head.spec, _model(self.head, models))
        self.frames = self.source_samples = self.samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        most = 4 * self.head.block_frames * self.head.spec.num_codebooks + 8
        while not self.samples:
            self._place = f"the block at {self.frames / self.head.spec.frame_rate:.1f} s"
            frames, length = self.head.block_frames, self._number()
            if not length:
                frames, length = self._end(), self._number()
            if not 0 < length <= most:
                raise self._damaged()
            yield self._block(length, frames)
        if self._source.read(1):
            raise AudioError("expected the end of a compressed file, got more bytes after it", hint=_DAMAGED)

    def _read_head(self) -> Head:
        came = self._bytes(len(MAGIC) + 1)
        if came[:-1] != MAGIC:
            raise AudioError(
                "expected a file of `vocable compress`, got something else",
                hint="a sound file needs no decompression; see `vocable inspect`",
            )
        if came[-1] != VERSION:
            raise AudioError(f"expected a compressed file of version {VERSION}, got {came[-1]}", hint="update vocable")
        length = self._number()
        if not 0 < length <= _LONGEST_HEAD:
            raise self._damaged()
        data = self._bytes(length)
        self._check()
        return Head.from_bytes(data)

    def _end(self) -> int:
        """Reads how many samples there are, and gives the frames that are left."""
        source_samples = self._number()
        samples = _samples(self.head, source_samples)
        left = (self.head.spec.num_frames(samples) if samples else 0) - self.frames
        if not 0 < left <= self.head.block_frames:
            raise self._damaged()
        self.source_samples, self.samples = source_samples, samples
        return left

    def _block(self, length: int, frames: int) -> np.ndarray:
        data = self._bytes(length)
        try:
            codes = self._coder.decode(data, frames)
        except AudioError as problem:
            raise self._damaged() from problem
        self._hash.update(_plain(codes))
        self._check()
        self.frames += frames
        return codes

    def _check(self) -> None:
        expected = self._hash.digest()[:_CHECK]
        if self._bytes(_CHECK) != expected:
            raise self._damaged()

    def _number(self) -> int:
        value = shift = 0
        while True:
            byte = self._bytes(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 56:
                raise self._damaged()

    def _bytes(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self._source.read(count - len(data))
            if not piece:
                raise AudioError(f"expected a whole compressed file, got one cut off in {self._place}", hint=_DAMAGED)
            data += piece
        self._hash.update(data)
        return bytes(data)

    def _damaged(self) -> AudioError:
        return AudioError(f"{self._place} of the compressed file is damaged", hint=_DAMAGED)


def _model(head: Head, models: Mapping[str, ModelFactory]) -> Model:
    if head.coder not in models:
        raise InputError(f"expected a coder among {', '.join(models)}, got {head.coder!r}", hint="update vocable")
    return models[head.coder]([book.size for book in head.spec.codebooks])


def _samples(head: Head, source_samples: int) -> int:
    """Samples at the codes' rate, as resampling makes them of a recording."""
    if source_samples < 1 or head.source_rate == head.spec.sample_rate:
        return source_samples
    return resampled_length(source_samples, head.source_rate, head.spec.sample_rate)


def _plain(codes: np.ndarray) -> bytes:
    return codes.astype("<u4").tobytes()


def _number(value: int) -> bytes:
    """LEB128: seven bits a byte, the least significant first; the highest bit says that there is more."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
