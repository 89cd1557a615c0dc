"""Units of spectral features on real speech, from the command line: how good, how fast, how much memory.

    python -m benchmarks.units ../shared/audio --out benchmarks/results/units.md

The folder holds train.jsonl and dev.jsonl; lines with `phones` ([[end_seconds, phone], ...]) are scored for PNMI.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

import torch

from benchmarks.measure import commit, machine, run
from vocable import audio
from vocable.files import inside
from vocable.metrics.reconstruction import estoi, stoi
from vocable.metrics.summary import summarize
from vocable.metrics.tokens import cluster_purity, contingency, entropy, frame_labels, phone_purity, pnmi, usage
from vocable.store import TokenStore
from vocable.types import Audio

SYSTEMS = (("mfcc", 100), ("logmel", 2000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, help="write the table here as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        rows = [measure(name, size, options.folder, Path(work) / f"{name}{size}") for name, size in SYSTEMS]
    text = report(rows)
    print(text)
    if options.out:
        options.out.write_text(text)


def measure(name: str, size: int, folder: Path, work: Path) -> dict[str, str]:
    """One system through the three jobs."""
    vocable = [sys.executable, "-m", "vocable"]
    units, tokens, wavs = work / "units", work / "tokens", work / "wavs"
    train = run(
        [
            *vocable,
            "train",
            "kmeans",
            folder / "train.jsonl",
            "--features",
            name,
            "--clusters",
            str(size),
            "--out",
            units,
        ]
    )
    encode = run([*vocable, "tokenize", folder / "dev.jsonl", "--tokenizer", units, "--out", tokens])
    decode = run([*vocable, "resynthesize", tokens, "--out", wavs])
    store = TokenStore.open(tokens)
    held = summarize(store)
    heard, extended, scored = intelligibility(_pairs(store, wavs))
    print(f"{scored} of {len(store)} recordings scored", file=sys.stderr)
    labelled = phonetics(store)
    row = {
        "units": f"{name}, K={size}",
        "bit/s": f"{store.spec.bitrate:.0f}",
        "usage": f"{usage(held.counts[0]):.1%}",
        "entropy (bits)": f"{entropy(held.counts[0]):.2f}",
        **{name: f"{labelled[name]:.3f}" for name in ("PNMI", "phone purity", "cluster purity")},
        "frames scored": f"{labelled['frames scored']}",
        "STOI": f"{heard:.3f}",
        "ESTOI": f"{extended:.3f}",
    }
    for job, cost in (("train", train), ("tokenize", encode), ("resynthesize", decode)):
        row |= {f"{job} (s)": f"{cost.seconds:.1f}", f"{job} (MB)": f"{cost.megabytes:.0f}"}
    return row


def phonetics(store: TokenStore) -> dict[str, float]:
    """PNMI and purities of the first codebook over all entries with time-aligned phones."""
    table: Counter[tuple[int, str]] = Counter()
    for entry in store:
        if entry.fields.get("phones"):
            phones = [(float(end), str(phone)) for end, phone in entry.fields["phones"]]
            labels = frame_labels(phones, store.spec, entry.codes.shape[1])
            table += contingency(torch.from_numpy(entry.codes[0, : len(labels)].astype("int64")), labels)
    return {
        "PNMI": pnmi(table),
        "phone purity": phone_purity(table),
        "cluster purity": cluster_purity(table),
        "frames scored": sum(table.values()),
    }


def intelligibility(pairs: Iterable[tuple[Audio, Audio]]) -> tuple[float, float, int]:
    """Mean STOI and ESTOI of resyntheses against their recordings, and how many pairs have both."""
    values: list[tuple[float, float]] = []
    for pair in pairs:
        scores = stoi(*pair), estoi(*pair)
        if not any(score.failed for score in scores):
            values.append((scores[0].mean, scores[1].mean))
    return statistics.mean(a for a, _ in values), statistics.mean(b for _, b in values), len(values)


def _pairs(store: TokenStore, wavs: Path) -> Iterator[tuple[Audio, Audio]]:
    for entry in store:
        yield audio.read(entry.path), audio.read(inside(wavs, entry.id, ".wav"))


def report(rows: list[dict[str, str]]) -> str:
    """A table with a column for each system."""
    names = list(rows[0])
    lines = ["| " + " | ".join(["", *(row["units"] for row in rows)]) + " |", "|---" * (len(rows) + 1) + "|"]
    lines += ["| " + " | ".join([name, *(row[name] for row in rows)]) + " |" for name in names[1:]]
    head = f"# Units of spectral features on real speech\n\n{date.today()}, commit {commit()}, {machine()}.\n\n"
    how = (
        "Trained on train.jsonl, measured on dev.jsonl, through the command line; MB is the peak of all processes "
        "together, Python and torch included. PNMI and purities are of the frames of recordings with time-aligned "
        "phones.\n\n"
    )
    return head + how + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
