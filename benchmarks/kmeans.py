"""k-means against faiss and scikit-learn, each rival in a process of its own: python -m benchmarks.kmeans [--quick].

Prints two markdown tables for each set of points, row by row. The first: the same initial centroids and as many
iterations for all, medians; the processes take turns, so that a busy machine slows all of them alike. The second: each
as one would call it, initialisation included, and when it reached the objective of MiniBatchKMeans as fairseq sets it.
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
import warnings
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import commit, machine

DIM = 768
LIMIT = 40  # iterations of a rival that is left to itself
Curve = list[tuple[float, float]]  # seconds since the call, mean squared distance
Fit = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
Run = Callable[[np.ndarray, int], tuple[np.ndarray, Curve]]


def make_points(count: int, rank: int) -> np.ndarray:
    """Mixture of 1,000 Gaussians whose means span `rank` dimensions, and noise of the same total variance."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((1000, rank)) @ rng.standard_normal((rank, DIM)) / rank**0.5
    points = rng.standard_normal((count, DIM), dtype=np.float32)
    points += means.astype(np.float32)[rng.integers(0, len(means), count)]
    return points


def fit_vocable(points: np.ndarray, start: np.ndarray, iterations: int, schedule: str = "full") -> np.ndarray:
    import torch

    from vocable.quantizers.points import Points
    from vocable.quantizers.schedules import run_schedule

    settings: dict[str, Any] = {"schedule": schedule, "iterations": iterations, "tolerance": -1.0, "seed": 0}
    with torch.no_grad():
        mine = Points.of(torch.from_numpy(points))
        found = run_schedule(mine, torch.from_numpy(start), on_iteration=lambda *event: None, **settings)
    return found.centroids.numpy()


def fit_progressive(points: np.ndarray, start: np.ndarray, iterations: int) -> np.ndarray:
    return fit_vocable(points, start, iterations, "progressive")


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


def run_vocable(points: np.ndarray, size: int, schedule: Any = "full", rounds: int = 6) -> tuple[np.ndarray, Curve]:
    import torch

    from vocable.quantizers import fit_kmeans

    began, curve = time.perf_counter(), Curve()
    model, evidence = fit_kmeans(
        torch.from_numpy(points),
        size,
        iterations=LIMIT,
        schedule=schedule,
        rounds=rounds,
        on_iteration=lambda iteration, value: curve.append((time.perf_counter() - began, value)),
    )
    return model.centroids.numpy(), curve[-len(evidence.objective) :]


def run_plain(points: np.ndarray, size: int) -> tuple[np.ndarray, Curve]:
    return run_vocable(points, size, rounds=0)


def run_progressive(points: np.ndarray, size: int) -> tuple[np.ndarray, Curve]:
    return run_vocable(points, size, "progressive")


def run_faiss(points: np.ndarray, size: int, **settings: bool) -> tuple[np.ndarray, Curve]:
    import faiss

    model = faiss.Kmeans(points.shape[1], size, niter=LIMIT, max_points_per_centroid=len(points), **settings)
    model.train(points)
    return model.centroids, [(stats["time"], stats["obj"] / len(points)) for stats in model.iteration_stats]


def run_superkmeans(points: np.ndarray, size: int) -> tuple[np.ndarray, Curve]:
    return run_faiss(points, size, use_super_kmeans=True)


def run_sklearn(points: np.ndarray, size: int) -> tuple[np.ndarray, Curve]:
    from sklearn.cluster import KMeans

    return _run_estimator(KMeans(size, n_init=1, max_iter=LIMIT, copy_x=False, random_state=0), points)


def run_minibatch(points: np.ndarray, size: int) -> tuple[np.ndarray, Curve]:
    """As examples/hubert/simple_kmeans/learn_kmeans.py of fairseq calls it."""
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(
        size,
        init="k-means++",
        max_iter=100,
        batch_size=10_000,
        compute_labels=False,
        tol=0.0,
        max_no_improvement=100,
        n_init=20,
        reassignment_ratio=0.0,
        random_state=0,
    )
    return _run_estimator(model, points)


def _run_estimator(model: Any, points: np.ndarray) -> tuple[np.ndarray, Curve]:
    began = time.perf_counter()
    centroids = model.fit(points).cluster_centers_
    return centroids, [(time.perf_counter() - began, float("nan"))]  # only where it ended, which is measured later


SAME_START: dict[str, Fit] = {
    "faiss Kmeans": fit_faiss,
    "faiss Kmeans, use_super_kmeans": fit_superkmeans,
    "vocable": fit_vocable,
    "vocable, progressive": fit_progressive,
    "scikit-learn KMeans": fit_sklearn,
    "scikit-learn MiniBatchKMeans": fit_minibatch,
}
ON_THEIR_OWN: dict[str, Run] = {
    "scikit-learn MiniBatchKMeans as fairseq": run_minibatch,
    "vocable": run_vocable,
    "vocable, rounds=0": run_plain,
    "vocable, progressive": run_progressive,
    "faiss Kmeans": run_faiss,
    "faiss Kmeans, use_super_kmeans": run_superkmeans,
    "scikit-learn KMeans": run_sklearn,
}
QUICK = ("faiss Kmeans", "vocable", "vocable, progressive", "scikit-learn MiniBatchKMeans as fairseq")


