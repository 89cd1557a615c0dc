"""`vocable train`: tokenizers, vocoders, codecs, encoders, language models. Commands are imported when asked for."""

from __future__ import annotations

import re
from importlib import import_module

import click

_QUANTIZERS = ("vq", "rvq", "simvq", "fsq", "lfq", "gumbel")
_COMMANDS = {
    "kmeans": "vocable.cli.train_kmeans",
    **dict.fromkeys(_QUANTIZERS, "vocable.cli.train_quantizer"),
    "vocoder": "vocable.cli.train_vocoder",
    "codec": "vocable.cli.train_codec",
    "encoder": "vocable.cli.train_encoder",
    "bpe": "vocable.cli.train_bpe",
    "lm": "vocable.cli.train_lm",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = getattr(import_module(_COMMANDS[cmd_name]), cmd_name)
        return found


@click.group(cls=_LazyGroup)
def command() -> None:
    """Train a tokenizer, a vocoder, a codec or an encoder on a corpus."""


def parse_layers(text: str | None) -> list[int | str] | None:
    """Names of layers for 6,9 or 4-9 or 6.pre; None for "all" or nothing."""
    if text is None or text == "all":
        return None
    layers: list[int | str] = []
    for part in text.split(","):
        found = re.fullmatch(r"L?(\d+)(?:-L?(\d+)|(\.pre))?", part.strip())
        if found is None:
            raise click.UsageError(f"expected --layers such as 6,9 or 4-9 or 6.pre or all, got {text!r}")
        first, last, pre = found.groups()
        layers += [f"{first}.pre"] if pre else range(int(first), int(last or first) + 1)
    return layers
