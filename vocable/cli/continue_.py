"""`vocable continue`: a language model goes on where recordings stop, or begins by itself, and it is made to sound."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vocable.cli import shared
from vocable.cli.resynthesize import open_decoder

if TYPE_CHECKING:
    from vocable.language.model import LanguageModel
    from vocable.store import TokenStore
    from vocable.vocoders.folder import BlockVocoder
    from vocable.vocoders.style import Style


@click.command("continue")
@click.argument("tokens", type=click.Path(path_type=Path))
@click.option("--lm", "lm", required=True, type=click.Path(path_type=Path), help="What `vocable train lm` made.")
@shared.out_option
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True, help="To add.")
@click.option(
    "--prompt-seconds",
    type=click.FloatRange(0),
    default=3.0,
    show_default=True,
    help="Of each recording that are continued; 0 to begin with nothing.",
)
@click.option(
    "--samples", type=click.IntRange(1), default=8, show_default=True, help="Recordings, the store's first, or sounds."
)
@click.option("--temperature", type=click.FloatRange(0, 99), default=0.9, show_default=True, help="0: the likeliest.")
@click.option("--top-k", type=click.IntRange(0), default=0, show_default=True, help="Of so many likeliest; 0: of all.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--vocoder", metavar="DIR|HUB_ID", help="A trained vocoder.  [default: as `vocable resynthesize`]")
@click.option(
    "--tokens-out", type=click.Path(path_type=Path), metavar="DIR", help="Store of the tokens.  [default: OUT.tokens]"
)
@shared.device_option
@shared.overwrite_option
def command(
    tokens: Path,
    lm: Path,
    out: Path,
    seconds: float,
    prompt_seconds: float,
    samples: int,
    temperature: float,
    top_k: int,
    seed: int,
    vocoder: str | None,
    tokens_out: Path | None,
    device: str,
    overwrite: bool,
) -> None:
    """Continue the recordings of a token store with a language model, as tokens and as sound.

    Only ids that can come at a place are drawn, so that every sequence is one of codes. Streams whose runs lost their
    lengths need a vocoder that has learned durations.

    \b
    vocable continue tokens/ --lm lm/ --seconds 5 --out wavs/
    vocable continue tokens/ --lm lm/ --prompt-seconds 0 --samples 20 --temperature 0.8 --out wavs/
    vocable resynthesize wavs.tokens/ --vocoder vocoder/ --out others/
    """
    from vocable.files import require_absent
    from vocable.language.generation import Request, Sampling, continuations
    from vocable.language.model import LanguageModel
    from vocable.progress import Progress
    from vocable.store import TokenStore
    from vocable.vocoders import resynthesize

    place = tokens_out or out.with_name(f"{out.name}.tokens")
    for folder in (out, place):
        require_absent(folder, overwrite=overwrite)
    device = shared.pick_device(device)
    model, store = LanguageModel.from_pretrained(lm, device=device), TokenStore.open(tokens)
    model.stream.rows(store.spec)
    decoder = _decoder(store, model, vocoder, device)
    style = _style(model, decoder)
    request, sampling = Request(seconds, prompt_seconds, samples), Sampling(temperature, top_k, seed)
    made = TokenStore.create(place, model.stream.spec, overwrite=overwrite)
    if store.tokenizer_path.is_dir():
        shutil.copytree(store.tokenizer_path, made.tokenizer_path)
    with shared.display("continue") as display:
        progress, entries = Progress(samples), []
        for entry, _ in continuations(model, store, request, sampling):
            entries.append(entry)
            progress.done += 1
            progress.audio_seconds += entry.samples / made.spec.sample_rate
            display.watch(progress)
        made.append(entries)
    shared.say(f"{shared.spent(progress, 'continued')}, in {place}")
    with shared.display("resynthesize") as display:
        run = resynthesize(made, decoder, out, style=style, overwrite=overwrite, watcher=display.watch)
    shared.say(f"{shared.spent(run, 'resynthesized')}, in {out}")


def _decoder(store: TokenStore, model: LanguageModel, vocoder: str | None, device: str) -> BlockVocoder:
    """What makes these tokens sound, checked before anything is drawn."""
    from vocable.presets import vocoder_of

    decoder = open_decoder(store, vocoder or vocoder_of(store.spec), None, "fp32", device)
    decoder.require(model.stream.spec)
    return decoder


def _style(model: LanguageModel, decoder: BlockVocoder) -> Style | None:
    """Durations, where the stream has forgotten them."""
    from vocable.errors import InputError
    from vocable.vocoders import UnitVocoder
    from vocable.vocoders.style import Style

    if model.stream.exact:
        return None
    if not isinstance(decoder, UnitVocoder) or decoder.durations is None:
        raise InputError(
            "expected a vocoder that has learned durations, for a stream that has forgotten them",
            hint="train the language model with --runs timed, or the vocoder with durations",
        )
    style = Style(durations=decoder.durations)
    style.require(decoder, model.stream.spec)
    return style
