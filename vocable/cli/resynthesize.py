"""`vocable resynthesize`: a store of tokens to sound files."""

from __future__ import annotations

from pathlib import Path

import click

from vocable.cli import shared


@click.command()
@click.argument("tokens", type=click.Path(path_type=Path))
@shared.out_option
@click.option("--tokenizer", metavar="DIR|HUB_ID", help="What made the tokens.  [default: the copy in the store]")
@click.option("--rate", type=click.IntRange(1), help="Sample rate to write, in Hz.  [default: the recording's own]")
@click.option(
    "--format",
    "format_name",
    default="wav",
    show_default=True,
    type=click.Choice(["wav", "flac", "ogg", "opus", "mp3"]),
)
@shared.overwrite_option
def command(
    tokens: Path, out: Path, tokenizer: str | None, rate: int | None, format_name: str, overwrite: bool
) -> None:
    """Turn a store of tokens back into audio, a file for every recording, as long as the recording was.

    Tokens of a codec are decoded by it; units of spectral features (mfcc, logmel) are inverted without weights. Stop it
    and run it again: it does what is missing.

    \b
    vocable resynthesize tokens/ --out wavs/
    """
    from vocable.presets import inverter
    from vocable.store import TokenStore
    from vocable.tokenizers import UnitTokenizer, load
    from vocable.vocoders import resynthesize

    store = TokenStore.open(tokens)
    maker = load(tokenizer or str(store.tokenizer_path))
    vocoder = inverter(maker) if isinstance(maker, UnitTokenizer) else maker
    with shared.display("resynthesize") as display:
        run = resynthesize(
            store, vocoder, out, sample_rate=rate, suffix=f".{format_name}", overwrite=overwrite, watcher=display.watch
        )
    shared.say(f"{shared.spent(run, 'resynthesized')}, in {out}")
