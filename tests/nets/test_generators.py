"""Generators: what they are in formulas, how far they see, and that stretches, threads and prepared copies agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from vocable.errors import InputError
from vocable.nets.generators import Generator, build_generator, render, render_stretch
from vocable.nets.hifigan import even_strides
from vocable.nets.istft_generator import ISTFTGenerator
from vocable.nets.threads import one_thread_each

ISTFT = {"kind": "istft", "dim": 6, "depth": 2, "width": 10, "kernel": 3, "hop_length": 12, "fft_size": 48}
HIFIGAN = {"kind": "hifigan", "dim": 6, "channels": 16, "hop_length": 12}
CONFIGS: dict[str, dict[str, Any]] = {
    "istft": ISTFT,
    "istft-odd": {**ISTFT, "hop_length": 7, "fft_size": 30, "kernel": 4},
    "istft-causal": {**ISTFT, "causal": True},
    "istft-causal-short": {**ISTFT, "causal": True, "fft_size": 24},
    "istft-subframes": {**ISTFT, "subframes": 3, "fft_size": 20},
    "istft-subframes-causal": {**ISTFT, "subframes": 2, "fft_size": 26, "causal": True},
    "hifigan": HIFIGAN,
    "hifigan-causal": {**HIFIGAN, "causal": True},
    "hifigan-strides": {**HIFIGAN, "strides": [4, 3]},
    "hifigan-prime": {**HIFIGAN, "hop_length": 5},
}
every = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lively(config: Mapping[str, Any], seed: int = 0) -> Generator:
    """A generator whose layers neither die out nor saturate."""
    generator = build_generator(config)
    with torch.no_grad():
        for index, (name, p) in enumerate(sorted(generator.named_parameters())):
            if name.endswith("original0"):
                p.fill_(1.0)
            elif p.dim() > 1:
                p.copy_(random(*p.shape, seed=seed + index) / math.sqrt(p[0].numel()))
            elif name.endswith("gamma"):
                p.fill_(1.0)
    return generator.eval()


def window(total: Tensor) -> tuple[Callable[[int, int], Tensor], list[int]]:
    """Access to frames, and how many were asked for each time."""
    asked: list[int] = []

    def frames(first: int, stop: int) -> Tensor:
        assert 0 <= first < stop <= total.shape[-1]
        asked.append(stop - first)
        return total[..., first:stop].clone()

    return frames, asked


@every
@pytest.mark.parametrize("frames", [1, 2, 33])
def test_frames_give_whole_hops(config: dict[str, Any], frames: int) -> None:
    generator = lively(config)
    waveform = generator(random(2, 6, frames))
    assert waveform.shape == (2, frames * generator.hop_length)
    assert waveform.dtype == torch.float32
    assert bool(waveform.abs().amax(1).gt(1e-3).all())


@every
def test_reach_is_exact(config: dict[str, Any]) -> None:
    generator = lively(config).double()
    middle, hop = generator.past + 3, generator.hop_length
    frames = random(1, 6, middle + generator.future + 4).double().requires_grad_()
    samples = generator(frames)[0, middle * hop : (middle + 1) * hop]
    (gradient,) = torch.autograd.grad((samples * random(hop, seed=1)).sum(), frames)
    seen = (gradient[0].abs().sum(0).nonzero()[:, 0] - middle).tolist()
    assert seen == list(range(-generator.past, generator.future + 1))
    assert generator.future == 0 or not config.get("causal", False)


@every
def test_frames_out_of_reach_change_no_bit(config: dict[str, Any]) -> None:
    generator = lively(config)
    middle, hop = generator.past + 3, generator.hop_length
    frames = random(1, 6, middle + generator.future + 4)
    changed = frames.clone()
    changed[..., : middle - generator.past] += 5
    changed[..., middle + generator.future + 1 :] -= 5
    with torch.no_grad():
        one, other = generator(frames)[0], generator(changed)[0]
    inside = slice(middle * hop, (middle + 1) * hop)
    assert torch.equal(one[inside], other[inside])
    assert not torch.equal(one, other)


@every
@pytest.mark.parametrize("stretch", [7, 30, 1000])
def test_stretches_are_the_whole(config: dict[str, Any], stretch: int) -> None:
    generator, total = lively(config), random(1, 6, 61)
    frames, asked = window(total)
    with torch.no_grad():
        whole = generator(total)[0]
    pieces = list(render(generator, frames, 61, stretch))
    assert [len(piece) // generator.hop_length for piece in pieces[:-1]] == [stretch] * (len(pieces) - 1)
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=1e-5 * float(whole.abs().max()))
    assert max(asked) <= stretch + generator.past + generator.future


def test_nothing_renders_to_nothing() -> None:
    frames, asked = window(random(1, 6, 1))
    assert list(render(lively(ISTFT), frames, 0, 5)) == []
    assert not asked
    with pytest.raises(InputError, match="stretch of 1 frame or more, got 0"):
        next(render(lively(ISTFT), frames, 1, 0))


@every
def test_threads_have_no_part_in_the_bits(config: dict[str, Any]) -> None:
    generator, total = lively(config).prepared(), random(1, 6, 200)
    frames, _ = window(total)

    def stretch(first: int) -> Tensor:
        return render_stretch(generator, frames, 200, first, min(200, first + 30))

    firsts = list(range(0, 200, 30))
    with one_thread_each(), ThreadPoolExecutor(3) as pool:
        side_by_side = list(pool.map(stretch, firsts))
    backwards = [stretch(first) for first in reversed(firsts)][::-1]
    assert torch.equal(torch.cat(side_by_side), torch.cat(backwards))
    assert torch.equal(torch.cat(list(render(generator, frames, 200, 30))), torch.cat(backwards))


@every
def test_a_prepared_copy_is_the_same_function(config: dict[str, Any]) -> None:
    generator, frames = lively(config), random(1, 6, 40)
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    with torch.no_grad():
        expected, fast = generator(frames), generator.prepared()(frames)
        low = generator.prepared(torch.bfloat16)(frames)
    peak = float(expected.abs().max())
    torch.testing.assert_close(fast, expected, rtol=0, atol=1e-5 * peak)
    assert low.dtype == torch.float32
    error = float((low - expected).square().mean().sqrt() / expected.square().mean().sqrt())
    assert 1e-4 < error < 0.05
    after = generator.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert generator(frames).requires_grad


@every
def test_state_goes_through_a_file(config: dict[str, Any], tmp_path: Path) -> None:
    generator, frames = lively(config, seed=5), random(1, 6, 10)
    save_file(
        {name: tensor.contiguous() for name, tensor in generator.state_dict().items()}, tmp_path / "g.safetensors"
    )
    other = build_generator(config).eval()
    other.load_state_dict(load_file(tmp_path / "g.safetensors"))
    assert torch.equal(other(frames), generator(frames))


@every
@pytest.mark.parametrize("low", [False, True])
def test_every_parameter_learns(config: dict[str, Any], low: bool) -> None:
    generator = build_generator(config).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        waveform = generator(random(2, 6, 20))
    assert waveform.dtype == torch.float32
    (waveform * random(*waveform.shape, seed=1)).sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


# ISTFTGenerator


def sine_generator(causal: bool, magnitude: float, phase: float) -> ISTFTGenerator:
    """Its spectra are those of bin 4 of 16, whatever the frames: a cosine of period 4, as hops of 4 samples go on."""
    generator = ISTFTGenerator(dim=2, depth=1, width=2, hop_length=4, fft_size=16, causal=causal)
    with torch.no_grad():
        generator.out.weight.zero_()
        generator.out.bias.fill_(-200.0)
        generator.out.bias[4] = math.log(magnitude)
        generator.out.bias[9:] = phase
    return generator


@pytest.mark.parametrize(("causal", "before"), [(False, 6), (True, 0)])
def test_constant_spectra_give_a_tone(causal: bool, before: int) -> None:
    waveform = sine_generator(causal, 6.0, 0.3)(random(1, 2, 20))[0].detach()
    # amplitude 2 / 16 of the magnitude, times sum w / sum w^2 = 2 / 1.5; its phase that of a window's first sample
    time = torch.arange(80) + before
    expected = torch.cos(2 * math.pi * time / 4 + 0.3)
    torch.testing.assert_close(waveform[12:68], expected[12:68], rtol=1e-5, atol=1e-5)
    # at the very ends windows are missing, and nothing is scaled up for it
    assert float(waveform[:4].abs().max()) < 0.99


def test_magnitudes_are_bounded() -> None:
    generator = sine_generator(False, 1e30, 0.0)
    with torch.no_grad():
        generator.out.bias[4] = 1e4
    waveform = generator(random(1, 2, 20))
    assert float(waveform.detach().abs().max()) == pytest.approx(100 / 8 * 4 / 3, rel=1e-4)
    waveform.square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in generator.parameters() if p.grad is not None)


@pytest.mark.parametrize("subframes", [1, 2])
def test_istft_generator_is_its_formula(subframes: int) -> None:
    generator = lively({**ISTFT, "subframes": subframes})
    assert isinstance(generator, ISTFTGenerator)
    state, frames, count = generator.state_dict(), random(2, 6, 30), 30 * subframes

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x.mT, (6,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6).mT

    def affine(x: Tensor, name: str) -> Tensor:
        return F.conv1d(x, state[f"{name}.weight"][..., None], state[f"{name}.bias"])

    kernel = state["embed.rows.weight"].view(6, 3, 6).mT
    x = norm(F.conv1d(frames, kernel, state["embed.rows.bias"], padding=1), "norm")
    for name in ("convnext.0", "convnext.1"):
        y = F.conv1d(x, state[f"{name}.dwconv.weight"], state[f"{name}.dwconv.bias"], padding=1, groups=6)
        y = affine(F.gelu(affine(norm(y, f"{name}.norm"), f"{name}.pwconv1")), f"{name}.pwconv2")
        x = x + state[f"{name}.gamma"][:, None] * y
    polar = affine(norm(x, "final_layer_norm"), "out").mT.reshape(2, count, 50).mT
    spectra = polar[:, :25].exp().clamp_max(100) * torch.exp(1j * polar[:, 25:])
    hop = 12 // subframes
    # windows there are centred on the first sample of a frame, here on the middle of it
    expected = torch.istft(spectra, 48, hop, window=torch.hann_window(48))[:, 48 - hop // 2 : -48]
    with torch.no_grad():
        waveform = generator(frames)[:, 48 : 48 + expected.shape[1]]
    torch.testing.assert_close(waveform, expected, rtol=1e-3, atol=1e-4)


def test_weights_start_as_in_vocos() -> None:
    generator = build_generator({**ISTFT, "dim": 64, "width": 128, "depth": 4})
    state = generator.state_dict()
    assert float(state["convnext.2.pwconv1.weight"].std()) == pytest.approx(0.02, rel=0.1)
    assert not state["convnext.2.pwconv1.bias"].any()
    assert torch.equal(state["convnext.2.gamma"], torch.full((64,), 0.25))


# HiFiGANGenerator


def test_hifigan_is_that_of_transformers() -> None:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    config = SpeechT5HifiGanConfig(
        model_in_dim=6,
        upsample_initial_channel=16,
        upsample_rates=[4, 2],
        upsample_kernel_sizes=[8, 4],
        normalize_before=False,
    )
    generator = lively({**HIFIGAN, "hop_length": 8, "strides": [4, 2]}).prepared()
    oracle = SpeechT5HifiGan(config).eval()
    state = {name.replace("ups.", "upsampler."): tensor for name, tensor in generator.state_dict().items()}
    missing, unexpected = oracle.load_state_dict(state, strict=False)
    assert (set(missing), unexpected) == ({"mean", "scale"}, [])
    frames = random(2, 6, 20)
    with torch.no_grad():
        torch.testing.assert_close(generator(frames), oracle(frames.mT), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("hop", "strides"),
    [
        (160, (5, 4, 4, 2)),
        (256, (4, 4, 4, 4)),
        (320, (5, 4, 4, 4)),
        (441, (7, 7, 3, 3)),
        (80, (5, 4, 2, 2)),
        (7, (7,)),
        (1, (1,)),
    ],
)
def test_strides_make_the_hop(hop: int, strides: tuple[int, ...]) -> None:
    assert even_strides(hop) == strides
    assert math.prod(even_strides(hop)) == hop


def test_v1_has_the_size_of_v1() -> None:
    generator = build_generator(
        {"kind": "hifigan", "dim": 80, "channels": 512, "hop_length": 256, "strides": [8, 8, 2, 2]}
    )
    count = sum(p.numel() for p in generator.prepared().parameters())
    assert count == 13_926_017  # 13.92 M in the paper, table 1


# Bad settings


BAD: list[tuple[dict[str, Any], str]] = [
    ({**ISTFT, "kind": "wavenet"}, "expected a generator among istft, hifigan, got 'wavenet'"),
    ({"dim": 6}, "got None"),
    ({**ISTFT, "layers": 3}, "settings of a generator istft.*layers"),
    ({"kind": "hifigan", "dim": 6, "hop_length": 12}, "settings of a generator hifigan.*channels"),
    ({**ISTFT, "depth": 0}, "positive sizes.*depth 0"),
    ({**ISTFT, "subframes": 5}, "5 subframes that divide"),
    ({**ISTFT, "fft_size": 22}, "even fft_size of 24 or more, got 22"),
    ({**ISTFT, "fft_size": 31}, "even fft_size"),
    ({**HIFIGAN, "strides": [4, 4]}, "strides that make 12"),
    ({**HIFIGAN, "channels": 4}, "8 channels or more, got dim 6, channels 4"),
    ({**HIFIGAN, "hop_length": 0}, "strides that make 0"),
]


@pytest.mark.parametrize(("config", "message"), BAD)
def test_bad_settings_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_generator(config)
