from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from tests.tiny_codecs import NAMES, tiny_config, tiny_model, tiny_tensors
from vocable.errors import ArtifactError, InputError
from vocable.nets.codec_families import level_codes, level_values, measure
from vocable.nets.codec_fsq import two_thirds
from vocable.nets.codecs import CodecNet, build
from vocable.nets.each import run_each

LOW = ("encodec-24k", "encodec-48k", "dac-16k", "mimi", "xcodec", "xcodec2")


@cache
def net(name: str, **options: Any) -> CodecNet:
    return build(tiny_config(name), tiny_tensors(name), **options)


@cache
def reference(name: str) -> Any:
    return tiny_model(tiny_config(name))


def samples(codec: CodecNet, frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(1, codec.channels, frames * codec.hop_length, generator=generator)


def upstream_fsq(name: str, waveforms: Tensor) -> tuple[Tensor, Tensor]:
    """The same of X-Codec 2 and NeuCodec, with transformers' own mel in place of torchaudio's."""
    from transformers import SeamlessM4TFeatureExtractor

    model = reference(name)
    # what their feature extractors do with audio of whole hops
    heard = waveforms if name == "xcodec2" else F.pad(two_thirds(waveforms), (0, 320))
    padded = F.pad(heard[0, 0], (160, 160)) if name == "xcodec2" else heard[0, 0]
    mel = SeamlessM4TFeatureExtractor()(padded.numpy(), sampling_rate=16000, return_tensors="pt", pad_to_multiple_of=2)
    with torch.no_grad():
        codes = model.encode(heard, mel["input_features"]).audio_codes
        return codes.long(), model.decode(audio_codes=codes).audio_values


def upstream(name: str, waveforms: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [b, k, t] and samples [b, c, n] of transformers' own encode and decode."""
    if name in {"xcodec2", "neucodec"}:
        return upstream_fsq(name, waveforms)
    model = reference(name)
    bandwidths = tiny_config(name).get("target_bandwidths")
    with torch.no_grad():
        found = model.encode(waveforms, bandwidth=bandwidths[-1]) if bandwidths else model.encode(waveforms)
        if "encodec" in name:
            return found.audio_codes[0], model.decode(found.audio_codes, found.audio_scales).audio_values
        return found.audio_codes, model.decode(audio_codes=found.audio_codes).audio_values


@pytest.mark.parametrize("frames", [1, 23])
@pytest.mark.parametrize("name", NAMES)
def test_is_what_transformers_computes(name: str, frames: int) -> None:
    codec = net(name)
    waveforms = samples(codec, frames)
    latents = codec.latents(waveforms)
    codes = codec.quantize(latents)
    expected_codes, expected = upstream(name, waveforms)
    assert latents.shape == (1, frames, codec.dim)
    assert torch.equal(codes, expected_codes)
    assert frames < 23 or len(codes.unique()) > 8
    found = codec.decode(codes)
    assert found.shape == waveforms.shape
    if codec.levels:
        found = found * measure(waveforms)[:, None, None]
    # transformers' DAC with odd strides (16 and 24 kHz) ends 8 samples early: those are zeros here
    expected = expected.reshape(1, codec.channels, -1)
    assert waveforms.shape[-1] - expected.shape[-1] == (8 if name == "dac-16k" else 0)
    torch.testing.assert_close(found[..., : expected.shape[-1]], expected, atol=1e-5, rtol=1e-5)
    assert not found[..., expected.shape[-1] :].any()


@pytest.mark.parametrize("name", ["encodec-48k", "dac-16k", "mimi", "xcodec"])
def test_the_first_codebooks_are_those_of_all(name: str) -> None:
    codec = net(name)
    latents = codec.latents(samples(codec, 9))
    codes = codec.quantize(latents)
    fewer = net(name, num_codebooks=1)
    assert (len(fewer.labels), len(fewer.codebook_sizes)) == (1, 1)
    assert torch.equal(fewer.quantize(latents), codes[:, :1])
    assert torch.equal(fewer.decode(codes[:, :1]), codec.decode(codes[:, :1]))


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_quantized_one_by_one(name: str) -> None:
    codec = net(name)
    latents = codec.latents(samples(codec, 9))
    each = [codec.quantize(frame) for frame in latents.split(1, dim=1)]
    assert torch.equal(torch.cat(each, dim=2), codec.quantize(latents))


@pytest.mark.parametrize("name", ["encodec-24k", "mimi"])
def test_a_causal_codec_does_not_see_what_comes(name: str) -> None:
    codec = net(name)
    waveforms = samples(codec, 14)
    short = waveforms[..., : 9 * codec.hop_length]  # EnCodec reflects its first frames, which needs 7 of them
    torch.testing.assert_close(codec.latents(waveforms)[:, :9], codec.latents(short), atol=1e-5, rtol=1e-5)
    codes = codec.quantize(codec.latents(waveforms))
    known = codec.decode(codes)[..., : short.shape[-1]]
    torch.testing.assert_close(known, codec.decode(codes[..., :9]), atol=1e-5, rtol=1e-5)


def test_which_codecs_are_causal() -> None:
    assert [name for name in NAMES if net(name).causal] == ["encodec-24k", "mimi"]


@pytest.mark.parametrize("name", ["dac-16k", "dac-44k"])
def test_convolutions_see_no_further_than_their_context(name: str) -> None:
    codec = net(name)
    context, hop = codec.context, codec.hop_length
    waveforms = samples(codec, 3 + 2 * context + 4)
    whole = codec.latents(waveforms)
    part = codec.latents(waveforms[..., 2 * hop : (5 + 2 * context) * hop])
    kept = slice(context, context + 3)
    torch.testing.assert_close(part[:, kept], whole[:, 2:-2][:, kept], atol=1e-4, rtol=1e-4)
    codes = codec.quantize(whole)
    inside = slice(context * hop, (context + 3) * hop)
    expected = codec.decode(codes)[..., 2 * hop :][..., inside]
    torch.testing.assert_close(codec.decode(codes[..., 2:-2])[..., inside], expected, atol=1e-4, rtol=1e-4)


def test_weight_norms_are_folded() -> None:
    for name in NAMES:
        assert not any(parametrize.is_parametrized(module) for module in net(name).model.modules())
    assert any(parametrize.is_parametrized(module) for module in reference("encodec-24k").modules())


def test_reads_the_names_that_weight_norm_had() -> None:
    tensors = tiny_tensors("encodec-24k")
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {}
    for name, tensor in tensors.items():
        for new, before in old.items():
            name = name.replace(new, before)
        renamed[name] = tensor
    assert renamed.keys() != tensors.keys()
    codec = net("encodec-24k")
    again = build(tiny_config("encodec-24k"), renamed)
    assert torch.equal(again.latents(samples(codec, 3)), codec.latents(samples(codec, 3)))


@pytest.mark.parametrize(("name", "precision"), [*((name, "bf16") for name in LOW), ("encodec-24k", "fp16")])
def test_lower_precision_is_near(name: str, precision: str) -> None:
    codec, low = net(name), net(name, precision=precision)
    waveforms = samples(codec, 9)
    latents, rounded = codec.latents(waveforms), low.latents(waveforms)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - latents).norm() < 0.2 * latents.norm()
    codes = codec.quantize(latents)
    wave, found = codec.decode(codes), low.decode(codes)
    assert found.dtype == torch.float32
    assert 0 < (found - wave).norm() < 0.2 * wave.norm()


def test_levels_are_half_decibels() -> None:
    levels = torch.tensor([1.0, 0.5, 1e-6, 1e-8, 2.0, 100.0])
    codes = level_codes(levels)
    # 0, -6.02, -120 and 6.02 dB; what lies beyond the grid is clipped to it
    assert codes.tolist() == [240, 228, 0, 0, 252, 255]
    values = level_values(codes)
    torch.testing.assert_close(values[:2], torch.tensor([1.0, 10 ** (-6 / 20)]))
    assert torch.equal(level_codes(level_values(torch.arange(256))), torch.arange(256))
    loud = torch.full((1, 2, 8), 0.5)
    assert float(measure(loud)) == pytest.approx(0.5)
    assert float(measure(torch.stack([loud[:, 0], -loud[:, 0]], dim=1))) == pytest.approx(1e-8)


def test_two_thirds_of_the_rate_keep_what_is_below_half_of_it() -> None:
    seconds = torch.arange(24000, dtype=torch.float64) / 24000
    later = torch.arange(16000, dtype=torch.float64) / 16000
    inside = slice(200, -200)
    for hertz in (100, 1000, 7000):
        found = two_thirds(torch.sin(2 * torch.pi * hertz * seconds).float()[None, None])[0, 0]
        expected = torch.sin(2 * torch.pi * hertz * later).float()
        torch.testing.assert_close(found[inside], expected[inside], atol=2e-5, rtol=0)
    for hertz in (8500, 11000):
        found = two_thirds(torch.sin(2 * torch.pi * hertz * seconds).float()[None, None])[0, 0]
        assert float(found[inside].abs().max()) < 1e-4


def test_positions_that_threads_would_share_are_refused() -> None:
    config = tiny_config("xcodec2")
    config["semantic_model_config"]["position_embeddings_type"] = "rotary"
    with pytest.raises(InputError, match="expected relative_key positions in the semantic model, got rotary"):
        build(config, tiny_tensors("xcodec2"))


def test_runs_each_input_alone_on_a_processor() -> None:
    inputs = [torch.full((1, n), float(n)) for n in (3, 5, 4, 5)]
    seen = []

    def network(batch: Tensor) -> Tensor:
        seen.append(tuple(batch.shape))
        return 2 * batch

    found = run_each(network, inputs, torch.device("cpu"))
    assert [out.tolist() for out in found] == [(2 * value).tolist() for value in inputs]
    assert sorted(seen) == [(1, 1, 3), (1, 1, 4), (1, 1, 5), (1, 1, 5)]


def test_inputs_of_one_shape_share_a_batch_elsewhere() -> None:
    inputs = [torch.full((1, n), float(n)) for n in (3, 5, 4, 5)]
    seen = []

    def network(batch: Tensor) -> Tensor:
        seen.append(tuple(batch.shape))
        return torch.ones(batch.shape)

    found = run_each(network, inputs, torch.device("meta"))
    assert [tuple(out.shape) for out in found] == [(1, 3), (1, 5), (1, 4), (1, 5)]
    assert seen == [(2, 1, 5), (1, 1, 4), (1, 1, 3)]


def test_refuses_what_does_not_fit() -> None:
    config, tensors = tiny_config("encodec-24k"), tiny_tensors("encodec-24k")
    with pytest.raises(InputError, match="expected a codec among encodec, dac, mimi, xcodec"):
        build({"model_type": "hubert"}, tensors)
    with pytest.raises(InputError, match="expected 1 to 4 codebooks, got 5"):
        build(config, tensors, num_codebooks=5)
    with pytest.raises(InputError, match="expected 1 to 4 codebooks, got 0"):
        build(config, tensors, num_codebooks=0)
    with pytest.raises(InputError, match="expected a precision among fp32, bf16, fp16, got 'int8'"):
        build(config, tensors, precision="int8")
    with pytest.raises(InputError, match="expected the configuration of a encodec model"):
        build(config | {"upsampling_ratios": "fast"}, tensors)


def test_names_the_tensor_that_does_not_fit() -> None:
    config, tensors = tiny_config("dac-16k"), tiny_tensors("dac-16k")
    with pytest.raises(ArtifactError, match=r"expected the tensors of a dac model, got no decoder.conv1.bias"):
        build(config, {name: tensor for name, tensor in tensors.items() if name != "decoder.conv1.bias"})
    with pytest.raises(ArtifactError, match=r"expected decoder.conv1.bias of shape \[32\], got \[3\]"):
        build(config, tensors | {"decoder.conv1.bias": torch.zeros(3)})


def test_loading_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    build(tiny_config("mimi"), tiny_tensors("mimi"))
    assert capfd.readouterr() == ("", "")


def test_loading_leaves_the_random_numbers_alone() -> None:
    state = torch.get_rng_state()
    build(tiny_config("mimi"), tiny_tensors("mimi"))
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_need_no_gradient() -> None:
    model: nn.Module = net("mimi").model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
