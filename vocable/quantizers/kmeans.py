"""The k-means codebook: fit on vectors with evidence, encode to the nearest centroid, decode to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from vocable.errors import InputError
from vocable.quantizers.faiss_backend import faiss_kmeans
from vocable.quantizers.lloyd import Outcome
from vocable.quantizers.nearest import build_table, nearest, normalized, parts, search_rows
from vocable.quantizers.points import Points
from vocable.quantizers.reduce import ALONE, Reducer
from vocable.quantizers.scaling import ScaledPoints, Scaling
from vocable.quantizers.schedules import Schedule, run_schedule
from vocable.quantizers.seeding import Init, starting_centroids
from vocable.quantizers.splitting import split_and_merge

Backend = Literal["torch", "faiss"]


@dataclass(frozen=True, slots=True)
class FitEvidence:
    """How a fit went.

    objective: mean squared distance of all points to their centroids, one value per iteration that looked at all.
    iterations: how many there were, with those on a part of the points.
    usage: share of the entries that have points, 0..1. dead: entries that have none. entropy: of the entries in bits.
    perplexity: 2 ** entropy. reseeded: how often an empty cluster was given a new place.
    restart: which of the starts was best, from 0; start r is that of the seed + r. restarts: final objective of each.
    """

    objective: tuple[float, ...]
    iterations: int
    usage: float
    dead: int
    entropy: float
    perplexity: float
    reseeded: int
    backend: str
    schedule: str
    init: str
    seed: int
    restart: int
    restarts: tuple[float, ...]
    num_points: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "objective": list(self.objective), "restarts": list(self.restarts)}


class KMeans:
    """A codebook of V centroids [V, D]: vectors [..., D] <-> codes [..., 1].

    A code is a function of its vector alone: the batch, the order and the number of threads have no part in it.

    spherical: vectors are scaled to length 1 before they are compared, so that the angle decides; the centroids have
    length 1 (or 0, which is nearest to nothing but zeros) and are what codes decode to.
    InputError if the centroids are not finite, or not of length 1 where they should be.
    """

    def __init__(self, centroids: Tensor, *, spherical: bool = False) -> None:
        if centroids.ndim != 2 or not centroids.numel() or not centroids.is_floating_point():
            raise InputError(f"expected centroids [V, D], got {centroids.dtype} {list(centroids.shape)}")
        if not bool(centroids.isfinite().all()):
            raise InputError("expected finite centroids, got NaN or infinity")
        self.centroids = centroids.detach().float().contiguous()
        self.spherical = spherical
        if spherical and not torch.allclose(self.centroids, normalized(self.centroids), atol=1e-5):
            raise InputError("expected centroids of length 1 for a spherical codebook, got others")
        self._table = build_table(self.centroids)

    @property
    def dim(self) -> int:
        return self.centroids.shape[1]

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (len(self.centroids),)

    def to(self, device: torch.device | str) -> KMeans:
        """The same codebook on another device."""
        return KMeans(self.centroids.to(device), spherical=self.spherical)

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Int[Tensor, "*batch 1"]:
        """Index of the centroid nearest to each vector [..., D] in Euclidean distance, the lowest among equals.

        Of a spherical codebook, the one at the smallest angle; a vector of zeros has none, and gets one of them.

        Works in float32 and decides close calls in float64. InputError if D differs or a vector is not finite.
        """
        if vectors.ndim < 1 or vectors.shape[-1] != self.dim or not vectors.is_floating_point():
            raise InputError(f"expected vectors [..., {self.dim}], got {vectors.dtype} {list(vectors.shape)}")
        rows = vectors.reshape(-1, self.dim)
        codes = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
        size = search_rows(self._table)
        for part, target in zip(parts(rows, size), parts(codes, size), strict=True):
            target.copy_(nearest(self._table, normalized(part.float()) if self.spherical else part.float()).codes)
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
    tolerance: float = 3e-5,
    seed: int = 0,
    backend: Backend = "torch",
    schedule: Schedule = "full",
    init: Init = "k-means++",
    rounds: int = 6,
    restarts: int = 1,
    spherical: bool = False,
    scaling: Scaling | None = None,
    reduce: Reducer = ALONE,
    on_iteration: Callable[[int, float], None] | None = None,
) -> tuple[KMeans, FitEvidence]:
    """A codebook of `num_clusters` centroids for points [n, D], and how the fit went.

    Starts where `init` says (see seeding), merges and splits clusters of a sample in `rounds` (see splitting; 0 for
    none), and runs Lloyd's algorithm over all points until the objective falls by less than `tolerance` of itself or
    for `iterations`, which alone are reported. With backend "torch" (any device, floats of any width) the result
    depends on the points, their order, the seed and the device, not on chunks or threads, nor on how many processes
    hold a share of the points each (`reduce`). Backend "faiss" (float32 on the CPU, or on the GPUs that faiss sees)
    knows no rounds and no tolerance, and reports its iterations to `on_iteration` at the end.

    schedule: "full" looks at all points in every iteration. "progressive" and "minibatch" at few first, without rounds,
    see schedules.
    restarts: so many fits, of which the one with the lowest objective is returned.
    spherical: clusters directions (Dhillon and Modha 2001): points count as scaled to length 1, as do centroids.
    scaling: points count as brought to standard units by it, and so do centroids: `fit_standardized` takes both back.

    Memory beyond the points, which may be memory-mapped, for "torch": 32 n + n D / 8 bytes, never [n, K]; chunks, which
    with what the allocator keeps of them come to 128 MiB a thread; and forty copies of the centroids (the sample for
    k-means++). InputError if the points do not fit or are not finite.
    """
    _check(points, num_clusters, iterations, rounds, restarts)
    _check_choices(backend, schedule, init, reduce)
    mine = _points(points.detach(), spherical, scaling, reduce)
    if num_clusters > mine.total:
        raise InputError(
            f"expected at least as many points as clusters, got {mine.total} points for {num_clusters} clusters",
            hint="use more audio or fewer clusters",
        )
    hear = on_iteration or (lambda iteration, objective: None)
    outcomes = []
    for one in range(seed, seed + restarts):
        start = starting_centroids(mine, num_clusters, init, one)
        if backend == "faiss":
            found = faiss_kmeans(mine, start, iterations=iterations, seed=one, on_iteration=hear)
        else:
            if rounds and schedule == "full":
                start = split_and_merge(mine, start, rounds=rounds, seed=one)
            limits = {"iterations": iterations, "seed": one}
            found = run_schedule(mine, start, schedule=schedule, tolerance=tolerance, on_iteration=hear, **limits)
        outcomes.append(found)
    finals = tuple(found.objective[-1] for found in outcomes)
    best = outcomes[finals.index(min(finals))]
    evidence = _evidence(best, mine.total, finals, backend=backend, schedule=schedule, init=init, seed=seed)
    return KMeans(best.centroids, spherical=spherical), evidence


def _check(points: Tensor, num_clusters: int, iterations: int, rounds: int, restarts: int) -> None:
    if points.ndim != 2 or not points.shape[1] or not points.is_floating_point():
        raise InputError(f"expected points [n, D] of floating point numbers, got {points.dtype} {list(points.shape)}")
    if num_clusters < 1 or iterations < 1 or restarts < 1 or rounds < 0:
        raise InputError(
            "expected at least one cluster, one iteration, one start and no fewer than 0 rounds, "
            f"got {num_clusters}, {iterations}, {restarts} and {rounds}"
        )


def _points(points: Tensor, spherical: bool, scaling: Scaling | None, reduce: Reducer) -> Points:
    if scaling is None:
        return Points.of(points, spherical=spherical, reduce=reduce)
    if spherical:
        raise InputError(
            "expected spherical or standardized clustering, got both, but directions have no deviation",
            hint="leave one of the two out",
        )
    return ScaledPoints.scaled(points, scaling, reduce=reduce)


def _check_choices(backend: str, schedule: str, init: str, reduce: Reducer) -> None:
    for name, value, known in (
        ("backend", backend, get_args(Backend)),
        ("schedule", schedule, get_args(Schedule)),
        ("init", init, get_args(Init)),
    ):
        if value not in known:
            raise InputError(f"expected {name} {' or '.join(known)}, got {value!r}")
    if backend == "faiss" and (schedule != "full" or reduce.world > 1):
        raise InputError(
            f"expected the full schedule in one process for faiss, got {schedule} in {reduce.world}",
            hint="use the torch backend",
        )


def _evidence(
    outcome: Outcome, num_points: int, finals: tuple[float, ...], *, backend: str, schedule: str, init: str, seed: int
) -> FitEvidence:
    shares = outcome.counts[outcome.counts > 0].double() / num_points
    entropy = max(0.0, -float((shares * shares.log2()).sum()))
    return FitEvidence(
        objective=tuple(outcome.objective),
        iterations=outcome.iterations,
        usage=len(shares) / len(outcome.counts),
        dead=len(outcome.counts) - len(shares),
        entropy=entropy,
        perplexity=2.0**entropy,
        reseeded=outcome.reseeded,
        backend=backend,
        schedule=schedule,
        init=init,
        seed=seed,
        restart=finals.index(min(finals)),
        restarts=finals,
        num_points=num_points,
    )
