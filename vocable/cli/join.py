"""`vocable join`: several unit tokenizers as one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vocable.cli import shared

if TYPE_CHECKING:
    from vocable.tokenizers import UnitTokenizer


@click.command()
@click.argument("units", nargs=-1, required=True, metavar="UNITS...")
@click.option("--names", metavar="A,B", help="A name for each, which stands for its layer in the codebooks' labels.")
@click.option("--pitch", is_flag=True, help="Pitch as one more codebook, f0 (needs the extra `pitch`).")
@shared.out_option
@click.option("--bundle", is_flag=True, help="Put the models' weights inside the artifact.")
@shared.overwrite_option
def command(units: tuple[str, ...], names: str | None, pitch: bool, out: Path, bundle: bool, overwrite: bool) -> None:
    """Make one tokenizer of several, whose codebooks stand side by side.

    UNITS: unit tokenizers of one sample rate, hop length and window: directories, hub ids, or presets.

    \b
    vocable join mfcc/ logmel/ --out joined/
    vocable join fine/ coarse/ --names short,long --out joined/
    vocable join hubert-units/ --pitch --out with-pitch/
    """
    from vocable.files import require_absent
    from vocable.tokenizers.joined import JoinedTokenizer, pitch_units

    require_absent(out, overwrite=overwrite)
    parts = [_units(place) for place in units]
    chosen = names.split(",") if names is not None else None
    if chosen and len({*chosen, "f0"} if pitch else set(chosen)) != len(parts) + pitch:
        raise click.UsageError(f"expected {shared.plural(len(parts), 'distinct name')} in --names, got {names}")
    if pitch:
        parts.append(pitch_units(parts[0].spec))
    joined = JoinedTokenizer(dict(zip([*chosen, "f0"], parts, strict=False)) if chosen else parts)
    joined.save_pretrained(out, bundle=bundle, overwrite=overwrite)
    shared.say(f"{', '.join(joined.spec.labels)}: {joined.spec.bitrate:,.0f} bit/s, in {out}")


def _units(place: str) -> UnitTokenizer:
    from vocable.tokenizers import UnitTokenizer

    tokenizer = shared.open_tokenizer(place)
    if not isinstance(tokenizer, UnitTokenizer):
        raise click.UsageError(f"expected units to join, got {type(tokenizer).__name__} in {place}")
    return tokenizer
