"""Sound to codes and codes to sound as they come, in bounded memory; what is made is what the whole would give."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vocable.audio import resample_blocks
from vocable.clock import Windows, resampled_length
from vocable.compression.container import Reader
from vocable.errors import InputError
from vocable.tokenizers import NeuralCodec
from vocable.tokenizers.folder import WindowTokenizer
from vocable.vocoders.designs import codebooks_of, layers_of
from vocable.vocoders.folder import BlockVocoder
from vocable.vocoders.units import UnitVocoder

_PUSH_SECONDS = 10.0  # of codes that a vocoder decodes at a time
_HELD_BACK = 64  # samples: rounding of rates makes the end differ by one or two


class Sound(Protocol):
    """A recording as blocks [n] or [n, C] at the tokenizer's rate and channels; `vocable.audio.AudioStream` is one."""

    @property
    def source_rate(self) -> int:
        """Hz of the recording itself."""

    @property
    def source_samples(self) -> int:
        """Samples of it per channel; known after the iteration."""

    def __iter__(self) -> Iterator[np.ndarray]: ...


def codes_of(tokenizer: WindowTokenizer, blocks: Iterable[np.ndarray], *, live: bool = False) -> Iterator[np.ndarray]:
    """Codes [K, t] of all codebooks of a recording, piece by piece: joined, those of `tokenizer.encode`.

    live: give codes as soon as they are complete where the tokenizer is a causal codec, rather than window by window.
    """
    if live and isinstance(tokenizer, NeuralCodec) and tokenizer.net.causal:
        with tokenizer.streaming() as stream:
            for block in blocks:
                yield stream.encode(torch.from_numpy(np.ascontiguousarray(block.T))).numpy()
            yield stream.finish().numpy()
        return
    cuts = tokenizer.windows.stream(blocks)
    while group := list(islice(cuts, max(1, torch.get_num_threads()))):
        parts = tokenizer.encode_windows([torch.from_numpy(np.array(samples.T)) for _, samples in group])
        for part, (window, _) in zip(parts, group, strict=True):
            yield part[:, window.skip : window.skip + window.frames].numpy()


def kept_codebooks(tokenizer: WindowTokenizer, count: int | None) -> list[int]:
    """Which codebooks the first `count` of a codec are, its level among them; all for None.

    InputError for units, or more than there are.
    """
    every = list(range(tokenizer.spec.num_codebooks))
    if count is None:
        return every
    if not isinstance(tokenizer, NeuralCodec) or not 1 <= count <= len(tokenizer.net.labels):
        books = f"a codec of {count} codebooks"
        raise InputError(f"expected {books} or more to keep the first {count}, got {', '.join(tokenizer.spec.labels)}")
    return every[:count] + every[len(tokenizer.net.labels) :]


def sound_of(
    decoder: BlockVocoder, reader: Reader, sample_rate: int | None = None, *, live: bool = False
) -> Iterator[np.ndarray]:
    """Blocks [n] or [n, C] at the rate of the recording, or another (Hz), as long as the recording was.

    live: give sound as soon as it can be made where the decoder is a causal codec, rather than window by window.
    What a block of the file says is checked before its sound is given. Memory is that of a block and of a window of the
    decoder; only an inversion of spectra holds the codes of the whole recording.
    SpecError if the decoder does not take such codes, AudioError for a damaged file.
    """
    decoder.require(reader.head.spec)
    rate = sample_rate or reader.head.source_rate
    blocks = (block.numpy() for block in _decoded(decoder, reader, live))
    yield from _fitted(resample_blocks(blocks, decoder.sample_rate, rate), reader, rate)


def _decoded(decoder: BlockVocoder, reader: Reader, live: bool) -> Iterator[Tensor]:
    """Blocks at the decoder's rate."""
    spec = reader.head.spec
    if isinstance(decoder, NeuralCodec):
        streams = live and decoder.net.causal
        return _cut(_stream_codec(decoder, reader) if streams else _by_windows(decoder, reader), reader)
    if isinstance(decoder, UnitVocoder):
        layers = list(layers_of(spec))
        coming = decoder.spec.take(codebooks_of(decoder.spec, layers))
        if set(coming.labels) <= set(spec.labels):
            return _stream_units(decoder, layers, spec.indices(coming.labels), reader)
    return _whole(decoder, reader)


def _stream_codec(codec: NeuralCodec, reader: Reader) -> Iterator[Tensor]:
    with codec.streaming() as stream:
        for codes in reader:
            yield _framed(stream.decode(torch.from_numpy(codes)))
        yield _framed(stream.finish_decoding())


def _by_windows(codec: NeuralCodec, reader: Reader) -> Iterator[Tensor]:
    """The windows of `codec.decode_blocks`, of codes that come piece by piece."""
    hop, cut = codec.net.hop_length, codec.windows
    alone = copy.copy(codec)  # its windows are as long as the codes that it is given
    alone.windows = Windows(cut.frames + 2 * cut.context, 0, hop)
    frames = Windows(cut.frames, cut.context, hop_length=1)
    for window, piece in frames.stream(codes.T for codes in reader):
        codes = torch.from_numpy(np.array(piece.T))
        (wave,) = alone.decode_blocks(codes, len(piece) * hop, reader.head.spec)
        yield wave[window.skip * hop : (window.skip + window.frames) * hop]


def _stream_units(vocoder: UnitVocoder, layers: list[str], rows: list[int], reader: Reader) -> Iterator[Tensor]:
    stream = vocoder.stream(layers)
    width = max(1, round(_PUSH_SECONDS * reader.head.spec.frame_rate))
    for codes in reader:
        for first in range(0, codes.shape[1], width):
            yield stream.push(torch.from_numpy(codes[rows, first : first + width]))
    yield stream.finish(reader.samples)


def _whole(decoder: BlockVocoder, reader: Reader) -> Iterator[Tensor]:
    codes = np.concatenate([piece.astype(np.int32) for piece in reader], axis=1).astype(np.int64)
    yield from decoder.decode_blocks(torch.from_numpy(codes), reader.samples, reader.head.spec)


def _cut(blocks: Iterable[Tensor], reader: Reader) -> Iterator[Tensor]:
    """Blocks without what the last frame has beyond the end of the recording."""
    given = 0
    for block in blocks:
        fits = block[: reader.samples - given] if reader.samples else block
        given += len(fits)
        yield fits


def _fitted(blocks: Iterable[np.ndarray], reader: Reader, rate: int) -> Iterator[np.ndarray]:
    """Blocks at `rate`, cut off or filled up with zeros to the length of the recording, which is known at their end."""
    held, given = None, 0
    for block in blocks:
        held = block if held is None else np.concatenate([held, block])
        ready = max(0, len(held) - _HELD_BACK)
        yield held[:ready]
        held, given = held[ready:], given + ready
    if held is not None:
        source_rate, length = reader.head.source_rate, reader.source_samples
        total = length if rate == source_rate else resampled_length(length, source_rate, rate)
        missing = max(0, total - given - len(held))
        yield np.pad(held[: total - given], [(0, missing)] + [(0, 0)] * (held.ndim - 1))


def _framed(wave: Tensor) -> Tensor:
    """[C, n] as a block, [n] or [n, C]."""
    return wave[0] if len(wave) == 1 else wave.T
