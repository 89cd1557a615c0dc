"""Decode speed of generators with random weights: frames in memory to samples in memory, all of them in turns.

    python -m benchmarks.vocoder [--threads 2] [--seconds 10] [--rounds 5] [--out benchmarks/results/vocoder.md]

Every utterance, and every stretch of a long one, runs on a thread of its own. On a machine with other work the time of
processors is the steadier figure, the wall's the one that counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import commit, machine
from vocable.nets.generators import Generator, build_generator, render_stretch
from vocable.nets.threads import one_thread_each

RATE = 16000
SMALL = {"kind": "istft", "dim": 384, "depth": 8, "width": 1152, "kernel": 7, "hop_length": 160, "fft_size": 640}
# the strides of V1 for this hop, as even as they can be: others with the same kernels take longer
V1 = {"kind": "hifigan", "dim": 80, "channels": 512, "hop_length": 160}
BASELINE = "HiFi-GAN V1"
GENERATORS: dict[str, tuple[dict[str, Any], torch.dtype]] = {
    "iSTFT small": (SMALL, torch.float32),
    "iSTFT small, bf16": (SMALL, torch.bfloat16),
    "iSTFT small, 50 Hz, 2 subframes": ({**SMALL, "hop_length": 320, "subframes": 2}, torch.float32),
    BASELINE: (V1, torch.float32),
    f"{BASELINE}, bf16": (V1, torch.bfloat16),
}
WISHED_SPEED, WISHED_RATIO = 100, 8


@dataclass(frozen=True)
class Speed:
    """Seconds of sound per second of the wall, and per second of one processor."""

    wall: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=10, help="of an utterance, and of a stretch of a long one")
    parser.add_argument("--stretches", type=int, default=4, help="of the long utterance")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the table here as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = []
    for line in report(options):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


def report(options: argparse.Namespace) -> Iterator[str]:
    torch.manual_seed(0)
    generators = {name: build_generator(config).prepared(dtype) for name, (config, dtype) in GENERATORS.items()}
    sound = options.seconds * options.threads, options.seconds * options.stretches
    runs = [(several(g, options.seconds, options.threads), sound[0]) for g in generators.values()]
    runs += [(one_long(g, options.seconds, options.stretches), sound[1]) for g in generators.values()]
    speeds = turns(runs, options.rounds)
    pairs = dict(zip(generators, zip(speeds, speeds[len(generators) :], strict=False), strict=True))
    yield "# Decoding: generators of the unit vocoder"
    yield ""
    yield f"Seconds of sound per second at {RATE} Hz; the ratio is to {BASELINE} in float32, in the same run."
    yield ""
    yield f"| | weights | {options.threads} utterances side by side | ratio | one long | ratio | per processor second |"
    yield "|---|---|---|---|---|---|---|"
    for name, generator in generators.items():
        weights = sum(p.numel() for p in generator.parameters()) / 1e6
        cells = [cell for pair in zip(pairs[name], pairs[BASELINE], strict=True) for cell in cells_of(*pair)]
        per_processor = statistics.mean(speed.processor for speed in pairs[name])
        yield f"| {name} | {weights:.1f} M | {' | '.join(cells)} | {per_processor:.1f} |"
    yield ""
    yield f"Wished of iSTFT small on two quiet cores: {WISHED_SPEED} x real time, and {WISHED_RATIO} x {BASELINE}."
    yield f"Utterances of {options.seconds} s; the long one of {sound[1]} s in stretches of {options.seconds} s with"
    yield f"their context. Median of {options.rounds} rounds; {options.threads} threads, one to an operation;"
    yield f"{machine()}; {date.today()}, commit {commit()}."


def cells_of(speed: Speed, baseline: Speed) -> list[str]:
    return [f"{speed.wall:.1f}", f"{speed.wall / baseline.wall:.1f}"]


def several(generator: Generator, seconds: int, count: int) -> Callable[[], object]:
    """Decodes `count` utterances of so many seconds."""
    length = seconds * RATE // generator.hop_length
    frames = torch.randn(1, generator.dim, length)
    return side_by_side([lambda: render_stretch(generator, lambda a, b: frames[..., a:b], length, 0, length)] * count)


def one_long(generator: Generator, seconds: int, count: int) -> Callable[[], object]:
    """Decodes one utterance of `count` stretches of so many seconds."""
    length = seconds * RATE // generator.hop_length
    frames = torch.randn(1, generator.dim, length * count)

    def stretch(first: int) -> Tensor:
        return render_stretch(generator, lambda a, b: frames[..., a:b], length * count, first, first + length)

    return side_by_side([partial(stretch, index * length) for index in range(count)])


def side_by_side(jobs: Sequence[Callable[[], Tensor]]) -> Callable[[], object]:
    """Runs them on as many threads as PyTorch would use, each on one."""

    def run() -> None:
        with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
            for job in [pool.submit(job) for job in jobs]:
                job.result()

    return run


def turns(runs: Sequence[tuple[Callable[[], object], float]], rounds: int) -> list[Speed]:
    """The median speed of each run of so many seconds of sound, in turns after a first round that does not count."""
    speeds: list[list[Speed]] = [[] for _ in runs]
    for attempt in range(rounds + 1):
        for found, (run, sound) in zip(speeds, runs, strict=True):
            wall, processor = time.perf_counter(), time.process_time()
            run()
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            if attempt:
                found.append(Speed(sound / wall, sound / processor))
    return [
        Speed(statistics.median(s.wall for s in found), statistics.median(s.processor for s in found))
        for found in speeds
    ]


if __name__ == "__main__":
    main()
