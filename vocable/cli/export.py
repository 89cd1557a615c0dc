"""`vocable export`: a store in the formats of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vocable.cli import shared

if TYPE_CHECKING:
    from vocable.tokenizers.streams import TokenStream
    from vocable.types import TokenSpec

# said here as well, so that --help imports nothing heavy; a test compares them
FORMATS = ["fairseq", "kaldi", "jsonl", "npy", "packed", "webdataset", "huggingface"]
LAYOUTS = ["interleave", "delay", "coarse-first"]


@click.command()
@click.argument("tokens", type=click.Path(path_type=Path))
@click.option("--to", required=True, type=click.Choice(FORMATS), help="Whose format.")
@shared.out_option
@click.option("--codebooks", "--layers", metavar="L6,L9", help="Codebooks to export, by label.  [default: all]")
@click.option("--dedup", is_flag=True, help="Leave out frames equal to the one before; durations are written beside.")
@click.option("--flatten", type=click.Choice(LAYOUTS), help="Make one sequence, and one vocabulary, of all codebooks.")
@click.option(
    "--stream", "recipe", metavar="DIR|FILE", help="Export another stream, such as `vocable train bpe` writes."
)
@click.option("--split", metavar="FIELD", help="A field of the manifest: each value gets files of its own.")
@click.option(
    "--shard-mb", type=click.IntRange(1), default=100, show_default=True, help="Of a WebDataset or Parquet file, in MB."
)
@shared.overwrite_option
def command(
    tokens: Path,
    to: str,
    out: Path,
    codebooks: str | None,
    dedup: bool,
    flatten: str | None,
    recipe: str | None,
    split: str | None,
    shard_mb: int,
    overwrite: bool,
) -> None:
    """Write a token store as files that other tools read.

    \b
    fairseq       train.tsv, train.km, train.ids
    kaldi         text (id and units, as ESPnet's), utt2num_samples
    jsonl         train.jsonl
    npy           arrays/ID.npy [T] or [T, K] as SpeechBrain has them, manifest.jsonl
    webdataset    train-000000.tar ...
    huggingface   data/train-00000.parquet ... and a card; `datasets.load_dataset(DIR)` reads it
    packed        tokens.bin (uint16 or uint32), offsets.bin, for training language models

    fairseq, kaldi and packed hold one sequence a recording: one codebook, or --flatten. Stop it and run it again: it
    goes on, and ends with the same bytes.

    \b
    vocable export tokens/ --to fairseq --codebooks L6 --dedup --out km/
    vocable export tokens/ --to huggingface --split subset --out dataset/
    vocable export tokens/ --to packed --flatten delay --out packed/
    vocable export tokens/ --to packed --stream bpe/ --out packed/
    """
    from vocable.exports import export
    from vocable.store import TokenStore

    store = TokenStore.open(tokens)
    stream = _stream(store.spec, codebooks, flatten, recipe, dedup=dedup)
    with shared.display("export") as display:
        run = export(
            store,
            out,
            to,
            stream=stream,
            split=split,
            shard_bytes=shard_mb * 1_000_000,
            overwrite=overwrite,
            watcher=display.watch,
        )
    earlier = f", {run.skipped:,} done earlier" if run.skipped else ""
    shared.say(f"{shared.plural(run.done, 'recording')} exported{earlier}, in {out}")
    if to == "packed" and any(step.name == "collapse" for step in stream.transforms):
        shared.say("durations of the units are not in it")


def _stream(
    spec: TokenSpec, codebooks: str | None, flatten: str | None, recipe: str | None, *, dedup: bool
) -> TokenStream:
    from vocable.exports import stream_of
    from vocable.tokenizers.streams import TokenStream

    if recipe is not None:
        if codebooks or flatten or dedup:
            raise click.UsageError("--stream says all of it: leave --codebooks, --dedup and --flatten out")
        return TokenStream.load(recipe)
    chosen = [name.strip() for name in codebooks.split(",")] if codebooks else None
    return stream_of(spec, codebooks=chosen, dedup=dedup, layout=flatten)
