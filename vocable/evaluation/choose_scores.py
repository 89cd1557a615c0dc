"""What a candidate is worth: a probe's score, or what its codes say of phones; and whether two differ by chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch

from vocable.errors import InputError
from vocable.evaluation.choose_phones import surprises
from vocable.metrics.tokens import frame_labels, phones_of
from vocable.probes import Epoch, Figure, Material, Recipe, Split, Task, probe
from vocable.probes.material import Item
from vocable.probes.report import HIGHER_IS_BETTER
from vocable.probes.scores import figure, ratio
from vocable.types import TokenSpec

PNMI = "held-out PNMI"
"""What phones are judged by. PNMI itself grows with the number of units by chance, which a sweep over it must not."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Phones:
    """Which phone is heard when, [[end_seconds, phone], ...] in a field: judged by counts, without a probe."""

    label: str = "phones"
    kind: ClassVar[str] = "phones"


class Question(Protocol):
    """What is asked of all candidates, on the same recordings."""

    measure: str
    higher_is_better: bool
    split: Split
    baseline: tuple[str, float] | None
    takes_numbers: bool

    def judge(self, material: Material, clock: TokenSpec) -> Figure:
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
        self.takes_numbers = True
        self._answers = {name: items[name].fields[task.label] for name in (*self.split.train, *self.split.test)}

    def judge(self, material: Material, clock: TokenSpec) -> Figure:
        report = probe([material], self._task, self.split, self._recipe, device=self._device, on_epoch=self._on_epoch)
        return report.rows[1].figures[self.measure]

    def key(self) -> dict[str, Any]:
        parts = {"train": self.split.train, "test": self.split.test, "answers": self._answers}
        return {"task": self._task.kind, "label": self._task.label, "recipe": repr(self._recipe), **parts}


class _Heard:
    """Held-out PNMI: the share of the uncertainty about phones that codes resolve, as learnt from the training."""

    def __init__(self, task: Phones, items: Mapping[str, Item], split: Split) -> None:
        self.measure, self.higher_is_better, self.takes_numbers = PNMI, True, False
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

    def judge(self, material: Material, clock: TokenSpec) -> Figure:
        codes, phones, _ = self._frames(material, clock, self._learnt_from)
        new_codes, new_phones, owners = self._frames(material, clock, self.split.test)
        if not phones or not new_phones:
            raise InputError(f"expected frames with a phone in `{self._label}` of training and test, got none")
        count = len(self.split.test)
        left, whole = (np.bincount(owners, bits, count) for bits in surprises(codes, phones, new_codes, new_phones))
        missed = ratio(left.tolist(), whole.tolist())
        return figure([lambda weights: 1 - missed(weights)], count)

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
