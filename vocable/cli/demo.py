"""`vocable demo`: the whole way on the bundled speech."""

from __future__ import annotations

from pathlib import Path

import click

from vocable.cli import shared


@click.command()
@click.option(
    "--out", default="demo", show_default=True, type=click.Path(path_type=Path), help="Where the result goes."
)
@shared.overwrite_option
def command(out: Path, overwrite: bool) -> None:
    """Train units on the bundled speech, tokenize it, resynthesize it, and write a page to see and hear it.

    A second page has the built-in units, with their vocoder, and the built-in codec beside them, and Opus if opusenc is
    installed. No network and no downloaded weights are needed.

    \b
    vocable demo --out demo/
    """
    from vocable.demo import demo

    page = demo(out, overwrite=overwrite, say=shared.say)
    shared.say("open it in a browser:")
    click.echo(page.resolve().as_uri())
