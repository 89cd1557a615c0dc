"""k-means from the same initial centroids, each rival in a process of its own: python -m benchmarks.kmeans [--quick].

Prints a markdown table of medians. The processes take turns, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.measure import commit, machine

DIM = 768
CLUSTERS = 500
Fit = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def make_points(count: int, rank: int) -> np.ndarray:
    """Mixture of 1,000 Gaussians whose means span `rank` dimensions, and noise of the same total variance."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((1000, rank)) @ rng.standard_normal((rank, DIM)) / rank**0.5
    points = rng.standard_normal((count, DIM), dtype=np.float32)
    points += means.astype(np.float32)[rng.integers(0, len(means), count)]
    return points


def fit_vocable(points: np.ndarray, start: np.ndarray, iterations: int) -> np.ndarray:
    import torch

    from vocable.quantizers.lloyd import lloyd

    with torch.no_grad():
        found = lloyd(torch.from_numpy(points), torch.from_numpy(start), iterations=iterations, tolerance=-1.0)
    return found.centroids.numpy()


def fit_faiss(points: np.ndarray, start: np.ndarray, iterations: int, **settings: bool) -> np.ndarray:
    import faiss

    model = faiss.Kmeans(DIM, len(start), niter=iterations, max_points_per_centroid=len(points), **settings)
    model.train(points, init_centroids=start)
    return model.centroids


def fit_superkmeans(points: np.ndarray, start: np.ndarray, iterations: int) -> np.ndarray:
    return fit_faiss(points, start, iterations, use_super_kmeans=True)


def fit_sklearn(points: np.ndarray, start: np.ndarray, iterations: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    model = KMeans(len(start), init=start, n_init=1, max_iter=iterations, tol=0.0, algorithm="lloyd", copy_x=False)
    return model.fit(points).cluster_centers_


def fit_minibatch(points: np.ndarray, start: np.ndarray, iterations: int) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(len(start), init=start, n_init=1, batch_size=10_000, max_iter=iterations)
    return model.fit(points).cluster_centers_


RIVALS: dict[str, Fit] = {
    "vocable": fit_vocable,
    "faiss Kmeans": fit_faiss,
    "faiss Kmeans, use_super_kmeans": fit_superkmeans,
    "scikit-learn KMeans": fit_sklearn,
    "scikit-learn MiniBatchKMeans": fit_minibatch,
}


def work(name: str, folder: Path, iterations: int) -> None:
    """In the process of a rival: one warm-up on a few points, one timed fit."""
    import warnings

    warnings.simplefilter("ignore")
    fit = RIVALS[name]
    points, start = np.load(folder / "points.npy"), np.load(folder / "start.npy")
    fit(points[: 2 * len(start)], start, 1)
    wall, cpu = time.perf_counter(), time.process_time()
    centroids = fit(points, start, iterations)
    times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    np.save(folder / "found.npy", np.ascontiguousarray(centroids, dtype=np.float32))
    sys.stdout.write(json.dumps(times))


def seconds(name: str, folder: Path, iterations: int, threads: int) -> dict[str, float]:
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    command = [sys.executable, "-m", "benchmarks.kmeans", "--worker", name, str(folder), str(iterations)]
    environment = {**os.environ, **dict.fromkeys(variables, str(threads))}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def objective(folder: Path) -> float:
    """Mean squared distance of the points to the nearest of the centroids found."""
    import torch

    from vocable.quantizers import KMeans
    from vocable.quantizers.nearest import parts, squared_distances

    model = KMeans(torch.from_numpy(np.load(folder / "found.npy")))
    chunks = parts(torch.from_numpy(np.load(folder / "points.npy")), 4096)
    sums = [float(squared_distances(rows, model.decode(model.encode(rows))).sum()) for rows in chunks]
    return sum(sums) / len(np.load(folder / "points.npy", mmap_mode="r"))


def compare(names: list[str], count: int, rank: int, iterations: int, repeats: int, threads: int) -> None:
    import torch

    from vocable.quantizers.seeding import by_similarity, kmeans_plus_plus

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        points = make_points(count, rank)
        start = by_similarity(kmeans_plus_plus(torch.from_numpy(points), CLUSTERS, seed=0), 32)
        np.save(folder / "points.npy", points)
        np.save(folder / "start.npy", start.numpy())
        del points
        times: dict[str, list[dict[str, float]]] = {rival: [] for rival in names}
        objectives: dict[str, float] = {}
        for _ in range(repeats):
            for rival in names:
                times[rival].append(seconds(rival, folder, iterations, threads))
                objectives[rival] = objectives.get(rival) or objective(folder)
    print(f"\n{count:,} x {DIM}, K = {CLUSTERS}, {iterations} iterations, means of rank {rank}, {repeats} repeats\n")
    print("| | seconds | CPU seconds | time / faiss Kmeans | objective / faiss Kmeans |\n|---|---|---|---|---|")
    wall = {rival: statistics.median(run["wall"] for run in runs) for rival, runs in times.items()}
    cpu = {rival: statistics.median(run["cpu"] for run in runs) for rival, runs in times.items()}
    for rival in names:
        ratio, quality = (values[rival] / values["faiss Kmeans"] for values in (wall, objectives))
        print(f"| {rival} | {wall[rival]:.2f} | {cpu[rival]:.2f} | {ratio:.2f} | {quality:.5f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the points, two rivals, three repeats")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker", nargs=3, metavar=("RIVAL", "FOLDER", "ITERATIONS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, folder, iterations = options.worker
        work(name, Path(folder), int(iterations))
        return
    names = list(RIVALS)[:2] if options.quick else list(RIVALS)
    print(f"# k-means from the same start\n\n{machine()} scikit-learn {version('scikit-learn')}")
    print(f"{options.threads} threads, commit {commit()}, load {os.getloadavg()[0]:.1f} at the start")
    for rank in (32, DIM):
        compare(names, 40_000 if options.quick else 200_000, rank, 20, options.repeats, options.threads)


if __name__ == "__main__":
    main()