def work(name: str, folder: Path, iterations: int) -> None:
    """In the process of a rival: one warm-up on a few points, one timed fit; from the same start if `iterations`."""
    warnings.simplefilter("ignore")
    points, start = np.load(folder / "points.npy"), np.load(folder / "start.npy")
    if iterations:
        SAME_START[name](points[: 2 * len(start)], start, 1)
    else:
        ON_THEIR_OWN[name](points[:1000], 10)
    wall, cpu = time.perf_counter(), time.process_time()
    if iterations:
        centroids, curve = SAME_START[name](points, start, iterations), Curve()
    else:
        centroids, curve = ON_THEIR_OWN[name](points, len(start))
    report = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "curve": curve}
    np.save(folder / "found.npy", np.ascontiguousarray(centroids, dtype=np.float32))
    sys.stdout.write(json.dumps(report))


def measured(name: str, folder: Path, iterations: int, threads: int) -> dict[str, Any]:
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
    points = torch.from_numpy(np.load(folder / "points.npy"))
    sums = [float(squared_distances(rows, model.decode(model.encode(rows))).sum()) for rows in parts(points, 4096)]
    return sum(sums) / len(points)


def compare_same_start(names: list[str], folder: Path, iterations: int, repeats: int, threads: int) -> None:
    say(f"From the same start, {iterations} iterations, medians of {repeats}\n")
    say("| | seconds | CPU seconds | time / faiss Kmeans | objective / faiss Kmeans |\n|---|---|---|---|---|")
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    quality: dict[str, float] = {}
    for repeat in range(repeats):
        for name in names:
            runs[name].append(measured(name, folder, iterations, threads))
            quality[name] = quality.get(name) or objective(folder)
            if repeat == repeats - 1:
                wall, cpu = (statistics.median(run[kind] for run in runs[name]) for kind in ("wall", "cpu"))
                first = statistics.median(run["wall"] for run in runs["faiss Kmeans"])
                ratio = quality[name] / quality["faiss Kmeans"]
                say(f"| {name} | {wall:.2f} | {cpu:.2f} | {wall / first:.2f} | {ratio:.5f} |")


def compare_on_their_own(names: list[str], folder: Path, threads: int) -> None:
    """The first of the names sets the objective to reach."""
    say(f"\nAs one would call them, initialisation included, at most {LIMIT} iterations but for MiniBatchKMeans\n")
    say(f"| | seconds to the objective of {names[0]} | seconds in all | CPU seconds | objective / its |")
    say("|---|---|---|---|---|")
    target = 0.0
    for name in names:
        run = measured(name, folder, 0, threads)
        final = objective(folder)
        target = target or final
        curve = [*run["curve"], (run["wall"], final)]
        reached = next((f"{seconds:.1f}" for seconds, value in curve if value <= target), "never")
        say(f"| {name} | {reached} | {run['wall']:.1f} | {run['cpu']:.1f} | {final / target:.5f} |")


def compare(count: int, size: int, rank: int, options: argparse.Namespace) -> None:
    import torch

    from vocable.quantizers.points import Points
    from vocable.quantizers.seeding import starting_centroids

    torch.set_num_threads(options.threads)
    same, own = ([name for name in table if not options.quick or name in QUICK] for table in (SAME_START, ON_THEIR_OWN))
    say(f"\n## {count:,} x {DIM}, K = {size:,}, means of rank {rank}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        points = make_points(count, rank)
        with torch.no_grad():
            start = starting_centroids(Points.of(torch.from_numpy(points)), size, "k-means++", 0)
        np.save(folder / "points.npy", points)
        np.save(folder / "start.npy", start.numpy())
        del points
        if "same" in options.tables:
            compare_same_start(same, folder, 20, options.repeats, options.threads)
        if "own" in options.tables:
            compare_on_their_own(own, folder, options.threads)


def say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rivals, 10,000 points")
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clusters", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--ranks", type=int, nargs="+", default=[32, DIM], help="of the means of the points")
    parser.add_argument("--tables", nargs="+", choices=["same", "own"], default=["same", "own"], help="which to take")
    parser.add_argument("--worker", nargs=3, metavar=("RIVAL", "FOLDER", "ITERATIONS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, folder, iterations = options.worker
        work(name, Path(folder), int(iterations))
        return
    say(f"# k-means\n\n{date.today()}, {machine()} scikit-learn {version('scikit-learn')}")
    say(f"{options.threads} threads, commit {commit()}, load {os.getloadavg()[0]:.1f} at the start")
    for size in options.clusters:
        for rank in options.ranks:
            compare(min(options.points, 10_000) if options.quick else options.points, size, rank, options)


if __name__ == "__main__":
    main()
