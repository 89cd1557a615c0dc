"""`vocable tokenize`: audio to a store of tokens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from vocable.builtin import UNITS
from vocable.cli import shared

if TYPE_CHECKING:
    from vocable.types import Tokenizer


@click.command()
@shared.corpus_argument
@click.option(
    "--tokenizer",
    metavar="DIR|HUB_ID|PRESET",
    help=f"What makes the tokens: units, a codec, or a name that `vocable presets` lists.  [default: {UNITS}]",
)
@click.option("--out", type=click.Path(path_type=Path), help="The store to write, or to go on with.")
@click.option("--codebooks", type=click.IntRange(1), help="Codebooks of a codec to keep, the coarsest first.")
@click.option("--revision", help="Revision of the tokenizer on the hub.")
@click.option("--stream", is_flag=True, help="Read raw mono PCM from standard input, print codes as they come.")
@click.option("--rate", type=click.IntRange(1), help="Hz of what is streamed.  [default: the codec's]")
@click.option(
    "--encoding", type=click.Choice(["s16le", "f32le"]), default="s16le", show_default=True, help="Samples streamed."
)
@shared.device_option
@shared.workers_option
@shared.overwrite_option
def command(
    corpus: tuple[str, ...],
    tokenizer: str | None,
    out: Path | None,
    codebooks: int | None,
    revision: str | None,
    stream: bool,
    rate: int | None,
    encoding: Literal["s16le", "f32le"],
    device: str,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Turn audio into a store of tokens.

    CORPUS: folders, sound files, .jsonl manifests, .txt lists, or - for paths on standard input; any rate and channels.

    Stop it and run it again: it does what is missing. Recordings that cannot be read are listed in failures.jsonl.

    \b
    vocable tokenize speech/ --out tokens/
    vocable tokenize speech/ --tokenizer units/ --out tokens/
    vocable tokenize speech/ --tokenizer facebook/encodec_24khz --codebooks 8 --out tokens/
    find /corpora -name '*.flac' | vocable tokenize - --tokenizer units/ --out tokens/
    arecord -f S16_LE -r 24000 -t raw | vocable tokenize - --stream --tokenizer encodec-24khz
    """
    from vocable.tokenizers import tokenize

    if stream:
        if corpus != ("-",) or out is not None:
            raise click.UsageError("expected `vocable tokenize - --stream` without --out: codes go to standard output")
        if tokenizer is None:
            raise click.UsageError("expected a --tokenizer that streams: a causal codec")
        _stream(shared.open_tokenizer(tokenizer, codebooks=codebooks, revision=revision), rate, encoding)
        return
    if out is None:
        raise click.UsageError("Missing option '--out'.")
    recordings = shared.read_corpus(corpus)
    device = shared.pick_device(device)
    if tokenizer is None:
        shared.say(f"no --tokenizer: taking {UNITS}, which is built in")
    model = shared.open_tokenizer(tokenizer or UNITS, codebooks=codebooks, revision=revision, device=device)
    with shared.display("tokenize") as display:
        run = tokenize(
            recordings,
            model,
            out,
            overwrite=overwrite,
            workers=shared.pick_workers(workers),
            batch_seconds=shared.batch_seconds(device),
            watcher=display.watch,
        )
    shared.say(f"{shared.spent(run, 'tokenized')}, {model.spec.bitrate:,.0f} bit/s, in {out}")
    if run.failed:
        shared.say(f"{shared.plural(run.failed, 'recording')} failed: see {out / 'failures.jsonl'}")


def _stream(tokenizer: Tokenizer, rate: int | None, encoding: Literal["s16le", "f32le"]) -> None:
    from vocable.cli.stream import stream_pcm

    stream_pcm(
        tokenizer, sys.stdin.buffer, sys.stdout, sample_rate=rate or tokenizer.spec.sample_rate, encoding=encoding
    )
