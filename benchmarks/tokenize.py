"""Tokenizing files with a HuBERT-base-sized model: a plain loop and vocable's modes in turns, on the same files.

    python -m benchmarks.tokenize [FOLDER] [--quick] [--out benchmarks/results/tokenize.md]

Random weights in the shape of HuBERT-base; units are the nearest of 500 frames of layer 6. Without a folder, or
../shared/audio/dev, the recordings are synthetic.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
import torch
import transformers

from benchmarks.measure import commit, machine
from vocable.corpus import Corpus
from vocable.quantizers.kmeans import KMeans
from vocable.store import TokenStore
from vocable.tokenizers import SSLExtractor, UnitTokenizer, tokenize
from vocable.tokenizers.ssl import Mode, Precision

LAYER, CLUSTERS, RATE = 6, 500, 16000
PLAIN, EXACT = "plain loop fp32", "exact fp32"
VARIANTS: tuple[tuple[Mode, Precision], ...] = (
    ("exact", "fp32"),
    ("fast", "fp32"),
    ("exact", "bf16"),
    ("fast", "bf16"),
)
SOUND = {".flac", ".wav", ".ogg"}
NEARBY = Path(__file__).parents[2] / "shared" / "audio" / "dev"
Codes = dict[Path, np.ndarray]
Run = Callable[[list[Path]], Codes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=NEARBY)
    parser.add_argument("--quick", action="store_true", help="12 files and one round instead of 44 and three")
    parser.add_argument("--out", type=Path, help="write the table here as well")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    count, rounds = (12, 1) if options.quick else (44, 3)
    with tempfile.TemporaryDirectory() as work:
        for text in compare(options.folder, Path(work), count, rounds):
            if options.out:
                options.out.write_text(text)
    print(text)


def compare(folder: Path, work: Path, count: int, rounds: int) -> Iterator[str]:
    """The table after each round, in which all take turns: medians over the rounds so far."""
    paths = choose(folder, count) if folder.is_dir() else synthesize(work / "audio", count)
    seconds = sum(soundfile.info(path).duration for path in paths)
    runs = prepare(work, paths)
    taken: dict[str, list[Taken]] = {name: [] for name in runs}
    codes: dict[str, Codes] = {}
    for done in range(1, rounds + 1):
        for name, run in runs.items():
            began = Taken.now()
            codes[name] = run(paths)
            taken[name].append(Taken.now() - began)
            print(f"round {done}, {name}: {taken[name][-1].wall:.1f} s", flush=True)
        costs = {name: Taken.median(values) for name, values in taken.items()}
        yield report(costs, codes, seconds, f"{len(paths)} files, {seconds:.0f} s of audio, median of {done}")


def prepare(work: Path, paths: list[Path]) -> dict[str, Run]:
    """All that take part, by name, each run once to warm up."""
    plain = PlainLoop(write_model(work / "model"))
    plain.fit(paths[:: max(1, len(paths) // 6)])
    runs: dict[str, Run] = {PLAIN: plain}
    for mode, precision in VARIANTS:
        runs[f"{mode} {precision}"] = Vocable(work, plain.centroids, mode, precision)
    for run in runs.values():
        run(paths[:1])
    return runs


class Taken(NamedTuple):
    """Wall seconds, and processor seconds of all threads: the latter tell more where others use the machine."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Taken:
        return cls(time.perf_counter(), time.process_time())

    @classmethod
    def median(cls, costs: list[Taken]) -> Taken:
        return cls(*(statistics.median(values) for values in zip(*costs, strict=True)))

    def __sub__(self, other: Taken) -> Taken:
        return Taken(self.wall - other.wall, self.processor - other.processor)


