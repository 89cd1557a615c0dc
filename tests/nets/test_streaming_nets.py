from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocable.errors import InputError
from vocable.nets.streaming import DecoderStream, EncoderStream, hop_length

FRAMES = 23
KINDS = ("encodec", "mimi", "mimi-shortcut", "encodec-deep")


@cache
def tiny(kind: str) -> Any:
    """A tiny random model of transformers; codebooks too, which it would leave at zero."""
    from transformers import EncodecConfig, EncodecModel, MimiConfig, MimiModel

    torch.manual_seed(0)
    small: dict[str, Any] = {"num_filters": 4, "codebook_size": 16}
    model: Any
    if kind.startswith("encodec"):
        deep = {"num_residual_layers": 2, "use_conv_shortcut": False} if kind == "encodec-deep" else {}
        small["target_bandwidths"] = [32.0]  # four codebooks of four bits at 2000 Hz
        config = EncodecConfig(**small, **deep, hidden_size=8, upsampling_ratios=[3, 2, 2])
        model = EncodecModel(config)
    else:
        shapes = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2, "intermediate_size": 24}
        quantizer = {"codebook_dim": 6, "vector_quantization_hidden_dimension": 6, "num_quantizers": 4}
        more = {"sampling_rate": 24000, "upsample_groups": 16, "sliding_window": 9, "layer_scale_initial_scale": 0.7}
        short = {"use_conv_shortcut": kind == "mimi-shortcut"}
        config = MimiConfig(
            **small, **shapes, **quantizer, **more, **short, hidden_size=16, upsampling_ratios=[5, 3, 2]
        )
        model = MimiModel(config)
    for name, tensor in model.state_dict().items():
        if name.endswith(("embed", "embed_sum", "bias")):
            tensor.copy_(torch.randn(tensor.shape) * (0.1 if name.endswith("bias") else 1.0))
    return model.eval().requires_grad_(False)


def sound(model: Any, frames: int = FRAMES) -> Tensor:
    return 0.3 * torch.randn(1, frames * hop_length(model), generator=torch.Generator().manual_seed(frames))


def whole_latents(model: Any, samples: Tensor) -> Tensor:
    out = model.encoder(samples[None])
    return (out if isinstance(out, Tensor) else out.latents)[0].T


def some_codes(model: Any, frames: int = FRAMES) -> Tensor:
    return torch.randint(16, (4, frames), generator=torch.Generator().manual_seed(frames))


def whole_samples(model: Any, codes: Tensor) -> Tensor:
    if model.config.model_type == "encodec":
        return model.decode(codes[None, None], [None]).audio_values[0]
    return model.decode(codes[None]).audio_values[0]


def encode(model: Any, samples: Tensor, sizes: list[int]) -> Tensor:
    """Latents of pieces of so many frames, in turn; what is left over goes in at the end."""
    stream, hop = EncoderStream(model), hop_length(model)
    pieces = samples.tensor_split((torch.tensor(sizes).cumsum(0) * hop).clamp_max(samples.shape[1]), dim=1)
    return torch.cat([stream.push(piece, last=index == len(sizes)) for index, piece in enumerate(pieces)])


def decode(model: Any, codes: Tensor, sizes: list[int]) -> Tensor:
    stream = DecoderStream(model)
    pieces = codes.tensor_split(torch.tensor(sizes).cumsum(0).clamp_max(codes.shape[1]), dim=1)
    return torch.cat([stream.push(piece, last=index == len(sizes)) for index, piece in enumerate(pieces)], dim=1)


def same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_any_chunking_gives_what_the_whole_gives(kind: str, sizes: list[int]) -> None:
    model, codes = tiny(kind), some_codes(tiny(kind))
    samples = sound(model)
    expected = whole_latents(model, samples)
    assert expected.std() > 0.05
    same(encode(model, samples, sizes), expected)
    same(decode(model, codes, sizes), whole_samples(model, codes))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 5, 7, 8])
def test_what_is_too_short_to_reflect_is_padded_as_upstream_does(kind: str, frames: int) -> None:
    model, codes = tiny(kind), some_codes(tiny(kind), frames)
    samples = sound(model, frames)
    sizes = [1] * frames
    same(encode(model, samples, sizes), whole_latents(model, samples))
    same(decode(model, codes, sizes), whole_samples(model, codes))


@pytest.mark.parametrize(("kind", "held"), [("encodec", 6), ("mimi", 0)])
def test_frames_come_at_once_but_for_a_reflection_at_the_start(kind: str, held: int) -> None:
    model = tiny(kind)
    encoder, decoder, hop = EncoderStream(model), DecoderStream(model), hop_length(model)
    due = [0] * held + [held + 1] + [1] * (FRAMES - held - 1)
    assert [len(encoder.push(piece)) for piece in sound(model).split(hop, dim=1)] == due
    assert [decoder.push(code).shape[1] // hop for code in some_codes(model).split(1, dim=1)] == due


@pytest.mark.parametrize("kind", ["encodec", "mimi"])
@pytest.mark.parametrize("frames_at_once", [1, 40])
def test_the_state_does_not_grow(kind: str, frames_at_once: int) -> None:
    model = tiny(kind)
    encoder, decoder = EncoderStream(model), DecoderStream(model)
    piece, codes = sound(model, frames_at_once), some_codes(model, frames_at_once)
    sizes = []
    for _ in range(4):
        for _ in range(40 // frames_at_once):
            encoder.push(piece)
            decoder.push(codes)
        sizes.append(held_bytes(encoder, model) + held_bytes(decoder, model))
    assert sizes[1] == sizes[2] == sizes[3]


def held_bytes(stream: object, model: Any) -> int:
    """Bytes of the storages, none of them the model's, behind the tensors that a stream holds."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    found: dict[int, int] = {}
    seen, todo = set(), [stream]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, torch.nn.Module):
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
        todo += list(thing) if isinstance(thing, list | tuple) else list(getattr(thing, "__dict__", {}).values())
    return sum(size for place, size in found.items() if place not in weights)


def test_streams_of_one_model_do_not_meet() -> None:
    model = tiny("mimi")
    one, other = EncoderStream(model), EncoderStream(model)
    parts = []
    for piece in sound(model).split(hop_length(model), dim=1):
        parts.append(one.push(piece))
        other.push(-piece)
    same(torch.cat(parts), whole_latents(model, sound(model)))


def test_half_a_frame_or_a_second_channel_is_refused() -> None:
    stream = EncoderStream(tiny("encodec"))
    with pytest.raises(InputError, match=r"expected samples \[1, a multiple of 12\], got \[1, 13\]"):
        stream.push(torch.zeros(1, 13))
    with pytest.raises(InputError, match="expected samples"):
        stream.push(torch.zeros(2, 12))


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"use_causal_conv": False}, "convolutions that look ahead"),
        ({"normalize": True}, "a scale taken from the whole recording"),
        ({"norm_type": "time_group_norm"}, "a norm over time"),
        ({"trim_right_ratio": 0.5}, "transposed convolutions that look ahead"),
    ],
)
def test_what_looks_ahead_cannot_stream(settings_: dict[str, Any], message: str) -> None:
    from transformers import EncodecConfig, EncodecModel

    small = {"num_filters": 4, "codebook_size": 16, "hidden_size": 8, "upsampling_ratios": [3, 2]}
    model = EncodecModel(EncodecConfig(**small, **settings_))
    with pytest.raises(InputError, match=message):
        EncoderStream(model), DecoderStream(model)
