"""k-means by FAISS, for its several GPUs; it only fits, encoding is always torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.errors import MissingDependencyError
from vocable.quantizers.lloyd import Outcome
from vocable.quantizers.nearest import build_table, nearest, normalized, search_rows
from vocable.quantizers.points import Points, spans


def faiss_kmeans(
    points: Points,
    start: Float[Tensor, "k d"],
    *,
    iterations: int,
    seed: int,
    on_iteration: Callable[[int, float], None],
) -> Outcome:
    """What faiss finds: its centroids on the points' device; `reseeded` counts empty clusters that it split off others.

    The objective is the mean squared distance to the centroids that an iteration begins with. All points are
    used (faiss alone would sample 256 a cluster), on all GPUs that faiss sees, or else on the CPU; they are copied.
    MissingDependencyError without faiss.
    """
    faiss = _import_faiss()
    size, dim = start.shape
    model = faiss.Kmeans(
        dim,
        size,
        niter=iterations,
        seed=seed,
        spherical=points.spherical,
        gpu=faiss.get_num_gpus() > 0,
        min_points_per_centroid=1,
        max_points_per_centroid=-(-len(points) // size),
    )
    model.train(points.take(slice(None)).cpu().contiguous().numpy(), init_centroids=start.cpu().numpy())
    means = [float(value) / len(points) for value in model.obj]
    objective = [2 - 2 * value for value in means] if points.spherical else means  # faiss sums products there
    for iteration, value in enumerate(objective):
        on_iteration(iteration, value)
    centroids = torch.from_numpy(model.centroids.copy()).to(points.device)
    centroids = normalized(centroids) if points.spherical else centroids
    splits = sum(stats["nsplit"] for stats in model.iteration_stats)
    return Outcome(centroids, _members(points, centroids), objective, splits, len(objective))


def _members(points: Points, centroids: Float[Tensor, "k d"]) -> Int[Tensor, " k"]:
    table = build_table(centroids)
    chunks = spans(len(points), search_rows(table))
    codes = [nearest(table, points.take(places)).codes for places in chunks]
    return torch.cat(codes).bincount(minlength=len(centroids))


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as problem:
        raise MissingDependencyError(
            f"the faiss backend of k-means needs faiss ({problem})",
            hint="pip install faiss-cpu, or faiss-gpu for NVIDIA GPUs, or use the torch backend",
        ) from problem
    return faiss
