"""The settings that define a HuBERT-like network, read from the values of an upstream config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from vocable.errors import InputError

FAMILIES = ("hubert", "wav2vec2", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio", "mert_model")
_ONLY = {
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "conv_pos_batch_norm": False,
    "adapter_attn_dim": None,
    "feature_extractor_cqt": False,
    "deepnorm": False,
}
_DATA2VEC = {"feat_extract_norm": "layer", "feat_proj_layer_norm": True, "do_stable_layer_norm": False}


@dataclass(frozen=True, kw_only=True)
class SSLConfig:
    """Settings under transformers' names, with its defaults (the base models), and the rate of the waveforms in Hz.

    InputError if the network would be one that `vocable.nets.ssl` does not build.
    """

    model_type: str = "hubert"
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    layer_norm_eps: float = 1e-5
    feat_extract_norm: str = "group"
    feat_proj_layer_norm: bool = True
    conv_dim: tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512)
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    conv_pos_kernel_size: int = 19
    do_stable_layer_norm: bool = False
    num_buckets: int = 320
    max_bucket_distance: int = 800
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        if self.model_type not in FAMILIES:
            raise InputError(f"expected a model of type {', '.join(FAMILIES)}, got {self.model_type!r}")
        if self.feat_extract_norm not in ("group", "layer"):
            raise InputError(f"expected feat_extract_norm group or layer, got {self.feat_extract_norm!r}")
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride) > 0:
            raise InputError("expected as many entries in conv_dim as in conv_kernel and conv_stride")
        if self.hidden_size % self.num_attention_heads or self.hidden_size % self.num_conv_pos_embedding_groups:
            raise InputError(f"hidden_size {self.hidden_size} is no multiple of its attention heads and groups")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SSLConfig:
        """The settings among the values of a config.json; those that do not touch the encoder are left aside."""
        for name, only in _ONLY.items():
            if values.get(name, only) != only:
                raise InputError(f"expected a model with {name} {only!r}, got {values[name]!r}")
        if (values.get("attention_relax") or -1) > 0:
            raise InputError(f"expected a model without attention_relax, got {values['attention_relax']!r}")
        chosen: dict[str, Any] = {"model_type": values.get("model_type")}
        if chosen["model_type"] == "data2vec-audio":
            values = {**values, **_DATA2VEC}
        for field in fields(cls)[1:]:
            value = values.get(field.name, field.default)
            chosen[field.name] = tuple(value) if isinstance(value, list) else value
            if not _fits(chosen[field.name], field.default):
                raise InputError(f"expected {field.name} to be like {field.default!r}, got {value!r}")
        return cls(**chosen)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the inverse."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values}

    @property
    def hop_length(self) -> int:
        """Samples between two frames."""
        return math.prod(self.conv_stride)

    @property
    def window(self) -> int:
        """Samples that one frame sees through the convolutions: their receptive field."""
        strides = (math.prod(self.conv_stride[:depth]) for depth in range(len(self.conv_stride)))
        return 1 + sum((kernel - 1) * stride for kernel, stride in zip(self.conv_kernel, strides, strict=True))


def _fits(value: Any, like: Any) -> bool:
    if isinstance(like, tuple):
        return isinstance(value, tuple) and all(_fits(part, like[0]) for part in value)
    return type(value) is type(like) and (isinstance(like, str | bool) or value > 0)
