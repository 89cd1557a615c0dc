"""`vocable train bpe`: pairs of units that occur together become tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vocable.cli import shared

if TYPE_CHECKING:
    from vocable.tokenizers.bpe_training import Gain


@click.command("bpe")
@click.argument("tokens", type=click.Path(path_type=Path))
@click.option("--vocab", type=click.IntRange(2), default=4000, show_default=True, help="Tokens, the units included.")
@click.option("--codebooks", metavar="L6,L9", help="Codebooks, frame by frame in one sequence.  [default: all]")
@click.option("--dedup/--no-dedup", default=True, show_default=True, help="Send a run of equal units once.")
@click.option(
    "--special",
    default="pad,bos,eos",
    show_default=True,
    metavar="NAMES",
    help="Ids before all others; bos and eos go around every sequence. An empty text for none.",
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.05,
    show_default=True,
    help="Share of the recordings that the gain is measured on, and nothing is learned from.",
)
@click.option(
    "--most-units",
    type=click.IntRange(1),
    default=10_000_000,
    show_default=True,
    help="Units to learn from; of a larger store, a choice of recordings.",
)
@shared.out_option
@shared.overwrite_option
def bpe(
    tokens: Path,
    vocab: int,
    codebooks: str | None,
    dedup: bool,
    special: str,
    held_out: float,
    most_units: int,
    out: Path,
    overwrite: bool,
) -> None:
    """Learn byte-pair encoding of the units in a token store, and say what it gains.

    Writes tokenizer.json, which `tokenizers` and transformers read, and stream.json, which says of which codebooks it
    is and is read by vocable.

    \b
    vocable train bpe tokens/ --vocab 4000 --out bpe/
    vocable train bpe tokens/ --codebooks L9 --vocab 2000 --no-dedup --out bpe/
    """
    from dataclasses import asdict

    from vocable.files import require_absent
    from vocable.store import TokenStore
    from vocable.tokenizers.bpe_training import save_bpe, train_bpe, unit_stream

    require_absent(out, overwrite=overwrite)
    store = TokenStore.open(tokens)
    names = tuple(filter(None, special.split(",")))
    stream = unit_stream(store, codebooks.split(",") if codebooks else None, runs_once=dedup)
    with shared.display("learning pairs") as shown:
        made, gains = train_bpe(store, stream, vocab, held_out=held_out, most_units=most_units, watcher=shown.watch)
    whole = save_bpe(
        made, out, special=names, evidence={"gains": [asdict(gain) for gain in gains]}, overwrite=overwrite
    )
    _table(gains)
    if made.vocabulary < vocab:
        shared.say(f"{made.vocabulary:,} tokens and no more: no other pair occurs twice")
    shared.say(f"{whole.vocabulary:,} ids, {', '.join(whole.special) or 'none'} special, in {out}")


def _table(gains: list[Gain]) -> None:
    click.echo(f"{'':<24}{'vocabulary':>10}{'tokens/s':>10}{'bit/s':>9}{'coded bit/s':>13}")
    for gain in gains:
        where = "held out" if gain.held_out else "learned from"
        for cost in gain.costs:
            click.echo(
                f"{f'{cost.name}, {where}':<24}{cost.vocabulary:>10,}{cost.tokens_per_second:>10.1f}"
                f"{cost.bits_per_second:>9,.0f}{cost.entropy_coded:>13,.0f}"
            )
