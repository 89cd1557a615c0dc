"""Finite scalar quantization without a network: levels, residual levels and signs of single dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers.rows import code_rows, vector_rows


class FSQ:
    """One code for D dimensions, of which each is rounded to one of L_d levels: [..., D] <-> [..., 1].

    Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple", appendix A: a number is bounded by tanh and
    rounded. Rounding is monotonic, so a level is the count of thresholds below the number: no index can be out of
    range, whatever the number type, and the bits do not depend on how a processor computes tanh.
    The code is the sum of level_d x (L_1 ... L_{d-1}); it decodes to (level - L // 2) / (L // 2).

    levels: L_d, each from 3 to 256. InputError for others.
    """

    kind = "fsq"

    def __init__(self, levels: Sequence[int]) -> None:
        self.levels = checked_levels(levels, lowest=3)
        self._thresholds = [torch.tensor(_thresholds(count), dtype=torch.float64) for count in self.levels]

    @property
    def dim(self) -> int:
        return len(self.levels)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (math.prod(self.levels),)

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Int[Tensor, "*batch 1"]:
        """Codes of vectors [..., D]. InputError if D differs or a vector is not finite."""
        rows = vector_rows(vectors, self.dim).double()
        digits = [
            torch.bucketize(column.contiguous(), thresholds.to(rows.device))
            for column, thresholds in zip(rows.T, self._thresholds, strict=True)
        ]
        return _joined(torch.stack(digits, dim=1), self.levels).view(*vectors.shape[:-1], 1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Float[Tensor, "*batch d"]:
        """Levels [..., D] of codes [..., 1], from -1 to 1. InputError if a code is out of range."""
        digits = _split(code_rows(codes, self.codebook_sizes)[:, 0], self.levels)
        half = torch.tensor(self.levels, device=digits.device) // 2
        return ((digits - half).double() / half).float().view(*codes.shape[:-1], self.dim)

    def config(self) -> dict[str, Any]:
        """Plain values that say which quantizer this is; `from_config` is the inverse."""
        return {"kind": self.kind, "levels": list(self.levels)}

    def tensors(self) -> dict[str, Tensor]:
        """Nothing: the levels are all."""
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> FSQ:
        """The quantizer that `config` described."""
        return cls(config["levels"])


class ResidualFSQ:
    """K codes for D dimensions, each rounding to L_d levels what the ones before left over: [..., D] <-> [..., K].

    Numbers are bounded softly to 1 + 1 / (L_d - 1); code k has the levels -1 ... 1 in equal steps, times L_d^-k. The
    scheme of vector-quantize-pytorch's ResidualFSQ, with the symmetric levels of Parker et al. 2024, "Scaling
    Transformers for Low-Bitrate High-Quality Speech Coding", section 3.2. The first codes alone decode coarsely.

    levels: L_d, each from 2 to 256. num_codebooks: K. InputError for others.
    """

    kind = "residual-fsq"

    def __init__(self, levels: Sequence[int], num_codebooks: int) -> None:
        self.levels = checked_levels(levels, lowest=2)
        if num_codebooks < 1:
            raise InputError(f"expected at least one codebook, got {num_codebooks}")
        self.num_codebooks = num_codebooks
        self._counts = torch.tensor(self.levels, dtype=torch.float64)

    @property
    def dim(self) -> int:
        return len(self.levels)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (math.prod(self.levels),) * self.num_codebooks

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Int[Tensor, "*batch k"]:
        """Codes of vectors [..., D]. InputError if D differs or a vector is not finite."""
        rows = vector_rows(vectors, self.dim).double()
        counts = self._counts.to(rows.device)
        bound = 1 + 1 / (counts - 1)
        # processors differ in the last bits of tanh: those are dropped before anything is compared
        rest = ((rows / bound).tanh() * bound).float().double()
        codes = []
        for depth in range(self.num_codebooks):
            scale = counts**-depth
            digits = ((counts - 1) * ((rest / scale).clamp(-1, 1) + 1) / 2 + 0.5).floor()
            rest = rest - _symmetric(digits, counts) * scale
            codes.append(_joined(digits.long(), self.levels))
        return torch.stack(codes, dim=1).view(*vectors.shape[:-1], self.num_codebooks)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Float[Tensor, "*batch d"]:
        """Sums [..., D] of the levels of codes [..., k], k <= K. InputError if a code is out of range."""
        rows = code_rows(codes, self.codebook_sizes, prefix=True)
        counts = self._counts.to(rows.device)
        total = torch.zeros(len(rows), self.dim, dtype=torch.float64, device=rows.device)
        for depth, column in enumerate(rows.T):
            total += _symmetric(_split(column, self.levels).double(), counts) * counts**-depth
        return total.float().view(*codes.shape[:-1], self.dim)

    def config(self) -> dict[str, Any]:
        """Plain values that say which quantizer this is; `from_config` is the inverse."""
        return {"kind": self.kind, "levels": list(self.levels), "num_codebooks": self.num_codebooks}

    def tensors(self) -> dict[str, Tensor]:
        """Nothing: the levels are all."""
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ResidualFSQ:
        """The quantizer that `config` described."""
        return cls(config["levels"], config["num_codebooks"])


class LFQ:
    """K codes of B bits for K x B dimensions: the signs of the numbers, the first the highest bit.

    Yu et al. 2023, "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation" (lookup-free quantization).

    bits: B, from 1 to 16. num_codebooks: K. InputError for others.
    """

    kind = "lfq"

    def __init__(self, bits: int, num_codebooks: int = 1) -> None:
        if not 1 <= bits <= 16 or num_codebooks < 1:
            raise InputError(f"expected 1 to 16 bits and at least one codebook, got {bits} and {num_codebooks}")
        self.bits, self.num_codebooks = bits, num_codebooks
        self._weights = 2 ** torch.arange(bits - 1, -1, -1)

    @property
    def dim(self) -> int:
        return self.bits * self.num_codebooks

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (2**self.bits,) * self.num_codebooks

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Int[Tensor, "*batch k"]:
        """Codes of vectors [..., D]. InputError if D differs or a vector is not finite."""
        signs = (vector_rows(vectors, self.dim) > 0).view(-1, self.num_codebooks, self.bits)
        codes = (signs * self._weights.to(signs.device)).sum(-1)
        return codes.view(*vectors.shape[:-1], self.num_codebooks)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Float[Tensor, "*batch d"]:
        """Signs [..., D] of codes [..., K], -1 or 1. InputError if a code is out of range."""
        rows = code_rows(codes, self.codebook_sizes)
        signs = (rows[:, :, None] & self._weights.to(rows.device)) != 0
        return (signs.float() * 2 - 1).view(*codes.shape[:-1], self.dim)

    def config(self) -> dict[str, Any]:
        """Plain values that say which quantizer this is; `from_config` is the inverse."""
        return {"kind": self.kind, "bits": self.bits, "num_codebooks": self.num_codebooks}

    def tensors(self) -> dict[str, Tensor]:
        """Nothing: signs need no codebook."""
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LFQ:
        """The quantizer that `config` described."""
        return cls(config["bits"], config["num_codebooks"])


def checked_levels(levels: Sequence[int], *, lowest: int) -> tuple[int, ...]:
    """The levels. InputError if there is none or one is not from `lowest` to 256, or their product exceeds 2^31 - 1."""
    if not levels or not all(lowest <= count <= 256 for count in levels) or math.prod(levels) >= 2**31:
        raise InputError(f"expected levels from {lowest} to 256 with a product below 2^31, got {list(levels)}")
    return tuple(levels)


def _thresholds(count: int) -> list[float]:
    """Where round(tanh(z + shift) x half - offset) goes from one level to the next."""
    half = (count - 1) * (1 + 1e-3) / 2  # a thousandth more, so that the outermost levels are reached
    offset = 0.5 if count % 2 == 0 else 0.0
    shift = math.atanh(offset / half)
    return [math.atanh((level + 0.5 - count // 2 + offset) / half) - shift for level in range(count - 1)]


def _symmetric(digits: Float[Tensor, "n d"], counts: Float[Tensor, " d"]) -> Float[Tensor, "n d"]:
    return digits * (2 / (counts - 1)) - 1


def _joined(digits: Int[Tensor, "n d"], levels: Sequence[int]) -> Int[Tensor, " n"]:
    code = torch.zeros_like(digits[:, 0])
    for column, count in reversed(list(zip(digits.T, levels, strict=True))):
        code = code * count + column
    return code


def _split(codes: Int[Tensor, " n"], levels: Sequence[int]) -> Int[Tensor, "n d"]:
    digits = []
    for count in levels:
        digits.append(codes % count)
        codes = codes // count
    return torch.stack(digits, dim=1)
