"""What a candidate is worth: a probe's score, or what its codes say of phones; and whether two differ by chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from vocable.errors import InputError
from vocable.evaluation.choose_phones import surprises
from vocable.metrics.tokens import frame_labels, phones_of
from vocable.probes import Epoch, Figure, Material, Recipe, Split, Task, probe
from vocable.probes.bodies import Head
from vocable.probes.material import Item
from vocable.probes.network import Answer
from vocable.probes.report import HIGHER_IS_BETTER
from vocable.probes.scores import Statistic, ratio
from vocable.probes.tasks import Goal, Outcome
from vocable.types import TokenSpec

HEADS: Mapping[str, Head] = {"classification": "linear", "verification": "xvector", "transcription": "bilstm"}
"""The head of a probe where none is asked for, by the kind of its task."""

PNMI = "held-out PNMI"
"""What phones are judged by. PNMI itself grows with the number of units by chance, which a sweep over it must not."""

_RESAMPLES = 1000

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Phones:
    """Which phone is heard when, [[end_seconds, phone], ...] in a field: judged by counts, without a probe."""

    label: str = "phones"
    kind: ClassVar[str] = "phones"


@dataclass(frozen=True, slots=True)
class Score:
    """A figure with its 95 % interval over test recordings, and what each seed gave.

    resampled: the figure on bootstrap resamples of the test, the same resamples for every candidate; empty where the
    outcomes of single recordings are not at hand.
    """

    value: float
    low: float
    high: float
    seeds: tuple[float, ...]
    resampled: tuple[float, ...] = ()

    def not_worse(self, best: Score, *, higher_is_better: bool) -> bool:
        """Whether this is as good as the best but for chance: zero is not below the 95 % interval of what it lacks.

        By the paired bootstrap (Efron & Tibshirani 1993, chapter 16) where both were resampled, else by whether the two
        intervals overlap, which takes larger differences for chance.
        """
        sign = 1 if higher_is_better else -1
        if self.resampled and len(self.resampled) == len(best.resampled):
            lacks = sign * (np.array(best.resampled) - np.array(self.resampled))
            return bool(np.nanquantile(lacks, 0.025) <= 0)
        return self.high >= best.low if higher_is_better else self.low <= best.high


class Question(Protocol):
    """What is asked of all candidates, on the same recordings."""

    measure: str
    higher_is_better: bool
    paired: bool
    split: Split
    baseline: tuple[str, float] | None
    takes_numbers: bool

    def judge(self, material: Material, clock: TokenSpec) -> Score:
        """The score of codes, or of frames where it `takes_numbers`. clock: only when frames are is looked at."""

    def key(self) -> dict[str, Any]:
        """Plain values that, with the material, decide the score."""


def ask(
    task: Task | Phones,
    items: Mapping[str, Item],
    split: Split,
    recipe: Recipe,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Question:
    """The question of a task on these recordings; of `items` only what the manifest says is looked at.

    InputError if there is no such field, or its values do not allow the task.
    """
    if not any(item.fields.get(task.label) is not None for item in items.values()):
        fields = sorted({field for item in items.values() for field in item.fields})
        raise InputError(
            f"no recording has a field {task.label!r}",
            hint=f"its manifest knows {', '.join(fields)}" if fields else "give a .jsonl manifest with such a field",
        )
    return (
        _Heard(task, items, split)
        if isinstance(task, Phones)
        else _Probed(task, items, split, recipe, device, on_epoch)
    )


def resample(statistic: Statistic, count: int) -> tuple[float, ...]:
    """A statistic of `count` recordings on resamples of them, the very ones that intervals of probes come from."""
    draw = np.random.default_rng(0)
    weights = (np.bincount(draw.integers(count, size=count), minlength=count) for _ in range(_RESAMPLES))
    return tuple(statistic(each.astype(np.float64)) for each in weights)


class _Kept:
    """A goal that keeps what the networks made of the test, so that systems can be compared recording by recording."""

    def __init__(self, goal: Goal) -> None:
        self.goal, self.split = goal, goal.split
        self.outputs, self.groups = goal.outputs, goal.groups
        self.outcomes: Sequence[Outcome] = ()

    def stride(self, frame_rate: float) -> int:
        return self.goal.stride(frame_rate)

    def loss(self, answer: Answer, ids: Sequence[str]) -> Float[Tensor, ""]:
        return self.goal.loss(answer, ids)

    def judge(self, outcomes: Sequence[Outcome]) -> dict[str, Figure]:
        self.outcomes = outcomes
        return self.goal.judge(outcomes)

    def baseline(self) -> tuple[str, dict[str, Figure]]:
        return self.goal.baseline()

    def facts(self) -> dict[str, Any]:
        return self.goal.facts()


@dataclass(frozen=True)
class _Given:
    """A task whose goal is known already."""

    kind: str
    label: str
    known: _Kept

    def goal(self, items: Mapping[str, Item], split: Split) -> Goal:
        return self.known


class _Probed:
    """The first figure of a probe: accuracy, equal error rate or character error rate."""

    def __init__(
        self,
        task: Task,
        items: Mapping[str, Item],
        split: Split,
        recipe: Recipe,
        device: str,
        on_epoch: Callable[[Epoch], None],
    ) -> None:
        self._task, self._recipe, self._device, self._on_epoch = task, recipe, device, on_epoch
        self._goal = task.goal(items, split)
        self.split = self._goal.split
        name, figures = self._goal.baseline()
        self.measure = next(iter(figures))
        self.higher_is_better = HIGHER_IS_BETTER[self.measure]
        self.baseline: tuple[str, float] | None = (name, figures[self.measure].value)
        self.paired, self.takes_numbers = task.kind == "classification", True
        self._answers = {name: items[name].fields[task.label] for name in (*self.split.train, *self.split.test)}

    def judge(self, material: Material, clock: TokenSpec) -> Score:
        kept = _Kept(self._goal)
        given = _Given(self._task.kind, self._task.label, kept)
        report = probe([material], given, self.split, self._recipe, device=self._device, on_epoch=self._on_epoch)
        found = report.rows[1].figures[self.measure]
        resampled = self._resampled(kept.outcomes) if self.paired else ()
        return Score(found.value, found.low, found.high, found.seeds, resampled)

    def key(self) -> dict[str, Any]:
        parts = {"train": self.split.train, "test": self.split.test, "answers": self._answers}
        return {"task": self._task.kind, "label": self._task.label, "recipe": repr(self._recipe), **parts}

    def _resampled(self, outcomes: Sequence[Outcome]) -> tuple[float, ...]:
        """Accuracy, the mean over seeds, on resamples."""
        test, classes = self.split.test, self._goal.facts()["classes"]
        wanted = torch.tensor([classes.index(self._goal.groups[name]) for name in test])
        hits = torch.stack([torch.stack(list(seed.logits)).argmax(1) == wanted for seed in outcomes]).double().mean(0)
        return resample(ratio(hits.tolist(), [1.0] * len(test)), len(test))


class _Heard:
    """Held-out PNMI: the share of the uncertainty about phones that codes resolve, as learnt from the training."""

    def __init__(self, task: Phones, items: Mapping[str, Item], split: Split) -> None:
        self.measure, self.higher_is_better, self.paired, self.takes_numbers = PNMI, True, True, False
        self.baseline: tuple[str, float] | None = None
        self._label = task.label
        said = {name: phones_of(name, items[name].fields, task.label) for name in (*split.train, *split.test)}
        self._phones = {name: phones for name, phones in said.items() if phones}
        self._learnt_from = [name for name in split.train if name in self._phones]
        self.split = Split(split.train, tuple(name for name in split.test if name in self._phones), split.rule)
        for part, names in (("training", self._learnt_from), ("test", self.split.test)):
            known = {phone for name in names for _, phone in self._phones[name]}
            if len(known) < 2:
                raise InputError(f"expected two phones in `{task.label}` of the {part} at least, got {len(known)}")

    def judge(self, material: Material, clock: TokenSpec) -> Score:
        codes, phones, _ = self._frames(material, clock, self._learnt_from)
        new_codes, new_phones, owners = self._frames(material, clock, self.split.test)
        if not phones or not new_phones:
            raise InputError(f"expected frames with a phone in `{self._label}` of training and test, got none")
        count = len(self.split.test)
        left, whole = (np.bincount(owners, bits, count) for bits in surprises(codes, phones, new_codes, new_phones))
        missed = ratio(left.tolist(), whole.tolist())
        resampled = resample(lambda weights: 1 - missed(weights), count)
        value = 1 - missed(np.ones(count))
        low, high = np.quantile(resampled, [0.025, 0.975])
        return Score(value, float(low), float(high), (value,), resampled)

    def key(self) -> dict[str, Any]:
        parts = {"train": self.split.train, "test": self.split.test, "answers": self._phones}
        return {"task": "phones", "label": self._label, **parts}

    def _frames(
        self, material: Material, clock: TokenSpec, names: Sequence[str]
    ) -> tuple[npt.NDArray[np.int64], list[str], npt.NDArray[np.int64]]:
        """Codes [n, K] and phones of all frames that have one, and the number of the recording of each."""
        rows = [material.items[name].frames for name in names]
        labels = [frame_labels(self._phones[name], clock, len(row)) for name, row in zip(names, rows, strict=True)]
        codes = torch.cat([row[: len(label)] for row, label in zip(rows, labels, strict=True)])
        owners = np.repeat(np.arange(len(names)), [len(label) for label in labels])
        return codes.long().numpy(), list(chain.from_iterable(labels)), owners
