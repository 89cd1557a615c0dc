"""Codes to bytes and back, a block at a time, by a range coder that is told what to expect.

The coder is constriction's (Bamler 2022, "Understanding entropy coding with asymmetric numeral systems"): the
probability of a code is its frequency, rounded to 24 bits. Of integers in float32 that takes one division and one
product, each rounded as IEEE 754 has it, so encoder and decoder have the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vocable.compression.models import Model
from vocable.errors import AudioError, InputError, MissingDependencyError
from vocable.types import TokenSpec

_WORD = 4  # bytes that the range coder writes at a time


class BlockCoder:
    """Codes [K, t] of a recording, block after block, to bytes and back; one coder for either direction.

    What the model has learnt stays from block to block, so blocks are decoded in their order. Codes of a codebook with
    a stride are coded once, in the first of the frames that share them.
    """

    def __init__(self, spec: TokenSpec, model: Model) -> None:
        self._model = model
        self._books = [(k, book.stride) for k, book in enumerate(spec.codebooks) if book.size > 1]
        self._sizes = np.array([[book.size] for book in spec.codebooks])
        self._strides = [book.stride for book in spec.codebooks]
        self._last = np.zeros(spec.num_codebooks, np.int64)
        self._frames = 0

    def encode(self, codes: np.ndarray) -> bytes:
        """The bytes of the next t frames. InputError for codes that no codebook has, or that break their stride."""
        self._check(codes)
        models, model = _models(), self._model
        encoder = models.queue.RangeEncoder()
        for frame, book in self._schedule(codes.shape[1]):
            code = int(codes[book, frame])
            encoder.encode(code, models.model.Categorical(model.frequencies(book), lazy=True))
            model.update(book, code)
        self._advance(codes)
        # the first bytes of a word weigh most, and zeros at the end go without saying
        words: bytes = encoder.get_compressed().astype(">u4").tobytes()
        return words.rstrip(b"\0")

    def decode(self, data: bytes, frames: int) -> np.ndarray:
        """Codes [K, t] of the next t frames. AudioError for bytes that no encoder wrote, if it shows."""
        models, model = _models(), self._model
        words = np.frombuffer(data + b"\0" * (-len(data) % _WORD), ">u4").astype(np.uint32)
        decoder = models.queue.RangeDecoder(words)
        codes = np.zeros((len(self._sizes), frames), np.int64)
        try:
            for frame, book in self._schedule(frames):
                code = int(decoder.decode(models.model.Categorical(model.frequencies(book), lazy=True)))
                model.update(book, code)
                codes[book, frame] = code
        except AssertionError as problem:  # the coder's word for bytes that mean nothing
            raise AudioError("expected compressed codes, got bytes that are none") from problem
        for book, stride in enumerate(self._strides):
            if stride > 1:
                codes[book] = self._held(codes[book], book, stride)
        self._advance(codes)
        return codes

    def _schedule(self, frames: int) -> Iterator[tuple[int, int]]:
        """Frames of this block and codebooks in the order in which their codes are coded."""
        for frame in range(frames):
            for book, stride in self._books:
                if (self._frames + frame) % stride == 0:
                    yield frame, book

    def _held(self, row: np.ndarray, book: int, stride: int) -> np.ndarray:
        """Codes [t] in which each that is coded lasts until the next; the first ones may be those of the last block."""
        places = np.arange(len(row)) - (self._frames + np.arange(len(row))) % stride
        held: np.ndarray = np.where(places >= 0, row[np.maximum(places, 0)], self._last[book])
        return held

    def _advance(self, codes: np.ndarray) -> None:
        self._frames += codes.shape[1]
        if codes.shape[1]:
            self._last = codes[:, -1].copy()

    def _check(self, codes: np.ndarray) -> None:
        if codes.ndim != 2 or len(codes) != len(self._sizes) or codes.dtype.kind not in "iu":
            raise InputError(f"expected integer codes [{len(self._sizes)}, t], got {codes.dtype} {list(codes.shape)}")
        if ((codes < 0) | (codes >= self._sizes)).any():
            raise InputError("expected codes within their codebooks, got some out of range")
        for book, stride in enumerate(self._strides):
            if stride > 1 and (self._held(codes[book], book, stride) != codes[book]).any():
                raise InputError(f"expected codes that last {stride} frames each, got some that change in between")


def _models() -> Any:
    """The range coder's package, imported at its first use. MissingDependencyError where it is not installed."""
    try:
        import constriction
    except ImportError as problem:
        raise MissingDependencyError(
            "compression needs the package constriction, which is not installed",
            hint="pip install constriction: where there is no wheel, that takes a Rust compiler",
        ) from problem
    return constriction.stream
