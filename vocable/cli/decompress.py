"""`vocable decompress`: compressed files to sound."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import numpy as np

from vocable.cli import shared
from vocable.cli.compress import require_vacant, settle

if TYPE_CHECKING:
    from vocable.types import TokenSpec
    from vocable.vocoders.folder import BlockVocoder


@click.command()
@click.argument("source", metavar="IN")
@click.argument("out", metavar="OUT")
@click.option(
    "--tokenizer",
    metavar="DIR|HUB_ID|PRESET",
    help="The codec that made the codes, or units of spectra, which are inverted.  [default: the built-in codec]",
)
@click.option(
    "--vocoder", metavar="DIR|HUB_ID", help="The vocoder of the units that codes are.  [default: the built-in one]"
)
@click.option("--rate", type=click.IntRange(1), help="Sample rate to write, in Hz.  [default: the recording's own]")
@click.option(
    "--format",
    "format_name",
    default="wav",
    show_default=True,
    type=click.Choice(["wav", "flac", "ogg", "opus", "mp3"]),
    help="Of the files of a folder.",
)
@shared.device_option
@click.option("--overwrite", is_flag=True, help="Replace what is at OUT.")
def command(
    source: str,
    out: str,
    tokenizer: str | None,
    vocoder: str | None,
    rate: int | None,
    format_name: str,
    device: str,
    overwrite: bool,
) -> None:
    """Turn files of `vocable compress` back into sound, as long as the recording was.

    IN: a .voc file, or a folder of them; - for standard input. OUT: a sound file, whose suffix names the format, or a
    folder; - for raw PCM (s16le) on standard output, as it comes.

    What is damaged or cut off is found before it is heard: no file is written of it, and on standard output the sound
    ends before it.

    \b
    vocable decompress a.voc a.wav
    vocable decompress small/ wavs/
    vocable decompress a.voc a.wav --vocoder vocoder/
    vocable decompress a.voc - | aplay -f S16_LE -r 16000
    """
    if tokenizer is not None and vocoder is not None:
        raise click.UsageError("--vocoder needs no tokenizer: leave --tokenizer out")
    if out != "-":
        require_vacant(Path(out), overwrite=overwrite)
    place = shared.pick_device(device)
    if Path(source).is_dir():
        if out == "-":
            raise click.UsageError("expected one file for standard output, got a folder")
        _folder(Path(source), Path(out), tokenizer, vocoder, rate, f".{format_name}", place)
        return
    if source == "-":
        _one(sys.stdin.buffer, out, tokenizer, vocoder, rate, place)
        return
    from vocable.compression.files import opened

    with opened(source) as file:
        _one(file, out, tokenizer, vocoder, rate, place)


def _one(source: BinaryIO, out: str, tokenizer: str | None, vocoder: str | None, rate: int | None, device: str) -> None:
    from vocable.audio import write_blocks
    from vocable.compression import Reader, sound_of

    reader = Reader(source)
    decoder = _decoder(reader.head.spec, tokenizer, vocoder, device)
    rate = rate or reader.head.source_rate
    blocks = sound_of(decoder, reader, rate, live=out == "-")
    if out == "-":
        for block in blocks:
            sys.stdout.buffer.write(pcm(block))
            sys.stdout.buffer.flush()
    else:
        write_blocks(out, blocks, rate, decoder.channels)
    seconds = reader.source_samples / reader.head.source_rate
    shared.say(f"{seconds:,.1f} s at {rate:,} Hz, {shared.plural(decoder.channels, 'channel')}, in {out}")


def _folder(
    source: Path, out: Path, tokenizer: str | None, vocoder: str | None, rate: int | None, suffix: str, device: str
) -> None:
    from vocable.compression import decompress_folder
    from vocable.compression.files import first_spec

    decoder = _decoder(first_spec(source), tokenizer, vocoder, device)
    with shared.display("decompress") as display:
        run = decompress_folder(source, decoder, out, sample_rate=rate, suffix=suffix, watcher=display.watch)
    settle(run, "decompressed", out)


def pcm(block: np.ndarray) -> bytes:
    """Samples [n] or [n, C] in -1..1 as 16 bits, channels interleaved."""
    return (block * 32768).round().clip(-32768, 32767).astype("<i2").tobytes()


def _decoder(spec: TokenSpec, tokenizer: str | None, vocoder: str | None, device: str) -> BlockVocoder:
    from vocable.presets import inverter
    from vocable.tokenizers import NeuralCodec
    from vocable.vocoders import UnitVocoder

    if vocoder is not None:
        return UnitVocoder.from_pretrained(vocoder, device=device)
    if tokenizer is not None:
        maker = shared.open_tokenizer(tokenizer, device=device)
        return maker if isinstance(maker, NeuralCodec) else inverter(maker)
    return _built_in(spec, device)


def _built_in(spec: TokenSpec, device: str) -> BlockVocoder:
    """What comes with the package for these codes. SpecError if they are of another tokenizer."""
    from vocable import builtin, presets
    from vocable.errors import SpecError
    from vocable.tokenizers import NeuralCodec
    from vocable.vocoders import UnitVocoder

    if vocoder := presets.vocoder_of(spec):
        return UnitVocoder.from_pretrained(vocoder, device=device)
    if builtin.installed():
        codec = shared.open_tokenizer(builtin.CODEC, device=device)
        if isinstance(codec, NeuralCodec) and codec.spec.source == spec.source:
            return codec
    raise SpecError(
        f"expected codes of a built-in model, got those of tokenizer {spec.source[:12]}",
        hint="name the codec that made them with --tokenizer, or the vocoder of the units with --vocoder",
    )
