"""Units of three layers of spectra on real speech: a trained vocoder against the inversion without weights.

    python -m benchmarks.resynthesis ../shared/audio --minutes 10 --out benchmarks/results/resynthesis.md

The folder holds train.jsonl and dev.jsonl. What is made is kept in --work, and made only once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import date
from itertools import combinations
from pathlib import Path

import torch

from benchmarks.measure import commit, machine, run
from vocable import audio
from vocable.corpus import Corpus
from vocable.files import inside
from vocable.metrics.reconstruction import mel_distance, stoi
from vocable.presets import SAMPLES, inverter
from vocable.store import TokenStore
from vocable.tokenizers import MFCC, LogMel, UnitTokenizer, train_kmeans
from vocable.types import Audio
from vocable.vocoders import UnitVocoder, resynthesize

VOCABLE = [sys.executable, "-m", "vocable"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "vocable"]
LAYERS = {
    "mfcc": (MFCC(), 500, "MFCC with slopes, 25 ms"),
    "logmel": (LogMel(), 1000, "log-mel, 25 ms"),
    "wide": (LogMel(window_seconds=0.1), 500, "log-mel, 100 ms"),
}
HEARD = ("af_heart-02", "am_michael-02")  # of the bundled clips
FRAMES = 200_000  # to learn codebooks from


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--files", type=int, help="of dev, all unless told otherwise")
    parser.add_argument("--work", type=Path, default=Path("resynthesis.work"))
    parser.add_argument("--clips", type=Path, help="write resyntheses of bundled clips into this folder")
    parser.add_argument("--out", type=Path, help="write the table here as well")
    options = parser.parse_args()
    joined, vocoder = units(options.folder, options.work), options.work / f"vocoder-{options.preset}"
    if not vocoder.exists():
        recipe = ["--preset", options.preset, "--minutes", options.minutes, "--tokenizer", joined, "--out", vocoder]
        print(run([*TORCHRUN, "train", "vocoder", options.folder / "train.jsonl", *map(str, recipe)]))
    rows = list(judged(options.folder, options.work, vocoder, options.files))
    text = report(rows, UnitVocoder.from_pretrained(vocoder), options)
    print(text)
    if options.out:
        options.out.write_text(text)
    if options.clips:
        write_clips(options.work, joined, vocoder, options.clips)


def units(folder: Path, work: Path) -> Path:
    """Units of each layer, and their joint tokenizer."""
    for name, (features, clusters, _) in LAYERS.items():
        if not (work / name).exists():
            corpus = Corpus.of(folder / "train.jsonl")
            train_kmeans(corpus, features, clusters, sample_frames=FRAMES, workers=1).save_pretrained(work / name)
    if not (work / "joined").exists():
        parts = [str(work / name) for name in LAYERS]
        run([*VOCABLE, "join", *parts, "--names", ",".join(LAYERS), "--out", str(work / "joined")])
    return work / "joined"


def judged(folder: Path, work: Path, vocoder: Path, files: int | None) -> Iterator[tuple[str, str, str, str, str]]:
    """For every way of resynthesis: its name, its layers, bit/s, mel distance and STOI."""
    dev = work / "dev.jsonl"
    lines = (folder / "dev.jsonl").read_text().splitlines()[:files]
    dev.write_text("".join(line.replace('"path": "', f'"path": "{folder.resolve()}/') + "\n" for line in lines))
    for name in LAYERS:
        tokens = work / f"dev-{name}"
        run([*VOCABLE, "tokenize", dev, "--tokenizer", str(work / name), "--out", tokens])
        store = TokenStore.open(tokens)
        wavs = work / f"wavs-inverted-{name}"
        resynthesize(store, inverter(UnitTokenizer.from_pretrained(work / name)), wavs, sample_rate=16000)
        yield ("inversion without weights", name, f"{store.spec.bitrate:.0f}", *scores(store, wavs))
    tokens = work / "dev-joined"
    run([*VOCABLE, "tokenize", dev, "--tokenizer", str(work / "joined"), "--out", tokens])
    store, trained = TokenStore.open(tokens), UnitVocoder.from_pretrained(vocoder)
    for count in (1, 2, 3):
        for chosen in combinations(LAYERS, count):
            wavs = work / f"wavs-{vocoder.name}-{'-'.join(chosen)}"
            resynthesize(store, trained, wavs, layers=chosen, sample_rate=16000)
            rate = f"{store.spec.take(chosen).bitrate:.0f}"
            yield ("trained vocoder", " + ".join(chosen), rate, *scores(store, wavs))


def scores(store: TokenStore, wavs: Path) -> tuple[str, str]:
    """Mean mel distance and STOI at 16 kHz over all recordings."""
    distances, heard = [], []
    for entry in store:
        original, fake = audio.read(entry.path, 16000), audio.read(inside(wavs, entry.id, ".wav"))
        length = min(int(original.lengths[0]), int(fake.lengths[0]))
        pair = [Audio.of([one.waveform(0)[:, :length]], 16000) for one in (original, fake)]
        for values, metric in ((distances, mel_distance), (heard, stoi)):
            found = metric(*pair)
            if not found.failed:
                values.append(found.mean)
    return f"{sum(distances) / len(distances):.3f}", f"{sum(heard) / len(heard):.3f}"


def write_clips(work: Path, joined: Path, vocoder: Path, folder: Path) -> None:
    """The bundled clips, which are synthetic speech in no training corpus, through vocoder and inversion."""
    tokens = work / "samples"
    run([*VOCABLE, "tokenize", str(SAMPLES), "--tokenizer", str(joined), "--out", tokens])
    heard = {"all": list(LAYERS), **{name: [name] for name in LAYERS}}
    ways = {f"vocoder-{name}": (tokens, UnitVocoder.from_pretrained(vocoder), layers) for name, layers in heard.items()}
    for name in LAYERS:
        alone = work / f"samples-{name}"
        run([*VOCABLE, "tokenize", str(SAMPLES), "--tokenizer", str(work / name), "--out", alone])
        ways[f"inversion-{name}"] = (alone, inverter(UnitTokenizer.from_pretrained(work / name)), None)
    for way, (place, decoder, layers) in ways.items():
        out = work / "heard" / way
        resynthesize(TokenStore.open(place), decoder, out, layers=layers, suffix=".ogg")
        for name in HEARD:
            audio.write(folder / f"{name}-{way}.ogg", audio.read(inside(out, name, ".ogg")))


def report(rows: list[tuple[str, ...]], vocoder: UnitVocoder, options: argparse.Namespace) -> str:
    heard = ", ".join(f"{name}: {what}, K = {clusters}" for name, (_, clusters, what) in LAYERS.items())
    weights = sum(tensor.numel() for tensor in vocoder.decoder.parameters()) / 1e6
    hours, steps = vocoder.evidence["audio_seconds"] / 3600, vocoder.evidence["curve"][-1].get("step", "?")
    lines = [
        "# Resynthesis by a trained vocoder",
        "",
        f"{date.today()}, {machine()}",
        f"commit {commit()}",
        "",
        f"Layers, 100 frames a second: {heard}; learnt from {FRAMES:,} frames of train.jsonl.",
        f"Vocoder `{options.preset}`, {weights:.1f} M weights, trained on {hours:.1f} hours of train.jsonl for "
        f"{options.minutes:g} minutes of two cores ({steps} steps, a process on each core). Judged on dev at 16 kHz.",
        "",
        "| | layers | bit/s | mel distance | STOI |",
        "|---|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        f"`python -m benchmarks.resynthesis ../shared/audio --preset {options.preset} --minutes {options.minutes:g}`",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
