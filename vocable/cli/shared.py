"""What several commands share: arguments and options, the reading of corpora, progress on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vocable.corpus import Corpus
    from vocable.progress import Progress

F = TypeVar("F", bound=Callable[..., Any])

corpus_argument = click.argument("corpus", nargs=-1, required=True, metavar="CORPUS...")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what is at --out.")
device_option = click.option(
    "--device", default="auto", metavar="DEVICE", help="cpu, cuda, cuda:1 ...  [default: cuda if there is one]"
)
workers_option = click.option(
    "--workers", type=click.IntRange(0), default=None, help="Processes that decode audio.  [default: half the cores]"
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


def pick_workers(count: int | None) -> int:
    """Half the cores, at least one and at most eight, unless told otherwise."""
    return max(1, min(8, (os.cpu_count() or 2) // 2)) if count is None else count


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[Progress], None]]:
    """A bar with recordings, rate and time left on a terminal; a line every half minute elsewhere. Yields a watcher."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_writer(label)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(label, total=None, rate="")

        def watch(progress: object) -> None:
            from vocable.progress import Progress as Counts

            if isinstance(progress, Counts):
                finished = progress.done + progress.failed + progress.skipped
                bar.update(task, total=progress.total, completed=finished, rate=f"{progress.rate:,.0f} s/s")

        yield watch


def _line_writer(label: str) -> Callable[[Progress], None]:
    last = [0.0]

    def watch(progress: Progress) -> None:
        if progress.seconds - last[0] > 30:
            last[0] = progress.seconds
            finished = progress.done + progress.failed + progress.skipped
            say(f"{label}: {finished} of {progress.total}, {progress.rate:,.0f} s/s")

    return watch


def plural(count: int, noun: str) -> str:
    """ "1 recording", "2 recordings"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
