from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.tiny_models import FAMILIES, tiny_config, tiny_net, write_tiny_model
from vocable.errors import InputError
from vocable.nets.ssl import SSLEncoder
from vocable.nets.ssl_config import SSLConfig
from vocable.nets.ssl_front import ConvLayer

VARIANTS = [(family, large) for family in FAMILIES for large in (False, True)]
NETS = {variant: tiny_net(tiny_config(variant[0], large=variant[1])) for variant in VARIANTS}


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def waves(*lengths: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, generator=generator).cumsum(0).sin() * 0.3 + 0.05 for n in lengths]


@pytest.mark.parametrize(("family", "large"), VARIANTS)
def test_every_layer_equals_transformers(family: str, large: bool, tmp_path: Path) -> None:
    import transformers

    folder = write_tiny_model(tmp_path, family, large=large)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    for wave in waves(400, 5000, 30000):
        with torch.no_grad():
            output = theirs(wave[None], output_hidden_states=True)
            found = NETS[family, large](wave[None])[0]
        expected = output.hidden_states
        assert len(found) == len(expected) == 4
        for ours, states in zip(found, expected, strict=True):
            assert distance(ours, states[0]) < 1e-5


@settings(max_examples=12)
@given(
    variant=st.sampled_from(VARIANTS),
    lengths=st.lists(st.integers(400, 8000), min_size=1, max_size=4),
    extra=st.integers(0, 6000),
    garbage=st.sampled_from([0.0, 17.0, float("nan"), float("inf")]),
)
def test_padding_and_neighbours_do_not_leak(
    variant: tuple[str, bool], lengths: list[int], extra: int, garbage: float
) -> None:
    net, parts = NETS[variant], waves(*lengths)
    batch = torch.full((len(parts), max(lengths) + extra), garbage)
    for row, part in zip(batch, parts, strict=True):
        row[: len(part)] = part
    found = net(batch, torch.tensor(lengths))
    for row, part in zip(found, parts, strict=True):
        alone = net(part[None])[0]
        frames = (len(part) - 400) // 320 + 1
        assert alone.shape == (4, frames, 32)
        assert distance(row[:, :frames], alone) < 1e-5
        assert not row[:, frames:].any()


@pytest.mark.parametrize("large", [False, True])
def test_chunks_of_the_front_end_make_no_difference(large: bool) -> None:
    config, (wave,) = tiny_config(large=large), waves(9001)
    whole = tiny_net(config, chunk=None)(wave[None])
    for chunk in (1, 5, 26, 27):
        assert distance(tiny_net(config, chunk=chunk)(wave[None]), whole) < 2e-6


def test_only_the_layers_asked_for_are_built_and_in_that_order() -> None:
    config, (wave,) = tiny_config(), waves(5000)
    net = SSLEncoder(config, [2, 0]).eval()
    whole = NETS["hubert", False]
    net.load_state_dict({name: tensor for name, tensor in whole.state_dict().items() if ".layers.2." not in name})
    assert torch.equal(net(wave[None])[0], whole(wave[None])[0, [2, 0]])


@pytest.mark.parametrize("layers", [[], [-1], [4], [1, 1]])
def test_layers_that_are_not_there_are_refused(layers: list[int]) -> None:
    with pytest.raises(InputError, match="expected distinct layers from 0 to 3, got"):
        SSLEncoder(tiny_config(), layers)


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (1e-4, 0.0), (1e-3, 1.0), (3e4, 0.0), (0.0, 0.5)])
def test_folded_group_norm_equals_the_norm_over_activations(gain: float, offset: float) -> None:
    layer = NETS["hubert", False].feature_extractor.conv_layers[0]
    assert isinstance(layer, ConvLayer)
    assert layer.layer_norm is not None
    (wave,) = waves(4000)
    samples = (gain * wave + offset)[None]
    exact = F.conv1d(samples[:, None].double(), layer.conv.weight.double(), stride=5)
    expected = F.gelu(F.group_norm(exact, 16, layer.layer_norm.weight.double(), layer.layer_norm.bias.double()))
    found = layer(samples[..., None], layer.fold(samples, torch.tensor([4000])))
    torch.testing.assert_close(found.double(), expected.transpose(1, 2), rtol=1e-4, atol=2e-3 if offset else 1e-5)


def test_clock_follows_from_kernels_and_strides() -> None:
    assert (tiny_config().hop_length, tiny_config().window) == (320, 400)
    short = SSLConfig(conv_dim=(8, 8), conv_kernel=(4, 3), conv_stride=(2, 3))
    assert (short.hop_length, short.window) == (6, 8)  # three outputs of the first at 0, 2, 4, of four samples each


def test_config_survives_plain_values_and_ignores_what_is_not_the_encoder() -> None:
    config = tiny_config("wavlm", large=True)
    assert SSLConfig.from_dict({**config.to_dict(), "vocab_size": 32, "hidden_dropout": 0.1}) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "bert"}, "expected a model of type hubert, wav2vec2, wavlm, .*, got 'bert'"),
        ({}, "got None"),
        ({"model_type": "hubert", "hidden_act": "relu"}, "hidden_act 'gelu', got 'relu'"),
        ({"model_type": "hubert", "conv_pos_batch_norm": True}, "conv_pos_batch_norm False, got True"),
        ({"model_type": "hubert", "hidden_size": "768"}, "expected hidden_size to be like 768, got '768'"),
        ({"model_type": "hubert", "conv_stride": [5, 2, 0, 2, 2, 2, 2]}, "expected conv_stride to be like"),
        ({"model_type": "hubert", "conv_stride": [5, 2]}, "as many entries in conv_dim"),
        ({"model_type": "hubert", "num_attention_heads": 7}, "hidden_size 768 is no multiple"),
        ({"model_type": "hubert", "feat_extract_norm": "batch"}, "feat_extract_norm group or layer, got 'batch'"),
    ],
)
def test_config_refuses_networks_it_does_not_build(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        SSLConfig.from_dict(values)
