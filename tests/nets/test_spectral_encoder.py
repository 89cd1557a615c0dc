from __future__ import annotations

from typing import Any

import pytest
import torch

from vocable.errors import InputError
from vocable.nets.codec_encoder import EncoderStream, encode_blocks
from vocable.nets.spectral_encoder import SpectralEncoder
from vocable.tokenizers.own_codec import build_encoder

_HOP = 20
_CONFIG = {
    "kind": "spectral",
    "hop_length": _HOP,
    "subframes": 2,
    "fft_size": 40,
    "channels": 8,
    "width": 12,
    "depth": 2,
    "kernel": 5,
    "dim": 4,
}


def encoder(causal: bool = False, **changes: Any) -> SpectralEncoder:
    torch.manual_seed(0)
    return SpectralEncoder({**_CONFIG, "causal": causal, **changes}).requires_grad_(False)


@pytest.mark.parametrize("causal", [True, False])
def test_a_latent_sees_its_stretch_and_nothing_else(causal: bool) -> None:
    net = encoder(causal)
    # the second spectrum begins 10 samples late, so a frame sees 50; two blocks see 4 frames more each
    assert net.past + net.hop_length + net.future == 50 + 2 * 4 * _HOP
    assert (net.past, net.future) == ((190, 0) if causal else (95, 95))
    padded = net.padded(torch.randn(1, 1, 20 * _HOP))
    before, first = net(padded), 10 * _HOP
    assert before.shape == (1, 20, 4)
    last = first + net.past + net.hop_length + net.future - 1
    # a Hann window is zero at its first sample, so the outermost that counts is the next
    for place, changes in ((first - 1, False), (first + 1, True), (last, True), (last + 1, False)):
        other = padded.clone()
        other[..., place] += 1000  # the window is small there
        assert bool((net(other)[0, 10] != before[0, 10]).any()) == changes, place


@pytest.mark.parametrize("causal", [True, False])
def test_a_latent_is_the_same_wherever_it_stands(causal: bool) -> None:
    net, samples = encoder(causal), torch.randn(2, 1, 30 * _HOP)
    padded = net.padded(samples)
    part = padded[..., 7 * _HOP : 7 * _HOP + net.past + 5 * _HOP + net.future]
    torch.testing.assert_close(net(part), net(padded)[:, 7:12], atol=1e-5, rtol=0)


def test_blocks_and_streams_of_a_causal_one_are_the_whole() -> None:
    net, samples = encoder(causal=True), torch.randn(1, 1, 61 * _HOP)
    whole = encode_blocks(net, samples)
    torch.testing.assert_close(whole, net(net.padded(samples)), atol=1e-5, rtol=0)
    stream = EncoderStream(net)
    sizes = [_HOP, 0, 40 * _HOP, 20 * _HOP]
    parts = [stream.push(part) for part in samples[0].split(sizes, dim=1)]
    assert [len(part) for part in parts] == [1, 0, 40, 20]
    assert torch.equal(torch.cat(parts), whole[0])


def test_latents_can_be_standardized() -> None:
    net, samples = encoder(), torch.randn(3, 1, 10 * _HOP)
    net.standardize([net.padded(samples)])
    again = net(net.padded(samples)).flatten(0, 1)
    assert bool((again.mean(0).abs() < 0.3).all())
    assert bool(((again.std(0) - 1).abs() < 0.3).all())
    torch.testing.assert_close(again.square().mean(1), torch.ones(30), atol=1e-3, rtol=0)  # each of one length


def test_silence_and_full_scale_are_finite_and_have_gradients() -> None:
    net = encoder().requires_grad_(True)
    samples = torch.stack([torch.zeros(1, 10 * _HOP), torch.ones(1, 10 * _HOP)])
    latents = net(net.padded(samples))
    assert bool(latents.isfinite().all())
    latents.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name


def test_kinds_have_names() -> None:
    assert isinstance(build_encoder({**_CONFIG, "causal": False}), SpectralEncoder)
    with pytest.raises(InputError, match="expected an encoder among convolutions, spectral, got 'other'"):
        build_encoder({"kind": "other"})


@pytest.mark.parametrize("changes", [{"subframes": 3}, {"fft_size": 41}, {"fft_size": 8}, {"depth": 0}])
def test_what_is_no_encoder_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected the configuration of a spectral encoder"):
        encoder(**changes)
