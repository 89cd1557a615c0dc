from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.nets.codec_decoder import CodecDecoder, DecoderStream
from vocable.nets.codec_encoder import CodecEncoder, EncoderStream, Snake, encode_blocks

_CONFIG = {"channels": 2, "strides": [2, 3], "kernel": 3, "dilations": [1, 2], "activation": "elu", "dim": 4}
_GENERATORS: dict[str, dict[str, Any]] = {
    "istft": {"kind": "istft", "dim": 8, "depth": 2, "width": 12, "hop_length": 10, "fft_size": 40},
    "hifigan": {"kind": "hifigan", "dim": 8, "channels": 8, "hop_length": 10},
}


def encoder(causal: bool = True, **changes: Any) -> CodecEncoder:
    torch.manual_seed(0)
    return CodecEncoder({**_CONFIG, "causal": causal, **changes}).requires_grad_(False)


def decoder(kind: str, causal: bool) -> CodecDecoder:
    torch.manual_seed(0)
    config = {"dim": 4, "subframes": 3, "generator": {**_GENERATORS[kind], "causal": causal}}
    return CodecDecoder(config).requires_grad_(False)


def in_chunks(stream: Any, whole: Tensor, sizes: list[int], axis: int) -> list[Tensor]:
    parts = whole.split([*sizes, whole.shape[axis] - sum(sizes)], dim=axis)
    return [stream.push(part, last=index == len(parts) - 1) for index, part in enumerate(parts)]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("activation", ["elu", "snake"])
def test_a_latent_sees_its_stretch_and_nothing_else(causal: bool, activation: str) -> None:
    net = encoder(causal, activation=activation)
    # 1 + 6 (first) + 2 + 4 (units) + 3 (stride 2), then at distance 2: 2 + 4, 5 (stride 3), at distance 6: 2
    assert net.past + net.hop_length + net.future == 1 + 6 + 6 + 3 + 2 * (6 + 5) + 6 * 2
    assert net.future == (0 if causal else 22)
    samples = torch.randn(1, 1, 20 * 6)
    padded = net.padded(samples)
    before = net(padded)
    first = 10 * 6  # of what latent 10 sees, in the padded samples
    for place, changes in ((first - 1, False), (first, True), (first + net.past + net.future + 5, True)):
        other = padded.clone()
        other[..., place] += 1
        assert bool((net(other)[0, 10] != before[0, 10]).any()) == changes
    other = padded.clone()
    other[..., first + net.past + net.future + 6] += 1
    assert torch.equal(net(other)[0, 10], before[0, 10])


def test_snake_is_what_it_says() -> None:
    snake = Snake(2)
    snake.alpha.data = torch.tensor([[1.0], [2.0]])
    expected = torch.tensor([[[0.5 + math.sin(0.5) ** 2], [0.5 + math.sin(1.0) ** 2 / 2]]])
    torch.testing.assert_close(snake(torch.full((1, 2, 1), 0.5)), expected, atol=1e-6, rtol=0)


def test_latents_can_be_standardized() -> None:
    net, samples = encoder(), torch.randn(3, 1, 60)
    net.standardize([net.padded(samples)])
    again = net(net.padded(samples)).flatten(0, 1)
    torch.testing.assert_close(again.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(again.std(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


@pytest.mark.parametrize("frames", [1, 7, 8, 30, 61])
def test_blocks_are_the_whole(frames: int) -> None:
    net, samples = encoder(), torch.randn(2, 1, frames * 6)
    torch.testing.assert_close(encode_blocks(net, samples), net(net.padded(samples)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("sizes", [[6] * 60, [6, 0, 120, 18], [240], []])
def test_a_stream_has_the_bits_of_the_blocks(sizes: list[int]) -> None:
    net, samples = encoder(), torch.randn(1, 1, 61 * 6)
    parts = in_chunks(EncoderStream(net), samples[0], sizes, 1)
    assert [len(part) for part in parts] == [*(size // 6 for size in sizes), 61 - sum(sizes) // 6]
    assert torch.equal(torch.cat(parts), encode_blocks(net, samples)[0])


@pytest.mark.parametrize("kind", ["istft", "hifigan"])
def test_a_causal_decoder_streams(kind: str) -> None:
    net, latents = decoder(kind, causal=True), torch.randn(31, 4)
    whole = net(latents[None])[0]
    assert (net.future, whole.shape) == (0, (31 * 30,))
    pieces: tuple[list[int], ...] = ([1] * 30, [5, 0, 20], [])
    streams = [torch.cat(in_chunks(DecoderStream(net), latents, sizes, 0)) for sizes in pieces]
    torch.testing.assert_close(streams[0], whole, atol=1e-5 * float(whole.abs().max()), rtol=0)
    assert all(torch.equal(stream, streams[0]) for stream in streams)
    with pytest.raises(InputError, match="expected a causal decoder"):
        DecoderStream(decoder(kind, causal=False))


@pytest.mark.parametrize("causal", [True, False])
def test_a_decoder_tells_how_far_it_looks(causal: bool) -> None:
    net, latents = decoder("istft", causal), torch.randn(1, 31, 4)
    whole = net(latents)[0].view(31, 30)
    for frame in (15 - net.past - 1, 15 + net.future + 1):
        other = latents.clone()
        other[:, frame] += 1
        assert torch.equal(net(other)[0].view(31, 30)[15], whole[15])
    with torch.no_grad():
        prepared = net.prepared()(latents)[0].view(31, 30)
    torch.testing.assert_close(prepared, whole, atol=1e-5, rtol=0)
    assert net.generator is not net.prepared().generator


@pytest.mark.parametrize(
    "changes", [{"strides": []}, {"kernel": 4}, {"activation": "relu"}, {"channels": 0}, {"dilations": [0]}]
)
def test_what_is_no_encoder_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected the configuration of a codec's encoder"):
        encoder(**changes)


def test_what_is_no_decoder_is_refused() -> None:
    with pytest.raises(InputError, match="expected the configuration of a codec's decoder"):
        CodecDecoder({"dim": 4, "subframes": 0, "generator": _GENERATORS["istft"]})
