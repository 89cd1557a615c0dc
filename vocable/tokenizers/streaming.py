"""Streams of a causal codec: codes as samples come and samples as codes come, both those of the whole recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from vocable.clock import Windows
from vocable.errors import AudioError, InputError
from vocable.nets.streaming import DecoderStream, EncoderStream
from vocable.nets.threads import one_thread_each
from vocable.tokenizers.own_codec import OwnCodecNet

if TYPE_CHECKING:
    from vocable.tokenizers.codec import NeuralCodec


class CodecStream:
    """One recording through a codec, piece by piece, in either direction; `with codec.streaming() as stream:` makes it.

    Codes and samples are those of `codec.encode` and `codec.decode`, windows of long recordings included, up to
    rounding: about 1e-6 of the range in fp32; codes of codecs trained here are the same bit for bit. They are computed
    frame by frame, or in blocks that begin at fixed frames, so how the recording is cut into pieces has no part in
    their bits. Memory is bounded, whatever the length. The two directions know nothing of one another.
    InputError for a codec that looks ahead, and for use after the end.
    """

    def __init__(self, codec: NeuralCodec) -> None:
        self.codec = codec
        self._hop_length = codec.net.hop_length
        # convolutions whose state is carried along round differently in longer pieces
        self._most = codec.windows.frames if isinstance(codec.net, OwnCodecNet) else 1
        self._rest = torch.zeros(codec.net.channels, 0)
        self._encoder: _Relay | None = _Relay(self._begin_encoder, codec.windows)
        self._decoder: _Relay | None = _Relay(self._begin_decoder, codec.windows)

    def __enter__(self) -> CodecStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._encoder = self._decoder = None

    @cached_property
    def latency(self) -> int:
        """Samples of a recording that must be in before its first codes come out; later codes wait for one hop.

        One hop for Mimi and for codecs trained here. 7 hops, 93 ms, for EnCodec, which pads the beginning with its
        mirror image: that has to be there first. So it is for every window, but there the context has it, unless it is
        shorter than this.
        """
        stream, frames = self._begin_encoder(), 1
        silence = torch.zeros(self.codec.net.channels, self._hop_length)
        with one_thread_each():
            while not len(stream.push(silence)):
                frames += 1
        return frames * self._hop_length

    def encode(self, chunk: Tensor) -> Tensor:
        """The codes [K, t], t >= 0, that samples [n] or [C, n] at the codec's rate complete.

        AudioError for NaN or infinity. InputError for another shape, for integers, and after the end.
        """
        relay = _open(self._encoder, "encoding")
        samples, hop = torch.cat([self._rest, self._checked(chunk)], dim=1), self._hop_length
        whole = samples.shape[1] // hop * hop
        self._rest = samples[:, whole:].clone()
        with one_thread_each():
            return self._quantized(relay.push(samples[:, :whole], hop, self._most))

    def finish(self) -> Tensor:
        """Ends the recording and gives the codes [K, t] still due, the last frame filled up with zeros."""
        relay, self._encoder = _open(self._encoder, "encoding"), None
        missing = -self._rest.shape[1] % self._hop_length
        with one_thread_each():
            begun = relay.push(F.pad(self._rest, (0, missing)), self._hop_length, 1) if missing else []
            return self._quantized([*begun, relay.finish(self._rest[:, :0])])

    def decode(self, codes: Tensor) -> Tensor:
        """The samples [C, n], n >= 0 and whole frames, that codes [K, t] complete; or codes of the first few codebooks.

        InputError for another shape, for codes out of range, and after the end.
        """
        relay = _open(self._decoder, "decoding")
        self._check_codes(codes)
        with one_thread_each():
            return self._joined(relay.push(codes, 1, self._most))

    def finish_decoding(self) -> Tensor:
        """Ends the codes and gives the samples [C, n] still due.

        All samples together are whole frames: of the last, what exceeds the recording is the caller's to drop.
        """
        relay, self._decoder = _open(self._decoder, "decoding"), None
        with one_thread_each():
            return self._joined([relay.finish(torch.zeros(1, 0, dtype=torch.int64))])

    def _begin_encoder(self) -> _Stream:
        net = self.codec.net
        return net.encoder_stream() if isinstance(net, OwnCodecNet) else EncoderStream(net.model)

    def _begin_decoder(self) -> _Stream:
        net = self.codec.net
        stream = net.decoder_stream() if isinstance(net, OwnCodecNet) else DecoderStream(net.model)
        return _Frames(stream, self._hop_length)

    def _quantized(self, steps: list[Tensor]) -> Tensor:
        """Codes [K, t] of latents [t, d], quantized as they came: how many at once has a part in a matrix product."""
        codes = [self.codec.net.quantize(latents[None])[0].cpu() for latents in steps if len(latents)]
        return torch.cat([torch.zeros(self.codec.spec.num_codebooks, 0, dtype=torch.int64), *codes], dim=1)

    def _joined(self, steps: list[Tensor]) -> Tensor:
        """Samples [C, n] of frames [t, C, hop]."""
        frames = torch.cat([torch.zeros(0, self.codec.net.channels, self._hop_length), *steps])
        return frames.transpose(0, 1).flatten(1)

    def _checked(self, chunk: Tensor) -> Tensor:
        samples = chunk[None] if chunk.ndim == 1 else chunk
        channels = self.codec.net.channels
        if samples.ndim != 2 or samples.shape[0] != channels or not samples.is_floating_point():
            came = f"{chunk.dtype} {list(chunk.shape)}"
            raise InputError(f"expected floating-point samples [C={channels}, n], got {came}")
        if not bool(torch.isfinite(samples).all()):
            raise AudioError("expected finite samples, got NaN or infinity")
        return samples.cpu().float()

    def _check_codes(self, codes: Tensor) -> None:
        sizes = torch.tensor([book.size for book in self.codec.spec.codebooks])
        if codes.ndim != 2 or not 1 <= len(codes) <= len(sizes) or codes.dtype != torch.int64:
            came = f"{codes.dtype} {list(codes.shape)}"
            raise InputError(f"expected int64 codes [K, t] of 1 to {len(sizes)} codebooks, got {came}")
        if bool(((codes.cpu() < 0) | (codes.cpu() >= sizes[: len(codes), None])).any()):
            raise InputError("expected codes within their codebooks, got some out of range")


class _Stream(Protocol):
    def push(self, piece: Tensor, *, last: bool = False) -> Tensor: ...


class _Frames:
    """A decoder that gives its samples as frames [t, C, hop]."""

    def __init__(self, stream: _Stream, hop_length: int) -> None:
        self._stream, self._hop_length = stream, hop_length

    def push(self, piece: Tensor, *, last: bool = False) -> Tensor:
        samples = self._stream.push(piece, last=last).cpu()
        frames = samples.shape[1] // self._hop_length
        return samples.reshape(len(samples), frames, self._hop_length).transpose(0, 1)


@dataclass
class _Leg:
    """The stream of one window: of its frames those in [first, stop) are given on; at `end` it is over.

    at: the frame that it gives next.
    """

    stream: _Stream
    at: int
    first: int
    stop: int
    end: int

    def push(self, piece: Tensor, *, last: bool) -> Tensor:
        out = self.stream.push(piece, last=last)
        kept = out[max(0, self.first - self.at) : max(0, self.stop - self.at)]
        self.at += len(out)
        return kept


class _Relay:
    """One stream for each window, begun with the window's context: they overlap, and hand over at its first frame."""

    def __init__(self, begin: Callable[[], _Stream], windows: Windows) -> None:
        self._begin, self._windows = begin, windows
        self._legs: list[_Leg] = []
        self._begun = self._frames = 0
        self._begin_due()

    def push(self, piece: Tensor, width: int, most: int) -> list[Tensor]:
        """What the frames of a piece complete, each `width` of its columns, by at most so many of them at once."""
        parts = []
        while piece.shape[1]:
            count = min(most, piece.shape[1] // width, self._until_change())
            parts.append(self._push(piece[:, : count * width], count))
            piece = piece[:, count * width :]
        return parts

    def _push(self, frames: Tensor, count: int) -> Tensor:
        self._frames += count
        parts = [leg.push(frames, last=self._frames == leg.end) for leg in self._legs]
        self._legs = [leg for leg in self._legs if leg.at < leg.stop]
        self._begin_due()
        return torch.cat(parts)

    def _until_change(self) -> int:
        """Frames until a stream begins or ends."""
        start = max(0, self._begun * self._windows.frames - self._windows.context)
        return min(start, *(leg.end for leg in self._legs)) - self._frames

    def finish(self, nothing: Tensor) -> Tensor:
        """What is still due at the end; `nothing` is a piece without frames."""
        return torch.cat([leg.push(nothing, last=True) for leg in self._legs])

    def _begin_due(self) -> None:
        """The streams that the next frame is the first for: more than one where the context exceeds a window."""
        size, context = self._windows.frames, self._windows.context
        while (start := max(0, self._begun * size - context)) <= self._frames:
            self._begun += 1
            stop = self._begun * size
            self._legs.append(_Leg(self._begin(), start, stop - size, stop, stop + context))


def _open(relay: _Relay | None, direction: str) -> _Relay:
    if relay is None:
        raise InputError(f"expected a stream whose {direction} goes on, got one that has ended")
    return relay
