"""`vocable choose`: which features, which layer, how many units?"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vocable.cli import shared
from vocable.cli.train import parse_layers

if TYPE_CHECKING:
    from vocable.corpus import Failure
    from vocable.evaluation.choose import Step
    from vocable.evaluation.choose_scores import Phones
    from vocable.probes import Task
    from vocable.probes.bodies import Head
    from vocable.tokenizers.feature_cache import CachePrecision
    from vocable.types import FeatureExtractor

_WITHOUT_LAYERS = {"mfcc", "logmel", "stacked-mel", "pitch"}


@click.command()
@shared.corpus_argument
@click.option(
    "--features",
    multiple=True,
    default=("mfcc", "logmel"),
    metavar="mfcc|logmel|stacked-mel|MODEL|latents:CODEC",
    help="What to make units of; may be given several times.  [default: mfcc and logmel]",
)
@click.option("--layers", metavar="6,9", help="Layers of models: 6,9 or L6,L9 or 4-9 or all.  [default: all]")
@click.option(
    "--clusters", default="50,100,200,500,1000", metavar="V,V", show_default=True, help="Entries of a codebook to try."
)
@click.option(
    "--quantizers",
    default="kmeans",
    metavar="NAME,NAME",
    show_default=True,
    help="Ways to quantize, as in kmeans,product:2,residual:2; the number is that of codebooks.",
)
@click.option("--label", metavar="FIELD", help="Judge by how well classes are told: the field that names them.")
@click.option("--verify", metavar="FIELD", help="Judge by telling whether two recordings share a class.")
@click.option(
    "--ctc", metavar="FIELD", help="Judge by how well what was said is written down: the field with the text."
)
@click.option(
    "--phones",
    is_flag=False,
    flag_value="phones",
    metavar="[FIELD]",
    help="Judge by what codes say of phones, without a probe: the field with these, time-aligned.  [default: phones]",
)
@click.option("--split", metavar="FIELD", help='Field that says "train" or "test".  [default: 20 % at random]')
@click.option("--budget", type=click.FloatRange(0, min_open=True), metavar="BIT/S", help="What units may cost.")
@click.option("--sample-frames", type=click.IntRange(1), help="Frames to fit on at most.  [default: 1 GiB of them]")
@click.option(
    "--cache", type=click.Path(path_type=Path), metavar="DIR", help="Where frames are kept.  [default: --out]"
)
@click.option(
    "--cache-precision",
    type=click.Choice(["fp16", "fp32"]),
    default="fp32",
    show_default=True,
    help="Numbers in the cache.",
)
@click.option("--head", type=click.Choice(["linear", "bilstm", "xvector"]), help="The probe's network along time.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Trainings of each probe.")
@click.option("--epochs", type=click.IntRange(1), default=60, show_default=True, help="Of a probe, at most.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of fits, probes and a random split.")
@shared.out_option
@shared.device_option
@shared.workers_option
def command(
    corpus: tuple[str, ...],
    features: tuple[str, ...],
    layers: str | None,
    clusters: str,
    quantizers: str,
    label: str | None,
    verify: str | None,
    ctc: str | None,
    phones: str | None,
    split: str | None,
    budget: float | None,
    sample_frames: int | None,
    cache: Path | None,
    cache_precision: CachePrecision,
    head: Head | None,
    seeds: int,
    epochs: int,
    seed: int,
    out: Path,
    device: str,
    workers: int | None,
) -> None:
    """Try layers, quantizers and numbers of units, and recommend the cheapest that is as good as the best.

    CORPUS: folders, sound files, .jsonl manifests, .txt lists, or - for paths on standard input. Codebooks are fitted
    on the training part; --out gets the units, the figures and a page. The same command goes on where it was stopped.

    \b
    vocable choose digits.jsonl --label digit --split split --out choice/
    vocable choose speech.jsonl --features facebook/hubert-base-ls960 --layers 6,9 --ctc text --out choice/
    vocable choose aligned.jsonl --phones --clusters 50,100,200 --budget 700 --out choice/
    """
    from vocable.evaluation.choose import choose
    from vocable.probes import Recipe
    from vocable.probes.bodies import HEADS
    from vocable.tokenizers.gathering import Reading

    task = _task(label, verify, ctc, phones)
    device = shared.pick_device(device)
    with shared.display("features") as display:
        reading = Reading(
            shared.pick_workers(workers), shared.batch_seconds(device), display.watch, on_failure=_tell_failure
        )
        choice = choose(
            shared.read_corpus(corpus),
            _extractors(features, layers, device),
            task,
            out,
            clusters=_numbers(clusters),
            quantizers=quantizers.split(","),
            split=split,
            budget=budget,
            recipe=Recipe(head=head or HEADS.get(task.kind, "linear"), seeds=seeds, epochs=epochs, seed=seed),
            seed=seed,
            sample_frames=sample_frames,
            cache=cache,
            precision=cache_precision,
            device=device,
            reading=reading,
            sources=corpus,
            command=shlex.join(["vocable", *sys.argv[1:]]),
            on_step=_tell,
        )
    click.echo(choice.markdown(), nl=False)
    for left_out in choice.left_out:
        shared.say(f"not tried: {left_out}")
    shared.say(f"units, choice.json and choice.html in {out}; what only a next run needs is in {out / 'work'}")


def _task(label: str | None, verify: str | None, ctc: str | None, phones: str | None) -> Task | Phones:
    from vocable.evaluation.choose_scores import Phones
    from vocable.probes import Classification, Transcription, Verification

    if sum(field is not None for field in (label, verify, ctc, phones)) != 1:
        raise click.UsageError("expected one of --label, --verify, --ctc and --phones")
    if label is not None:
        return Classification(label)
    if verify is not None:
        return Verification(verify)
    return Transcription(ctc) if ctc is not None else Phones(phones or "phones")


def _extractors(names: tuple[str, ...], layers: str | None, device: str) -> dict[str, FeatureExtractor]:
    from vocable.tokenizers import build

    models = {name for name in names if name not in _WITHOUT_LAYERS and not name.startswith("latents:")}
    if layers is not None and not models:
        raise click.UsageError("--layers goes with --features of a self-supervised model")
    asked = parse_layers(layers)
    return {name: build(name, layers=asked if name in models else None, device=device) for name in names}


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"expected --clusters such as 50,100,200, got {text!r}") from None


def _tell(step: Step) -> None:
    left = f", about {_span(step.seconds_left)} left" if step.seconds_left and step.number < step.total else ""
    kept = " (from before)" if step.kept else f" in {_span(step.row.seconds)}"
    shared.say(f"{step.number} of {step.total}: {step.row.name}: {step.shown}{kept}{left}")


def _span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def _tell_failure(failure: Failure) -> None:
    shared.say(f"left out: {failure.path}: {failure.reason}")
