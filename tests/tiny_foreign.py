"""Tiny random models of transformers' classes: config.json, model.safetensors, preprocessor_config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

_BODY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
_PLACES = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
_WAVE = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000, "do_normalize": True}
_KALDI = {"feature_extractor_type": "SeamlessM4TFeatureExtractor", "feature_size": 8, "num_mel_bins": 8, "stride": 2}
_LOG_MEL = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 8, "chunk_length": 8}
_SEW = {**_BODY, **_PLACES, "conv_dim": [8] * 12 + [16]}
_CONFORMER = {**_BODY, **_PLACES, "conv_dim": [16] * 7, "conv_depthwise_kernel_size": 5}
_BERT = {**_BODY, "feature_projection_input_dim": 16, "conv_depthwise_kernel_size": 5}
_WHISPER = {
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_mel_bins": 8,
    "max_source_positions": 400,
    "vocab_size": 60,
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 50),
}

VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "sew": ("SEW", _SEW, _WAVE),
    "sew-d": ("SEWD", {**_SEW, "position_buckets": 8, "max_position_embeddings": 16}, _WAVE),
    "conformer-relative": ("Wav2Vec2Conformer", {**_CONFORMER, "position_embeddings_type": "relative"}, _WAVE),
    "conformer-rotary": ("Wav2Vec2Conformer", {**_CONFORMER, "position_embeddings_type": "rotary"}, _WAVE),
    "w2v-bert": ("Wav2Vec2Bert", {**_BERT, "left_max_position_embeddings": 6}, _KALDI),
    "w2v-bert-relative": ("Wav2Vec2Bert", {**_BERT, "position_embeddings_type": "relative"}, _KALDI),
    "whisper": ("Whisper", _WHISPER, _LOG_MEL),
}
"""By name: transformers' family, what its configuration is given, and preprocessor_config.json."""


def upstream_model(name: str, head: str = "Model", seed: int = 0, **changes: Any) -> nn.Module:
    """Transformers' model with every tensor random: gains around 1, the rest so that no layer dies out."""
    import transformers

    family, values, _ = VARIANTS[name]
    config = getattr(transformers, f"{family}Config")(**{**values, **changes})
    model: nn.Module = getattr(transformers, family + head)(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in model.state_dict().items():
        if not tensor.is_floating_point() or key.endswith("inv_freq"):
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        is_gain = tensor.ndim == 1 and key.endswith(("norm.weight", "Norm.weight", "running_var"))
        fan_in = tensor[0].numel() if tensor.ndim > 1 else 100
        tensor.copy_((1 + 0.2 * noise).abs() if is_gain or key.endswith("original0") else noise * fan_in**-0.5)
    return model


def write_tiny_foreign(folder: Path, name: str, head: str = "Model", *, seed: int = 0, **changes: Any) -> Path:
    """A directory as transformers saves it."""
    upstream_model(name, head, seed, **changes).save_pretrained(folder)  # type: ignore[operator]
    (folder / "preprocessor_config.json").write_text(json.dumps(VARIANTS[name][2]))
    return folder
