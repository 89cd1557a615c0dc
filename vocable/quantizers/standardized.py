"""K-means on standardised vectors: every dimension weighs the same, whatever its range."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers.evaluate import Quantizer
from vocable.quantizers.kmeans import FitEvidence, KMeans, fit_kmeans
from vocable.quantizers.product import ProductKMeans
from vocable.quantizers.reduce import ALONE, Reducer
from vocable.quantizers.residual import ResidualKMeans, fit_residual
from vocable.quantizers.rows import vector_rows
from vocable.quantizers.scaling import Scaling


class Standardized:
    """Vectors [..., D] <-> codes [..., K] by a quantizer of the same vectors in standard units.

    A few dimensions of large variance decide Euclidean distances alone; some layers of speech models have such. In
    standard units all weigh the same: the standardized Euclidean distance. Codes decode to vectors as they came, not
    to standard units. A code is a function of its vector alone.

    quantizer: KMeans, ResidualKMeans or ProductKMeans with centroids in standard units.
    InputError if it is another or spherical, or of another D than the scaling.
    """

    def __init__(self, quantizer: Quantizer, scaling: Scaling) -> None:
        angles = isinstance(quantizer, KMeans) and quantizer.spherical
        if angles or not isinstance(quantizer, KMeans | ResidualKMeans | ProductKMeans):
            raise InputError(f"expected k-means by Euclidean distances, got {type(quantizer).__name__} of another kind")
        if quantizer.dim != scaling.dim:
            raise InputError(f"expected a scaling of {quantizer.dim} dimensions, got one of {scaling.dim}")
        self.quantizer, self.scaling = quantizer, scaling.to(_device(quantizer))

    @property
    def dim(self) -> int:
        return self.quantizer.dim

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.quantizer.codebook_sizes

    def to(self, device: torch.device | str) -> Standardized:
        """The same on another device."""
        return Standardized(self.quantizer.to(device), self.scaling)

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Int[Tensor, "*batch k"]:
        """Codes of vectors [..., D], on their device. InputError if D differs or not all are finite."""
        rows = vector_rows(vectors, self.dim).to(self.scaling.mean.device)
        codes = self.quantizer.encode(self.scaling.apply(rows))
        return codes.view(*vectors.shape[:-1], codes.shape[-1]).to(vectors.device)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Float[Tensor, "*batch d"]:
        """Vectors [..., D] of codes [..., k], k < K where the quantizer decodes the first codebooks alone.

        InputError if k is another number or a code is not in its codebook.
        """
        placed = codes.to(self.scaling.mean.device)
        return self.scaling.undo(self.quantizer.decode(placed)).to(codes.device)


@torch.no_grad()
def fit_standardized(
    points: Tensor,
    sizes: Sequence[int],
    *,
    fit: Callable[..., tuple[KMeans, FitEvidence]] = fit_kmeans,
    several: Callable[..., tuple[ResidualKMeans | ProductKMeans, list[FitEvidence]]] = fit_residual,
    reduce: Reducer = ALONE,
) -> tuple[Standardized, list[FitEvidence]]:
    """Codebooks of `sizes` entries for points [n, D], fitted in standard units, and how each fit went.

    The mean and the deviation are those of the points, of all processes. Objectives are in standard units: a single
    entry would have as many as there are dimensions that are not constant.

    fit: how a codebook is fitted, such as partial(fit_kmeans, seed=1). several: `fit_residual` or `fit_product`, if
        there is more than one. reduce: joins several processes; `fit` has to know it as well.
    Memory beyond the points and what the fit takes: for several codebooks, a copy of the points in float32.
    InputError if there is no size, or as `fit` raises it.
    """
    if not sizes:
        raise InputError("expected the size of at least one codebook, got none")
    scaling = Scaling.of(points, reduce=reduce)
    if len(sizes) == 1:
        book, went = fit(points, sizes[0], scaling=scaling)
        return Standardized(book, scaling), [went]
    quantizer, evidence = several(scaling.apply(points), sizes, fit=fit)
    return Standardized(quantizer, scaling), evidence


def _device(quantizer: KMeans | ResidualKMeans | ProductKMeans) -> torch.device:
    return quantizer.centroids.device if isinstance(quantizer, KMeans) else quantizer.device
