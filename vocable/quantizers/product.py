"""Product k-means: a vector cut into groups of dimensions, a codebook for each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from vocable.errors import InputError
from vocable.quantizers.books import Fit, KMeansBooks, fit_book
from vocable.quantizers.kmeans import FitEvidence, fit_kmeans
from vocable.quantizers.rows import code_rows


class ProductKMeans(KMeansBooks):
    """K codebooks [V_k, D / K], one for each of K equal groups of dimensions: vectors [..., D] <-> codes [..., K].

    Jegou, Douze and Schmid 2011, "Product quantization for nearest neighbor search". Squared distances add up over the
    groups, so the nearest of all products of entries is made of the nearest entries of the groups.

    centroids: [K, V, D / K], or a list of [V_k, D / K].
    """

    kind = "product-kmeans"

    @property
    def dim(self) -> int:
        return len(self.books) * self.books[0].dim

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Float[Tensor, "*batch d"]:
        """Entries [..., D] of codes [..., K], side by side. InputError if a code is not in its codebook."""
        rows = code_rows(codes, self.codebook_sizes).to(self.device)
        found = [functional.embedding(column, book.centroids) for book, column in zip(self.books, rows.T, strict=True)]
        return torch.cat(found, dim=1).view(*codes.shape[:-1], self.dim).to(codes.device)

    def _encode_rows(self, rows: Float[Tensor, "n d"]) -> Int[Tensor, "n k"]:
        groups = rows.split(self.books[0].dim, dim=1)
        return torch.cat([book.encode(group) for book, group in zip(self.books, groups, strict=True)], dim=1)


@torch.no_grad()
def fit_product(
    points: Tensor, sizes: Sequence[int], *, fit: Fit = fit_kmeans
) -> tuple[ProductKMeans, list[FitEvidence]]:
    """A codebook of `sizes[k]` entries for each of equal groups of dimensions of points [n, D]; how each fit went.

    fit: how a codebook is fitted, such as partial(fit_kmeans, iterations=20, seed=1). It gets a view of the points, so
    nothing is copied here. The mean squared error of the whole is the sum of the objectives.
    InputError if there is no size, if so many groups do not divide D, or as `fit` raises it.
    """
    if points.ndim != 2 or not sizes or points.shape[1] % len(sizes):
        raise InputError(f"expected points [n, D] with D a multiple of {len(sizes)} groups, got {list(points.shape)}")
    groups = points.split(points.shape[1] // len(sizes), dim=1)
    fitted = [fit_book(fit, group, size) for group, size in zip(groups, sizes, strict=True)]
    return ProductKMeans([book.centroids for book, _ in fitted]), [went for _, went in fitted]
