"""Tiny checkpoints in the layouts of encodec 0.1.1 and descript-audio-codec 1.0.0, under the names that those give."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

Shape = tuple[int, ...]
FILTERS, RATIOS, DIM, SIZE = 4, (3, 2), 8, 16  # the decoder goes up by 3, then by 2
CODEBOOKS = {"24": 3, "32": 2, "48": 2}
DAC_ARGUMENTS = {
    "encoder_dim": 4,
    "encoder_rates": [2, 3],
    "latent_dim": 12,
    "decoder_dim": 16,
    "decoder_rates": [3, 2],
    "n_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 4,
    "quantizer_dropout": False,
    "sample_rate": 16000,
}


def noise(channels: int, samples: int) -> Tensor:
    """Audio [channels, samples] that is the same everywhere and for ever."""
    return torch.from_numpy(0.3 * np.random.RandomState(7).standard_normal((channels, samples))).float()


def filled(shapes: Iterator[tuple[str, Shape]]) -> dict[str, Tensor]:
    """A tensor for every name: gains around 1, the rest so that no layer dies out."""
    return {name: _values(name, shape) for name, shape in shapes}


def _values(name: str, shape: Shape) -> Tensor:
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    loudness = 3.0 if name.startswith("encoder") else 0.5
    if name.endswith("inited"):
        values = np.ones(shape)
    elif name.endswith(("alpha", "norm.weight")):
        values = 1 + 0.2 * values
    elif name.endswith("weight_g"):
        values = loudness * (1 + 0.2 * values)
    elif name.endswith("bias"):
        values = 0.1 * values
    elif not name.endswith(("embed", "codebook.weight")):
        values = loudness * values * np.prod(shape[1:]) ** -0.5
    return torch.from_numpy(values).float()


def write_encodec(path: Path, kind: str = "24") -> Path:
    """A state dict, as encodec saves it; for 32 kHz inside of what audiocraft saves."""
    state = filled(encodec_shapes(kind))
    torch.save({"best_state": state, "xp.cfg": "sample_rate: 32000"} if kind == "32" else state, path)
    return path


def write_dac(path: Path) -> Path:
    """What audiotools saves: the state dict, and the arguments that made the model."""
    torch.save({"state_dict": filled(dac_shapes()), "metadata": {"kwargs": dict(DAC_ARGUMENTS)}}, path)
    return path


def encodec_shapes(kind: str) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of encodec.EncodecModel with 4 filters, ratios 3 and 2, 8 dimensions and 16 entries."""
    channels, widest = (2 if kind == "48" else 1), FILTERS * 4
    yield from _conv("encoder.model.0.conv", FILTERS, channels, 7, kind)
    yield from _residual("encoder.model.1", FILTERS, kind)
    yield from _conv("encoder.model.3.conv", FILTERS * 2, FILTERS, 2 * RATIOS[1], kind)
    yield from _residual("encoder.model.4", FILTERS * 2, kind)
    yield from _conv("encoder.model.6.conv", widest, FILTERS * 2, 2 * RATIOS[0], kind)
    yield from _lstm("encoder.model.7", widest)
    yield from _conv("encoder.model.9.conv", DIM, widest, 7, kind)
    for index in range(CODEBOOKS[kind]):
        book = f"quantizer.vq.layers.{index}._codebook"
        yield from ((f"{book}.inited", (1,)), (f"{book}.cluster_size", (SIZE,)))
        yield from ((f"{book}.embed", (SIZE, DIM)), (f"{book}.embed_avg", (SIZE, DIM)))
    yield from _conv("decoder.model.0.conv", widest, DIM, 7, kind)
    yield from _lstm("decoder.model.1", widest)
    yield from _conv("decoder.model.3.convtr", FILTERS * 2, widest, 2 * RATIOS[0], kind)
    yield from _residual("decoder.model.4", FILTERS * 2, kind)
    yield from _conv("decoder.model.6.convtr", FILTERS, FILTERS * 2, 2 * RATIOS[1], kind)
    yield from _residual("decoder.model.7", FILTERS, kind)
    yield from _conv("decoder.model.9.conv", channels, FILTERS, 7, kind)


