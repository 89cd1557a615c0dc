"""`vocable train kmeans`: units from a corpus, by one process or by as many as torchrun starts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vocable.cli import shared
from vocable.cli.train import parse_layers

if TYPE_CHECKING:
    from vocable.corpus import Corpus, Failure
    from vocable.distributed import Processes
    from vocable.quantizers.kmeans import Backend
    from vocable.quantizers.schedules import Schedule
    from vocable.quantizers.seeding import Init
    from vocable.tokenizers import UnitTokenizer
    from vocable.tokenizers.feature_cache import CachePrecision, FeatureCache
    from vocable.tokenizers.gathering import Stopwatch
    from vocable.tokenizers.ssl import Precision
    from vocable.tokenizers.ssl_batches import Mode
    from vocable.tokenizers.training import Structure
    from vocable.types import FeatureExtractor

_CLUSTERS, _GIB = 100, 2**30


@click.command()
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
@click.option("--codebooks", type=click.IntRange(1), default=1, show_default=True, help="Codebooks for each layer.")
@click.option(
    "--structure",
    type=click.Choice(["residual", "product"]),
    default="residual",
    show_default=True,
    help="residual: each codebook adds to the ones before; product: each has its own dimensions.",
)
@click.option("--iterations", type=click.IntRange(1), default=50, show_default=True, help="Passes of Lloyd at most.")
@click.option(
    "--schedule",
    type=click.Choice(["full", "progressive", "minibatch"]),
    default="full",
    show_default=True,
    help="Whether all frames are looked at from the start.",
)
@click.option("--init", type=click.Choice(["k-means++", "k-means||", "random"]), default="k-means++", show_default=True)
@click.option("--restarts", type=click.IntRange(1), default=1, show_default=True, help="Fits, of which the best stays.")
@click.option("--spherical", is_flag=True, help="Cluster directions: frames count as scaled to length 1.")
@click.option("--standardize", is_flag=True, help="Cluster frames whose every dimension has mean 0 and variance 1.")
@click.option(
    "--memory",
    type=click.FloatRange(0, min_open=True),
    help="GiB of frames to hold; of a larger corpus a uniform sample is used.  [default: 1]",
)
@click.option("--sample-frames", type=click.IntRange(1), help="Size of that sample, in place of --memory.")
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="Keep all frames there and use them all.")
@click.option(
    "--cache-precision",
    type=click.Choice(["fp16", "fp32"]),
    default="fp16",
    show_default=True,
    help="Numbers in the cache.",
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
    codebooks: int,
    structure: Structure,
    iterations: int,
    schedule: Schedule,
    init: Init,
    restarts: int,
    spherical: bool,
    standardize: bool,
    memory: float | None,
    sample_frames: int | None,
    cache: Path | None,
    cache_precision: CachePrecision,
    seed: int,
    backend: Backend,
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
    vocable train kmeans speech/ --features logmel --cache frames/ --codebooks 4 --out units/
    torchrun --nproc-per-node 2 -m vocable train kmeans speech/ --out units/
    """
    from vocable import distributed
    from vocable.files import require_absent
    from vocable.presets import find
    from vocable.tokenizers import build, train_kmeans
    from vocable.tokenizers.gathering import Stopwatch
    from vocable.tokenizers.training import DEFAULT_MEMORY

    if sum(option is not None for option in (memory, sample_frames, cache)) > 1:
        raise click.UsageError("expected one of --memory, --sample-frames and --cache, got several")
    require_absent(out, overwrite=overwrite)
    recordings = shared.read_corpus(corpus)
    device = distributed.own_device(shared.pick_device(device))
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
    stopwatch = Stopwatch()
    with distributed.from_environment() as processes:
        stored = _open_cache(cache, recordings, extractor, cache_precision, processes) if cache else None
        with shared.display("features", shown=processes.rank == 0) as display:
            tokenizer = train_kmeans(
                recordings,
                extractor,
                clusters or (recipe and recipe.clusters) or _CLUSTERS,
                codebooks=codebooks,
                structure=structure,
                iterations=iterations,
                schedule=schedule,
                init=init,
                restarts=restarts,
                spherical=spherical,
                standardize=standardize,
                seed=seed,
                backend=backend,
                memory=int(memory * _GIB) if memory else DEFAULT_MEMORY,
                sample_frames=sample_frames,
                cache=stored,
                device=device,
                reduce=processes,
                workers=shared.pick_workers(workers),
                batch_seconds=shared.batch_seconds(device),
                watcher=display.watch,
                stopwatch=stopwatch,
                on_failure=partial(_tell_failure, processes),
                on_iteration=display.clustering,
            )
        if processes.rank == 0:
            tokenizer.save_pretrained(out, bundle=bundle, overwrite=overwrite)
        _tell(processes, _report(tokenizer, stopwatch, out))


def _open_cache(
    path: Path, corpus: Corpus, extractor: FeatureExtractor, precision: CachePrecision, processes: Processes
) -> FeatureCache:
    from vocable.tokenizers.feature_cache import FeatureCache

    cache = FeatureCache.create(path, corpus, extractor, precision=precision, reduce=processes)
    there = f"{len(cache.finished):,} of {shared.plural(len(corpus), 'recording')} there"
    _tell(processes, [f"cache {path}: {shared.size(cache.num_bytes)} in {precision}, {there}"])
    return cache


def _tell(processes: Processes, lines: list[str]) -> None:
    for line in lines if processes.rank == 0 else ():
        shared.say(line)


def _tell_failure(processes: Processes, failure: Failure) -> None:
    _tell(processes, [f"left out: {failure.path}: {failure.reason}"])


def _report(tokenizer: UnitTokenizer, stopwatch: Stopwatch, out: Path) -> list[str]:
    evidence = tokenizer.evidence
    heard = (
        f"{shared.plural(evidence['recordings'], 'recording')}, {evidence['audio_seconds'] / 60:.1f} minutes, "
        f"{evidence['frames_used']:,} of {evidence['frames_seen']:,} frames used"
    )
    fits = [
        f"{label}: objective {fit['objective'][-1]:.4g} after {fit['iterations']} iterations, "
        f"usage {fit['usage']:.1%}, entropy {fit['entropy']:.2f} bits"
        for label, fit in evidence["fits"].items()
    ]
    spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in stopwatch.seconds.items())
    return [heard, *fits, f"wall time: {spent}", f"units {tokenizer.fingerprint[:12]} in {out}"]
