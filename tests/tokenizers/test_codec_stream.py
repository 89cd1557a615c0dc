from __future__ import annotations

import gc
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.tiny_codecs import tiny_config, tiny_model
from vocable.clock import Windows
from vocable.errors import AudioError, InputError
from vocable.nets.streaming import DecoderStream, EncoderStream
from vocable.testing import noise
from vocable.tokenizers.codec import NeuralCodec
from vocable.tokenizers.streaming import CodecStream
from vocable.types import Audio

CODECS = ("encodec-24k", "mimi")
HOPS = {"encodec-24k": 320, "mimi": 1920}


@cache
def model(name: str) -> Any:
    return tiny_model(tiny_config(name))


@cache
def codec(name: str, frames: int = 8, context: int = 5, num_codebooks: int | None = None) -> NeuralCodec:
    windows = Windows(frames, context, HOPS[name])
    return NeuralCodec(tiny_config(name), model(name).state_dict(), windows=windows, num_codebooks=num_codebooks)


def wave(name: str, frames: float) -> Tensor:
    return noise(frames * HOPS[name] / 24000, 24000, seed=3)


@cache
def whole(name: str, frames: int, context: int, length: float) -> tuple[Tensor, Tensor]:
    """Codes and samples of a recording taken as a whole, at so many frames to a window."""
    tokens = codec(name, frames, context).encode(Audio.of([wave(name, length)], 24000))
    return tokens.utterance(0), codec(name, frames, context).decode(tokens).waveform(0)


