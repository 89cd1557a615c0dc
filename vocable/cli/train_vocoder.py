"""`vocable train vocoder`: a network that turns the tokens of a tokenizer into sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vocable.cli import adversarial, shared

if TYPE_CHECKING:
    from vocable.corpus import Corpus
    from vocable.tokenizers.folder import WindowTokenizer
    from vocable.vocoders import UnitVocoder
    from vocable.vocoders.designs import GeneratorName, Size


@click.command()
@shared.corpus_argument
@click.option("--tokenizer", required=True, metavar="DIR|HUB_ID|PRESET", help="What makes the tokens to learn from.")
@shared.out_option
@click.option(
    "--preset",
    type=click.Choice(["tiny", "small", "base"]),
    default="small",
    show_default=True,
    help="tiny: minutes of two cores; small: 20 minutes of a GPU; base: days of several.",
)
@click.option("--generator", type=click.Choice(["istft", "hifigan"]), default="istft", show_default=True)
@click.option(
    "--sample-rate",
    type=click.Choice(["16000", "22050", "24000", "44100"]),
    help="Hz of the sound.  [default: the tokenizer's]",
)
@click.option("--speakers", metavar="FIELD", help="Learn voices: the field of the manifest that names the speaker.")
@click.option(
    "--layer-dropout/--no-layer-dropout", default=True, help="Whether to learn from any subset of layers, or from all."
)
@click.option(
    "--init-from-centroids/--no-init-from-centroids",
    default=None,
    help="Begin the embedding of a code with its k-means centroid.  [default: where there are any]",
)
@click.option("--durations", is_flag=True, help="Learn how long units last, for units that come without repetitions.")
@click.option("--durations-layer", metavar="NAME", help="Of which layer.  [default: the only one]")
@click.option(
    "--tokens", type=click.Path(path_type=Path), metavar="DIR", help="Tokens of CORPUS that are there already."
)
@click.option(
    "--validate", multiple=True, metavar="CORPUS", help="Recordings to judge by.  [default: 2 % of CORPUS, held out]"
)
@adversarial.options
@shared.device_option
@shared.workers_option
@shared.overwrite_option
def vocoder(
    corpus: tuple[str, ...],
    tokenizer: str,
    out: Path,
    preset: Size,
    generator: GeneratorName,
    sample_rate: str | None,
    speakers: str | None,
    layer_dropout: bool,
    init_from_centroids: bool | None,
    durations: bool,
    durations_layer: str | None,
    tokens: Path | None,
    validate: tuple[str, ...],
    device: str,
    workers: int | None,
    overwrite: bool,
    budget: adversarial.Budget,
) -> None:
    """Train a network that turns tokens into sound: those of all layers, or of any of them.

    CORPUS: folders, sound files, .jsonl manifests, .txt lists, or - for paths on standard input.

    Tokens and sound are made once, and kept in a folder of work beside a checkpoint and samples to hear. Stop it and
    run it again: it goes on from the checkpoint to the same vocoder.

    \b
    vocable train vocoder speech/ --tokenizer units/ --out vocoder/
    vocable train vocoder speech/ --tokenizer units/ --preset tiny --minutes 5 --out vocoder/
    vocable train vocoder train.jsonl --tokenizer units/ --speakers speaker --sample-rate 24000 --out vocoder/
    torchrun --nproc-per-node 8 -m vocable train vocoder train.jsonl --tokenizer units/ --preset base --out vocoder/
    """
    from vocable import distributed
    from vocable.files import require_absent
    from vocable.store import TokenStore
    from vocable.tokenizers.gathering import Reading
    from vocable.training.vocoder import PRESETS, train_vocoder
    from vocable.training.work import CHECKPOINT, TOKENS
    from vocable.vocoders.durations import with_durations

    regime, crops = budget.regime(PRESETS[preset][0]), budget.crops(PRESETS[preset][1])
    work = budget.folder(out, CHECKPOINT)
    require_absent(out, overwrite=overwrite)
    recordings = shared.read_corpus(corpus)
    device = distributed.own_device(shared.pick_device(device))
    maker = shared.open_tokenizer(tokenizer, device=device)
    rate = int(sample_rate or maker.spec.sample_rate)
    lasting = _layer(maker, durations_layer) if durations or durations_layer else None
    design = _design(preset, maker, rate, generator, recordings, speakers, init_from_centroids)
    with distributed.from_environment() as processes:
        voice = adversarial.Voice(processes)
        with voice.display("reading") as display:
            reading = Reading(shared.pick_workers(workers), shared.batch_seconds(device), display.watch, voice.failure)
            trained = train_vocoder(
                recordings,
                maker,
                work,
                design=design,
                sample_rate=rate,
                regime=regime,
                crops=crops,
                layer_dropout=layer_dropout,
                speakers=speakers,
                tokens=TokenStore.open(tokens) if tokens else None,
                validation=shared.read_corpus(validate) if validate else None,
                judge=adversarial.judge,
                device=device,
                processes=processes,
                reading=reading,
                on_cache=voice.cache,
                on_report=voice.report,
            )
        if processes.rank == 0:
            if lasting:
                voice.say(f"learning durations of {lasting}")
                trained = with_durations(trained, TokenStore.open(tokens or work / TOKENS), lasting, seed=regime.seed)
            trained.save_pretrained(out, overwrite=overwrite)
        voice.say(_summary(trained, out))
        adversarial.tell_work(voice, work)


def _design(
    preset: Size,
    tokenizer: WindowTokenizer,
    sample_rate: int,
    generator: GeneratorName,
    corpus: Corpus,
    speakers: str | None,
    init_from_centroids: bool | None,
) -> dict[str, Any]:
    from vocable.errors import InputError
    from vocable.training.vocoder import centroids_of, speaker_names
    from vocable.vocoders.designs import design

    points = [] if init_from_centroids is False else centroids_of(tokenizer)
    if init_from_centroids and not points:
        raise InputError("expected units of k-means to begin from centroids, got others", hint="begin without them")
    return design(
        preset,
        tokenizer.spec,
        sample_rate,
        generator=generator,
        speakers=len(speaker_names(corpus, speakers)) if speakers else 0,
        centroids=[0 if entries is None else entries.shape[1] for entries in points] or None,
    )


def _layer(tokenizer: WindowTokenizer, name: str | None) -> str:
    """The layer to learn durations of, asked for before anything is done."""
    from vocable.vocoders.durations import durations_layer

    return durations_layer(tokenizer.spec, name)


def _summary(vocoder: UnitVocoder, out: Path) -> str:
    evidence = vocoder.evidence
    heard = f"{shared.plural(evidence['recordings'], 'recording')}, {evidence['audio_seconds'] / 60:.1f} minutes"
    layers = ", ".join(vocoder.layers)
    return f"{heard}; vocoder {vocoder.fingerprint[:12]} of {layers} at {vocoder.sample_rate} Hz in {out}"
