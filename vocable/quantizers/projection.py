"""Random-projection codes: a fixed random matrix and fixed random codebooks, both made of a seed and never trained."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.errors import InputError
from vocable.nets.spectral import ExactProduct
from vocable.quantizers.kmeans import KMeans
from vocable.quantizers.nearest import fold

_BITS = 40  # of each random integer: a sum of twelve is exact in any number type


class RandomProjection:
    """K codebooks of V entries: vectors [..., D] are projected, normalised, and get the nearest of V random directions.

    BEST-RQ (Chiu et al. 2022, "Self-supervised Learning with Random-projection Quantizer for Speech Recognition",
    section 3.1) with its sizes as defaults; the labels of BEATs' first iteration and of NEST are made alike. Vectors
    should have mean 0 and variance 1 in each dimension: otherwise a few codes get most of them.

    Matrices are uniform after Xavier, entries sums of twelve uniform numbers, which are normal but for 0.1 of excess
    kurtosis. All are integer arithmetic on the raw output of the Philox generator, so a seed means the same numbers on
    any machine. A code is a function of its vector alone: projections are exact sums, and so is the search.

    dim: D. projected: dimensions of the entries. size: V. num_codebooks: K, each with a matrix of its own.
    seed: 0 .. 2^64 - 1. InputError for sizes that are not positive, or K x projected > D, which could not be decoded.
    """

    def __init__(
        self, dim: int, *, projected: int = 16, size: int = 8192, num_codebooks: int = 1, seed: int = 0
    ) -> None:
        if min(projected, size, num_codebooks) < 1 or not 0 <= seed < 2**64:
            raise InputError("expected positive sizes and a seed from 0 to 2^64 - 1")
        if num_codebooks * projected > dim:
            raise InputError(f"expected at most {dim} projected dimensions, got {num_codebooks} x {projected}")
        self.dim, self.projected, self.size, self.num_codebooks, self.seed = dim, projected, size, num_codebooks, seed
        drawn = [_draw(dim, projected, size, seed, index) for index in range(num_codebooks)]
        self._matrix = torch.cat([matrix for matrix, _ in drawn], dim=1)
        self._books = [KMeans(entries) for _, entries in drawn]
        self._project = ExactProduct(self._matrix)
        self._lift = ExactProduct(torch.linalg.pinv(self._matrix.double()))

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.size,) * self.num_codebooks

    @property
    def matrix(self) -> Float[Tensor, "d p"]:
        """The projections [D, K x projected], one codebook's after the other's."""
        return self._matrix

    @property
    def entries(self) -> Float[Tensor, "k v p"]:
        """The codebooks [K, V, projected], of length 1."""
        return torch.stack([book.centroids for book in self._books])

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Int[Tensor, "*batch k"]:
        """Codes of vectors [..., D]. InputError if D differs or a vector is not finite."""
        if vectors.ndim < 1 or vectors.shape[-1] != self.dim or not vectors.is_floating_point():
            raise InputError(f"expected vectors [..., {self.dim}], got {vectors.dtype} {list(vectors.shape)}")
        if not bool(vectors.isfinite().all()):
            raise InputError("expected finite vectors, got NaN or infinity", hint="look for broken audio or features")
        rows = vectors.reshape(-1, self.dim).cpu()
        codes = [
            book.encode(_normalised(part))
            for book, part in zip(self._books, self._project(rows).split(self.projected, dim=1), strict=True)
        ]
        return torch.cat(codes, dim=1).view(*vectors.shape[:-1], self.num_codebooks).to(vectors.device)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Float[Tensor, "*batch d"]:
        """The shortest vectors [..., D] whose projections are the entries of codes [..., K].

        They get the same codes again, and are not meant for sound: the length of a vector and all but
        K x projected of its dimensions are lost. InputError if a code is not in 0..V-1.
        """
        if codes.ndim < 1 or codes.shape[-1] != self.num_codebooks:
            raise InputError(f"expected codes [..., {self.num_codebooks}], got {codes.dtype} {list(codes.shape)}")
        rows = codes.reshape(-1, self.num_codebooks).cpu()
        found = [book.decode(part) for book, part in zip(self._books, rows.split(1, dim=1), strict=True)]
        lifted = self._lift(torch.cat(found, dim=1)).float()
        return lifted.view(*codes.shape[:-1], self.dim).to(codes.device)

    def config(self) -> dict[str, Any]:
        """Plain values that say which quantizer this is; `from_config` is the inverse."""
        return {
            "kind": "random-projection",
            "dim": self.dim,
            "projected": self.projected,
            "size": self.size,
            "num_codebooks": self.num_codebooks,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RandomProjection:
        """The quantizer that `config` described."""
        return cls(
            config["dim"],
            projected=config["projected"],
            size=config["size"],
            num_codebooks=config["num_codebooks"],
            seed=config["seed"],
        )


def _draw(
    dim: int, projected: int, size: int, seed: int, index: int
) -> tuple[Float[Tensor, "d p"], Float[Tensor, "v p"]]:
    """The matrix and the entries of one codebook."""
    generator = np.random.Philox(key=np.array([seed, index], dtype=np.uint64))
    uniform = _integers(generator, dim, projected).double() / 2**_BITS
    entries = _integers(generator, size, projected, 12).sum(-1) - 6 * 2**_BITS
    bound = math.sqrt(6 / (dim + projected))
    return ((2 * uniform - 1) * bound).float(), _normalised(entries.double() / 2**_BITS)


def _integers(generator: np.random.Philox, *shape: int) -> Int[Tensor, "*shape"]:
    """Uniform integers below 2^40: a generator's raw output is fixed for ever, unlike its distributions (NEP 19)."""
    raw = generator.random_raw(int(np.prod(shape))) >> np.uint64(64 - _BITS)
    return torch.from_numpy(raw.astype(np.int64)).reshape(shape)


def _normalised(rows: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    """Rows of length 1 in float32, the sums in a fixed order; a row of zeros stays one."""
    rows = rows / rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return (rows / fold(rows.square()).sqrt().clamp_min(0.5)[:, None]).float()
