"""`vocable train lm`: a small language model over the tokens of a store, and what they cost with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from vocable.cli import adversarial, shared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vocable.language.model import LanguageModel
    from vocable.language.training import LanguageSize, Runs
    from vocable.store import TokenStore
    from vocable.tokenizers.streams import TokenStream
    from vocable.training.reports import Report


@click.command("lm")
@click.argument("tokens", type=click.Path(path_type=Path))
@shared.out_option
@click.option(
    "--preset",
    type=click.Choice(["tiny", "small"]),
    default="tiny",
    show_default=True,
    help="tiny: 2 M weights, 10 minutes of two cores; small: 26 M, 20 minutes of a GPU.",
)
@click.option(
    "--stream", "given", type=click.Path(path_type=Path), metavar="DIR", help="A stream.json or its folder: BPE, say."
)
@click.option("--codebooks", metavar="L6,L9", help="Codebooks to model.  [default: all]")
@click.option(
    "--layout",
    type=click.Choice(["interleave", "delay", "coarse-first"]),
    help="How several codebooks become one sequence.  [default: delay]",
)
@click.option(
    "--runs",
    type=click.Choice(["frames", "timed", "once"]),
    help="Every frame; runs of equal frames once with their lengths; or once without.  [default: frames]",
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Share of the recordings to judge by, and nothing is learned from.",
)
@click.option("--steps", type=click.IntRange(1), help="How long to train, in steps.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="How long to train.  [default: the preset's]")
@click.option("--batch", type=click.IntRange(1), help="Crops of a step, in each process.  [default: the preset's]")
@click.option("--context", type=click.IntRange(2), help="Ids that it sees at once.  [default: the preset's]")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Highest one.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Numbers to train with; auto is bf16 on CUDA, fp32 elsewhere.",
)
@click.option(
    "--work", type=click.Path(path_type=Path), metavar="DIR", help="Folder of ids and checkpoint.  [default: OUT.work]"
)
@shared.device_option
@shared.overwrite_option
def lm(
    tokens: Path,
    out: Path,
    preset: LanguageSize,
    given: Path | None,
    codebooks: str | None,
    layout: str | None,
    runs: Runs | None,
    held_out: float,
    steps: int | None,
    minutes: float | None,
    batch: int | None,
    context: int | None,
    learning_rate: float | None,
    seed: int,
    precision: Literal["auto", "fp32", "bf16"],
    work: Path | None,
    device: str,
    overwrite: bool,
) -> None:
    """Train a small decoder-only Transformer on a token store, and say what a second of audio costs with it.

    Writes a folder that transformers reads (a Llama), and stream.json, which says what its ids are; `vocable continue`
    takes it. Bits per second of audio, of recordings held out, compare streams and tokenizers of any kind.
    Stop it and run it again: it goes on from the checkpoint to the same model.

    \b
    vocable train lm tokens/ --out lm/
    vocable train lm tokens/ --runs timed --minutes 5 --out lm/
    vocable train lm tokens/ --stream bpe/ --out lm/
    vocable train lm codec-tokens/ --layout delay --preset small --out lm/
    """
    from vocable import distributed
    from vocable.files import require_absent
    from vocable.language.training import MODELS, train_lm
    from vocable.store import TokenStore

    if steps is not None and minutes is not None:
        raise click.UsageError("expected one of --steps and --minutes, got both")
    require_absent(out, overwrite=overwrite)
    plan, store = MODELS[preset], TokenStore.open(tokens)
    stream = _stream(store, given, codebooks, layout, runs)
    told = steps is not None or minutes is not None
    regime = replace(
        plan.regime,
        steps=steps if told else plan.regime.steps,
        minutes=minutes if told else plan.regime.minutes,
        learning_rate=learning_rate or plan.regime.learning_rate,
        seed=seed,
        precision=precision,
    )
    work = work or out.with_name(f"{out.name}.work")
    device = distributed.own_device(shared.pick_device(device))
    with distributed.from_environment() as processes:
        voice = adversarial.Voice(processes, _line)
        with voice.display("packing") as display:
            model = train_lm(
                store,
                stream,
                work,
                design=replace(plan.design, context=context or plan.design.context),
                regime=regime,
                batch=batch or plan.batch,
                held_out=held_out,
                device=device,
                processes=processes,
                watcher=display.watch,
                on_report=voice.report,
            )
        if processes.rank == 0:
            model.save_pretrained(out, overwrite=overwrite)
            _table(model.evidence)
            voice.say(_summary(model, out))
            voice.say(f"{work} is needed no more: rm -r {work}")


def _stream(
    store: TokenStore, given: Path | None, codebooks: str | None, layout: str | None, runs: Runs | None
) -> TokenStream:
    from vocable.language.training import stream_for
    from vocable.tokenizers.streams import TokenStream

    if given is not None:
        if codebooks or layout or runs:
            raise click.UsageError("--stream says which codebooks, layout and runs there are: leave these options out")
        return TokenStream.load(given)
    labels = [name.strip() for name in codebooks.split(",")] if codebooks else None
    return stream_for(store, codebooks=labels, layout=layout, runs=runs or "frames")


def _line(report: Report) -> str:
    left = report.minutes * (1 - report.share) / report.share
    pace = f"step {report.step:,} ({report.share:.0%}, {left:.1f} min left): {report.speed:,.0f} s/s"
    told = f"{pace}, {report.computing:.0%} computing; {report.losses['loss']:.3f} nats"
    if not report.figures:
        return told
    held = report.figures
    return (
        f"{told}; held out: {held['loss']:.3f} nats, perplexity {held['perplexity']:.1f}, {held['bits/s']:,.0f} bit/s"
    )


def _table(evidence: Mapping[str, Any]) -> None:
    click.echo(f"{'held out':<20}{'nats/token':>12}{'bit/s':>9}")
    for cost in evidence["costs"]:
        click.echo(f"{cost['name']:<20}{cost['loss']:>12.3f}{cost['bits_per_second']:>9,.0f}")


def _summary(model: LanguageModel, out: Path) -> str:
    evidence = model.evidence
    known = f"{shared.plural(evidence['recordings'][0], 'recording')}, {evidence['seconds'][0] / 60:.1f} minutes"
    worth = f"perplexity {evidence['perplexity']:.1f} at {evidence['ids_per_second']:.1f} tokens/s"
    made = f"{known}; language model of {model.weights / 1e6:.1f} M weights in {out}, {worth}"
    lowest = min((entry["figures"]["loss"], entry["step"]) for entry in evidence["curve"] if entry["figures"])
    last = evidence["curve"][-1]
    if last["figures"] and lowest[0] < 0.99 * last["figures"]["loss"]:
        made += f"; what is held out was foretold better at step {lowest[1]:,}: train shorter, or on more"
    return made if model.stream.exact else f"{made}; lengths of runs are not among the bits"
