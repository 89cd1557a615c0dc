"""A checkpoint of descript-audio-codec under the names and in the shapes that transformers' DacModel has."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vocable.errors import ArtifactError

_UNIT = {"block.0": "snake1", "block.1": "conv1", "block.2": "snake2", "block.3": "conv2"}


def convert_dac(state: dict[str, Tensor], sample_rate: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings for config.json, read off the shapes, and the tensors with their weight norms folded in.

    state: the tensors by upstream's names (Kumar et al. 2023, "High-Fidelity Audio Compression with Improved RVQGAN").
    ArtifactError if a tensor is missing or unknown, or if the decoder's strides do not mirror the encoder's.
    """
    try:
        tensors = _renamed(_folded(state), blocks=_count(state, "encoder.block") - 3)
        return _settings(tensors, sample_rate), tensors
    except (KeyError, IndexError, ValueError, RuntimeError) as problem:
        raise ArtifactError(f"expected the tensors of descript-audio-codec, got others ({problem})") from problem


def _count(names: Any, stem: str) -> int:
    """How many numbered modules there are under a stem."""
    return len({name[len(stem) + 1 :].partition(".")[0] for name in names if name.startswith(stem + ".")})


def _folded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights g v / |v|, by the function that upstream calls in every forward pass, so the bits are its own."""
    folded = {name: tensor for name, tensor in state.items() if not name.endswith((".weight_g", ".weight_v"))}
    for name, direction in state.items():
        stem, _, leaf = name.rpartition(".")
        if leaf == "weight_v":
            gain = state[f"{stem}.weight_g"]
            if direction.ndim != 3 or not direction.numel() or gain.shape != (len(direction), 1, 1):
                raise ValueError(f"{name} {list(direction.shape)} with gains {list(gain.shape)}")  # torch would not ask
            folded[f"{stem}.weight"] = torch._weight_norm(direction, gain, 0)
    return folded


def _renamed(state: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    modules, tensors = _modules(blocks), {}
    for name, tensor in state.items():
        stem, _, leaf = name.rpartition(".")
        if stem not in modules and not stem.startswith("quantizer.quantizers."):
            raise ValueError(f"{name} is unknown")
        tensors[f"{modules.get(stem, stem)}.{leaf}"] = tensor
    return tensors


def _modules(blocks: int) -> dict[str, str]:
    """The name in transformers of each module outside the quantizer, by upstream's."""
    names: dict[str, str] = {}
    for theirs, half, inner in (
        ("encoder.block", "encoder", _units(0) | {"block.3": "snake1", "block.4": "conv1"}),
        ("decoder.model", "decoder", _units(2) | {"block.0": "snake1", "block.1": "conv_t1"}),
    ):
        outer = {0: "conv1", blocks + 1: "snake1", blocks + 2: "conv2"}
        names |= {f"{theirs}.{index}": f"{half}.{name}" for index, name in outer.items()}
        for index in range(blocks):
            names |= {f"{theirs}.{index + 1}.{old}": f"{half}.block.{index}.{new}" for old, new in inner.items()}
    return names


def _units(first: int) -> dict[str, str]:
    """The three residual units of a block, which begin at this place in it."""
    return {f"block.{first + j}.{old}": f"res_unit{j + 1}.{new}" for j in range(3) for old, new in _UNIT.items()}


def _settings(tensors: dict[str, Tensor], sample_rate: int) -> dict[str, Any]:
    """A block that downsamples by r has a kernel of 2 r."""
    blocks = range(_count(tensors, "encoder.block"))
    down = [tensors[f"encoder.block.{index}.conv1.weight"].shape[2] // 2 for index in blocks]
    up = [tensors[f"decoder.block.{index}.conv_t1.weight"].shape[2] // 2 for index in blocks]
    if down != up[::-1]:
        raise ValueError(f"it goes down by {down} and up by {up}")
    size, dim = tensors["quantizer.quantizers.0.codebook.weight"].shape
    return {
        "architectures": ["DacModel"],
        "model_type": "dac",
        "encoder_hidden_size": tensors["encoder.conv1.weight"].shape[0],
        "decoder_hidden_size": tensors["decoder.conv1.weight"].shape[0],
        "downsampling_ratios": down,
        "upsampling_ratios": up,
        "hidden_size": tensors["encoder.conv2.weight"].shape[0],
        "hop_length": math.prod(down),
        "n_codebooks": _count(tensors, "quantizer.quantizers"),
        "codebook_size": size,
        "codebook_dim": dim,
        "sampling_rate": sample_rate,
    }
