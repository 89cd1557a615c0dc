"""What commands that train networks to make waveforms share: options, figures, a folder of work, lines of progress."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from vocable.cli import shared

if TYPE_CHECKING:
    from vocable.corpus import Failure
    from vocable.distributed import Processes
    from vocable.training.audio_cache import AudioCache
    from vocable.training.crops import Crops
    from vocable.training.regime import Regime
    from vocable.training.reports import Report
    from vocable.types import Audio

_LINE_SECONDS = 10.0
_OPTIONS = (
    click.option("--steps", type=click.IntRange(1), help="How long to train, in steps.  [default: the preset's]"),
    click.option("--minutes", type=click.FloatRange(0, min_open=True), help="How long to train, in minutes instead."),
    click.option("--batch", type=click.IntRange(1), help="Crops of a step, in each process.  [default: the preset's]"),
    click.option(
        "--crop-seconds", type=click.FloatRange(0, min_open=True), help="Length of a crop.  [default: the preset's]"
    ),
    click.option(
        "--learning-rate", type=click.FloatRange(0, min_open=True), help="Highest one.  [default: the preset's]"
    ),
    click.option("--seed", type=int, default=0, show_default=True),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16"]),
        default="auto",
        show_default=True,
        help="Numbers to train with; auto is bf16 on CUDA, fp32 elsewhere.",
    ),
    click.option("--compile", "compiled", is_flag=True, help="Compile the network: a slow start, then faster on CUDA."),
    click.option(
        "--work",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Folder of caches, checkpoint and samples.  [default: OUT.work]",
    ),
    click.option("--resume", is_flag=True, help="Insist that there is a checkpoint to go on from."),
)


@dataclass(frozen=True)
class Budget:
    """The options on how to train, None for the preset's."""

    steps: int | None
    minutes: float | None
    batch: int | None
    crop_seconds: float | None
    learning_rate: float | None
    seed: int
    precision: Literal["auto", "fp32", "bf16"]
    compiled: bool
    work: Path | None
    resume: bool

    def regime(self, preset: Regime) -> Regime:
        """The preset's regime with what the options change. UsageError for --steps and --minutes at once."""
        if self.steps is not None and self.minutes is not None:
            raise click.UsageError("expected one of --steps and --minutes, got both")
        told = self.steps is not None or self.minutes is not None
        return replace(
            preset,
            steps=self.steps if told else preset.steps,
            minutes=self.minutes if told else preset.minutes,
            learning_rate=self.learning_rate or preset.learning_rate,
            seed=self.seed,
            precision=self.precision,
            compile=self.compiled,
        )

    def crops(self, preset: Crops) -> Crops:
        """The preset's crops with what the options change."""
        return replace(preset, batch=self.batch or preset.batch, seconds=self.crop_seconds or preset.seconds)

    def folder(self, out: Path, checkpoint: str) -> Path:
        """The folder of work. UsageError if there is no checkpoint in it to resume from."""
        folder = self.work or out.with_name(f"{out.name}.work")
        if self.resume and not (folder / checkpoint).exists():
            raise click.UsageError(f"expected a checkpoint to resume from, got none in {folder}")
        return folder


def options(function: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of a `Budget`; the function gets them as one, named `budget`."""

    @wraps(function)
    def collected(**options: Any) -> None:
        budget = Budget(**{field.name: options.pop(field.name) for field in fields(Budget)})
        function(budget=budget, **options)

    decorated: Callable[..., None] = collected
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def judge(real: Audio, fake: Audio) -> dict[str, float]:
    """Mel distance in dB and STOI, means over the recordings that have a score."""
    from vocable.metrics.reconstruction import mel_distance, stoi

    scores = {"mel": mel_distance(real, fake), "stoi": stoi(real, fake)}
    return {name: found.mean for name, found in scores.items() if found.count}


class Voice:
    """What the first of several processes says, and the others do not.

    line: a report in words; without it that of a training with losses of any names.
    """

    def __init__(self, processes: Processes, line: Callable[[Report], str] | None = None) -> None:
        self._speaks, self._said, self._line = processes.rank == 0, -_LINE_SECONDS, line or _line

    def say(self, text: str) -> None:
        """A line."""
        if self._speaks:
            shared.say(text)

    def failure(self, failure: Failure) -> None:
        """That a recording is left out, and why."""
        self.say(f"left out: {failure.path}: {failure.reason}")

    def cache(self, cache: AudioCache) -> None:
        """How much disk the sound takes."""
        self.say(f"sound {cache.path}: {shared.size(cache.expected_bytes)} at {cache.sample_rate} Hz")

    def report(self, report: Report) -> None:
        """How training goes: a line every few seconds, and one for every validation."""
        if report.figures or time.monotonic() - self._said >= _LINE_SECONDS:
            self._said = time.monotonic()
            self.say(self._line(report))

    def display(self, label: str) -> AbstractContextManager[shared.Display]:
        """Progress of reading."""
        return shared.display(label, shown=self._speaks)


def _line(report: Report) -> str:
    losses = ", ".join(f"{name} {value:.4g}" for name, value in report.losses.items())
    figures = ", ".join(f"{name} {value:.4g}" for name, value in report.figures.items())
    pace = f"{report.speed:,.0f} s/s, {report.computing:.0%} computing"
    told = f"step {report.step:,} ({report.share:.0%}, {report.minutes:.1f} min): {pace}; {losses}"
    return f"{told}; held out: {figures}" if figures else told


def tell_work(voice: Voice, folder: Path) -> None:
    """What the folder of work takes, and that it can go."""
    size = sum(Path(base, name).stat().st_size for base, _, names in os.walk(folder) for name in names)
    voice.say(f"{folder} ({shared.size(size)}) is needed no more, but for the clips in samples/: rm -r {folder}")
