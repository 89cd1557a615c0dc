"""`vocable train encoder`: a small self-supervised model of speech, whose layers units are learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vocable.cli import adversarial, shared

if TYPE_CHECKING:
    from vocable.training.encoder import EncoderSize, TrainedEncoder
    from vocable.training.reports import Report


@click.command()
@shared.corpus_argument
@click.option("--targets", required=True, metavar="DIR|HUB_ID|PRESET", help="The tokenizer whose codes it learns.")
@shared.out_option
@click.option(
    "--preset",
    type=click.Choice(["tiny", "small"]),
    default="small",
    show_default=True,
    help="tiny: 20 minutes of two cores; small: 20 minutes of a GPU.",
)
@click.option(
    "--perturb/--no-perturb",
    default=True,
    help="Whether voices are warped in frequency, each crop another way, so that layers tell less of the speaker.",
)
@click.option(
    "--seen-weight",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Weight of the loss where nothing is hidden, beside 1 where something is.",
)
@click.option(
    "--tokens", type=click.Path(path_type=Path), metavar="DIR", help="Tokens of CORPUS that are there already."
)
@click.option("--half", is_flag=True, help="Save weights in 16 bits.")
@adversarial.options
@shared.device_option
@shared.workers_option
@shared.overwrite_option
def encoder(
    corpus: tuple[str, ...],
    targets: str,
    out: Path,
    preset: EncoderSize,
    perturb: bool,
    seen_weight: float,
    tokens: Path | None,
    half: bool,
    device: str,
    workers: int | None,
    overwrite: bool,
    budget: adversarial.Budget,
) -> None:
    """Train an encoder of speech by masked prediction: it learns to tell units of sound that it does not hear.

    CORPUS: folders, sound files, .jsonl manifests, .txt lists, or - for paths on standard input.

    The units are those of any tokenizer: of mfcc features to begin with, then of the encoder's own middle layer, or of
    a larger model, to learn from that. The result is a model like others that `vocable train kmeans --features` takes.
    Stop it and run it again: it goes on from the checkpoint to the same encoder.

    \b
    vocable train kmeans speech/ --features mfcc --clusters 500 --out mfcc/
    vocable train encoder speech/ --targets mfcc/ --preset tiny --out encoder/
    vocable train kmeans speech/ --features encoder/ --layers 4 --clusters 500 --out units/
    vocable train encoder speech/ --targets units/ --preset tiny --out better/
    torchrun --nproc-per-node 8 -m vocable train encoder speech/ --targets units/ --out better/
    """
    from vocable import distributed
    from vocable.files import require_absent
    from vocable.store import TokenStore
    from vocable.tokenizers.gathering import Reading
    from vocable.training.encoder import ENCODERS, train_encoder
    from vocable.training.encoder_task import Masking
    from vocable.training.work import CHECKPOINT

    plan = ENCODERS[preset]
    regime, crops = budget.regime(plan.regime), budget.crops(plan.crops)
    masking = replace(Masking(), seen=seen_weight, warp=Masking().warp if perturb else 1.0)
    work = budget.folder(out, CHECKPOINT)
    require_absent(out, overwrite=overwrite)
    recordings = shared.read_corpus(corpus)
    device = distributed.own_device(shared.pick_device(device))
    with distributed.from_environment() as processes:
        voice = adversarial.Voice(processes, _line)
        with voice.display("reading") as display:
            reading = Reading(shared.pick_workers(workers), shared.batch_seconds(device), display.watch, voice.failure)
            trained = train_encoder(
                recordings,
                shared.open_tokenizer(targets, device=device),
                work,
                design=plan.design,
                regime=regime,
                crops=crops,
                masking=masking,
                tokens=TokenStore.open(tokens) if tokens else None,
                device=device,
                processes=processes,
                reading=reading,
                on_cache=voice.cache,
                on_report=voice.report,
            )
        if processes.rank == 0:
            trained.save_pretrained(out, half=half, overwrite=overwrite)
        voice.say(_summary(trained, out))
        voice.say(f"{work} is needed no more: rm -r {work}")


def _line(report: Report) -> str:
    left = report.minutes * (1 - report.share) / report.share
    pace = f"step {report.step:,} ({report.share:.0%}, {left:.1f} min left): {50 * report.speed:,.0f} frames/s"
    told = f"{pace}, {report.computing:.0%} computing; {_figures(report.losses)}"
    return f"{told}; held out: {_figures(report.figures)}" if report.figures else told


def _figures(values: Mapping[str, float]) -> str:
    return f"loss {values['loss']:.3f}, accuracy {values['accuracy']:.1%} masked, {values['seen accuracy']:.1%} seen"


def _summary(encoder: TrainedEncoder, out: Path) -> str:
    evidence = encoder.evidence
    heard = f"{shared.plural(evidence['recordings'], 'recording')}, {evidence['audio_seconds'] / 60:.1f} minutes"
    blocks = f"{encoder.weights / 1e6:.1f} M weights, layers L0 to L{encoder.config.num_hidden_layers}"
    return f"{heard}; encoder of {blocks} in {out}: `vocable train kmeans CORPUS --features {out} --layers all`"
