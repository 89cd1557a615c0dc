"""`vocable resynthesize`: a store of tokens to sound files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vocable.cli import shared

if TYPE_CHECKING:
    from torch import Tensor

    from vocable.store import TokenStore
    from vocable.vocoders.durations import Durations
    from vocable.vocoders.folder import BlockVocoder
    from vocable.vocoders.units import Precision


@click.command()
@click.argument("tokens", type=click.Path(path_type=Path))
@shared.out_option
@click.option(
    "--vocoder",
    metavar="DIR|HUB_ID",
    help="A trained vocoder.  [default: the codec, the built-in one of vocable-units, or an inversion]",
)
@click.option("--tokenizer", metavar="DIR|HUB_ID", help="What made the tokens.  [default: the copy in the store]")
@click.option("--layers", metavar="L6,L9", help="Layers to decode, of those in the store.  [default: all]")
@click.option("--speaker", metavar="NAME|WAV", help="Whose voice: one the vocoder learned, or that of a recording.")
@click.option("--f0-shift", "semitones", type=float, default=0.0, metavar="SEMITONES", help="Raise the pitch.")
@click.option("--speed", type=click.FloatRange(0, min_open=True), default=1.0, help="So many times as fast.")
@click.option(
    "--predict-durations",
    "predicted",
    is_flag=True,
    help="Forget how long units last and predict it, of the one layer that the vocoder has learned it for.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    help="Numbers that a trained vocoder computes with; bf16 is quicker on many processors.  [default: fp32]",
)
@click.option("--rate", type=click.IntRange(1), help="Sample rate to write, in Hz.  [default: the recording's own]")
@click.option(
    "--format",
    "format_name",
    default="wav",
    show_default=True,
    type=click.Choice(["wav", "flac", "ogg", "opus", "mp3"]),
)
@shared.device_option
@shared.overwrite_option
def command(
    tokens: Path,
    out: Path,
    vocoder: str | None,
    tokenizer: str | None,
    layers: str | None,
    speaker: str | None,
    semitones: float,
    speed: float,
    predicted: bool,
    precision: Precision | None,
    rate: int | None,
    format_name: str,
    device: str,
    overwrite: bool,
) -> None:
    """Turn a store of tokens back into audio, a file for every recording, as long as the recording was.

    With --vocoder by a trained one, which takes any layers that it knows. Else tokens of a codec are decoded by it,
    those of vocable-units by vocable-vocoder, and units of spectral features (mfcc, logmel) are inverted without
    weights. Stop it and run it again: it does what is missing.

    \b
    vocable resynthesize tokens/ --out wavs/
    vocable resynthesize tokens/ --vocoder vocoder/ --out wavs/
    vocable resynthesize tokens/ --vocoder vocoder/ --layers L6 --speaker ann --f0-shift 2 --speed 1.1 --out wavs/
    vocable resynthesize tokens/ --vocoder vocoder/ --predict-durations --out wavs/
    """
    from vocable.store import TokenStore
    from vocable.vocoders import resynthesize
    from vocable.vocoders.style import Style

    store = TokenStore.open(tokens)
    if vocoder is None and tokenizer is None:
        vocoder = _built_in(store)
    if vocoder is not None and tokenizer is not None and speaker is None:
        raise click.UsageError("--vocoder needs no tokenizer: leave --tokenizer out")
    if vocoder is None and precision is not None:
        raise click.UsageError("--precision goes with --vocoder")
    decoder = open_decoder(store, vocoder, tokenizer, precision or "fp32", shared.pick_device(device))
    voice = _voice(speaker, store, decoder, tokenizer)
    durations = _durations(decoder) if predicted else None
    style = Style(voice=voice, semitones=semitones, speed=speed, durations=durations)
    chosen = [name.strip() for name in layers.split(",")] if layers else [durations.layer] if durations else None
    with shared.display("resynthesize") as display:
        run = resynthesize(
            store,
            decoder,
            out,
            layers=chosen,
            sample_rate=rate,
            suffix=f".{format_name}",
            style=style,
            overwrite=overwrite,
            watcher=display.watch,
        )
    shared.say(f"{shared.spent(run, 'resynthesized')}, in {out}")


def _built_in(store: TokenStore) -> str | None:
    from vocable.presets import vocoder_of

    found = vocoder_of(store.spec)
    if found:
        shared.say(f"no --vocoder: taking {found}, which is built in")
    return found


def open_decoder(
    store: TokenStore, vocoder: str | None, tokenizer: str | None, precision: Precision, device: str
) -> BlockVocoder:
    """The vocoder named; without one the codec that made the tokens, or the inverter of their units."""
    from vocable.presets import inverter
    from vocable.tokenizers import NeuralCodec, load
    from vocable.vocoders import UnitVocoder

    if vocoder is not None:
        return UnitVocoder.from_pretrained(vocoder, precision=precision, device=device)
    maker = load(tokenizer or str(store.tokenizer_path), device=device)
    return maker if isinstance(maker, NeuralCodec) else inverter(maker)


def _voice(speaker: str | None, store: TokenStore, decoder: BlockVocoder, tokenizer: str | None) -> str | Tensor | None:
    """The name of a learned voice, or the voice of a recording."""
    from vocable.vocoders import UnitVocoder

    if speaker is None or not isinstance(decoder, UnitVocoder) or speaker in decoder.speakers:
        return speaker
    if not Path(speaker).is_file():
        return speaker
    from vocable import audio
    from vocable.tokenizers import load
    from vocable.vocoders.voices import fit_voice

    recording = audio.read(speaker)
    shared.say(f"fitting the voice of {speaker}")
    return fit_voice(decoder, load(tokenizer or str(store.tokenizer_path)).encode(recording), recording)


def _durations(decoder: BlockVocoder) -> Durations:
    from vocable.errors import InputError
    from vocable.vocoders import UnitVocoder
    from vocable.vocoders.durations import NO_DURATIONS

    if not isinstance(decoder, UnitVocoder) or decoder.durations is None:
        raise InputError("expected a vocoder that has learned durations, got one without", hint=NO_DURATIONS)
    return decoder.durations
