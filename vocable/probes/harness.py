"""One table: the same task, the same recordings and the same small network, for tokens and for what they came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import asdict
from threading import Event, Lock

import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.nets.threads import one_thread_each
from vocable.probes.material import Material
from vocable.probes.report import ProbeReport, ProbeRow
from vocable.probes.splits import Split, hold_out
from vocable.probes.tasks import Goal, Outcome, Task
from vocable.probes.training import Epoch, Recipe, Training


def probe(
    materials: Sequence[Material],
    task: Task,
    split: Split,
    recipe: Recipe | None = None,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> ProbeReport:
    """Trains a probe on each material, as often as the recipe has seeds, and judges them on the test of the split.

    What the manifest says is taken from the first material; the others have to hold the same recordings. Seeds differ
    in initial weights, order, dropout and what is held out, never in the test. On a CPU every training has one thread,
    and the result depends on nothing but the arguments.
    InputError if labels are missing or do not fit the split, or a material lacks a recording.
    """
    recipe = recipe or Recipe()
    if not materials or len({material.name for material in materials}) != len(materials):
        raise InputError(f"expected materials with distinct names, got {[m.name for m in materials]}")
    goal = task.goal(materials[0].items, split)
    used = {*goal.split.train, *goal.split.test}
    for material in materials:
        missing = sorted(used - set(material.items))
        if missing:
            raise InputError(f"{material.name} lacks {len(missing)} of {len(used)} recordings: {missing[0]}")
    name, figures = goal.baseline()
    rows = [ProbeRow(name, None, None, 0, figures, {})]
    rows += [_row(material, goal, recipe, device, on_epoch) for material in materials]
    return ProbeReport(
        task=task.kind,
        label=task.label,
        split=split.rule,
        train=len(goal.split.train),
        test=len(goal.split.test),
        left_out=len(materials[0].items) - len(used),
        recipe=asdict(recipe),
        facts=goal.facts(),
        rows=tuple(rows),
    )


def _row(material: Material, goal: Goal, recipe: Recipe, device: str, on_epoch: Callable[[Epoch], None]) -> ProbeRow:
    trainings = [_training(material, goal, recipe, seed, device) for seed in _seeds(recipe)]
    lock, stopped = Lock(), Event()

    def heard(epoch: Epoch) -> None:
        if stopped.is_set():
            raise CancelledError
        with lock:
            on_epoch(epoch)

    def judged(training: Training) -> tuple[Outcome, Tensor]:
        training.run(heard)
        return training.outcome()

    with one_thread_each() as threads, ThreadPoolExecutor(threads if device == "cpu" else 1) as pool:
        try:
            outcomes, weights = zip(*pool.map(judged, trainings), strict=True)
        except BaseException:  # an interrupt must not wait for the other trainings to end
            stopped.set()
            raise
    size = sum(weight.numel() for weight in trainings[0].network.parameters())
    mean = torch.stack(weights).mean(0).tolist()
    layers = {layer.name: weight for layer, weight in zip(material.layers, mean, strict=True)}
    return ProbeRow(material.name, material.frame_rate, material.bitrate, size, goal.judge(outcomes), layers)


def _seeds(recipe: Recipe) -> range:
    return range(recipe.seed, recipe.seed + recipe.seeds)


def _training(material: Material, goal: Goal, recipe: Recipe, seed: int, device: str) -> Training:
    fit, held = hold_out(goal.split.train, goal.groups, seed=seed)
    return Training(material, goal, recipe, fit=fit, held=held, seed=seed, device=device)
