"""`vocable evaluate`: tokenizers, vocoders and other programs' sounds, judged on the same recordings."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vocable.cli import shared

if TYPE_CHECKING:
    from vocable.evaluation import Evaluation, SoundSystem, TokenSystem
    from vocable.progress import Watcher
    from vocable.tokenizers import JoinedTokenizer, NeuralCodec, UnitTokenizer
    from vocable.vocoders.folder import BlockVocoder

_MOST_WORKERS = 8
_MOST_LINES = 20  # on failures, on the terminal


@click.command()
@shared.corpus_argument
@shared.out_option
@click.option(
    "--tokenizer",
    "tokenizers",
    multiple=True,
    metavar="[NAME=]DIR|HUB_ID|PRESET",
    help="What makes tokens; give it again for another.",
)
@click.option(
    "--vocoder",
    "vocoders",
    multiple=True,
    metavar="[NAME=]DIR|HUB_ID",
    help="A trained vocoder, for every tokenizer it fits.  [default: the codec, or an inversion]",
)
@click.option("--codebooks", metavar="N,N", help="Decode the first so many codebooks of codecs: a system each.")
@click.option(
    "--sounds",
    multiple=True,
    metavar="NAME=DIR[@BIT/S]",
    help="What another program made: a file for each recording, named after its id.",
)
@click.option("--metrics", metavar="NAME,NAME", help='What to judge by; "default" among others.  [default: all here]')
@click.option("--items", type=click.IntRange(1), help="So many of the recordings.  [default: all]")
@click.option("--seed", type=int, default=0, show_default=True, help="Which ones --items takes.")
@click.option(
    "--max-shift",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Take away constant delays up to so long.",
)
@shared.device_option
@click.option("--workers", type=click.IntRange(0), help="Processes that decode and judge.  [default: the cores]")
@click.option("--overwrite", is_flag=True, help="Make the tokens and sounds of these systems anew.")
def command(
    corpus: tuple[str, ...],
    out: Path,
    tokenizers: tuple[str, ...],
    vocoders: tuple[str, ...],
    codebooks: str | None,
    sounds: tuple[str, ...],
    metrics: str | None,
    items: int | None,
    seed: int,
    max_shift: float,
    device: str,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Compare tokenizers and vocoders on a corpus: how close the sound comes, and what the tokens cost.

    Every tokenizer goes with every vocoder that fits it; one that none fits is decoded by itself, if it is a codec, or
    inverted, if its units are spectral. --out gets tables (evaluation.md, evaluation.json) and a page to hear it all.

    Stop it and run it again: it does what is missing, also of systems and metrics that are new.

    \b
    vocable evaluate dev.jsonl --tokenizer units/ --out evaluation/
    vocable evaluate dev.jsonl --tokenizer units/ --vocoder vocoder/ --tokenizer dmel --items 100 --out evaluation/
    vocable evaluate dev.jsonl --tokenizer encodec-24khz --codebooks 1,2,4,8 --metrics mel,stoi --out evaluation/
    vocable evaluate dev.jsonl --tokenizer units/ --sounds "opus @ 6=opus6/@6000" --max-shift 0.05 --out evaluation/
    """
    from vocable.evaluation import evaluate
    from vocable.evaluation.run import sample
    from vocable.evaluation.tables import comparison

    names, counts = _metrics(metrics), _counts(codebooks)
    outside = [_sounds(told) for told in sounds]
    if not tokenizers and not outside:
        raise click.UsageError("expected a --tokenizer or --sounds to evaluate")
    recordings = sample(shared.read_corpus(corpus), items, seed=seed)
    device = shared.pick_device(device)
    systems: list[TokenSystem | SoundSystem] = [*_systems(tokenizers, vocoders, counts, device), *outside]
    evaluation = evaluate(
        recordings,
        systems,
        out,
        metrics=names,
        max_shift=max_shift,
        workers=min(_MOST_WORKERS, os.cpu_count() or 1) if workers is None else workers,
        batch_seconds=shared.batch_seconds(device),
        overwrite=overwrite,
        facts={} if device == "cpu" else {"device": device},
        commands=[shlex.join(["vocable", *sys.argv[1:]])],
        stage=_shown,
    )
    click.echo(comparison(evaluation))
    _say_failures(evaluation, out)
    shared.say(f"tables in {out / 'evaluation.md'}, page in {out / 'index.html'}")


@contextmanager
def _shown(what: str) -> Iterator[Watcher]:
    with shared.display(what) as display:
        yield display.watch


