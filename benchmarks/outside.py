"""Codecs of other makers through the metrics of this package: Opus and Codec 2, as Debian's tools run them.

    python -m benchmarks.outside ../shared/audio --work /tmp/outside --out benchmarks/results/outside.md

Needs opusenc, opusdec, c2enc and c2dec. The folder holds train.jsonl and dev.jsonl. What is made is kept in --work, and
made only once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.measure import commit, machine, run
from vocable import audio
from vocable.corpus import Corpus
from vocable.evaluation.results import Evaluation, Judged, System
from vocable.files import inside, write_atomic
from vocable.metrics.catalogue import METRICS
from vocable.tokenizers import LogMel, train_kmeans
from vocable.types import Audio

VOCABLE = [sys.executable, "-m", "vocable"]
RATE, LONGEST = 16000, 15  # Hz, seconds
CLUSTERS, FRAMES = 500, 200_000
MAX_SHIFT = 0.05  # seconds; Codec 2 lags by 18 ms
OPUS = (6000, 9000, 12000, 16000, 24000)
CODEC2 = (("700C", 700), ("1200", 1200), ("2400", 2400), ("3200", 3200))
FAMILIES = ("opus", "codec2")
GROUPS = (
    ("Spectra", ("mel", "stft", "lsd", "mcd")),
    ("Waveforms", ("snr", "si_sdr", "sdr")),
    ("Intelligibility and quality", ("stoi", "estoi", "pesq_nb", "pesq_wb")),
    ("Pitch", ("f0_rmse", "voicing_error")),
)
# the same recordings, scored once before with pystoi and pesq alone after an alignment by cross-correlation
EARLIER = {
    "opus @ 6000": (1.76, 0.845, 0.755),
    "opus @ 9000": (2.70, 0.946, 0.897),
    "opus @ 12000": (3.51, 0.956, 0.915),
    "opus @ 16000": (4.03, 0.976, 0.952),
    "codec2 @ 3200": (1.56, 0.853, 0.721),
    "codec2 @ 1200": (1.41, 0.799, 0.640),
}
EARLIER_METRICS = ("pesq_wb", "stoi", "estoi")

WHY = (
    "- Codec 2 makes 8 kHz of parameters, so its waveform is its own and its upper half is missing: the differences "
    "between its rates in mel, lsd, mcd, snr, si_sdr and sdr are small beside what all its rates have in common. What "
    "is made for speech, STOI, ESTOI and PESQ, has every step of both codecs in order.",
    "- f0_rmse hangs on the few frames whose pitch is taken for half or double: of the 7,000 frames that are voiced in "
    "both, 8 to 15 after Opus, and more where more frames are voiced. Without differences of more than 600 cents it "
    "is 8.2, 7.4, 5.5 and 4.1 cents from 9,000 to 24,000 bit/s.",
)


@dataclass(frozen=True)
class Sounds:
    """Decoded recordings of one codec: its nominal rate, what its frames take and what its files take, all bit/s."""

    name: str
    folder: Path
    bitrate: int
    payload: float
    files: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="all of dev, not every fourth recording of LibriSpeech")
    parser.add_argument("--work", type=Path, default=Path("outside.work"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the tables here as well")
    options = parser.parse_args()
    work = (options.work / ("all" if options.all else "few")).resolve()
    recordings = originals(options.folder, work, everything=options.all)
    sounds = [opus(recordings, work / f"opus-{rate}", rate) for rate in OPUS]
    sounds += [codec2(recordings, work / f"codec2-{mode}", mode, rate) for mode, rate in CODEC2]
    found = evaluated(work, units(options.folder, options.work.resolve()), sounds, options.workers)
    text = report(found, sounds, options)
    print(text)
    if options.out:
        write_atomic(options.out, text.encode())


def originals(folder: Path, work: Path, *, everything: bool) -> Corpus:
    """What is judged: the first 15 s of each recording at 16 kHz, and their manifest."""
    manifest = work / "originals.jsonl"
    if not manifest.exists():
        corpus = list(Corpus.of(folder / "dev.jsonl"))
        if not everything:
            corpus = [one for one in corpus if one.fields["corpus"].startswith("librispeech")][::4]
        lines = []
        for utterance in corpus:
            path = inside(work / "originals", utterance.id, ".wav")
            sound = audio.read(utterance.path, RATE)
            audio.write(path, Audio.of([sound.waveform(0)[:, : LONGEST * RATE]], RATE))
            told = {key: value for key, value in utterance.fields.items() if key in ("text", "speaker")}
            lines.append(json.dumps({"id": utterance.id, "path": str(path), **told}))
        write_atomic(manifest, "".join(f"{line}\n" for line in lines).encode())
    return Corpus.of(manifest)


def opus(recordings: Corpus, folder: Path, rate: int) -> Sounds:
    """libopus at a hard constant bitrate, told that it is speech."""
    payload = size = 0
    for utterance in recordings:
        coded, decoded = inside(folder / "coded", utterance.id, ".opus"), inside(folder / "wavs", utterance.id, ".wav")
        if not decoded.exists():
            make_room(coded, decoded)
            told = ["--quiet", "--hard-cbr", "--speech", "--bitrate", f"{rate / 1000:g}"]
            subprocess.run(["opusenc", *told, utterance.path, coded], check=True)
            subprocess.run(["opusdec", "--quiet", "--rate", str(RATE), coded, decoded], check=True)
        payload += ogg_payload(coded.read_bytes())
        size += coded.stat().st_size
    seconds = total_seconds(recordings)
    return Sounds(f"opus @ {rate}", folder / "wavs", rate, 8 * payload / seconds, 8 * size / seconds)


def codec2(recordings: Corpus, folder: Path, mode: str, rate: int) -> Sounds:
    """Codec 2 hears and makes 8 kHz; its files are frames alone."""
    size = 0
    for utterance in recordings:
        coded, decoded = inside(folder / "coded", utterance.id, ".bit"), inside(folder / "wavs", utterance.id, ".wav")
        raw = coded.with_suffix(".raw")
        if not decoded.exists():
            make_room(coded, decoded)
            sound = audio.read(utterance.path, 8000).waveform(0)[0]
            raw.write_bytes((sound * 32767).round().clamp(-32768, 32767).short().numpy().tobytes())
            subprocess.run(["c2enc", mode, raw, coded], check=True, capture_output=True)
            subprocess.run(["c2dec", mode, coded, raw], check=True, capture_output=True)
            samples = torch.frombuffer(bytearray(raw.read_bytes()), dtype=torch.int16)
            audio.write(decoded, Audio.of([samples / 32768], 8000))
        size += coded.stat().st_size
    bits = 8 * size / total_seconds(recordings)
    return Sounds(f"codec2 @ {mode}", folder / "wavs", rate, bits, bits)


def make_room(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)


def ogg_payload(data: bytes) -> int:
    """Bytes of the packets in an Ogg stream (RFC 3533, section 6) without the two that Opus begins with (RFC 7845)."""
    place = total = packets = 0
    while place < len(data):
        count = data[place + 26]
        for segment in data[place + 27 : place + 27 + count]:
            total += segment if packets >= 2 else 0
            packets += segment < 255  # a shorter segment ends its packet
        place += 27 + count + sum(data[place + 27 : place + 27 + count])
    return total


def total_seconds(recordings: Corpus) -> float:
    return sum(float(audio.read(utterance.path).seconds) for utterance in recordings)


def units(folder: Path, work: Path) -> Path:
    """Units of log-mel spectra, which are inverted without weights."""
    place = work / f"logmel-{CLUSTERS}"
    if not place.exists():
        corpus = Corpus.of(folder / "train.jsonl")
        train_kmeans(corpus, LogMel(), CLUSTERS, sample_frames=FRAMES, workers=1).save_pretrained(place)
    return place


def evaluated(work: Path, tokenizer: Path, sounds: Sequence[Sounds], workers: int) -> Evaluation:
    """`vocable evaluate` on all of them."""
    given = [f"--sounds={one.name}={one.folder}@{one.bitrate}" for one in sounds]
    told = ["--max-shift", str(MAX_SHIFT), "--metrics", ",".join(METRICS), "--workers", str(workers)]
    manifest, out = work / "originals.jsonl", work / "evaluation"
    run([*VOCABLE, "evaluate", manifest, "--tokenizer", tokenizer, *given, *told, "--out", out])
    return Evaluation.load(out)


def report(found: Evaluation, sounds: Sequence[Sounds], options: argparse.Namespace) -> str:
    seconds = sum(item.seconds for item in found.items)
    which = "all of dev" if options.all else "every fourth of LibriSpeech in dev"
    flag = " --all" if options.all else ""
    lines = [
        "# Codecs of other makers",
        "",
        f"{date.today()}, {machine()}",
        f"commit {commit()}",
        "",
        f"{len(found.items)} recordings ({which}, the first {LONGEST} s at {RATE / 1000:g} kHz, {seconds:.0f} s in "
        "all) through libopus (`opusenc --hard-cbr --speech`) and Codec 2 (at 8 kHz), beside "
        f"{CLUSTERS} units of log-mel frames at 100 Hz, learnt from {FRAMES:,} frames of train.jsonl and inverted "
        "without weights. By `vocable evaluate`; a constant delay of at most "
        f"{MAX_SHIFT:g} s is taken away from all. Means with 95 % bootstrap intervals over recordings. Frames of both "
        "codecs fill whole bytes: 700C has 28 bits in four.",
        "",
        *rates(sounds),
    ]
    for title, names in GROUPS:
        lines += ["", f"## {title}", "", *table(found, names)]
    lines += ["", "## Is more better?", "", *orders(found), "", *WHY]
    if not options.all:
        lines += ["", "## Against figures of other code", "", *agreement(found)]
    return "\n".join([*lines, "", f"`python -m benchmarks.outside ../shared/audio{flag}`", ""])


def rates(sounds: Sequence[Sounds]) -> Iterator[str]:
    """What the codecs really took."""
    yield "| codec | nominal bit/s | frames | files |"
    yield "|---|---:|---:|---:|"
    for one in sounds:
        yield f"| {one.name} | {one.bitrate:,} | {one.payload:,.0f} | {one.files:,.0f} |"


def table(found: Evaluation, names: Sequence[str]) -> Iterator[str]:
    """Systems as rows, metrics as columns."""
    taken = [metric for metric in found.metrics if metric.name in names]
    heads = [f"{m.name}{', ' + m.unit if m.unit else ''} {'↑' if m.higher_is_better else '↓'}" for m in taken]
    yield f"| system | bit/s | {' | '.join(heads)} |"
    yield "|---|---:|" + "---:|" * len(taken)
    for system in found.systems:
        cells = [cell(system, metric.name) for metric in taken]
        yield f"| {system.name} | {f'{system.bitrate:,.0f}' if system.bitrate else ''} | {' | '.join(cells)} |"


def cell(system: System, name: str) -> str:
    summary = system.scores[name].summary
    digits = 3 if abs(summary.mean) < 1 else 2 if abs(summary.mean) < 100 else 0
    mean, low, high = (f"{value:.{digits}f}" for value in (summary.mean, summary.low, summary.high))
    failed = f", {summary.failed} failed" if summary.failed else ""
    return (f"{mean} ({low} to {high})" if summary.low == summary.low else mean) + failed


def orders(found: Evaluation) -> Iterator[str]:
    """For each metric, the neighbours in rate of one codec of which the dearer is not better."""
    for metric in found.metrics:
        swaps = [swap for family in FAMILIES for swap in swapped(found, family, metric)]
        yield f"- {metric.name}: {'; '.join(swaps) or 'yes, at every step of either codec'}"


def swapped(found: Evaluation, family: str, metric: Judged) -> Iterator[str]:
    ladder = [system for system in found.systems if system.name.startswith(family)]
    ladder.sort(key=lambda system: system.bitrate or 0)
    sign = 1 if metric.higher_is_better else -1
    for cheap, dear in pairwise(ladder):
        low, high = (system.scores[metric.name] for system in (cheap, dear))
        if sign * (high.summary.mean - low.summary.mean) <= 0:
            pairs = [(a, b) for a, b in zip(low.values, high.values, strict=True) if a is not None and b is not None]
            better = sum(sign * (b - a) > 0 for a, b in pairs)
            means = " to ".join(f"{side.summary.mean:.3g}" for side in (low, high))
            yield f"{cheap.name} to {dear.bitrate:,.0f}: {means}, better in {better} of {len(pairs)}"


def agreement(found: Evaluation) -> Iterator[str]:
    """These means beside those of scripts that called pystoi and pesq themselves."""
    systems = {system.name: system for system in found.systems}
    gaps = dict.fromkeys(EARLIER_METRICS, 0.0)
    yield "| codec | " + " | ".join(f"{name} | then" for name in EARLIER_METRICS) + " |"
    yield "|---|" + "---:|---:|" * len(EARLIER_METRICS)
    for codec, then in EARLIER.items():
        cells = []
        for name, value in zip(EARLIER_METRICS, then, strict=True):
            now = systems[codec].scores[name].summary.mean
            gaps[name] = max(gaps[name], abs(now - value))
            cells.append(f"{now:.3f} | {value:g}")
        yield f"| {codec} | {' | '.join(cells)} |"
    yield ""
    yield f"Largest differences: {', '.join(f'{name} {gap:.3f}' for name, gap in gaps.items())}."


if __name__ == "__main__":
    main()
