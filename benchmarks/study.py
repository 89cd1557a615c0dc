"""What the number of units buys: spectral units of many sizes on real speech, from one sample of frames per feature.

    OMP_NUM_THREADS=1 python -m benchmarks.study ../shared/audio --work /tmp/study \\
        --out benchmarks/results/study.md --figure docs/figures/units.svg

The folder holds train.jsonl and dev.jsonl; lines with `phones` ([[end_seconds, phone], ...]) are scored for PNMI. Rows
are kept in the work folder as they come: stopped, the same command goes on; with all rows there, it only writes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import commit, machine
from benchmarks.units import intelligibility, phonetics
from vocable import audio
from vocable.corpus import Corpus, Piece
from vocable.metrics.chart import Chart, figure
from vocable.metrics.summary import summarize
from vocable.metrics.tokens import deduplicated_bitrate, entropy, run_counts, usage
from vocable.presets import inverter
from vocable.quantizers import fit_kmeans
from vocable.quantizers.reservoir import FrameReservoir
from vocable.store import Entry, TokenStore
from vocable.tokenizers import UnitTokenizer, build, tokenize
from vocable.tokenizers.units import default_windows
from vocable.types import Audio, FeatureExtractor

FEATURES = ("mfcc", "logmel")
SIZES = (50, 100, 200, 500, 1000, 2000)

Row = dict[str, Any]

_COLUMNS = {
    "bit/s": ".0f",
    "bit/s, runs once": ".0f",
    "entropy": ".2f",
    "usage": ".1%",
    "explained": ".3f",
    "PNMI": ".3f",
    "phone purity": ".3f",
    "cluster purity": ".3f",
    "STOI": ".3f",
    "ESTOI": ".3f",
}
_PLOTTED = {
    "PNMI": "PNMI",
    "phone purity": "Phone purity",
    "entropy": "Entropy (bits per code)",
    "STOI": "STOI of resynthesis",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="units, tokens and rows are kept here")
    parser.add_argument("--frames", type=int, default=500_000, help="frames to fit on, a uniform sample of train.jsonl")
    parser.add_argument("--clips", type=int, default=48, help="recordings of dev.jsonl to resynthesize")
    parser.add_argument("--out", type=Path, help="write the table here")
    parser.add_argument("--figure", type=Path, help="write the plot here, as SVG")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows = study(options.folder, options.work, options.frames, options.clips)
    if options.out:
        options.out.write_text(report(rows, options.frames, options.clips))
    if options.figure:
        options.figure.write_text(picture(rows))


def study(folder: Path, work: Path, frames: int, clips: int) -> list[Row]:
    """All rows: those that the work folder has, and those that it lacks."""
    kept = work / f"rows-{frames}-{clips}.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {(row["features"], row["units"]) for row in rows}
    for name in FEATURES:
        sizes = [size for size in SIZES if (name, size) not in done]
        if not sizes:
            continue
        extractor = build(name)
        points = sample(Corpus.of(folder / "train.jsonl"), extractor, frames)
        for size in sizes:
            rows.append(measure(extractor, points, size, folder / "dev.jsonl", work / f"{name}{size}", clips))
            with kept.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(rows[-1], flush=True)
    return sorted(rows, key=lambda row: (FEATURES.index(row["features"]), row["units"]))


def sample(corpus: Corpus, extractor: FeatureExtractor, frames: int) -> Tensor:
    """A uniform sample [n, D] of all frames of the corpus."""
    windows = default_windows(extractor)
    reservoir = FrameReservoir(frames, 1, extractor.dim)
    for piece in corpus.pieces(extractor.sample_rate, windows):
        if not isinstance(piece, Piece):
            raise RuntimeError(f"{piece.path}: {piece.reason}")
        features = extractor.extract(Audio.of([torch.from_numpy(piece.samples)], extractor.sample_rate))
        kept = features.utterance(0)[:, piece.skip : piece.skip + piece.frames]
        reservoir.add(piece.utterance.id, piece.index * windows.frames, kept)
    print(f"{len(reservoir):,} of {reservoir.seen:,} frames", flush=True)
    return reservoir.layer(0)


def measure(extractor: FeatureExtractor, points: Tensor, size: int, dev: Path, work: Path, clips: int) -> Row:
    """One codebook: fitted, tokenizing dev, resynthesizing some of it."""
    began = time.monotonic()
    quantizer, fit = fit_kmeans(points, size)
    seconds = time.monotonic() - began
    units = UnitTokenizer(extractor, [quantizer])
    tokenize(Corpus.of(dev), units, work, overwrite=True)
    store = TokenStore.open(work)
    held = summarize(store)
    runs = sum((run_counts(entry.tokens(store.spec).codes[0]) for entry in store), torch.zeros(1, dtype=torch.int64))
    heard, extended, scored = intelligibility(_resynthesized(units, store, clips))
    return {
        "features": extractor.layers[0],
        "units": size,
        "bit/s": store.spec.bitrate,
        "bit/s, runs once": deduplicated_bitrate(runs, [size], held.seconds),
        "entropy": entropy(held.counts[0]),
        "usage": usage(held.counts[0]),
        "explained": 1 - fit.objective[-1] / float(points.double().var(dim=0, correction=0).sum()),
        **phonetics(store),
        "STOI": heard,
        "ESTOI": extended,
        "clips scored": scored,
        "iterations": fit.iterations,
        "fit (s)": seconds,
        "commit": commit(),
    }


def _resynthesized(units: UnitTokenizer, store: TokenStore, clips: int) -> Iterator[tuple[Audio, Audio]]:
    """Recordings spread evenly over the store, in the order of their ids, and what becomes of them."""
    vocoder = inverter(units)
    for entry in _spread(sorted(store, key=lambda entry: entry.id), clips):
        yield audio.conform(audio.read(entry.path), units.spec.sample_rate), vocoder.decode(entry.tokens(store.spec))


def _spread(entries: list[Entry], count: int) -> list[Entry]:
    return [entries[index * len(entries) // count] for index in range(min(count, len(entries)))]


def report(rows: list[Row], frames: int, clips: int) -> str:
    """The table in Markdown."""
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    columns = ["features", "units", *_COLUMNS]
    lines = [columns, ["---"] * len(columns)]
    lines += [
        [row["features"], str(row["units"]), *(format(row[name], form) for name, form in _COLUMNS.items())]
        for row in rows
    ]
    return (
        f"# How many units: spectral features on real speech\n\n{date.today()}, commit {commits}, {machine()}.\n\n"
        f"Fitted on {frames:,} frames, a uniform sample of train.jsonl, measured on all of dev.jsonl; PNMI and "
        f"purities are of its {rows[0]['frames scored']:,} frames with a phone (one speaker), STOI and ESTOI of "
        f"{clips} recordings spread over all its speakers, resynthesized by Griffin and Lim. Explained is of the "
        "frames fitted on. Entropy is in bits; bit/s are of raw codes at 100 frames/s, and of runs of equal codes "
        "sent once.\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
    )


def picture(rows: list[Row]) -> str:
    """The measures against bit/s, as SVG."""
    ticks = sorted({(row["bit/s"], f"{row['bit/s']:.0f}\n{row['units']}") for row in rows})
    return figure(
        [
            Chart(
                title,
                {name: [(row["bit/s"], row[column]) for row in rows if row["features"] == name] for name in FEATURES},
                ticks,
                axis="bit/s\nunits",
            )
            for column, title in _PLOTTED.items()
        ]
    )


if __name__ == "__main__":
    main()