def _metrics(told: str | None) -> list[str] | None:
    """The names given, with "default" spelled out; says which of the defaults cannot be taken."""
    from vocable.evaluation.run import default_metrics

    names = ["default"] if told is None else [name.strip() for name in told.split(",") if name.strip()]
    defaults, missing = default_metrics()
    if missing and "default" in names:
        ways = ", ".join(sorted(set(missing.values())))
        shared.say(f"left out: {', '.join(missing)}, whose libraries are not installed ({ways})")
    if told is None:
        return None
    return [metric for name in names for metric in (defaults if name == "default" else [name])]


def _counts(told: str | None) -> list[int]:
    try:
        counts = [int(part) for part in told.split(",")] if told else []
    except ValueError:
        raise click.UsageError(f"expected --codebooks as in 1,2,4, got {told!r}") from None
    if any(count < 1 for count in counts):
        raise click.UsageError(f"expected --codebooks of at least 1, got {told!r}")
    return counts


def _sounds(told: str) -> SoundSystem:
    from vocable.evaluation import SoundSystem

    name, given, place = told.partition("=")
    if not given or not name.strip() or not place:
        raise click.UsageError(f"expected --sounds as in opus=opus/@16000, got {told!r}")
    folder, at, rate = place.rpartition("@")
    if Path(place).is_dir() or not at:
        return SoundSystem(name.strip(), Path(place))
    try:
        bitrate = float(rate)
    except ValueError:
        bitrate = 0.0
    if not 0 < bitrate < float("inf"):
        raise click.UsageError(f"expected a number of bit/s after the last @ of --sounds, got {rate!r}")
    return SoundSystem(name.strip(), Path(folder), bitrate)


def _named(told: str) -> tuple[str, str]:
    """The name and the place of "name=place", or of a place alone, whose last part is its name."""
    name, given, place = told.partition("=")
    if given and name.strip() and place and not Path(told).exists():
        return name.strip(), place
    return (Path(told).resolve().name if Path(told).exists() else told.rstrip("/").rpartition("/")[2]) or told, told


def _systems(
    tokenizers: Sequence[str], vocoders: Sequence[str], counts: Sequence[int], device: str
) -> list[TokenSystem]:
    """Every tokenizer with what decodes it, at each number of codebooks. UsageError if a choice is of no use."""
    from vocable.evaluation import TokenSystem
    from vocable.vocoders import UnitVocoder

    makers = {name: shared.open_tokenizer(place, device=device) for name, place in _distinct("--tokenizer", tokenizers)}
    decoders = {
        name: UnitVocoder.from_pretrained(place, device=device) for name, place in _distinct("--vocoder", vocoders)
    }
    fitting = {name: [one for one in decoders if decoders[one].spec.covers(makers[name].spec)] for name in makers}
    for name, decoder in decoders.items():
        if not any(name in fits for fits in fitting.values()):
            raise click.UsageError(
                f"vocoder {name} fits no --tokenizer here: it decodes tokens of {decoder.spec.source[:12]}"
            )
    systems = [
        system
        for name, maker in makers.items()
        for system in (
            [TokenSystem(name, maker, decoders[one], one) for one in fitting[name]]
            or [TokenSystem(name, maker, _own_decoder(name, maker))]
        )
    ]
    cut = [at for system in systems for at in system.at(counts)]
    reached = {system.codebooks for system in cut}
    if counts and reached == {None}:
        raise click.UsageError("no --tokenizer here can be decoded by so many of its first --codebooks")
    for count in sorted(set(counts) - reached):
        shared.say(f"left out: {count} codebooks, which no tokenizer here decodes")
    return cut


def _distinct(option: str, told: Sequence[str]) -> list[tuple[str, str]]:
    """Names and places. UsageError if two have one name."""
    found = [_named(one) for one in told]
    names = [name for name, _ in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise click.UsageError(f"{option} {twice[0]} is there twice: name them apart with {option} NAME=PLACE")
    return found


def _own_decoder(name: str, maker: UnitTokenizer | JoinedTokenizer | NeuralCodec) -> BlockVocoder:
    """The codec itself, or the inversion of spectral units. InputError if neither is possible."""
    from vocable.errors import InputError
    from vocable.presets import inverter
    from vocable.tokenizers import NeuralCodec

    if isinstance(maker, NeuralCodec):
        return maker
    try:
        return inverter(maker)
    except InputError as problem:
        raise InputError(
            f"nothing decodes tokens of {name}: {problem.message}", hint="name a --vocoder that was trained for them"
        ) from problem


def _say_failures(evaluation: Evaluation, out: Path) -> None:
    from vocable.evaluation.tables import failures

    lines = failures(evaluation)
    for line in lines[:_MOST_LINES]:
        shared.say(line)
    if len(lines) > _MOST_LINES:
        shared.say(f"and {len(lines) - _MOST_LINES} more such lines in {out / 'evaluation.md'}")
