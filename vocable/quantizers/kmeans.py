"""The k-means codebook: fit on vectors with evidence, encode to the nearest centroid, decode to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from vocable.errors import InputError
from vocable.nets.threads import one_thread_each
from vocable.quantizers.faiss_backend import faiss_kmeans
from vocable.quantizers.lloyd import Outcome, lloyd
from vocable.quantizers.nearest import GROUP_WIDTH, build_table, nearest, parts, search_rows
from vocable.quantizers.seeding import by_similarity, kmeans_plus_plus


@dataclass(frozen=True, slots=True)
class FitEvidence:
    """How a fit went.

    objective: mean squared distance of the points to their centroids, one value per iteration.
    usage: share of the entries that have points, 0..1. entropy: of the entries in bits. perplexity: 2 ** entropy.
    reseeded: how often an empty cluster was given a new place.
    """

    objective: tuple[float, ...]
    iterations: int
    usage: float
    entropy: float
    perplexity: float
    reseeded: int
    backend: str
    seed: int
    num_points: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "objective": list(self.objective)}


class KMeans:
    """A codebook of V centroids [V, D]: vectors [..., D] <-> codes [..., 1].

    A code is a function of its vector alone: the batch, the order and the number of threads have no part in it.
    InputError if the centroids are not finite.
    """

    def __init__(self, centroids: Tensor) -> None:
        if centroids.ndim != 2 or not centroids.numel() or not centroids.is_floating_point():
            raise InputError(f"expected centroids [V, D], got {centroids.dtype} {list(centroids.shape)}")
        if not bool(centroids.isfinite().all()):
            raise InputError("expected finite centroids, got NaN or infinity")
        self.centroids = centroids.detach().float().contiguous()
        self._table = build_table(self.centroids)

    @property
    def dim(self) -> int:
        return self.centroids.shape[1]

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (len(self.centroids),)

    def to(self, device: torch.device | str) -> KMeans:
        """The same codebook on another device."""
        return KMeans(self.centroids.to(device))

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Int[Tensor, "*batch 1"]:
        """Index of the centroid nearest to each vector [..., D] in Euclidean distance, the lowest among equals.

        Works in float32 and decides close calls in float64. InputError if D differs or a vector is not finite.
        """
        if vectors.ndim < 1 or vectors.shape[-1] != self.dim or not vectors.is_floating_point():
            raise InputError(f"expected vectors [..., {self.dim}], got {vectors.dtype} {list(vectors.shape)}")
        rows = vectors.reshape(-1, self.dim)
        codes = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
        size = search_rows(self._table)
        for part, target in zip(parts(rows, size), parts(codes, size), strict=True):
            target.copy_(nearest(self._table, part.float()).codes)
        return codes.view(*vectors.shape[:-1], 1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Float[Tensor, "*batch d"]:
        """Centroids [..., D] of codes [..., 1]. InputError if a code is not in 0..V-1."""
        if codes.ndim < 1 or codes.shape[-1] != 1 or codes.is_floating_point():
            raise InputError(f"expected codes [..., 1], got {codes.dtype} {list(codes.shape)}")
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < len(self.centroids):
            raise InputError(f"expected codes from 0 to {len(self.centroids) - 1}, got others")
        return functional.embedding(codes[..., 0].long(), self.centroids)


@torch.no_grad()
def fit_kmeans(
    points: Tensor,
    num_clusters: int,
    *,
    iterations: int = 50,
    tolerance: float = 1e-4,
    seed: int = 0,
    backend: Literal["torch", "faiss"] = "torch",
    on_iteration: Callable[[int, float], None] | None = None,
) -> tuple[KMeans, FitEvidence]:
    """A codebook of `num_clusters` centroids for points [n, D], and how the fit went.

    Starts from greedy k-means++ and runs Lloyd's algorithm over all points, until the objective falls by less than
    `tolerance` of itself or for `iterations`. With backend "torch" (any device, floats of any width) the result depends
    on the points, their order, the seed and the device, not on chunks or threads. Backend "faiss" (float32 on the CPU,
    or on the GPUs that faiss sees) knows no tolerance and reports its iterations to `on_iteration` at the end.

    Memory beyond the points, for "torch": 32 n + n D / 8 bytes, never [n, K]; chunks, which with what the allocator
    keeps of them come to 128 MiB a thread; and forty copies of the centroids (the sample for k-means++).
    InputError if the points do not fit or are not finite.
    """
    _check(points, num_clusters, iterations)
    points = points.detach()
    with one_thread_each():  # its float32 sums decide where to start, so their order must not depend on the machine
        start = by_similarity(kmeans_plus_plus(points, num_clusters, seed), GROUP_WIDTH)
    if backend == "torch":
        outcome = lloyd(points, start, iterations=iterations, tolerance=tolerance, on_iteration=on_iteration)
        return KMeans(outcome.centroids), _evidence(outcome, len(points), backend, seed)
    centroids, objective, reseeded = faiss_kmeans(points, start, iterations=iterations, seed=seed)
    model = KMeans(centroids)
    if on_iteration is not None:
        for iteration, value in enumerate(objective):
            on_iteration(iteration, value)
    counts = model.encode(points)[:, 0].bincount(minlength=num_clusters)
    return model, _evidence(Outcome(centroids, counts, objective, reseeded), len(points), backend, seed)


def _check(points: Tensor, num_clusters: int, iterations: int) -> None:
    if points.ndim != 2 or not points.shape[1] or not points.is_floating_point():
        raise InputError(f"expected points [n, D] of floating point numbers, got {points.dtype} {list(points.shape)}")
    if num_clusters < 1 or iterations < 1:
        raise InputError(f"expected at least one cluster and one iteration, got {num_clusters} and {iterations}")
    if num_clusters > len(points):
        raise InputError(
            f"expected at least as many points as clusters, got {len(points)} points for {num_clusters} clusters",
            hint="use more audio or fewer clusters",
        )


def _evidence(outcome: Outcome, num_points: int, backend: str, seed: int) -> FitEvidence:
    shares = outcome.counts[outcome.counts > 0].double() / num_points
    entropy = max(0.0, -float((shares * shares.log2()).sum()))
    return FitEvidence(
        objective=tuple(outcome.objective),
        iterations=len(outcome.objective),
        usage=len(shares) / len(outcome.counts),
        entropy=entropy,
        perplexity=2.0**entropy,
        reseeded=outcome.reseeded,
        backend=backend,
        seed=seed,
        num_points=num_points,
    )
