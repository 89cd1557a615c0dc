"""`vocable import-tokens`: units that other tools wrote, as a store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vocable.cli import shared
from vocable.files import new_directory

if TYPE_CHECKING:
    from vocable.tokenizers.streams import TokenStream
    from vocable.types import TokenSpec


@click.command("import-tokens")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@shared.out_option
@click.option("--from", "source", type=click.Choice(["fairseq", "kaldi"]), help="Whose format.  [default: by suffix]")
@click.option("--tokenizer", metavar="DIR|HUB_ID|PRESET", help="What made the units.")
@click.option("--like", metavar="TOKENS", type=click.Path(path_type=Path), help="A store of the same tokenizer.")
@click.option("--codebook", metavar="L6", help="Which of its codebooks the units are of.")
@click.option("--made-by", metavar="NAME", help="What made the units, where no artifact is at hand.")
@click.option("--units", type=click.IntRange(1), help="With --made-by: how many units there are.")
@click.option("--rate", type=click.IntRange(1), default=16000, show_default=True, help="Hz of the audio.")
@click.option("--hop", type=click.IntRange(1), default=320, show_default=True, help="Samples between two units.")
@click.option(
    "--window", type=click.IntRange(1), default=400, show_default=True, help="Samples that the first unit needs."
)
@shared.overwrite_option
def command(
    file: Path,
    out: Path,
    source: str | None,
    tokenizer: str | None,
    like: Path | None,
    codebook: str | None,
    made_by: str | None,
    units: int | None,
    rate: int,
    hop: int,
    window: int,
    overwrite: bool,
) -> None:
    """Make a token store of units in text: fairseq's .km (with its .tsv beside it), or Kaldi's and ESPnet's text.

    What the units are is said by --tokenizer, by --like, or by --made-by and --units; of what `vocable export` wrote it
    is known. Stores that were made by the same name and numbers go together.

    \b
    vocable import-tokens km/train.km --out tokens/
    vocable import-tokens train.km --tokenizer units/ --codebook L6 --out tokens/
    vocable import-tokens data/train/text --made-by hubert-base-l9-km500 --units 500 --out tokens/
    """
    from vocable.errors import InputError
    from vocable.exports import import_tokens
    from vocable.exports.imports import stream_beside
    from vocable.store import TokenStore

    told = [name for name, given in (("--tokenizer", tokenizer), ("--like", like), ("--made-by", made_by)) if given]
    if len(told) > 1:
        raise click.UsageError(f"expected one of {', '.join(told)}")
    if (made_by is None) != (units is None):
        raise click.UsageError("--made-by and --units go together")
    keep: Callable[[Path], None] | None = None
    if tokenizer is not None:
        maker = shared.open_tokenizer(tokenizer)
        stream, keep = _one(maker.spec, codebook), maker.save_pretrained
    elif like is not None:
        other = TokenStore.open(like)
        stream, keep = _one(other.spec, codebook), _copy_of(other.tokenizer_path)
    elif made_by is not None and units is not None:
        stream = _one(_spec(made_by, codebook or "units", units, rate, hop, window), None)
    elif (known := stream_beside(file)) is not None:
        stream = known
    else:
        raise InputError(
            f"nothing says what the units of {file} are", hint="give --tokenizer, --like, or --made-by and --units"
        )
    with shared.display("import") as display:
        run = import_tokens(file, out, stream, source=source, overwrite=overwrite, watcher=display.watch)
    place = TokenStore(out, stream.spec).tokenizer_path
    if keep is not None and not place.exists():
        keep(place)
    earlier = f", {run.skipped:,} done earlier" if run.skipped else ""
    shared.say(f"{shared.plural(run.done, 'recording')} imported{earlier}, in {out}")


def _one(spec: TokenSpec, codebook: str | None) -> TokenStream:
    from vocable.tokenizers.streams import TokenStream

    return TokenStream(spec if codebook is None else spec.take([codebook]))


def _spec(made_by: str, label: str, units: int, rate: int, hop: int, window: int) -> TokenSpec:
    """A spec whose fingerprint is of the name and the numbers: nothing is known of the model itself."""
    import json
    from hashlib import sha256

    from vocable.types import Codebook, TokenSpec

    said = ["imported", made_by, label, units, rate, hop, window]
    return TokenSpec(rate, hop, (Codebook(units, label),), sha256(json.dumps(said).encode()).hexdigest(), window)


def _copy_of(artifact: Path) -> Callable[[Path], None] | None:
    """What copies the artifact, if there is one."""

    def copy(place: Path) -> None:
        with new_directory(place) as work:
            shutil.copytree(artifact, work, dirs_exist_ok=True)

    return copy if artifact.is_dir() else None
