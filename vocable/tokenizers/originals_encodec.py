"""A checkpoint of encodec under the names that transformers' EncodecModel has."""

from __future__ import annotations

import math
import re
from typing import Any

from torch import Tensor

from vocable.errors import ArtifactError

_NAMES = (
    (re.compile(r"^(encoder|decoder)\.model\."), r"\1.layers."),
    (re.compile(r"^quantizer\.vq\.layers\.(\d+)\._codebook\."), r"quantizer.layers.\1.codebook."),
    (re.compile(r"\.(conv|convtr)\.\1\."), ".conv."),
    (re.compile(r"\.(conv|convtr)\.norm\."), ".norm."),
    (re.compile(r"\.weight_g$"), ".parametrizations.weight.original0"),
    (re.compile(r"\.weight_v$"), ".parametrizations.weight.original1"),
)
_KNOWN = re.compile(r"(encoder|decoder)\.model\.\d+\.|quantizer\.vq\.layers\.\d+\._codebook\.")
_CONVOLUTION = re.compile(r"encoder\.model\.(\d+)\.conv\.conv\.weight(_v)?")
_RESIDUAL = re.compile(r"encoder\.model\.\d+\.block\.1\.conv\.conv\.weight(_v)?")
_COUNTS = (2, 4, 8, 16, 32)  # of codebooks, for the published bandwidths

# what shapes do not tell: encodec/model.py (24 and 48 kHz), audiocraft's compression model (32 kHz)
_AT_24_KHZ = {"sampling_rate": 24000, "use_causal_conv": True, "normalize": False, "norm_type": "weight_norm"}
_AT_32_KHZ = {"sampling_rate": 32000, "use_causal_conv": False, "normalize": False, "norm_type": "weight_norm"}
_AT_48_KHZ = {"sampling_rate": 48000, "use_causal_conv": False, "normalize": True, "norm_type": "time_group_norm"}
_WHOLE = {"chunk_length_s": None, "overlap": None}
_IN_CHUNKS = {"chunk_length_s": 1.0, "overlap": 0.01}


def convert_encodec(state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings for config.json and the tensors, renamed.

    state: the tensors by upstream's names (Défossez et al. 2022, "High Fidelity Neural Audio Compression"). Sizes are
    read off their shapes. Group norms tell the model at 48 kHz; skips without a convolution, audiocraft's at 32 kHz;
    else it is the causal one at 24 kHz.
    ArtifactError if a tensor is missing or unknown.
    """
    unknown = [name for name in state if not _KNOWN.match(name)]
    if unknown:
        raise ArtifactError(f"expected the tensors of encodec, got also {unknown[0]}")
    try:
        settings = _settings(state)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as problem:
        raise ArtifactError(f"expected the tensors of encodec, got others ({problem})") from problem
    return settings, {_renamed(name): tensor for name, tensor in state.items()}


def _renamed(name: str) -> str:
    for pattern, replacement in _NAMES:
        name = pattern.sub(replacement, name)
    return name


def _settings(state: dict[str, Tensor]) -> dict[str, Any]:
    first, *down, last = _convolutions(state)
    inner = [tensor.shape for name, tensor in state.items() if _RESIDUAL.fullmatch(name)]
    codebooks = [tensor.shape for name, tensor in state.items() if name.endswith("._codebook.embed")]
    has_skips = any(".shortcut." in name for name in state)
    ratios = [shape[2] // 2 for shape in reversed(down)]  # a convolution of stride r has a kernel of 2 r
    settings = {
        "architectures": ["EncodecModel"],
        "model_type": "encodec",
        "audio_channels": first[1],
        "num_filters": first[0],
        "kernel_size": first[2],
        "hidden_size": last[0],
        "last_kernel_size": last[2],
        "upsampling_ratios": ratios,
        "num_residual_layers": len(inner) // len(down),
        "residual_kernel_size": inner[0][2],
        "compress": inner[0][1] // inner[0][0],
        "num_lstm_layers": sum(1 for name in state if re.match(r"encoder\..*\.lstm\.weight_ih_l", name)),
        "codebook_size": codebooks[0][0],
        "codebook_dim": codebooks[0][1],
        "use_conv_shortcut": has_skips,
        "dilation_growth_rate": 2,
        "pad_mode": "reflect",
        "trim_right_ratio": 1.0,
        **_published(state, has_skips),
    }
    counts = [*(n for n in _COUNTS if has_skips and n < len(codebooks)), len(codebooks)]
    return settings | {"target_bandwidths": [_bandwidth(count, settings) for count in counts]}


def _convolutions(state: dict[str, Tensor]) -> list[tuple[int, ...]]:
    """Shapes of the encoder's own convolutions, in order; those of the residual units are not among them."""
    found = {int(m[1]): tuple(state[name].shape) for name in state if (m := _CONVOLUTION.fullmatch(name))}
    return [found[index] for index in sorted(found)]


def _published(state: dict[str, Tensor], has_skips: bool) -> dict[str, Any]:
    if any(".norm." in name for name in state):
        return _AT_48_KHZ | _IN_CHUNKS
    return (_AT_24_KHZ if has_skips else _AT_32_KHZ) | _WHOLE


def _bandwidth(count: int, settings: dict[str, Any]) -> float:
    """Kilobits per second of so many codebooks: transformers counts codebooks by bandwidths, rounding down."""
    frame_rate = math.ceil(settings["sampling_rate"] / math.prod(settings["upsampling_ratios"]))
    bits = frame_rate * math.ceil(math.log2(settings["codebook_size"]))
    value = count * bits / 1000
    return value if 1000 * value // bits == count else math.nextafter(value, math.inf)
