"""Tiny random SSL models in the layout of published ones: config.json, model.safetensors, preprocessor_config.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vocable.nets.ssl import SSLEncoder
from vocable.nets.ssl_config import SSLConfig

FAMILIES = ("hubert", "wav2vec2", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio")
_NEW = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


def tiny_config(family: str = "hubert", *, large: bool = False) -> SSLConfig:
    """Three blocks of width 32 behind the true kernels and strides; `large` has layer norms, and norms first.

    data2vec-audio has layer norms and norms last in any case, and three narrow convolutions for positions.
    """
    stacked = family == "data2vec-audio"
    return SSLConfig(
        model_type=family,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=(16,) * 7,
        conv_bias=large,
        feat_extract_norm="layer" if large or stacked else "group",
        num_conv_pos_embeddings=3 if stacked else 16,
        num_conv_pos_embedding_groups=4,
        conv_pos_kernel_size=5,
        do_stable_layer_norm=large and not stacked,
        num_buckets=32,
        max_bucket_distance=20,
    )


def tiny_net(config: SSLConfig, *, seed: int = 0, chunk: int | None = 64) -> SSLEncoder:
    """The whole network with every tensor random: gains around 1, the rest so that no layer dies out."""
    net = SSLEncoder(config, range(config.num_hidden_layers + 1), chunk=chunk).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in net.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        is_gain = (tensor.ndim == 1 and name.endswith("norm.weight")) or name.endswith("weight_g")
        fan_in = tensor[0].numel() if tensor.ndim > 1 else 100
        tensor.copy_(1 + 0.2 * noise if is_gain else noise * fan_in**-0.5)
    return net


def write_tiny_model(
    folder: Path, family: str = "hubert", *, large: bool = False, seed: int = 0, preprocessor: bool = True
) -> Path:
    """A directory that transformers reads as well, with the names of weight norm that it now writes."""
    config = tiny_config(family, large=large)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    if preprocessor:
        values = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000, "do_normalize": large}
        (folder / "preprocessor_config.json").write_text(json.dumps(values))
    tensors = tiny_net(config, seed=seed).state_dict()
    save_file({_renamed(name): tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def rewrite_tensors(folder: Path, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> None:
    """Replaces the tensors of a checkpoint by what `change` makes of them."""
    path = folder / "model.safetensors"
    save_file(dict(change(load_file(path))), path)


def rewrite_json(path: Path, **values: Any) -> None:
    """Sets fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _renamed(name: str) -> str:
    stem, _, last = name.rpartition(".")
    return f"{stem}.{_NEW[last]}" if last in _NEW else name
