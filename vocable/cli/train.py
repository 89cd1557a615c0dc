"""`vocable train`: tokenizers from a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from vocable.cli import shared

if TYPE_CHECKING:
    from vocable.corpus import Failure
    from vocable.tokenizers import UnitTokenizer


@click.group()
def command() -> None:
    """Train a tokenizer on a corpus."""


@command.command()
@shared.corpus_argument
@click.option("--features", default="mfcc", show_default=True, metavar="mfcc|logmel|MODEL", help="What to cluster.")
@click.option("--layers", metavar="6,9", help="Layers of the model, one codebook each: numbers, ranges (4-9), or all.")
@click.option("--clusters", type=click.IntRange(1), default=100, show_default=True, help="Entries of each codebook.")
@shared.out_option
@click.option("--iterations", type=click.IntRange(1), default=50, show_default=True, help="Passes of Lloyd at most.")
@click.option(
    "--memory",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="GiB of frames to hold; of a larger corpus a uniform sample is used.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--backend", type=click.Choice(["torch", "faiss"]), default="torch", show_default=True)
@click.option("--revision", help="Revision of the model on the hub.")
@click.option("--bundle", is_flag=True, help="Put the model's weights inside the artifact.")
@shared.device_option
@shared.workers_option
@shared.overwrite_option
def kmeans(
    corpus: tuple[str, ...],
    features: str,
    layers: str | None,
    clusters: int,
    out: Path,
    iterations: int,
    memory: float,
    seed: int,
    backend: Literal["torch", "faiss"],
    revision: str | None,
    bundle: bool,
    device: str,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Cluster the frames of a corpus into units: one pass over the audio, a codebook for every layer.

    CORPUS: folders, sound files, .jsonl manifests, .txt lists, or - for paths on standard input.

    \b
    vocable train kmeans speech/ --out units/
    vocable train kmeans speech/ --features logmel --clusters 2000 --out units/
    vocable train kmeans train.jsonl --features facebook/hubert-base-ls960 --layers 6,9 --clusters 500 --out units/
    """
    from vocable.files import require_absent
    from vocable.tokenizers import build, train_kmeans

    require_absent(out, overwrite=overwrite)
    recordings = shared.read_corpus(corpus)
    device = shared.pick_device(device)
    extractor = build(features, layers=parse_layers(layers), revision=revision, device=device)
    failures: list[Failure] = []
    with shared.display("features") as display:
        tokenizer = train_kmeans(
            recordings,
            extractor,
            clusters,
            iterations=iterations,
            memory=int(memory * 2**30),
            seed=seed,
            backend=backend,
            workers=shared.pick_workers(workers),
            batch_seconds=shared.batch_seconds(device),
            watcher=display.watch,
            on_failure=failures.append,
            on_iteration=display.clustering,
        )
    tokenizer.save_pretrained(out, bundle=bundle, overwrite=overwrite)
    for failure in failures:
        shared.say(f"left out: {failure.path}: {failure.reason}")
    _report(tokenizer, out)


def parse_layers(text: str | None) -> list[int] | None:
    """Numbers for 6,9 or 4-9; None for "all" or nothing."""
    if text is None or text == "all":
        return None
    try:
        parts = [part.split("-") for part in text.split(",")]
        return [layer for part in parts for layer in range(int(part[0]), int(part[-1]) + 1)]
    except ValueError:
        raise click.UsageError(f"expected --layers such as 6,9 or 4-9 or all, got {text!r}") from None


def _report(tokenizer: UnitTokenizer, out: Path) -> None:
    evidence = tokenizer.evidence
    shared.say(
        f"{shared.plural(evidence['recordings'], 'recording')}, {evidence['audio_seconds'] / 60:.1f} minutes, "
        f"{evidence['frames_used']:,} of {evidence['frames_seen']:,} frames used"
    )
    for label, fit in evidence["fits"].items():
        shared.say(
            f"{label}: objective {fit['objective'][-1]:.4g} after {fit['iterations']} iterations, "
            f"usage {fit['usage']:.1%}, entropy {fit['entropy']:.2f} bits"
        )
    shared.say(f"units {tokenizer.fingerprint[:12]} in {out}")
