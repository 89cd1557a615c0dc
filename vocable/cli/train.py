"""`vocable train`: tokenizers from a corpus."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from vocable.cli import shared

if TYPE_CHECKING:
    from vocable.corpus import Failure
    from vocable.tokenizers import UnitTokenizer
    from vocable.tokenizers.ssl import Precision
    from vocable.tokenizers.ssl_batches import Mode

_CLUSTERS = 100


@click.group()
def command() -> None:
    """Train a tokenizer on a corpus."""


@command.command()
@shared.corpus_argument
@click.option(
    "--features",
    metavar="mfcc|logmel|stacked-mel|MODEL|latents:CODEC",
    help="What to cluster: spectra, layers of a model, or what a codec's encoder gives.  [default: mfcc]",
)
@click.option("--layers", metavar="6,9", help="Layers of the model, one codebook each: 6,9 or 4-9 or 6.pre or all.")
@click.option("--clusters", type=click.IntRange(1), help="Entries of each codebook.  [default: 100]")
@click.option("--preset", metavar="NAME", help="Features, layers and clusters of a known set-up.")
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
@shared.precision_option
@click.option(
    "--mode",
    type=click.Choice(["exact", "fast"]),
    default="exact",
    show_default=True,
    help="exact: the same codes to the last bit in any company; fast: padded batches, equal but for rounding.",
)
@click.option("--normalize-layers", is_flag=True, help="Scale each frame of a layer to mean 0 and variance 1.")
@click.option("--bundle", is_flag=True, help="Put the model's weights inside the artifact.")
@shared.device_option
@shared.workers_option
@shared.overwrite_option
def kmeans(
    corpus: tuple[str, ...],
    features: str | None,
    layers: str | None,
    clusters: int | None,
    preset: str | None,
    out: Path,
    iterations: int,
    memory: float,
    seed: int,
    backend: Literal["torch", "faiss"],
    revision: str | None,
    precision: Precision,
    mode: Mode,
    normalize_layers: bool,
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
    vocable train kmeans speech/ --preset hubert-base-l6-k100 --out units/
    """
    from vocable.files import require_absent
    from vocable.presets import find
    from vocable.tokenizers import build, train_kmeans

    require_absent(out, overwrite=overwrite)
    recordings = shared.read_corpus(corpus)
    device = shared.pick_device(device)
    recipe = find(preset) if preset else None
    extractor = build(
        features or (recipe and recipe.features) or "mfcc",
        layers=parse_layers(layers) if layers or not recipe else recipe.layers,
        precision=precision,
        mode=mode,
        normalize_layers=normalize_layers,
        revision=revision,
        device=device,
    )
    clusters = clusters or (recipe and recipe.clusters) or _CLUSTERS
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


def parse_layers(text: str | None) -> list[int | str] | None:
    """Names of layers for 6,9 or 4-9 or 6.pre; None for "all" or nothing."""
    if text is None or text == "all":
        return None
    layers: list[int | str] = []
    for part in text.split(","):
        found = re.fullmatch(r"L?(\d+)(?:-L?(\d+)|(\.pre))?", part.strip())
        if found is None:
            raise click.UsageError(f"expected --layers such as 6,9 or 4-9 or 6.pre or all, got {text!r}")
        first, last, pre = found.groups()
        layers += [f"{first}.pre"] if pre else range(int(first), int(last or first) + 1)
    return layers


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
