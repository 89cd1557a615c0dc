"""`vocable report`: which layer to choose, and which layers a vocoder listens to."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from vocable.cli import shared


@click.command()
@click.argument("units", metavar="UNITS|TOKENS")
@click.argument("corpus", nargs=-1, metavar="[CORPUS...]")
@click.option("--out", type=click.Path(path_type=Path), metavar="PAGE", help="An HTML page with plots, as well.")
@click.option("--vocoder", metavar="DIR|HUB_ID", help="A trained vocoder: the page is on it, and on TOKENS.")
@click.option("--clips", type=click.IntRange(1), default=8, show_default=True, help="With --vocoder: how many to hear.")
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
    vocoder: str | None,
    clips: int,
    labels: str,
    device: str,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Compare the layers of a unit tokenizer: fit, use, bit/s, and phones where a manifest has them.

    UNITS: units of one or several layers. CORPUS: audio that they were not trained on.

    With --vocoder, a page on which to hear what it makes of a store of TOKENS, and to see how it weighs their layers.

    \b
    vocable train kmeans speech/ --features facebook/hubert-base-ls960 --layers all --out units/
    vocable report units/ dev.jsonl --out report.html
    vocable report tokens/ --vocoder vocoder/ --out vocoder.html
    """
    if vocoder is not None:
        _report_vocoder(Path(units), vocoder, out, clips, corpus, device, overwrite=overwrite)
        return
    if not corpus:
        raise click.UsageError("expected UNITS and a CORPUS, or TOKENS and --vocoder")
    from vocable.files import require_absent
    from vocable.metrics.layers import layer_report
    from vocable.metrics.layers_page import table, write_layers_page
    from vocable.tokenizers import NeuralCodec

    if out is not None:
        require_absent(out, overwrite=overwrite)
    device = shared.pick_device(device)
    tokenizer = shared.open_tokenizer(units, device=device)
    if isinstance(tokenizer, NeuralCodec):
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


def _report_vocoder(
    tokens: Path, vocoder: str, out: Path | None, clips: int, corpus: tuple[str, ...], device: str, *, overwrite: bool
) -> None:
    from vocable.files import require_absent
    from vocable.metrics.vocoder_page import write_vocoder_page
    from vocable.store import TokenStore
    from vocable.vocoders import UnitVocoder

    if out is None or corpus:
        raise click.UsageError("--vocoder wants TOKENS alone, and a page to write with --out")
    require_absent(out, overwrite=overwrite)
    store = TokenStore.open(tokens)
    decoder = UnitVocoder.from_pretrained(vocoder, device=shared.pick_device(device))
    command = ["vocable", "report", str(tokens), "--vocoder", vocoder, "--clips", str(clips), "--out", str(out)]
    with shared.display("report") as display:
        failures = write_vocoder_page(
            out,
            store,
            decoder,
            title=f"{Path(vocoder).name} on {tokens.name}",
            clips=clips,
            commands=[shlex.join(command)],
            watcher=display.watch,
        )
    for failure in failures:
        shared.say(f"left out: {failure.id}: {failure.reason}")
    shared.say(f"page in {out}")
