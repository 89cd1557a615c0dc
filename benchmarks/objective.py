"""How low k-means ends on features of real speech, against scikit-learn and faiss.

    python -m benchmarks.objective ../shared/audio

Each is called as one would call it, several seeds each; the folder holds dev.jsonl. Objectives are measured alike, as
the mean squared distance of all frames to the nearest centroid found, and shown as ratios to scikit-learn's.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import commit, machine
from vocable.corpus import Corpus
from vocable.quantizers import KMeans, fit_kmeans
from vocable.quantizers.nearest import squared_distances
from vocable.tokenizers import MFCC, LogMel, StackedMel
from vocable.tokenizers.training import gather_frames

FEATURES = {"StackedMel": StackedMel, "LogMel": LogMel, "MFCC": MFCC}
Fit = Callable[[np.ndarray, int, int], np.ndarray]
Cell = dict[str, list[tuple[float, float]]]  # objective and seconds of each seed


def fit_sklearn(points: np.ndarray, size: int, seed: int) -> np.ndarray:
    from sklearn import cluster

    return cluster.KMeans(size, n_init=1, random_state=seed).fit(points).cluster_centers_


def fit_vocable(points: np.ndarray, size: int, seed: int) -> np.ndarray:
    return fit_kmeans(torch.from_numpy(points), size, seed=seed)[0].centroids.numpy()


def fit_vocable_plain(points: np.ndarray, size: int, seed: int) -> np.ndarray:
    return fit_kmeans(torch.from_numpy(points), size, seed=seed, rounds=0)[0].centroids.numpy()


def fit_faiss(points: np.ndarray, size: int, seed: int) -> np.ndarray:
    import faiss

    model = faiss.Kmeans(points.shape[1], size, niter=50, seed=seed, max_points_per_centroid=len(points))
    model.train(points)
    return model.centroids


RIVALS: dict[str, Fit] = {
    "scikit-learn": fit_sklearn,
    "vocable": fit_vocable,
    "vocable, rounds=0": fit_vocable_plain,
    "faiss": fit_faiss,
}


def frames(folder: Path, name: str, count: int) -> np.ndarray:
    """Frames of the development recordings, drawn evenly."""
    found, _ = gather_frames(Corpus.of(folder / "dev.jsonl"), FEATURES[name](), sample_frames=count)
    return found.layer(0).numpy().copy()


def objective(points: np.ndarray, centroids: np.ndarray) -> float:
    model, rows = KMeans(torch.from_numpy(centroids)), torch.from_numpy(points)
    return float(squared_distances(rows, model.decode(model.encode(rows))).mean())


def measure(points: np.ndarray, size: int, seeds: int) -> Cell:
    """All rivals in turns, seed by seed."""
    cell: Cell = {name: [] for name in RIVALS}
    for seed in range(seeds):
        for name, fit in RIVALS.items():
            began = time.perf_counter()
            centroids = fit(points, size, seed)
            cell[name].append((objective(points, centroids), time.perf_counter() - began))
    return cell


def rows(features: str, size: int, cell: Cell) -> list[str]:
    """A line of the table for each rival."""
    theirs = [value for value, _ in cell["scikit-learn"]]
    lines = []
    for name, runs in cell.items():
        mine = [value for value, _ in runs]
        mean, worst = statistics.mean(mine), max(a / b for a, b in zip(mine, theirs, strict=True))
        seconds = statistics.median(second for _, second in runs)
        ratio = mean / statistics.mean(theirs)
        lines.append(f"| {features} | {size} | {name} | {mean:.4f} | {ratio:.4f} | {worst:.4f} | {seconds:.1f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/objective.md"))
    parser.add_argument("--frames", type=int, default=40_000)
    parser.add_argument("--clusters", type=int, nargs="+", default=[100, 500, 2000])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    text = (
        f"# How low k-means ends\n\n{date.today()}, {machine()} scikit-learn {version('scikit-learn')}, "
        f"{torch.get_num_threads()} threads, commit {commit()}.\n\n"
        f"{options.frames:,} frames of real speech, {options.seeds} seeds; scikit-learn KMeans(n_init=1), faiss Kmeans "
        "(niter=50, all points), else the defaults. Objective: mean squared distance, mean of the seeds. Worst: the "
        "largest ratio to scikit-learn's of the same seed. Seconds: median of a fit, on a machine with other work.\n\n"
        "| features | K | | objective | / scikit-learn | worst | seconds |\n|---|---|---|---|---|---|---|\n"
    )
    for size in options.clusters:
        for name in FEATURES:
            lines = rows(name, size, measure(frames(options.folder, name, options.frames), size, options.seeds))
            text += "\n".join(lines) + "\n"
            options.out.write_text(text)


if __name__ == "__main__":
    main()
