"""`vocable probe`: what do tokens still know?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vocable.cli import shared

if TYPE_CHECKING:
    from vocable.probes import Epoch, Material, Recipe, Split, Task
    from vocable.probes.bodies import Head
    from vocable.probes.network import Attention

_LINE_SECONDS = 10.0


@click.command()
@click.argument("tokens", nargs=-1, required=True, metavar="TOKENS...", type=click.Path(path_type=Path))
@click.option("--label", metavar="FIELD", help="Tell classes: the field of the manifest that names them.")
@click.option("--verify", metavar="FIELD", help="Tell whether two recordings share a class, such as the speaker.")
@click.option("--ctc", metavar="FIELD", help="Write down what was said: the field with the text.")
@click.option("--split", metavar="FIELD", help='Field that says "train" or "test".  [default: 20 % at random]')
@click.option("--test", metavar="TOKENS", type=click.Path(path_type=Path), help="The test is a store of its own.")
@click.option(
    "--features",
    multiple=True,
    metavar="CORPUS",
    help="The audio of the tokens: the table then has what their extractor gives, as the upper bound.",
)
@click.option(
    "--head",
    type=click.Choice(["linear", "bilstm", "xvector"]),
    help="The network along time.  [default: linear; bilstm with --ctc, xvector with --verify]",
)
@click.option(
    "--attention",
    type=click.Choice(["frame", "utterance"]),
    default="frame",
    show_default=True,
    help="Layers are weighed for each frame, or once for an utterance.",
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Trainings of each row.")
@click.option("--seed", type=int, default=0, show_default=True, help="The first of them, and of a random split.")
@click.option("--epochs", type=click.IntRange(1), default=60, show_default=True, help="At most.")
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Recordings of a step.")
@click.option(
    "--memory",
    type=click.FloatRange(0, min_open=True),
    default=4.0,
    show_default=True,
    help="GiB of frames to hold, with --features.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.json", help="All figures, as JSON.")
@shared.device_option
@shared.workers_option
@shared.overwrite_option
def command(
    tokens: tuple[Path, ...],
    label: str | None,
    verify: str | None,
    ctc: str | None,
    split: str | None,
    test: Path | None,
    features: tuple[str, ...],
    head: Head | None,
    attention: Attention,
    seeds: int,
    seed: int,
    epochs: int,
    batch: int,
    memory: float,
    out: Path | None,
    device: str,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Train a small network on tokens, and say what they still know.

    TOKENS: stores of tokens of the same recordings, made by one or several tokenizers; a row of the table for each.

    \b
    vocable probe tokens/ --label digit --split split --out probe.json
    vocable probe tokens/ --label speaker --head xvector --features speech.jsonl
    vocable probe tokens/ --verify speaker --split split
    vocable probe tokens/ --ctc text --features speech.jsonl
    """
    from vocable.files import require_absent, write_atomic
    from vocable.probes import Recipe, bounds, probe
    from vocable.probes.bodies import HEADS
    from vocable.tokenizers.gathering import Reading

    task = _task(label, verify, ctc)
    if split is not None and test is not None:
        raise click.UsageError("--split and --test exclude each other")
    if test is not None and len(tokens) > 1:
        raise click.UsageError("--test goes with one store of TOKENS")
    if out is not None:
        require_absent(out, overwrite=overwrite)
    recipe = Recipe(
        head=head or HEADS[task.kind],
        attention=attention,
        seeds=seeds,
        seed=seed,
        epochs=epochs,
        batch=batch,
    )
    device = shared.pick_device(device)
    materials = _materials(tokens, test)
    parts = _split(materials[0], split, test, seed)
    if features:
        used = task.goal(materials[0].items, parts).split
        with shared.display("features") as display:
            materials += bounds(
                dict(zip(tokens, materials, strict=True)),
                shared.read_corpus(features),
                {*used.train, *used.test},
                memory=int(memory * 2**30),
                reading=Reading(shared.pick_workers(workers), shared.batch_seconds(device), display.watch),
                device=device,
            )
    report = probe(materials, task, parts, recipe, device=device, on_epoch=_Lines(recipe))
    click.echo(report.markdown(), nl=False)
    if out is not None:
        write_atomic(out, report.to_json().encode())
        shared.say(f"figures in {out}")


def _task(label: str | None, verify: str | None, ctc: str | None) -> Task:
    from vocable.probes import Classification, Transcription, Verification

    if sum(field is not None for field in (label, verify, ctc)) != 1:
        raise click.UsageError("expected one of --label, --verify and --ctc")
    if label is not None:
        return Classification(label)
    return Verification(verify) if verify is not None else Transcription(ctc or "text")


def _materials(tokens: tuple[Path, ...], test: Path | None) -> list[Material]:
    from vocable.probes import Material

    distinct = len({path.resolve().name for path in tokens}) == len(tokens)
    names = [path.resolve().name if distinct else str(path) for path in tokens]
    extra = [] if test is None else [test]
    return [Material.of_stores(path, *extra, name=name) for path, name in zip(tokens, names, strict=True)]


def _split(material: Material, field: str | None, test: Path | None, seed: int) -> Split:
    from vocable.probes import split_by_field, split_by_hash, split_by_store
    from vocable.store import TokenStore

    if test is not None:
        return split_by_store(material.items, TokenStore.open(test).ids())
    return split_by_hash(material.items, seed=seed) if field is None else split_by_field(material.items, field)


class _Lines:
    """A line on how training goes: the first epoch of each system, then one every few seconds."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe, self._system, self._said = recipe, "", 0.0

    def __call__(self, epoch: Epoch) -> None:
        if epoch.system == self._system and time.monotonic() - self._said < _LINE_SECONDS:
            return
        self._system, self._said = epoch.system, time.monotonic()
        shared.say(
            f"{epoch.system}: seed {epoch.seed}, epoch {epoch.number} of {self._recipe.epochs}, "
            f"loss {epoch.loss:.4g}, held out {epoch.held:.4g}, {epoch.rate:,.0f} recordings/s"
        )
