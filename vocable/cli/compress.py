"""`vocable compress`: sound to compressed files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import numpy as np

from vocable.builtin import CODEC
from vocable.cli import shared
from vocable.errors import AudioError, InputError, OutputError

if TYPE_CHECKING:
    from vocable.compression import Coding, Writer
    from vocable.compression.files import Folder
    from vocable.compression.sound import Sound
    from vocable.tokenizers.folder import WindowTokenizer


@click.command()
@click.argument("source", metavar="IN")
@click.argument("out", metavar="OUT")
@click.option(
    "--tokenizer",
    default=CODEC,
    show_default=True,
    metavar="DIR|HUB_ID|PRESET",
    help="What makes the codes: a codec, or units that a vocoder can turn back into sound.",
)
@click.option("--codebooks", type=click.IntRange(1), help="Codebooks of a codec to keep, the coarsest first.")
@click.option(
    "--coder",
    type=click.Choice(["adaptive", "order0", "uniform"]),
    default="adaptive",
    show_default=True,
    help="What codes are expected from: the one before, how often each came, nothing.",
)
@click.option(
    "--block",
    "block_seconds",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Sound in a block: heard when all of it is there.  [default: what makes 2,000 bytes, 1 to 30]",
)
@click.option("--rate", type=click.IntRange(1), help="Hz of what comes on standard input.  [default: the tokenizer's]")
@click.option(
    "--encoding",
    type=click.Choice(["s16le", "f32le"]),
    default="s16le",
    show_default=True,
    help="Samples on standard input.",
)
@shared.device_option
@click.option("--overwrite", is_flag=True, help="Replace what is at OUT.")
def command(
    source: str,
    out: str,
    tokenizer: str,
    codebooks: int | None,
    coder: str,
    block_seconds: float | None,
    rate: int | None,
    encoding: str,
    device: str,
    overwrite: bool,
) -> None:
    """Compress sound to the codes of a tokenizer, entropy-coded, in files that `vocable decompress` turns back.

    IN: a sound file, or a folder, manifest or list, which makes OUT a folder of .voc files; - for raw mono PCM on
    standard input. OUT: - for standard output.

    A file is written block by block, and each block has a checksum over all before it.

    \b
    vocable compress a.flac a.voc
    vocable compress speech/ small/ --codebooks 2
    vocable compress a.flac a.voc --tokenizer units/
    arecord -f S16_LE -r 16000 -t raw | vocable compress - - --block 1 | ssh host vocable decompress - - | aplay ...
    """
    from vocable.compression import Coding

    target, several = Path(out), _is_several(source)
    if several and out == "-":
        raise click.UsageError("expected one recording to write to standard output, got several")
    if (rate or encoding != "s16le") and source != "-":
        raise click.UsageError("--rate and --encoding go with sound on standard input: sound files know theirs")
    if out != "-":
        require_vacant(target, overwrite=overwrite)
    coding = Coding(codebooks, coder, block_seconds)
    model = shared.open_tokenizer(tokenizer, device=shared.pick_device(device))
    if several:
        _folder(source, model, target, coding)
        return
    writer = _one(source, model, target if out != "-" else None, coding, rate, encoding)
    seconds = writer.frames / writer.head.spec.frame_rate
    shared.say(f"{seconds:,.1f} s in {writer.num_bytes:,} bytes, {8 * writer.num_bytes / seconds:,.0f} bit/s, in {out}")


def require_vacant(out: Path, *, overwrite: bool) -> None:
    """OutputError if something other than an empty folder is there and may not be replaced."""
    from vocable.files import is_vacant

    if not overwrite and not is_vacant(out):
        raise OutputError(f"{out} is there already", hint="name another OUT, or replace it with --overwrite")


def settle(run: Folder, done: str, out: Path) -> None:
    """Says what became of a folder. AudioError if a recording failed."""
    shared.say(f"{shared.spent(run, done)}, {run.num_bytes:,} bytes of codes, in {out}")
    for failure in run.failures:
        shared.say(f"{failure.path}: {failure.reason}")
    if run.failed:
        count = f"{shared.plural(run.failed, 'recording')} of {run.total:,}"
        raise AudioError(f"{count} failed", hint="the others are done")


class _Pcm:
    """Raw mono sound on standard input as a recording at the tokenizer's rate and channels."""

    def __init__(self, source: BinaryIO, source_rate: int, encoding: str, model: WindowTokenizer) -> None:
        self.source_rate, self.source_samples = source_rate, 0
        self._source, self._encoding, self._model = source, encoding, model

    def __iter__(self) -> Iterator[np.ndarray]:
        from vocable.audio import resample_blocks

        for block in resample_blocks(self._read(), self.source_rate, self._model.spec.sample_rate):
            yield block if self._model.channels == 1 else np.stack([block] * self._model.channels, axis=1)

    def _read(self) -> Iterator[np.ndarray]:
        from vocable.cli.stream import ENCODINGS, samples

        for block in samples(self._source, ENCODINGS[self._encoding]):
            self.source_samples += len(block)
            if not np.isfinite(block).all():
                raise AudioError("expected finite samples, got NaN or infinity")
            yield block


def _is_several(source: str) -> bool:
    path = Path(source)
    if source != "-" and not path.exists():
        raise InputError(f"{source} does not exist", hint="expected a sound file, a folder, a manifest or a list")
    return path.is_dir() or path.suffix.lower() in {".jsonl", ".txt", ".lst"}


def _folder(source: str, model: WindowTokenizer, out: Path, coding: Coding) -> None:
    from vocable.compression import compress_folder
    from vocable.corpus import Corpus

    corpus = Corpus.of(source)
    with shared.display("compress") as display:
        run = compress_folder(corpus, model, out, coding, watcher=display.watch)
    settle(run, "compressed", out)


def _one(
    source: str, model: WindowTokenizer, out: Path | None, coding: Coding, rate: int | None, encoding: str
) -> Writer:
    from vocable.audio import AudioStream
    from vocable.compression import compress
    from vocable.compression.files import new_file

    live = source == "-"
    sound: Sound
    if live:
        sound = _Pcm(sys.stdin.buffer, rate or model.spec.sample_rate, encoding, model)
    else:
        sound = AudioStream(source, model.spec.sample_rate, model.channels)
    with nullcontext(sys.stdout.buffer) if out is None else new_file(out) as sink:
        return compress(sound, model, sink, coding, live=live)
