"""What several commands share: arguments and options, the reading of corpora, progress on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from vocable.corpus import Corpus
    from vocable.progress import Progress
    from vocable.tokenizers import JoinedTokenizer, NeuralCodec, UnitTokenizer

_QUIET_SECONDS = 30.0

corpus_argument = click.argument("corpus", nargs=-1, required=True, metavar="CORPUS...")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what is at --out.")
device_option = click.option(
    "--device", default="auto", metavar="DEVICE", help="cpu, cuda, cuda:1 ...  [default: cuda if there is one]"
)
workers_option = click.option(
    "--workers", type=click.IntRange(0), default=None, help="Processes that decode audio.  [default: half the cores]"
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Numbers that the model computes with.",
)
out_option = click.option("--out", required=True, type=click.Path(path_type=Path), help="Where the result goes.")


def say(text: str) -> None:
    """Talk goes to stderr; stdout is for data."""
    click.echo(text, err=True)


def read_corpus(sources: tuple[str, ...]) -> Corpus:
    """The recordings of all sources; "-" reads their paths (or manifest lines) from standard input."""
    from vocable.corpus import Corpus

    if "-" not in sources:
        return Corpus.of(*sources)
    listed = Corpus.of_lines(sys.stdin)
    return Corpus([*listed, *(Corpus.of(*rest) if (rest := [s for s in sources if s != "-"]) else ())])


def open_tokenizer(
    name: str, *, codebooks: int | None = None, revision: str | None = None, device: str = "cpu"
) -> UnitTokenizer | JoinedTokenizer | NeuralCodec:
    """The tokenizer of a local directory, a preset or a hub id; of a codec, the coarsest so many codebooks."""
    from vocable import presets
    from vocable.tokenizers import load

    place = name if Path(name).is_dir() else presets.checkpoint(name) or name
    if place in presets.WEIGHT_FREE and codebooks is None:
        return presets.tokenizer(place)
    return load(place, codebooks=codebooks, revision=revision, device=device)


def pick_device(name: str) -> str:
    """The torch device that a name means. UsageError if it is none that this machine has."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as problem:
        raise click.UsageError(f"device {name!r} cannot be used here: {str(problem).splitlines()[0]}") from None
    return name


def batch_seconds(device: str) -> float | None:
    """Audio per batch: what fills a GPU, and on processors the default."""
    return None if device == "cpu" else 480.0


def pick_workers(count: int | None) -> int:
    """Half the cores, at least one and at most eight, unless told otherwise."""
    return max(1, min(8, (os.cpu_count() or 2) // 2)) if count is None else count


class Display:
    """What a command shows while it runs: a bar on a terminal; elsewhere a line every half minute."""

    def __init__(self, label: str, bar: Bar | None) -> None:
        self._label, self._bar, self._last = label, bar, 0.0
        self._task = bar.add_task(label, total=None, rate="") if bar else None

    def watch(self, progress: Progress) -> None:
        """Recordings, rate and time left; for `watcher=`."""
        finished = progress.done + progress.failed + progress.skipped
        rate = f"{progress.rate:,.0f} s/s"
        if self._bar and self._task is not None:
            self._bar.update(self._task, total=progress.total, completed=finished, rate=rate)
        elif progress.seconds - self._last > _QUIET_SECONDS:
            self._last = progress.seconds
            say(f"{self._label}: {finished} of {progress.total}, {rate}")

    def clustering(self, layer: str, iteration: int, objective: float) -> None:
        """One more pass of k-means; for `on_iteration=`."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=f"clustering {layer}", rate=f"{iteration}: {objective:.4g}")


class _Silence(Display):
    def watch(self, progress: Progress) -> None:
        """Shows nothing."""


@contextmanager
def display(label: str, *, shown: bool = True) -> Iterator[Display]:
    """Shows the progress of one long call; nothing unless `shown`, as in all processes of a job but the first."""
    if not shown:
        yield _Silence(label, None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Display(label, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        yield Display(label, bar)


def plural(count: int, noun: str) -> str:
    """Counts a noun: 1 recording, 2 recordings."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def size(num_bytes: int) -> str:
    """Bytes as a person reads them."""
    number, units = num_bytes / 2**20, ("MiB", "GiB", "TiB")
    power = 0 if number < 1024 else 1 if number < 1024**2 else 2
    return f"{number / 1024**power:,.3g} {units[power]}"


def spent(run: Progress, done: str) -> str:
    """What a finished run did, and how fast."""
    earlier = f", {run.skipped:,} done earlier" if run.skipped else ""
    fast = f": {run.audio_seconds / 60:.1f} minutes of audio in {run.seconds:.1f} s ({run.rate:,.0f} x real time)"
    return f"{plural(run.done, 'recording')} {done}{earlier}{fast if run.done else ''}"
