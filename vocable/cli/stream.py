"""`vocable tokenize - --stream`: raw sound on standard input to codes on standard output, as it comes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import numpy as np

from vocable.errors import AudioError, InputError

if TYPE_CHECKING:
    import torch

    from vocable.tokenizers.streaming import CodecStream
    from vocable.types import Tokenizer

ENCODINGS: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
_READ_BYTES = 1 << 16  # at most: what is there is taken at once


def stream_pcm(tokenizer: Tokenizer, source: BinaryIO, sink: TextIO, *, sample_rate: int, encoding: str) -> int:
    """Writes a line {"frame": index of the first, "codes": [[K values] for each frame]} whenever frames are complete.

    source: mono PCM at `sample_rate` Hz, "s16le" or "f32le"; its end ends the recording, the last frame filled up with
    zeros. The codes are those of the same sound in a file. Gives the number of frames.
    InputError for a tokenizer that cannot stream, AudioError for no sound, half a sample, NaN or infinity.
    """
    from vocable.audio import resample_blocks
    from vocable.tokenizers.codec import NeuralCodec

    if encoding not in ENCODINGS:
        raise InputError(f"expected an encoding among {', '.join(ENCODINGS)}, got {encoding!r}")
    if not isinstance(tokenizer, NeuralCodec):
        raise InputError(
            "expected a causal codec to stream with, got a tokenizer of units, which looks ahead",
            hint="tokenize a file: long ones are cut into windows with context, in bounded memory",
        )
    frames = 0
    with tokenizer.streaming() as stream:
        blocks = resample_blocks(samples(source, ENCODINGS[encoding]), sample_rate, tokenizer.sample_rate)
        for codes in _codes(stream, blocks, tokenizer.channels):
            if codes.shape[1]:
                sink.write(json.dumps({"frame": frames, "codes": codes.T.tolist()}) + "\n")
                sink.flush()
            frames += codes.shape[1]
    return frames


def samples(source: BinaryIO, kind: np.dtype[Any]) -> Iterator[np.ndarray]:
    """Blocks [n] of float32, each as much as there was to read; a sample that came in halves is put together."""
    # a buffer's `read` would wait until it has all that was asked for
    read = getattr(source, "read1", source.read)
    rest, empty = b"", True
    while data := read(_READ_BYTES):
        data = rest + data
        whole = len(data) // kind.itemsize * kind.itemsize
        rest, empty = data[whole:], False
        block = np.frombuffer(data[:whole], kind).astype(np.float32)
        yield block / np.float32(32768) if kind.kind == "i" else block
    if empty or rest:
        came = "an end in the middle of a sample" if rest else "none"
        raise AudioError(
            f"expected sound on standard input, got {came}", hint="see --encoding for how samples are read"
        )


def _codes(stream: CodecStream, blocks: Iterator[np.ndarray], channels: int) -> Iterator[torch.Tensor]:
    import torch

    for block in blocks:
        yield stream.encode(torch.from_numpy(block).expand(channels, -1))
    yield stream.finish()
