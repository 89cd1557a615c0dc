"""Tiny random neural codecs in the layout of published ones: config.json and model.safetensors."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

_HUBERT = {
    "model_type": "hubert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
_ENCODEC = {"model_type": "encodec", "num_filters": 4, "hidden_size": 16, "codebook_size": 16, "codebook_dim": 16}
_DAC = {
    "model_type": "dac",
    "encoder_hidden_size": 4,
    "decoder_hidden_size": 32,
    "n_codebooks": 4,
    "codebook_size": 32,
    "codebook_dim": 4,
}
_FSQ = {
    "hidden_size": 64,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "encoder_hidden_size": 2,
    "quantization_dim": 80,
    "quantization_levels": [4, 4, 4],
    "semantic_model_config": {
        "model_type": "wav2vec2-bert",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "feature_projection_input_dim": 160,
    },
}

CONFIGS: dict[str, dict[str, Any]] = {
    "encodec-24k": _ENCODEC | {"target_bandwidths": [0.3, 0.6, 1.2], "sampling_rate": 24000},
    "encodec-48k": _ENCODEC
    | {
        "target_bandwidths": [0.6, 1.2, 1.8],
        "sampling_rate": 48000,
        "audio_channels": 2,
        "normalize": True,
        "chunk_length_s": 1.0,
        "overlap": 0.01,
        "norm_type": "time_group_norm",
        "use_causal_conv": False,
    },
    "dac-16k": _DAC | {"downsampling_ratios": [2, 4, 5, 8], "sampling_rate": 16000},
    "dac-44k": _DAC | {"downsampling_ratios": [2, 4, 8, 8], "sampling_rate": 44100},
    "mimi": {
        "model_type": "mimi",
        "num_filters": 4,
        "hidden_size": 16,
        "codebook_size": 16,
        "codebook_dim": 8,
        "vector_quantization_hidden_dimension": 8,
        "num_quantizers": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "sliding_window": 20,
        "frame_rate": 12.5,
        "upsample_groups": 16,
    },
    "xcodec": {
        "model_type": "xcodec",
        "target_bandwidths": [0.2, 0.4, 0.8],
        "codebook_size": 16,
        "acoustic_model_config": {"encoder_hidden_size": 2, "decoder_hidden_size": 32, "hidden_size": 16},
        "semantic_model_config": _HUBERT,
    },
    "xcodec2": {"model_type": "xcodec2"} | _FSQ,
    "neucodec": {"model_type": "neucodec"} | _FSQ,
}
NAMES = tuple(CONFIGS)
_CLASSES = {
    "encodec": "EncodecModel",
    "dac": "DacModel",
    "mimi": "MimiModel",
    "xcodec": "XcodecModel",
    "xcodec2": "Xcodec2Model",
    "neucodec": "NeuCodecModel",
}


def tiny_config(name: str, **changes: Any) -> dict[str, Any]:
    """The values of a published codec's config.json, with its true hops and kernels but few channels."""
    return json.loads(json.dumps(CONFIGS[name] | changes))


def tiny_model(config: dict[str, Any], *, seed: int = 0) -> nn.Module:
    """The module of transformers with every tensor random: gains around 1, the rest so that no layer dies out."""
    import transformers

    kind = getattr(transformers, _CLASSES[config["model_type"]])
    model = kind(kind.config_class.from_dict(config)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        tensor.copy_(_random(name, tensor, generator))
    return model


def write_tiny_codec(folder: Path, name: str = "encodec-24k", *, seed: int = 0, **changes: Any) -> Path:
    """A directory that transformers reads as well, written with its names."""
    config = tiny_config(name, **changes)
    tiny_model(config, seed=seed).save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(written | config))
    return folder


@cache
def tiny_tensors(name: str, seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a tiny codec, to build from without a folder."""
    return {key: value.clone() for key, value in tiny_model(tiny_config(name), seed=seed).state_dict().items()}


def rewrite_weights(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Replaces the tensors of a checkpoint."""
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _random(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(tensor.shape, generator=generator)
    last = name.rpartition(".")[2]
    if last in {"inited", "initialized"}:
        return torch.ones_like(tensor)
    if last in {"cluster_usage", "cluster_size"}:
        return 1 + noise.abs()
    if last in {"original0", "alpha"} or (tensor.ndim == 1 and "norm" in name and last == "weight"):
        return 1 + 0.2 * noise
    if "embed" in last or "codebook" in name:
        return noise
    fan_in = tensor[0].numel() if tensor.ndim > 1 else 100
    # residual branches add up: in low precision what they sum up to must not be chaos
    return noise * fan_in**-0.5 * (0.3 if "res_unit" in name else 1.0)
