"""Residual k-means: every codebook quantizes what the ones before it left over, with no gradient anywhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from vocable.errors import InputError
from vocable.quantizers.books import Fit, KMeansBooks, fit_book
from vocable.quantizers.kmeans import FitEvidence, KMeans, fit_kmeans
from vocable.quantizers.nearest import chunk_rows, parts
from vocable.quantizers.rows import code_rows


class ResidualKMeans(KMeansBooks):
    """K codebooks [V_k, D] whose entries add up: vectors [..., D] <-> codes [..., K], coarse to fine.

    Juang and Gray 1982, "Multiple stage vector quantization for speech coding"; algorithm 1 of Zeghidour et al. 2021,
    "SoundStream". At each depth the entry nearest to the rest is found exactly and taken away from it in float32. The
    search is greedy, so a sum of entries need not get its own codes again.

    centroids: [K, V, D], or a list of [V_k, D].
    """

    kind = "residual-kmeans"

    @property
    def dim(self) -> int:
        return self.books[0].dim

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Float[Tensor, "*batch d"]:
        """Sums [..., D] of the entries of codes [..., k]; of fewer than K codebooks, the first ones' alone.

        InputError if k is not in 1..K or a code is not in its codebook.
        """
        rows = code_rows(codes, self.codebook_sizes, prefix=True).to(self.device)
        total = functional.embedding(rows[:, 0], self.books[0].centroids)
        for book, column in zip(self.books[1:], rows.T[1:], strict=False):
            total += functional.embedding(column, book.centroids)
        return total.view(*codes.shape[:-1], self.dim).to(codes.device)

    def _encode_rows(self, rows: Float[Tensor, "n d"]) -> Int[Tensor, "n k"]:
        codes = []
        for book in self.books:
            codes.append(book.encode(rows))
            rows = rows - book.decode(codes[-1])
        return torch.cat(codes, dim=1)


@torch.no_grad()
def fit_residual(
    points: Tensor, sizes: Sequence[int], *, fit: Fit = fit_kmeans
) -> tuple[ResidualKMeans, list[FitEvidence]]:
    """Codebooks of `sizes` entries for points [n, D], each fitted on what the ones before left over; how each fit went.

    fit: how a codebook is fitted, such as partial(fit_kmeans, iterations=20, seed=1). The objective of a depth is the
    mean squared error of all codebooks so far.
    Memory beyond the points and what `fit` takes: one copy of the points in float32, unless there is but one codebook.
    InputError if there is no size, or as `fit` raises it.
    """
    if not sizes:
        raise InputError("expected the size of at least one codebook, got none")
    books: list[KMeans] = []
    evidence = []
    for size in sizes:
        if books:
            points = points.to(torch.float32, copy=True) if len(books) == 1 else points
            _take_away(points, books[-1])
        book, went = fit_book(fit, points, size)
        books.append(book)
        evidence.append(went)
    return ResidualKMeans([book.centroids for book in books]), evidence


def _take_away(points: Float[Tensor, "n d"], book: KMeans) -> None:
    for rows in parts(points, chunk_rows(8 * points.shape[1])):
        rows.sub_(book.decode(book.encode(rows)))