class PlainLoop:
    """What people write: read a file, run the model, take a layer, find the nearest centroid, go on to the next."""

    def __init__(self, folder: Path) -> None:
        self.prepare = transformers.AutoFeatureExtractor.from_pretrained(folder)
        self.model = transformers.AutoModel.from_pretrained(folder).eval()
        self.centroids = torch.zeros(CLUSTERS, self.model.config.hidden_size)

    def fit(self, paths: list[Path]) -> None:
        """Frames at random as centroids."""
        frames = torch.cat([self.features(path) for path in paths])
        self.centroids = frames[torch.randperm(len(frames), generator=torch.Generator().manual_seed(0))[:CLUSTERS]]

    def __call__(self, paths: list[Path]) -> Codes:
        return {path: torch.cdist(self.features(path), self.centroids).argmin(dim=1).numpy() for path in paths}

    @torch.no_grad()
    def features(self, path: Path) -> torch.Tensor:
        wave, rate = soundfile.read(path, dtype="float32")
        wave = wave if rate == RATE else soxr.resample(wave, rate, RATE)
        inputs = self.prepare(wave, sampling_rate=RATE, return_tensors="pt")
        return self.model(**inputs, output_hidden_states=True).hidden_states[LAYER][0]


class Vocable:
    """Everything that `vocable tokenize` does but the start: decoding, features, codes, checksums, a store on disk."""

    def __init__(self, work: Path, centroids: torch.Tensor, mode: Mode, precision: Precision) -> None:
        model = str(work / "model")
        extractor = SSLExtractor.from_pretrained(model, layers=[LAYER], mode=mode, precision=precision)
        self.tokenizer = UnitTokenizer(extractor, [KMeans(centroids)])
        self.out = work / "tokens"

    def __call__(self, paths: list[Path]) -> Codes:
        tokenize(Corpus.of_lines(map(str, paths)), self.tokenizer, self.out, overwrite=True, workers=1)
        return {Path(entry.path): entry.codes[0] for entry in TokenStore.open(self.out)}


def choose(folder: Path, count: int) -> list[Path]:
    """Files of a folder, evenly through the order of their lengths, then in the order of their names."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in SOUND)
    paths.sort(key=lambda path: soundfile.info(path).duration)
    return sorted(paths[index * len(paths) // count] for index in range(min(count, len(paths))))


def synthesize(folder: Path, count: int) -> list[Path]:
    """Noise of 1 to 20 s, most of it short."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        wave = 0.1 * rng.standard_normal(round(RATE * 20 ** ((index + 0.5) / count)))
        soundfile.write(folder / f"{index:03}.flac", wave, RATE)
    return sorted(folder.iterdir())


def write_model(folder: Path) -> Path:
    """HuBERT-base with random weights."""
    torch.manual_seed(0)
    transformers.HubertModel(transformers.HubertConfig()).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def agreement(expected: Codes, found: Codes) -> float:
    """Share of equal codes. ValueError if a file is missing or has another number of them."""
    if {path: len(codes) for path, codes in expected.items()} != {path: len(codes) for path, codes in found.items()}:
        raise ValueError("the two did not tokenize the same frames")
    return float(np.mean(np.concatenate([expected[path] == found[path] for path in expected])))


def report(costs: dict[str, Taken], codes: dict[str, Codes], seconds: float, what: str) -> str:
    threads = f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    plain = costs[PLAIN]
    rows = [
        f"| {name} | {seconds / cost.wall:.1f} | {cost.processor / seconds:.3f} "
        f"| {plain.wall / cost.wall:.2f} | {plain.processor / cost.processor:.2f} "
        f"| {agreement(codes[PLAIN], codes[name]):.3%} | {agreement(codes[EXACT], codes[name]):.3%} |"
        for name, cost in costs.items()
    ]
    head = (
        "| | audio-seconds per second | processor seconds per audio-second | ratio | ratio in processor time "
        f"| codes as the plain loop | codes as {EXACT} |"
    )
    return "\n".join(
        [
            f"# Tokenizing with HuBERT-base, layer {LAYER}, {CLUSTERS} units",
            "",
            head,
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"{what}; {threads}; {machine()}; {date.today()}, commit {commit()}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
