"""Codes of residual and finite scalar quantizers against vector-quantize-pytorch, with the same codebooks:

    python -m benchmarks.quantize [--quick] [--threads 2] [--device cpu]

Rivals take turns in one process, so that a busy machine slows both alike. Prints markdown tables of medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from importlib.metadata import version

import torch
from torch import Tensor
from vector_quantize_pytorch import FSQ as TheirFSQ
from vector_quantize_pytorch import ResidualVQ

from benchmarks.measure import commit, machine
from vocable.quantizers import ResidualKMeans, fit_kmeans, fit_residual
from vocable.quantizers.fsq import FSQ

DIM, CODEBOOKS, SIZE, FRAMES = 128, 8, 1024, 1500
LEVELS = ((8, 5, 5, 5), (7, 5, 5, 5, 5), (8, 8, 8, 5, 5, 5))
Encode = Callable[[Tensor], Tensor]


def make_vectors(batch: int) -> Tensor:
    """Mixture of 300 Gaussians whose means span 32 dimensions, [B, T, D]."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(300, 32, generator=generator) @ torch.randn(32, DIM, generator=generator) / 32**0.5
    chosen = torch.randint(300, (batch, FRAMES), generator=generator)
    return means[chosen] + 0.7 * torch.randn(batch, FRAMES, DIM, generator=generator)


def residual_rival(model: ResidualKMeans) -> Encode:
    """The library's module as it is used after training, holding our codebooks."""
    theirs = ResidualVQ(dim=DIM, num_quantizers=CODEBOOKS, codebook_size=SIZE).eval().to(model.device)
    for layer, book in zip(theirs.layers, model.books, strict=True):
        layer._codebook.embed.data.copy_(book.centroids[None])
        layer._codebook.initted.fill_(True)
    return lambda vectors: theirs(vectors)[1]


def race(rivals: dict[str, Encode], vectors: Tensor, repeats: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Median seconds of each, after one call that is not counted, and what each found."""
    codes = {name: encode(vectors) for name, encode in rivals.items()}
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(repeats):
        for name, encode in rivals.items():
            began = time.perf_counter()
            encode(vectors)[..., 0].max().item()  # an accelerator answers when it is done
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in times.items()}, codes


def compare_residual(batch: int, repeats: int, device: str) -> None:
    vectors = make_vectors(batch).to(device)
    sample = vectors.reshape(-1, DIM)[: 20 * SIZE]
    model, _ = fit_residual(sample, [SIZE] * CODEBOOKS, fit=partial(fit_kmeans, iterations=3, init="random"))
    rivals = {"vocable": model.encode, "vector-quantize-pytorch": residual_rival(model)}
    seconds, codes = race(rivals, vectors, repeats)
    same = codes["vocable"] == codes["vector-quantize-pytorch"]
    print(f"\nRVQ {CODEBOOKS} x {SIZE} on {list(vectors.shape)}, {repeats} repeats\n")
    print("| | seconds | speed |\n|---|---|---|")
    for name, took in seconds.items():
        print(f"| {name} | {took:.3f} | {seconds['vector-quantize-pytorch'] / took:.2f} |")
    print(f"\nEqual codes: {same.float().mean():.4%}; frames with all codes equal: {same.all(-1).float().mean():.4%}")


def compare_scalar(count: int, repeats: int, device: str) -> None:
    """Numbers in bfloat16 against the same numbers in float32."""
    print(f"\nFSQ of {count:,} vectors in bfloat16, {repeats} repeats\n")
    print("| levels | | milliseconds | codes out of range | codes that differ in float32 |\n|---|---|---|---|---|")
    for levels in LEVELS:
        ours = FSQ(levels)
        theirs = TheirFSQ(list(levels)).eval().to(device)
        rivals: dict[str, Encode] = {
            "vocable": ours.encode,
            "vector-quantize-pytorch": lambda rows, theirs=theirs: theirs(rows[None])[1][0, :, None],
        }
        generator = torch.Generator().manual_seed(0)
        vectors = (2 * torch.randn(count, len(levels), generator=generator)).bfloat16().to(device)
        seconds, codes = race(rivals, vectors, repeats)
        for name, encode in rivals.items():
            outside = int(((codes[name] < 0) | (codes[name] >= ours.codebook_sizes[0])).sum())
            changed = int((codes[name] != encode(vectors.float())).sum())
            print(f"| {list(levels)} | {name} | {1000 * seconds[name]:.1f} | {outside} | {changed} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a sixteenth of the vectors")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"# Encoding\n\n{date.today()}, {machine()} vector-quantize-pytorch {version('vector-quantize-pytorch')}")
    print(f"{options.threads} threads, {options.device}, commit {commit()}, load {os.getloadavg()[0]:.1f} at the start")
    with torch.no_grad():
        compare_residual(4 if options.quick else 64, options.repeats, options.device)
        compare_scalar(20_000 if options.quick else 1_000_000, options.repeats, options.device)


if __name__ == "__main__":
    main()
