"""`vocable train codec`: a neural codec of one's own, a tokenizer that is its own vocoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vocable.cli import adversarial, shared

if TYPE_CHECKING:
    from vocable.tokenizers import NeuralCodec
    from vocable.training.codec_designs import CodecDesign
    from vocable.types import FeatureExtractor
    from vocable.vocoders.designs import GeneratorName

_WITHOUT_LAYERS = ("mfcc", "logmel", "stacked-mel")


@click.command()
@shared.corpus_argument
@shared.out_option
@click.option(
    "--preset",
    default="small",
    show_default=True,
    metavar="NAME",
    help="tiny, small or base; or in the manner of encodec, dac, wavtokenizer, taae or speechtokenizer, such as "
    "encodec-tiny (alone: its small size); spectral is the one to train on a processor.",
)
@click.option(
    "--quantizer",
    type=click.Choice(["vq", "rvq", "simvq", "fsq", "lfq", "grouped-rvq", "masked-rvq"]),
    help="Kind of the quantizer.  [default: the preset's]",
)
@click.option("--codebooks", type=click.IntRange(1), help="How many refine one another.  [default: the preset's]")
@click.option("--size", type=click.IntRange(2), help="Entries of each codebook.  [default: the preset's]")
@click.option("--levels", metavar="8,5,5,5", help="Levels of each dimension, of fsq.")
@click.option(
    "--causal/--not-causal", default=None, help="Whether codes depend on no later sound.  [default: the preset's]"
)
@click.option("--sample-rate", type=click.IntRange(4000), help="Hz of the sound.  [default: the preset's]")
@click.option("--generator", type=click.Choice(["istft", "hifigan"]), default="istft", show_default=True)
@click.option(
    "--distill",
    metavar="logmel|mfcc|MODEL",
    help="Features that the first codebook learns to tell, such as those of a self-supervised model.",
)
@click.option("--distill-layer", type=click.IntRange(0), default=9, show_default=True, help="Layer of that model.")
@click.option(
    "--validate", multiple=True, metavar="CORPUS", help="Recordings to judge by.  [default: 2 % of CORPUS, held out]"
)
@adversarial.options
@shared.device_option
@shared.workers_option
@shared.overwrite_option
def codec(
    corpus: tuple[str, ...],
    out: Path,
    preset: str,
    quantizer: str | None,
    codebooks: int | None,
    size: int | None,
    levels: str | None,
    causal: bool | None,
    sample_rate: int | None,
    generator: GeneratorName,
    distill: str | None,
    distill_layer: int,
    validate: tuple[str, ...],
    device: str,
    workers: int | None,
    overwrite: bool,
    budget: adversarial.Budget,
) -> None:
    """Train a codec: an encoder, a quantizer and a decoder that give sound back from few bits.

    CORPUS: folders, sound files, .jsonl manifests, .txt lists, or - for paths on standard input.

    Sound is decoded once, and kept in a folder of work beside a checkpoint and samples to hear. Stop it and run it
    again: it goes on from the checkpoint to the same codec.

    \b
    vocable train codec speech/ --preset tiny --minutes 5 --out codec/
    torchrun --nproc-per-node 2 -m vocable train codec speech/ --preset spectral --minutes 40 --out codec/
    vocable train codec train.jsonl --preset encodec --out codec/
    vocable train codec train.jsonl --quantizer fsq --levels 8,5,5,5 --causal --out codec/
    vocable train codec train.jsonl --preset speechtokenizer --distill facebook/hubert-base-ls960 --out codec/
    torchrun --nproc-per-node 8 -m vocable train codec train.jsonl --preset dac-base --out codec/
    """
    from vocable import distributed
    from vocable.files import require_absent
    from vocable.tokenizers.gathering import Reading
    from vocable.training.codec import train_codec
    from vocable.training.codec_designs import codec_design, plan_of
    from vocable.training.work import CHECKPOINT

    design = codec_design(
        preset,
        sample_rate=sample_rate,
        causal=causal,
        quantizer=quantizer,
        codebooks=codebooks,
        size=size,
        levels=_levels(levels),
        generator=generator,
    )
    plan = plan_of(preset)
    regime, crops = budget.regime(plan[0]), budget.crops(plan[1])
    work = budget.folder(out, CHECKPOINT)
    require_absent(out, overwrite=overwrite)
    recordings = shared.read_corpus(corpus)
    device = distributed.own_device(shared.pick_device(device))
    teacher, design = _teacher(distill, distill_layer, device, design)
    with distributed.from_environment() as processes:
        voice = adversarial.Voice(processes)
        with voice.display("reading") as display:
            trained = train_codec(
                recordings,
                design,
                work,
                regime=regime,
                crops=crops,
                teacher=teacher,
                validation=shared.read_corpus(validate) if validate else None,
                judge=adversarial.judge,
                device=device,
                processes=processes,
                reading=Reading(shared.pick_workers(workers), None, display.watch, voice.failure),
                on_cache=voice.cache,
                on_report=voice.report,
            )
        if processes.rank == 0:
            trained.publish(out, overwrite=overwrite)
        voice.say(_summary(trained, out))
        adversarial.tell_work(voice, work)


def _levels(text: str | None) -> tuple[int, ...] | None:
    try:
        return tuple(int(level) for level in text.split(",")) if text else None
    except ValueError:
        raise click.UsageError(f"expected --levels such as 8,5,5,5, got {text!r}") from None


def _teacher(
    name: str | None, layer: int, device: str, design: CodecDesign
) -> tuple[FeatureExtractor | None, CodecDesign]:
    """Whom the first codebook learns from, and the design that says how much."""
    from vocable.tokenizers import build
    from vocable.training.codec_designs import DISTILLED

    if name is None:
        return None, design
    teacher = build(name, layers=None if name in _WITHOUT_LAYERS else [layer], device=device)
    return teacher, replace(design, distilled=design.distilled or DISTILLED)


def _summary(codec: NeuralCodec, out: Path) -> str:
    evidence, spec = codec.evidence, codec.spec
    heard = f"{shared.plural(evidence['recordings'], 'recording')}, {evidence['audio_seconds'] / 60:.1f} minutes"
    books = f"{spec.num_codebooks} x {spec.codebooks[0].size} entries, {spec.bitrate:,.0f} bit/s"
    return f"{heard}; codec {codec.fingerprint[:12]} of {books} at {codec.sample_rate} Hz in {out}"