def through(stream: CodecStream, samples: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Codes and samples from pieces of so many samples, in turn; what is left over comes last."""
    at = torch.tensor(sizes, dtype=torch.int64).cumsum(0).clamp_max(len(samples))
    codes = [*(stream.encode(piece) for piece in samples.tensor_split(at)), stream.finish()]
    sound = [*(stream.decode(part) for part in codes), stream.finish_decoding()]
    return torch.cat(codes, dim=1), torch.cat(sound, dim=1)


def same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=4)
@given(sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=20))
def test_any_chunking_gives_the_codes_and_the_samples_of_the_whole(name: str, sizes: list[int]) -> None:
    samples = wave(name, 17.3)
    codes, sound = whole(name, 8, 5, 17.3)
    with codec(name).streaming() as stream:
        our_codes, our_sound = through(stream, samples, sizes)
    assert torch.equal(our_codes, codes)
    assert our_sound.shape == (1, 18 * HOPS[name])
    same(our_sound[:, : len(samples)], sound)


@pytest.mark.parametrize("name", CODECS)
def test_the_cut_into_pieces_has_no_part_in_the_bits(name: str) -> None:
    samples, results = wave(name, 14.2), []
    for sizes in ([1] * 700, [100] * 300, [24000], []):
        with codec(name).streaming() as stream:
            results.append(through(stream, samples, sizes))
    for codes, sound in results[1:]:
        assert torch.equal(codes, results[0][0])
        assert torch.equal(sound, results[0][1])


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(("frames", "context"), [(3, 8), (2, 1), (4, 0), (1500, 225)])
def test_windows_of_every_shape_hand_over_where_the_whole_cuts(name: str, frames: int, context: int) -> None:
    for length in (10.0, 10.01):
        samples = wave(name, length)
        codes, sound = whole(name, frames, context, length)
        with codec(name, frames, context).streaming() as stream:
            our_codes, our_sound = through(stream, samples, [777] * 20)
        assert torch.equal(our_codes, codes)
        same(our_sound[:, : len(samples)], sound)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("samples", [1, -1, 0, 1919, 1920, 1921, 2239, 2240, 2241])
def test_short_recordings_have_every_frame(name: str, samples: int) -> None:
    clip = noise(0.2, 24000, seed=5)[: samples if samples > 0 else HOPS[name] + samples]
    tokens = codec(name).encode(Audio.of([clip], 24000))
    with codec(name).streaming() as stream:
        codes, sound = through(stream, clip, [])
    assert torch.equal(codes, tokens.utterance(0))
    same(sound[:, : len(clip)], codec(name).decode(tokens).waveform(0))


@pytest.mark.parametrize("name", CODECS)
def test_codes_and_samples_are_those_of_transformers(name: str) -> None:
    samples = wave(name, 20.5)
    padded = F.pad(samples, (0, -len(samples) % HOPS[name]))[None, None]
    encodec = name.startswith("encodec")
    with torch.no_grad():
        theirs = model(name).encode(padded, bandwidth=1.2) if encodec else model(name).encode(padded)
        codes = theirs.audio_codes[0, 0] if encodec else theirs.audio_codes[0]
        arguments = (codes[None, None], [None]) if encodec else (codes[None],)
        sound = model(name).decode(*arguments).audio_values[0]
    with codec(name, 1500, 225).streaming() as stream:
        our_codes, our_sound = through(stream, samples, [1000] * 50)
    assert torch.equal(our_codes, codes)
    same(our_sound, sound)


@pytest.mark.parametrize(("name", "latency"), [("encodec-24k", 7 * 320), ("mimi", 1920)])
def test_the_first_codes_come_after_the_latency_the_others_after_a_hop(name: str, latency: int) -> None:
    samples, hop, given, came = wave(name, 11), HOPS[name], 0, []
    with codec(name, 8, 6).streaming() as stream:
        assert stream.latency == latency
        for piece in samples.split(hop // 2):
            given += len(piece)
            came += [given] * stream.encode(piece).shape[1]
    assert came == [max(latency, frame * hop) for frame in range(1, 12)]


@pytest.mark.parametrize("name", CODECS)
def test_memory_is_bounded(name: str) -> None:
    with codec(name, 6, 3).streaming() as stream:
        for _ in range(5):
            stream.decode(stream.encode(torch.zeros(5 * HOPS[name])))
            alive = [type(thing) for thing in gc.get_objects()]
            assert 1 <= alive.count(EncoderStream) <= 2
            assert 1 <= alive.count(DecoderStream) <= 2


@pytest.mark.parametrize("name", CODECS)
def test_fewer_codebooks(name: str) -> None:
    samples = wave(name, 9)
    with codec(name, num_codebooks=2).streaming() as stream:
        codes, sound = through(stream, samples, [5000])
    assert torch.equal(codes, whole(name, 8, 5, 9)[0][:2])
    with codec(name).streaming() as stream:
        assert torch.equal(torch.cat([stream.decode(codes), stream.finish_decoding()], dim=1), sound)


def test_nothing_in_nothing_out() -> None:
    with codec("mimi").streaming() as stream:
        assert stream.encode(torch.zeros(0)).shape == (4, 0)
        assert stream.finish().shape == (4, 0)
        assert stream.decode(torch.zeros(4, 0, dtype=torch.int64)).shape == (1, 0)
        assert stream.finish_decoding().shape == (1, 0)


def test_the_directions_do_not_meet() -> None:
    codes, sound = whole("encodec-24k", 8, 5, 17.3)
    with codec("encodec-24k").streaming() as stream:
        stream.finish()
        half = stream.decode(codes[:, :11])
        rest = [stream.decode(codes[:, 11:]), stream.finish_decoding()]
    same(torch.cat([half, *rest], dim=1)[:, : sound.shape[1]], sound)


def test_a_stream_that_has_ended_says_so() -> None:
    with codec("mimi").streaming() as stream:
        stream.finish()
        for act in (lambda: stream.encode(torch.zeros(9)), stream.finish):
            with pytest.raises(InputError, match="expected a stream whose encoding goes on, got one that has ended"):
                act()
        stream.decode(torch.zeros(4, 1, dtype=torch.int64))
    for act in (lambda: stream.decode(torch.zeros(4, 1, dtype=torch.int64)), stream.finish_decoding):
        with pytest.raises(InputError, match="expected a stream whose decoding goes on"):
            act()


@pytest.mark.parametrize(
    ("chunk", "kind", "message"),
    [
        (torch.zeros(2, 50), InputError, r"expected floating-point samples \[C=1, n\], got torch.float32 \[2, 50\]"),
        (torch.zeros(1, 1, 50), InputError, "expected floating-point samples"),
        (torch.zeros(50, dtype=torch.int16), InputError, "got torch.int16"),
        (torch.tensor([0.0, float("nan")]), AudioError, "expected finite samples"),
    ],
)
def test_what_is_no_sound_is_refused_and_leaves_no_trace(chunk: Tensor, kind: type[Exception], message: str) -> None:
    samples = wave("mimi", 9)
    with codec("mimi").streaming() as stream:
        before = stream.encode(samples[:5000])
        with pytest.raises(kind, match=message):
            stream.encode(chunk)
        codes = torch.cat([before, stream.encode(samples[5000:]), stream.finish()], dim=1)
    assert torch.equal(codes, whole("mimi", 8, 5, 9)[0])


@pytest.mark.parametrize("codes", [torch.full((4, 1), 16), torch.full((4, 1), -1), torch.zeros(5, 1), torch.zeros(4)])
def test_what_is_no_code_is_refused(codes: Tensor) -> None:
    with codec("mimi").streaming() as stream, pytest.raises(InputError, match="expected"):
        stream.decode(codes.long())


def test_a_codec_that_looks_ahead_names_the_other_way() -> None:
    config = tiny_config("encodec-24k", use_causal_conv=False)
    noncausal = NeuralCodec(config, tiny_model(config).state_dict())
    with pytest.raises(InputError, match="cannot stream") as problem:
        noncausal.streaming()
    assert "windows" in problem.value.hint
