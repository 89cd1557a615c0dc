"""`vocable presets`: the well-known set-ups, and how each is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import click

from vocable.recipes import Preset, find, presets

_HEADER = ("NAME", "HZ", "CODEBOOKS", "BIT/S", "DOWNLOAD", "LICENCE")


@click.command()
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List known set-ups: frame rate, codebooks, bit/s, what must be downloaded, its licence.

    With a NAME, say more of that one and show the command line that uses it.

    \b
    vocable presets
    vocable presets dmel
    """
    for line in _table([_HEADER, *map(_row, presets())]) if name is None else _described(find(name)):
        click.echo(line)


def _row(preset: Preset) -> tuple[str, ...]:
    return (
        preset.name,
        f"{preset.frame_rate:.4g}",
        _codebooks(preset),
        f"{preset.bitrate:,.0f}",
        _download(preset),
        preset.licence,
    )


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The rows in columns, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if index in (1, 2, 3) else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _described(preset: Preset) -> Iterator[str]:
    """One preset, a property a line."""
    rows = [
        ("what", preset.what),
        ("kind", preset.kind),
        ("clock", f"{preset.frame_rate:.4g} frames/s at {preset.sample_rate:,} Hz (hop {preset.hop_length})"),
        ("codebooks", _codebooks(preset)),
        ("bitrate", f"{preset.bitrate:,.0f} bit/s"),
        ("download", _download(preset)),
        ("licence", preset.licence),
        ("described in", preset.reference),
        ("use", preset.command),
    ]
    if preset.learned_from is not None:
        rows.insert(7, ("learned from", preset.learned_from))
    if preset.layers is not None:
        rows.insert(4, ("layers", ", ".join(map(str, preset.layers))))
    return (f"{label:<12}  {value}" for label, value in rows)


def _download(preset: Preset) -> str:
    return preset.download or ("none, in the package" if preset.kind == "built-in" else "nothing")


def _codebooks(preset: Preset) -> str:
    return " + ".join(f"{len(list(same))} x {size}" for size, same in groupby(preset.codebooks))
