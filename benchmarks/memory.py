"""Peak memory of tokenizing and resynthesizing one long recording, from the command line.

    python -m benchmarks.memory ../shared/audio/dev --hours 3 --out benchmarks/results/memory.md

The recording is made of the folder's files, one after another, again and again, as 16 kHz FLAC.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from itertools import cycle
from pathlib import Path

import soundfile

from benchmarks.measure import Cost, commit, machine, run
from benchmarks.tokenize import write_model
from vocable.audio import AudioStream
from vocable.corpus import Corpus
from vocable.nets.unit_decoder import UnitDecoder
from vocable.tokenizers import UnitTokenizer
from vocable.vocoders import UnitVocoder, design

RATE = 16000
PARTS = ["mfcc", "vocoder", "inversion", "model"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--model-hours", type=float, help="hours for the HuBERT-base-sized model, if not the same")
    parser.add_argument("--what", nargs="+", choices=PARTS, default=PARTS, help="rows to take")
    parser.add_argument("--out", type=Path, help="write the table here as well")
    options = parser.parse_args()
    rows: list[tuple[str, float, Cost]] = []
    with tempfile.TemporaryDirectory() as work:
        for row in measure(options, Path(work)):
            rows.append(row)
            print(f"{row[0]}: {row[2].megabytes:,.0f} MB, {row[2].seconds:,.0f} s", flush=True)
            if options.out:
                options.out.write_text(report(rows))
    print(report(rows))


def measure(options: argparse.Namespace, work: Path) -> Iterator[tuple[str, float, Cost]]:
    """Rows: what was done, hours of the recording, what it cost."""
    long = join(options.folder, work / "long.flac", options.hours)
    yield from tokenize("logmel", [], options.folder, long, work / "logmel", options.hours)
    tokens = work / "logmel" / "tokens"
    if "mfcc" in options.what:
        yield from tokenize("mfcc", [], options.folder, long, work / "mfcc", options.hours)
    if "vocoder" in options.what:
        vocoder = write_vocoder(work / "logmel" / "units", work / "vocoder")
        cost = run([*VOCABLE, "resynthesize", tokens, "--vocoder", vocoder, "--out", work / "decoded"])
        yield "resynthesize, vocoder `small`", options.hours, cost
    if "inversion" in options.what:
        cost = run([*VOCABLE, "resynthesize", tokens, "--out", work / "inverted"])
        yield "resynthesize, logmel without weights", options.hours, cost
    if "model" in options.what:
        hours = options.model_hours or options.hours
        if hours != options.hours:
            long = join(options.folder, work / "long.flac", hours)
        model = write_model(work / "model")
        yield from tokenize(str(model), ["--layers", "6"], options.folder, long, work / "hubert", hours)


def write_vocoder(units: Path, path: Path) -> Path:
    """A vocoder of these units with random weights."""
    spec = UnitTokenizer.from_pretrained(units).spec
    UnitVocoder(UnitDecoder(design("small", spec, RATE)), spec, RATE).save_pretrained(path)
    return path


def tokenize(
    features: str, options: list[str], folder: Path, long: Path, work: Path, hours: float
) -> Iterator[tuple[str, float, Cost]]:
    """Units from a few files of the folder, then the long recording through them."""
    some = sorted(str(utterance.path) for utterance in Corpus.of(folder))[::32]
    run(
        [
            *VOCABLE,
            "train",
            "kmeans",
            *some,
            "--features",
            features,
            *options,
            "--clusters",
            "100",
            "--out",
            work / "units",
        ]
    )
    cost = run([*VOCABLE, "tokenize", long, "--tokenizer", work / "units", "--out", work / "tokens"])
    name = "HuBERT-base, layer 6" if options else features
    yield f"tokenize, {name}", hours, cost


def join(folder: Path, path: Path, hours: float) -> Path:
    """The folder's recordings as one of so many hours."""
    left = round(hours * 3600 * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1) as sound:
        for utterance in cycle(list(Corpus.of(folder))):
            for block in AudioStream(utterance.path, RATE):
                sound.write(block[:left])
                left -= len(block[:left])
            if not left:
                return path
    raise AssertionError("a cycle ends")


def report(rows: list[tuple[str, float, Cost]]) -> str:
    head = f"# Memory for one long recording\n\n{date.today()}, commit {commit()}, {machine()}.\n\n"
    how = (
        "Peak of all processes of the command together (proportional set size), Python, torch and the decoding process "
        "included; HuBERT-base and the vocoder have random weights.\n\n"
    )
    lines = ["| | hours of audio | peak (MB) | seconds | x real time |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {hours:g} | {cost.megabytes:,.0f} | {cost.seconds:,.0f} | {hours * 3600 / cost.seconds:,.0f} |"
        for name, hours, cost in rows
    ]
    return head + how + "\n".join(lines) + "\n"


VOCABLE = [sys.executable, "-m", "vocable"]

if __name__ == "__main__":
    main()
