"""Scalar bins: every value of a vector into one of equally wide intervals, with nothing learned."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.errors import InputError


class ScalarBins:
    """K = D codebooks of `size` bins: vectors [..., D] <-> codes [..., D].

    dMel (Bai et al. 2024, "dMel: Speech Tokenization made Simple") is this over log-mel bands.

    dim: D. low, high: the bins divide this range evenly; what lies outside falls into the first or the last bin.
    size: bins, 16 in dMel, which are 4 bits.
    InputError if dim or size is not positive, or if low and high are not two finite numbers in that order.
    """

    def __init__(self, dim: int, *, low: float, high: float, size: int = 16) -> None:
        if dim < 1 or size < 1:
            raise InputError(f"expected a positive dim and size, got {dim} and {size}")
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"expected finite numbers low < high, got {low} and {high}")
        self.dim, self.low, self.high, self.size = dim, float(low), float(high), size

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.size,) * self.dim

    @property
    def width(self) -> float:
        """Width of a bin."""
        return (self.high - self.low) / self.size

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Int[Tensor, "*batch d"]:
        """Bins 0..size-1 of vectors [..., D], value by value. InputError if D differs or a value is not finite."""
        if vectors.ndim < 1 or vectors.shape[-1] != self.dim or not vectors.is_floating_point():
            raise InputError(f"expected vectors [..., {self.dim}], got {vectors.dtype} {list(vectors.shape)}")
        if not bool(vectors.isfinite().all()):
            raise InputError("expected finite vectors, got NaN or infinity", hint="look for broken audio or features")
        return ((vectors.double() - self.low) / self.width).floor().clamp(0, self.size - 1).long()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Float[Tensor, "*batch d"]:
        """Centres [..., D] of bins [..., D] as float32. InputError if a code is not in 0..size-1."""
        if codes.ndim < 1 or codes.shape[-1] != self.dim or codes.is_floating_point():
            raise InputError(f"expected codes [..., {self.dim}], got {codes.dtype} {list(codes.shape)}")
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.size:
            raise InputError(f"expected codes from 0 to {self.size - 1}, got others")
        return (self.low + (codes.double() + 0.5) * self.width).float()

    def config(self) -> dict[str, Any]:
        """Plain values that say which quantizer this is; `from_config` is the inverse."""
        return {"kind": "bins", "dim": self.dim, "low": self.low, "high": self.high, "size": self.size}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScalarBins:
        """The quantizer that `config` described."""
        return cls(config["dim"], low=config["low"], high=config["high"], size=config["size"])
