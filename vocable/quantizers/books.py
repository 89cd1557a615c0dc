"""What quantizers of several k-means codebooks share: entries of one width, rows divided among threads, saving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers.kmeans import FitEvidence, KMeans
from vocable.quantizers.nearest import parts
from vocable.quantizers.rows import vector_rows
from vocable.quantizers.workers import workers

B = TypeVar("B", bound="KMeansBooks")

Fit = Callable[[Tensor, int], tuple[KMeans, FitEvidence]]
"""Points [n, D] and a number of clusters to a codebook: `fit_kmeans`, or a partial of it with other settings."""

ROWS_AT_ONCE = 1024
"""Rows that a thread takes through all codebooks before the next: what is left of them stays in its cache."""

ROWS_AT_ONCE_ELSEWHERE = 2**17
"""The same on an accelerator, where every chunk waits for the host a few times."""


class KMeansBooks(ABC):
    """K codebooks of entries with the same width, [V_k, W] each; the subclass says how they make up a vector.

    A code is a function of its vector alone: the batch, the order and the number of threads have no part in it.
    InputError if there is no codebook, or if entries are not finite or differ in width.
    """

    kind: ClassVar[str]

    def __init__(self, centroids: Tensor | Sequence[Tensor]) -> None:
        self.books = tuple(KMeans(entries) for entries in centroids)
        if len({book.dim for book in self.books}) != 1:
            raise InputError(
                f"expected codebooks of one width, got {[list(book.centroids.shape) for book in self.books]}"
            )

    @property
    @abstractmethod
    def dim(self) -> int: ...

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return tuple(len(book.centroids) for book in self.books)

    @property
    def device(self) -> torch.device:
        return self.books[0].centroids.device

    def to(self: B, device: torch.device | str) -> B:
        """The same codebooks on another device."""
        return type(self)([book.centroids.to(device) for book in self.books])

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Int[Tensor, "*batch k"]:
        """Codes of vectors [..., D], on their device. InputError if D differs or not all are finite."""
        rows = vector_rows(vectors, self.dim)
        size = ROWS_AT_ONCE if self.device.type == "cpu" else ROWS_AT_ONCE_ELSEWHERE
        with workers(self.device) as team:
            found = team.map(lambda part: self._encode_rows(part.to(self.device).float()), parts(rows, size))
        empty = torch.empty(0, len(self.books), dtype=torch.int64, device=self.device)
        return torch.cat([empty, *found]).view(*vectors.shape[:-1], len(self.books)).to(vectors.device)

    @abstractmethod
    def _encode_rows(self, rows: Float[Tensor, "n d"]) -> Int[Tensor, "n k"]: ...

    def config(self) -> dict[str, Any]:
        """Plain values that, with the tensors, say which quantizer this is; `from_config` is the inverse."""
        return {"kind": self.kind, "sizes": list(self.codebook_sizes)}

    def tensors(self) -> dict[str, Tensor]:
        """The entries of each codebook, under its number."""
        return {str(index): book.centroids for index, book in enumerate(self.books)}

    @classmethod
    def from_config(cls: type[B], config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> B:
        """The quantizer that `config` and `tensors` described."""
        return cls([tensors[str(index)] for index in range(len(config["sizes"]))])


def fit_book(fit: Fit, points: Float[Tensor, "n d"], size: int) -> tuple[KMeans, FitEvidence]:
    """One of several codebooks, and how its fit went. InputError if the fit is spherical."""
    book, evidence = fit(points, size)
    if book.spherical:
        raise InputError(
            "expected a fit by Euclidean distances, got a spherical one, which loses the length of vectors"
        )
    return book, evidence
