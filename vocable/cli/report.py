"""`vocable report`: which layer to choose."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from vocable.cli import shared


@click.command()
@click.argument("units")
@shared.corpus_argument
@click.option("--out", type=click.Path(path_type=Path), metavar="PAGE", help="An HTML page with plots, as well.")
@click.option(
    "--labels",
    default="phones",
    show_default=True,
    metavar="FIELD",
    help="Field of the manifest's lines with time-aligned phones, [[end_seconds, phone], ...].",
)
@shared.device_option
@shared.workers_option
@shared.overwrite_option
def command(
    units: str,
    corpus: tuple[str, ...],
    out: Path | None,
    labels: str,
    device: str,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Compare the layers of a unit tokenizer: fit, use, bit/s, and phones where a manifest has them.

    UNITS: units of one or several layers. CORPUS: audio that they were not trained on.

    \b
    vocable train kmeans speech/ --features facebook/hubert-base-ls960 --layers all --out units/
    vocable report units/ dev.jsonl --out report.html
    """
    from vocable.files import require_absent
    from vocable.metrics.layers import layer_report
    from vocable.metrics.layers_page import table, write_layers_page
    from vocable.tokenizers import UnitTokenizer

    if out is not None:
        require_absent(out, overwrite=overwrite)
    device = shared.pick_device(device)
    tokenizer = shared.open_tokenizer(units, device=device)
    if not isinstance(tokenizer, UnitTokenizer):
        raise click.UsageError(f"expected units of features, got a codec in {units}")
    with shared.display("report") as display:
        report = layer_report(
            tokenizer,
            shared.read_corpus(corpus),
            labels=labels,
            workers=shared.pick_workers(workers),
            batch_seconds=shared.batch_seconds(device),
            watcher=display.watch,
        )
    for failure in report.failures:
        shared.say(f"left out: {failure.path}: {failure.reason}")
    click.echo(table(report))
    if out is not None:
        write_layers_page(
            out,
            report,
            title=f"Layers of {Path(units).name}",
            facts={
                "fingerprint": tokenizer.fingerprint[:12],
                "audio": f"{shared.plural(report.recordings, 'recording')}, {report.seconds / 60:,.1f} minutes",
                "frames": f"{report.frames:,}",
                "frames with a phone": f"{report.labelled:,}",
                "frame rate": f"{report.spec.frame_rate:g} Hz",
                **({"left out": shared.plural(len(report.failures), "recording")} if report.failures else {}),
            },
            commands=[shlex.join(["vocable", "report", units, *corpus, "--labels", labels, "--out", str(out)])],
        )
        shared.say(f"page in {out}")
