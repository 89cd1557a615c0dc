"""Tiny random codecs of the kind that are trained here, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vocable.training.codec_designs import CodecDesign, codec_design
from vocable.training.codec_network import CodecNetwork


def tiny_design(name: str = "tiny", **changes: Any) -> CodecDesign:
    """The design of a name with few channels and small codebooks; its clock and its structure are the true ones."""
    design = codec_design(name, **changes)
    quantizer = replace(design.quantizer, size=min(design.quantizer.size, 16), latent=8)
    blocks = min(design.blocks, 1)
    return replace(design, channels=2, dim=16, depth=1, width=16, widest=32, quantizer=quantizer, blocks=blocks)


def short_design(**changes: Any) -> CodecDesign:
    """A design of 100 frames a second at 8 kHz, so that little sound has many."""
    return replace(tiny_design("tiny", sample_rate=8000, codebooks=3), strides=(2, 4, 10), **changes)


def random_codec(design: CodecDesign, seed: int = 0) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Settings and tensors of a codec that was never trained; its codebooks begin with latents of noise."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CodecNetwork(design, batch=64)
        network.begin([0.1 * torch.randn(4, 32 * design.hop_length)])
        return network.eval().freeze()
