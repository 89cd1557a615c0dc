"""`vocable tokenize`: audio to a store of tokens."""

from __future__ import annotations

from pathlib import Path

import click

from vocable.cli import shared


@click.command()
@shared.corpus_argument
@click.option("--tokenizer", required=True, metavar="DIR|HUB_ID", help="The artifact that makes the tokens.")
@shared.out_option
@click.option("--revision", help="Revision of the tokenizer on the hub.")
@shared.device_option
@shared.workers_option
@shared.overwrite_option
def command(
    corpus: tuple[str, ...],
    tokenizer: str,
    out: Path,
    revision: str | None,
    device: str,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Turn audio into a store of tokens.

    CORPUS: folders, sound files, .jsonl manifests, .txt lists, or - for paths on standard input; any rate and channels.

    Stop it and run it again: it does what is missing. Recordings that cannot be read are listed in failures.jsonl.

    \b
    vocable tokenize speech/ --tokenizer units/ --out tokens/
    find /corpora -name '*.flac' | vocable tokenize - --tokenizer units/ --out tokens/
    """
    from vocable.tokenizers import UnitTokenizer, tokenize

    recordings = shared.read_corpus(corpus)
    device = shared.pick_device(device)
    model = UnitTokenizer.from_pretrained(tokenizer, revision=revision, device=device)
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
