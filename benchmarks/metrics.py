"""What metrics of reconstruction cost, and how far they are from other libraries' of the same name.

    python -m benchmarks.metrics ../shared/audio --work /tmp/metrics cost
    python -m benchmarks.metrics ../shared/audio --work /tmp/metrics agreement
    python -m benchmarks.metrics ../shared/audio --work /tmp/metrics page --out benchmarks/results/metrics.md

The folder holds dev.jsonl. `agreement` takes an environment with torchmetrics and auraloss (pip install them beside
vocable[metrics]). Both leave what they found in --work, of which `page` makes the page.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import commit, machine
from vocable import audio
from vocable.corpus import Corpus
from vocable.files import inside, write_atomic
from vocable.metrics import aligned
from vocable.metrics.catalogue import METRICS
from vocable.metrics.reconstruction import FLOOR
from vocable.metrics.scoring import score_pairs
from vocable.metrics.spectral_distances import STFT_RESOLUTIONS
from vocable.types import Audio

LIMIT = 180.0  # seconds that all of dev may take
SHIFT = 0.05  # seconds
RANDOM, REAL = 60, 32  # pairs to compare on
Pair = tuple[str, Path, Path]
Oracle = Callable[[Tensor, Tensor, int], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=["cost", "agreement", "page"])
    parser.add_argument("--work", type=Path, default=Path("metrics.work"))
    parser.add_argument("--files", type=int, help="of dev, all unless told otherwise")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the page here")
    options = parser.parse_args()
    parts = options.work / "cost.md", options.work / "agreement.md"
    if options.what == "cost":
        write_atomic(parts[0], cost(pairs(options.folder, options.work, options.files), options.workers).encode())
    elif options.what == "agreement":
        write_atomic(parts[1], agreement(pairs(options.folder, options.work, options.files, most=REAL)).encode())
    text = "# Metrics of reconstruction\n\n" + "\n".join(part.read_text() for part in parts if part.exists())
    print(text)
    if options.out:
        write_atomic(options.out, text.encode())


def pairs(folder: Path, work: Path, files: int | None, most: int | None = None) -> list[Pair]:
    """Recordings of dev, `most` at even distances or all, and what Opus at its library's own bitrate leaves of each."""
    corpus = list(Corpus.of(folder / "dev.jsonl"))[:files]
    found = []
    for utterance in corpus[:: max(1, len(corpus) // (most or len(corpus)))][:most]:
        path = inside(work / "opus", utterance.id, ".flac")
        if not path.exists():
            coded = path.with_suffix(".opus")
            original = audio.read(utterance.path)
            audio.write(coded, original)
            audio.write(path, audio.read(coded, original.sample_rate))
        found.append((utterance.id, utterance.path, path))
    return found


# What they cost


@dataclass(frozen=True)
class Cost:
    """Wall seconds, and seconds of all processors, of scoring all pairs; how many had no score."""

    wall: float
    processor: float
    failed: int


def cost(pairs: Sequence[Pair], workers: int) -> str:
    """A table: every metric by itself, all at once, and all at once with a search for delays."""
    seconds = sum(float(audio.read(path).seconds) for _, path, _ in pairs)
    alone = {name: measured(pairs, [name], workers) for name in METRICS}
    together = measured(pairs, list(METRICS), workers)
    moved = measured(pairs, list(METRICS), workers, max_shift=SHIFT)
    dearest = max(alone, key=lambda name: alone[name].processor)
    verdict = "met" if together.wall < LIMIT else "missed"
    lines = [
        "## What they cost",
        "",
        f"{len(pairs)} recordings of dev, {seconds / 60:.1f} minutes, against what Opus leaves of them: `score_pairs`, "
        f"{workers} processes, nothing kept from before. Every line holds the start of the processes and the reading "
        f"of both files. {date.today()}, commit {commit()}, {machine()}.",
        "",
        "| | wall, s | processors, s | of one second of sound, ms | failed |",
        "|---|---:|---:|---:|---:|",
        *(row(name, found, seconds) for name, found in alone.items()),
        row("all at once", together, seconds),
        row(f"all, with a delay of up to {SHIFT:g} s taken away", moved, seconds),
        "",
        f"The dearest alone is {dearest}. Wished for all of dev on two cores: under {LIMIT:.0f} s; {verdict} here, "
        f"with {together.wall:.0f} s.",
        "",
    ]
    return "\n".join(lines)


def measured(pairs: Sequence[Pair], names: Sequence[str], workers: int, max_shift: float = 0.0) -> Cost:
    wall, processor = time.monotonic(), processor_seconds()
    scores = score_pairs(pairs, names, workers=workers, max_shift=max_shift)
    failed = sum(found.scores.failed for found in scores.values())
    found = Cost(time.monotonic() - wall, processor_seconds() - processor, failed)
    print(" ".join(names), found, flush=True)
    return found


def processor_seconds() -> float:
    """Of this process and of those it has seen end."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def row(name: str, found: Cost, seconds: float) -> str:
    each = 1000 * found.processor / seconds
    return f"| {name} | {found.wall:.1f} | {found.processor:.1f} | {each:.1f} | {found.failed} |"


# How far they are from others'


@dataclass(frozen=True)
class Comparison:
    """A metric of the catalogue beside another library's."""

    metric: str
    library: str
    oracle: Oracle
    quiet_ends: bool = False


def agreement(real: Sequence[Pair]) -> str:
    """A table of largest differences over random pairs and over recordings, and what silence is given elsewhere."""
    torch.set_num_threads(1)
    noises = list(random_pairs(RANDOM))
    sounds = [(x, y, rate) for _, original, other in real for x, y, rate in [decoded(original, other)]]
    names = " ".join(f"{name} {version(name)}" for name in ("torchmetrics", "auraloss", "pystoi", "pesq"))
    lines = [
        "## How far from other libraries",
        "",
        f"Largest difference over {len(noises)} random pairs (noise under an envelope and its copy at 0 to 40 dB, 0.5 "
        f"to 4 s, at 8, 16 and 24 kHz) and over {len(sounds)} recordings of dev against what Opus leaves of them. "
        f"{names}; {date.today()}, commit {commit()}.",
        "",
        "| metric | library | values | random | recordings | no score in one alone |",
        "|---|---|---:|---:|---:|---:|",
        *(compared(one, noises, sounds) for one in comparisons()),
        "",
        *EXPLAINED,
        "",
        "What a silent resynthesis of a recording is given:",
        "",
        *silence(sounds[0]),
        "",
    ]
    return "\n".join(lines)


EXPLAINED = (
    "- torchmetrics computes SI-SDR, SDR and SNR in the precision of its input, here float64; auraloss adds 1e-8 to "
    "the denominators. Its SNR takes means away unless it is told not to, as here.",
    "- The STFT distance is the same formula, with two conventions. auraloss floors magnitudes at 1e-4 of a sum of "
    "samples; here the floor is -100 dB of a sinusoid of full scale, which is 6 to 30 dB higher, so that differences "
    "nobody hears count less. And auraloss mirrors the signal at its ends, where here it is silent. With the same "
    "floor, and 0.1 s of silence around both signals, only rounding is left.",
    "- STOI and PESQ are those of pystoi and pesq, so that only what is done around them can differ: pesq is given "
    "here what soxr makes of other rates, as there.",
)


def comparisons() -> list[Comparison]:
    from auraloss.time import SISDRLoss, SNRLoss
    from pesq import pesq
    from pystoi import stoi
    from torchmetrics.functional import audio as other

    def pesq_of(x: Tensor, y: Tensor, rate: int, mode: str) -> float:
        wanted = 8000 if mode == "nb" else 16000
        both = audio.resample(Audio.of([x, y], rate), wanted).samples[:, 0].double().numpy()
        return float(pesq(wanted, both[0], both[1], mode))

    def stoi_of(x: Tensor, y: Tensor, rate: int, extended: bool) -> float:
        np.random.seed(0)  # pystoi adds noise of rounding size to ESTOI
        return float(stoi(x.numpy(), y.numpy(), rate, extended=extended))

    def one(loss: torch.nn.Module) -> Oracle:
        return lambda x, y, rate: -float(loss(y[None, None], x[None, None]))

    return [
        Comparison(
            "si_sdr",
            "torchmetrics",
            lambda x, y, rate: float(other.scale_invariant_signal_distortion_ratio(y, x, zero_mean=True)),
        ),
        Comparison("si_sdr", "auraloss", one(SISDRLoss())),
        Comparison(
            "sdr",
            "torchmetrics",
            lambda x, y, rate: float(other.signal_distortion_ratio(y, x, filter_length=512, zero_mean=False)),
        ),
        Comparison("snr", "torchmetrics", lambda x, y, rate: float(other.signal_noise_ratio(y, x))),
        Comparison("snr", "auraloss, no mean taken", one(SNRLoss(zero_mean=False))),
        Comparison("stft", "auraloss", partial(stft_of, floor=False)),
        Comparison("stft", "auraloss, floor as here", stft_of),
        Comparison("stft", "auraloss, floor as here, quiet ends", stft_of, quiet_ends=True),
        Comparison("stoi", "pystoi", lambda x, y, rate: stoi_of(x, y, rate, False)),
        Comparison("estoi", "pystoi", lambda x, y, rate: stoi_of(x, y, rate, True)),
        Comparison(
            "stoi", "torchmetrics", lambda x, y, rate: float(other.short_time_objective_intelligibility(y, x, rate))
        ),
        Comparison("pesq_nb", "pesq", lambda x, y, rate: pesq_of(x, y, rate, "nb")),
        Comparison("pesq_wb", "pesq", lambda x, y, rate: pesq_of(x, y, rate, "wb")),
    ]


def stft_of(x: Tensor, y: Tensor, rate: int, floor: bool = True) -> float:
    from auraloss.freq import MultiResolutionSTFTLoss

    windows, hops = ([round(seconds * rate) for seconds in side] for side in zip(*STFT_RESOLUTIONS, strict=True))
    sizes = [1 << (window - 1).bit_length() for window in windows]
    loss = MultiResolutionSTFTLoss(sizes, hops, windows)
    for part in loss.stft_losses:
        part.window = torch.hann_window(part.win_length, dtype=torch.float64)
        if floor:
            part.eps = float(FLOOR * part.window.sum() / 2) ** 2
    return float(loss(y[None, None], x[None, None]))


def compared(one: Comparison, *materials: Sequence[tuple[Tensor, Tensor, int]]) -> str:
    gaps, alone, values = [], 0, []
    for material in materials:
        largest = 0.0
        for x, y, rate in material:
            ours, theirs = both(one, x, y, rate)
            values += [ours] if math.isfinite(ours) else []
            alone += math.isnan(ours) != math.isnan(theirs)
            if not math.isnan(ours + theirs):
                largest = max(largest, abs(ours - theirs))
        gaps.append(f"{largest:.1e}" if largest else "0")
    print(one.metric, one.library, gaps, alone, flush=True)
    return f"| {one.metric} | {one.library} | {min(values):.3g} to {max(values):.3g} | {' | '.join(gaps)} | {alone} |"


def both(one: Comparison, x: Tensor, y: Tensor, rate: int) -> tuple[float, float]:
    if one.quiet_ends:
        x, y = (torch.nn.functional.pad(wave, (rate // 10, rate // 10)) for wave in (x, y))
    ours = METRICS[one.metric].function(Audio.of([x], rate), Audio.of([y], rate))
    try:
        theirs = one.oracle(x, y, rate)
    except Exception:  # noqa: BLE001  # each library has errors of its own for what it cannot judge
        theirs = math.nan
    return float(ours.values[0]), theirs


def random_pairs(count: int) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Noise that swells and fades as syllables do, and the same with other noise."""
    random = np.random.default_rng(0)
    for index in range(count):
        rate = (8000, 16000, 24000)[index % 3]
        time_axis = np.arange(round(random.uniform(0.5, 4) * rate)) / rate
        swell = 0.1 * (1.05 + np.sin(2 * np.pi * random.uniform(2, 6) * time_axis))
        wave = swell * random.standard_normal(len(time_axis))
        noise = random.standard_normal(len(wave)) * np.sqrt(np.mean(wave**2)) * 10 ** (-random.uniform(0, 40) / 20)
        yield torch.from_numpy(wave), torch.from_numpy(wave + noise), rate


def decoded(original: Path, other: Path) -> tuple[Tensor, Tensor, int]:
    x = audio.read(original)
    y = aligned(x, audio.read(other, x.sample_rate), SHIFT)
    return x.waveform(0)[0].double(), y.waveform(0)[0].double(), x.sample_rate


def silence(pair: tuple[Tensor, Tensor, int]) -> Iterator[str]:
    """What each library answers when the resynthesis is silent."""
    x, _, rate = pair
    yield "| metric | library | there | here |"
    yield "|---|---|---:|---:|"
    for one in comparisons():
        if "here" not in one.library:
            ours, theirs = (
                "no score" if math.isnan(value) else f"{value:.3g}" for value in both(one, x, torch.zeros_like(x), rate)
            )
            yield f"| {one.metric} | {one.library} | {theirs} | {ours} |"


if __name__ == "__main__":
    main()
