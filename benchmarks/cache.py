"""Memory of clustering frames that lie on disk: python -m benchmarks.cache [--hours 10] [--clusters 500] [--out FILE]

One layer of 768 features at 50 frames/s in fp16, as `vocable train kmeans --cache` maps it; layers are clustered one
after another, so several take no more at a time. Random frames around 2,000 means.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import commit, machine
from vocable.quantizers import fit_kmeans

DIM, RATE = 768, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--clusters", type=int, default=500)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--out", type=Path, help="write the result here as well")
    options = parser.parse_args()
    frames = round(options.hours * 3600 * RATE)
    with tempfile.TemporaryDirectory() as work:
        points = write_frames(Path(work) / "L6.f16", frames)
        before, watch = anonymous(), Peak()
        began = time.monotonic()
        _, evidence = fit_kmeans(points, options.clusters, iterations=options.iterations)
        seconds, peak = time.monotonic() - began, watch.stop()
    text = (
        "# Clustering frames that lie on disk\n\n"
        f"{frames:,} x {DIM} in fp16 ({frames * DIM * 2 / 1e9:.2f} GB on disk), {options.clusters} clusters, "
        f"{evidence.iterations} iterations: {seconds:.0f} s, {peak - before:.0f} MB of memory beyond what the process "
        "held before; pages of the mapped file, which the system takes back when it needs them, not counted.\n\n"
        f"{torch.get_num_threads()} threads; {machine()}; {date.today()}, commit {commit()}.\n"
    )
    print(text)
    if options.out:
        options.out.write_text(text)


def write_frames(path: Path, frames: int) -> torch.Tensor:
    """The frames, mapped."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((2000, DIM), dtype=np.float32)
    mapped = np.memmap(path, np.float16, "w+", shape=(frames, DIM))
    for first in range(0, frames, 20000):
        rows = mapped[first : first + 20000]
        rows[:] = means[rng.integers(0, len(means), len(rows))] + rng.standard_normal(rows.shape, dtype=np.float32)
    mapped.flush()
    return torch.from_numpy(mapped)


def anonymous() -> float:
    """Memory of this process that no file backs, in MB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) * 1024 / 1e6


class Peak:
    """The largest `anonymous` since it was made."""

    def __init__(self) -> None:
        self.peak, self._done = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> float:
        self._done.set()
        self._thread.join()
        return self.peak

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.peak = max(self.peak, anonymous())


if __name__ == "__main__":
    main()