def _conv(stem: str, wide: int, narrow: int, kernel: int, kind: str) -> Iterator[tuple[str, Shape]]:
    last = stem.rpartition(".")[2]
    rows = narrow if last == "convtr" else wide
    shape = (narrow, wide, kernel) if last == "convtr" else (wide, narrow, kernel)
    yield f"{stem}.{last}.bias", (wide,)
    if kind == "48":
        yield f"{stem}.{last}.weight", shape
        yield from ((f"{stem}.norm.weight", (wide,)), (f"{stem}.norm.bias", (wide,)))
    else:
        yield from ((f"{stem}.{last}.weight_g", (rows, 1, 1)), (f"{stem}.{last}.weight_v", shape))


def _residual(stem: str, width: int, kind: str) -> Iterator[tuple[str, Shape]]:
    yield from _conv(f"{stem}.block.1.conv", width // 2, width, 3, kind)
    yield from _conv(f"{stem}.block.3.conv", width, width // 2, 1, kind)
    if kind != "32":
        yield from _conv(f"{stem}.shortcut.conv", width, width, 1, kind)


def _lstm(stem: str, width: int) -> Iterator[tuple[str, Shape]]:
    for layer in range(2):
        for name, shape in (("weight", (4 * width, width)), ("bias", (4 * width,))):
            yield from ((f"{stem}.lstm.{name}_ih_l{layer}", shape), (f"{stem}.lstm.{name}_hh_l{layer}", shape))


def dac_shapes() -> Iterator[tuple[str, Shape]]:
    """Names and shapes of dac.DAC(**DAC_ARGUMENTS)."""
    yield from _weight_norm("encoder.block.0", (4, 1, 7))
    for index, (width, rate) in enumerate(((4, 2), (8, 3)), start=1):
        for unit in range(3):
            yield from _unit(f"encoder.block.{index}.block.{unit}", width)
        yield f"encoder.block.{index}.block.3.alpha", (1, width, 1)
        yield from _weight_norm(f"encoder.block.{index}.block.4", (2 * width, width, 2 * rate))
    yield "encoder.block.3.alpha", (1, 16, 1)
    yield from _weight_norm("encoder.block.4", (12, 16, 3))
    for index in range(3):
        book = f"quantizer.quantizers.{index}"
        yield from _weight_norm(f"{book}.in_proj", (4, 12, 1))
        yield from _weight_norm(f"{book}.out_proj", (12, 4, 1))
        yield f"{book}.codebook.weight", (16, 4)
    yield from _weight_norm("decoder.model.0", (16, 12, 7))
    for index, (width, rate) in enumerate(((16, 3), (8, 2)), start=1):
        yield f"decoder.model.{index}.block.0.alpha", (1, width, 1)
        yield from _weight_norm(f"decoder.model.{index}.block.1", (width, width // 2, 2 * rate), bias=width // 2)
        for unit in range(3):
            yield from _unit(f"decoder.model.{index}.block.{unit + 2}", width // 2)
    yield "decoder.model.3.alpha", (1, 4, 1)
    yield from _weight_norm("decoder.model.4", (1, 4, 7))


def _unit(stem: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{stem}.block.0.alpha", (1, width, 1)
    yield from _weight_norm(f"{stem}.block.1", (width, width, 7))
    yield f"{stem}.block.2.alpha", (1, width, 1)
    yield from _weight_norm(f"{stem}.block.3", (width, width, 1))


def _weight_norm(stem: str, shape: Shape, *, bias: int | None = None) -> Iterator[tuple[str, Shape]]:
    yield f"{stem}.bias", (shape[0] if bias is None else bias,)
    yield f"{stem}.weight_g", (shape[0], 1, 1)
    yield f"{stem}.weight_v", shape
