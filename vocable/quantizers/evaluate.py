"""What any quantizer does on given vectors: how its codebooks are used, what its codes cost and what they lose."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from vocable.errors import InputError
from vocable.quantizers.kmeans import KMeans
from vocable.quantizers.nearest import chunk_rows, normalized, parts
from vocable.quantizers.rows import vector_rows


@runtime_checkable
class Quantizer(Protocol):
    """Vectors [..., D] <-> codes [..., K]."""

    @property
    def dim(self) -> int: ...
    @property
    def codebook_sizes(self) -> tuple[int, ...]: ...

    def encode(self, vectors: Tensor) -> Tensor: ...
    def decode(self, codes: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a quantizer does on n vectors.

    usage: share of the entries of each codebook that occur, 0..1. entropy: of each codebook's codes, in bits.
    variance: mean squared distance of the vectors to their mean, over all dimensions together.
    distortion: mean squared distance of the vectors to what the first 1, 2, ... K codebooks decode to; where codebooks
        do not refine one another, a single value for all of them.
    """

    codebook_sizes: tuple[int, ...]
    num_vectors: int
    usage: tuple[float, ...]
    entropy: tuple[float, ...]
    variance: float
    distortion: tuple[float, ...]

    @property
    def raw_bits(self) -> float:
        """Bits per vector of codes as they are: the sum of log2(V)."""
        return math.fsum(math.log2(size) for size in self.codebook_sizes)

    @property
    def coded_bits(self) -> float:
        """Bits per vector of an ideal entropy coder for each codebook by itself, without memory: at most the raw."""
        return math.fsum(self.entropy)

    @property
    def unexplained(self) -> tuple[float, ...]:
        """Distortion as a share of the variance: 0 is lossless, 1 as good as always giving the mean."""
        return tuple(loss / self.variance if self.variance else float(loss > 0) for loss in self.distortion)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        derived = {"raw_bits": self.raw_bits, "coded_bits": self.coded_bits, "unexplained": self.unexplained}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in {**asdict(self), **derived}.items()}


def decodes_prefixes(quantizer: Quantizer) -> bool:
    """Whether codebooks refine one another, coarse to fine, so that codes of the first ones alone are decoded too."""
    if len(quantizer.codebook_sizes) == 1:
        return True
    try:
        quantizer.decode(torch.zeros(1, 1, dtype=torch.int64))
    except InputError:
        return False
    return True


@torch.no_grad()
def judge(quantizer: Quantizer, vectors: Tensor) -> Judgement:
    """Usage, entropy, bits and distortion of a quantizer on vectors [..., D], in chunks of bounded memory.

    Sums are float64. InputError if there is no vector, D differs or a vector is not finite.
    """
    rows = vector_rows(vectors, quantizer.dim)
    if not len(rows):
        raise InputError(f"expected at least one vector, got shape {list(vectors.shape)}")
    chunks = list(parts(rows, chunk_rows(32 * quantizer.dim)))
    mean = torch.stack([part.double().sum(0) for part in chunks]).sum(0) / len(rows)
    variance = sum(float((part.double() - mean).square().sum()) for part in chunks) / len(rows)
    counts = [torch.zeros(size, dtype=torch.int64) for size in quantizer.codebook_sizes]
    depths = list(range(1, 1 + len(counts))) if decodes_prefixes(quantizer) else [len(counts)]
    errors = torch.zeros(len(depths), dtype=torch.float64)
    for part in chunks:
        codes = quantizer.encode(part)
        for count, column in zip(counts, codes.T, strict=True):
            count.add_(column.bincount(minlength=len(count)).cpu())
        decoded = (quantizer.decode(codes[:, :depth]).to(part.device) for depth in depths)
        errors += torch.stack([(part.double() - there).square().sum().cpu() for there in decoded])
    return Judgement(
        codebook_sizes=tuple(quantizer.codebook_sizes),
        num_vectors=len(rows),
        usage=tuple(float((count > 0).double().mean()) for count in counts),
        entropy=tuple(_entropy(count) for count in counts),
        variance=variance,
        distortion=tuple((errors / len(rows)).tolist()),
    )


@torch.no_grad()
def soft_assign(quantizer: KMeans, vectors: Tensor, temperature: float) -> Float[Tensor, "*batch v"]:
    """Distributions [..., V] over units: softmax of minus the squared distances of vectors [..., D] / temperature.

    The idea is the soft speech units of van Niekerk et al. 2022 ("A Comparison of Discrete and Soft Speech Units for
    Improved Voice Conversion"), who train a network to predict them; this needs none. It is the posterior of a mixture
    of equal Gaussians with variance temperature / 2 on the centroids; near 0 it is the code itself. Each of the `books`
    of ProductKMeans has one over its group of dimensions; those of ResidualKMeans have none, because what they get
    depends on the codes chosen before. Float32; chunks of vectors agree to rounding, not to the bit.
    InputError if D differs, a vector is not finite or the temperature is not positive.
    """
    if not temperature > 0:
        raise InputError(f"expected a positive temperature, got {temperature}")
    rows = vector_rows(vectors, quantizer.dim).float()
    rows = normalized(rows) if quantizer.spherical else rows
    centre = quantizer.centroids.mean(0)  # distances stay, and a common offset costs no precision
    entries = quantizer.centroids - centre
    nearness = functional.linear(2 * (rows - centre), entries, -entries.square().sum(1))  # |row|^2 would cancel
    logits = (nearness - nearness.amax(1, keepdim=True)) / temperature
    return logits.softmax(1).view(*vectors.shape[:-1], len(entries))


def _entropy(counts: Int[Tensor, " v"]) -> float:
    shares = counts[counts > 0].double() / counts.sum()
    return max(0.0, -float((shares * shares.log2()).sum()))
