"""k-means by FAISS, for its several GPUs; it only fits, encoding is always torch."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vocable.errors import InputError, MissingDependencyError


def faiss_kmeans(
    points: Float[Tensor, "n d"], start: Float[Tensor, "k d"], *, iterations: int, seed: int
) -> tuple[Float[Tensor, "k d"], list[float], int]:
    """Centroids on the points' device, objective per iteration, and how many empty clusters were split off others.

    The objective is the mean squared distance to the centroids that an iteration begins with. All points are
    used (faiss alone would sample 256 a cluster), on all GPUs that faiss sees, or else on the CPU.
    InputError if a point is not finite, MissingDependencyError without faiss.
    """
    faiss = _import_faiss()
    size, dim = start.shape
    host = points.float().cpu().contiguous()
    if not bool(host.isfinite().all()):
        raise InputError("expected finite points, got NaN or infinity", hint="look for broken audio or features")
    model = faiss.Kmeans(
        dim,
        size,
        niter=iterations,
        seed=seed,
        gpu=faiss.get_num_gpus() > 0,
        min_points_per_centroid=1,
        max_points_per_centroid=-(-len(host) // size),
    )
    model.train(host.numpy(), init_centroids=start.cpu().numpy())
    objective = [float(value) / len(host) for value in model.obj]
    splits = sum(stats["nsplit"] for stats in model.iteration_stats)
    return torch.from_numpy(model.centroids.copy()).to(points.device), objective, splits


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as problem:
        raise MissingDependencyError(
            f"the faiss backend of k-means needs faiss ({problem})",
            hint="pip install faiss-cpu, or faiss-gpu for NVIDIA GPUs, or use the torch backend",
        ) from problem
    return faiss
