"""What a probe is asked: which class, whether two are of the same, or what was said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, groupby
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vocable.errors import InputError
from vocable.metrics.robustness import edit_distance
from vocable.metrics.transcripts import normalized
from vocable.probes.material import Item
from vocable.probes.network import Answer
from vocable.probes.scores import Figure, equal_error_rate, figure, mean_recall, ratio
from vocable.probes.splits import Split, shuffled

_STEPS_PER_SECOND = 50  # of a transcription: several for each character of quick speech
_COMPARED = 500  # recordings of which all pairs are trials
_BLANK = 0


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """What one seed's network made of the test: logits of each recording in order, and embeddings [N, E]."""

    logits: Sequence[Tensor]
    embeddings: Float[Tensor, "n e"]


class Goal(Protocol):
    """A task on given recordings: what its network answers, how far off that is, and how good in the end."""

    split: Split

    @property
    def outputs(self) -> int: ...
    @property
    def groups(self) -> Mapping[str, str]:
        """What is held out to stop by comes from each of these groups."""

    def stride(self, frame_rate: float) -> int:
        """Frames for each answer, 0 for one answer in all."""

    def loss(self, answer: Answer, ids: Sequence[str]) -> Float[Tensor, ""]:
        """The mean over a batch."""

    def judge(self, outcomes: Sequence[Outcome]) -> dict[str, Figure]:
        """The figures of a system, an outcome for each seed."""

    def baseline(self) -> tuple[str, dict[str, Figure]]:
        """What needs no ears: its name and its figures."""

    def facts(self) -> dict[str, Any]:
        """What else is to be known of the test."""


class Task(Protocol):
    """What is asked, of whatever recordings there will be."""

    @property
    def kind(self) -> str: ...
    @property
    def label(self) -> str:
        """The field of the manifest that has the answers."""

    def goal(self, items: Mapping[str, Item], split: Split) -> Goal:
        """The task on these recordings. InputError if their labels do not allow it."""


@dataclass(frozen=True, slots=True)
class Classification:
    """Which class a recording is of: text or whole numbers in a field. Cross entropy; accuracy and mean recall."""

    label: str
    kind: ClassVar[str] = "classification"

    def goal(self, items: Mapping[str, Item], split: Split) -> Goal:
        """InputError if there is no such field, one class only, or a class of the test is not in the training."""
        named = {name: _class_of(item.fields[self.label], self.label) for name, item in _having(items, self.label)}
        goal = _Classes(named, split.keep(set(named)), self.label)
        unseen = sorted({named[name] for name in goal.split.test} - set(goal.classes))
        if unseen:
            raise InputError(
                f"expected every {self.label} of the test in the training, {', '.join(unseen[:5])} are not there",
                hint="give another --split, or --verify, which needs no shared classes",
            )
        return goal


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether two recordings share a class, by the cosine of embeddings of a network that told classes of training.

    The classes of the test may be others. Equal error rate over all pairs of (at most 500) test recordings.
    """

    label: str
    kind: ClassVar[str] = "verification"

    def goal(self, items: Mapping[str, Item], split: Split) -> Goal:
        """InputError if there is no such field, one class only, or no pair of either kind in the test."""
        named = {name: _class_of(item.fields[self.label], self.label) for name, item in _having(items, self.label)}
        return _Pairs(named, split.keep(set(named)), self.label)


@dataclass(frozen=True, slots=True)
class Transcription:
    """What was said, by connectionist temporal classification of characters (Graves et al. 2006), greedily decoded.

    Text is compared in lower case, without punctuation but apostrophes. Character and word error rates are edits over
    all characters or words of the test.
    """

    label: str = "text"
    kind: ClassVar[str] = "transcription"

    def goal(self, items: Mapping[str, Item], split: Split) -> Goal:
        """InputError if there is no such field, or nothing is said in the training."""
        texts = {name: normalized(str(item.fields[self.label])) for name, item in _having(items, self.label)}
        texts = {name: text for name, text in texts.items() if text}
        return _Texts(texts, split.keep(set(texts)))


class _Classes:
    def __init__(self, named: Mapping[str, str], split: Split, label: str) -> None:
        self.split, self.groups = split, named
        self.classes = sorted({named[name] for name in split.train})
        if len(self.classes) < 2:
            raise InputError(f"expected two classes of {label} to train on at least, got {', '.join(self.classes)}")
        self.outputs = len(self.classes)
        self._numbers = {name: index for index, name in enumerate(self.classes)}

    def stride(self, frame_rate: float) -> int:
        return 0

    def loss(self, answer: Answer, ids: Sequence[str]) -> Float[Tensor, ""]:
        wanted = torch.tensor([self._numbers[self.groups[name]] for name in ids], device=answer.logits.device)
        return F.cross_entropy(answer.logits, wanted)

    def judge(self, outcomes: Sequence[Outcome]) -> dict[str, Figure]:
        return self._figures([[int(row.argmax()) for row in outcome.logits] for outcome in outcomes])

    def baseline(self) -> tuple[str, dict[str, Figure]]:
        counts = Counter(self.groups[name] for name in self.split.train)
        commonest = max(self.classes, key=lambda name: counts[name])
        guesses = [self._numbers[commonest]] * len(self.split.test)
        return f"always {commonest}", self._figures([guesses])

    def facts(self) -> dict[str, Any]:
        return {"classes": list(self.classes)}

    def _figures(self, guesses: Sequence[Sequence[int]]) -> dict[str, Figure]:
        wanted = [self._numbers[self.groups[name]] for name in self.split.test]
        right = [[guess == answer for guess, answer in zip(seed, wanted, strict=True)] for seed in guesses]
        ones = [1.0] * len(wanted)
        return {
            "accuracy": figure([ratio([float(hit) for hit in seed], ones) for seed in right], len(wanted)),
            "mean recall": figure([mean_recall(seed, wanted) for seed in right], len(wanted)),
        }


class _Pairs(_Classes):
    def __init__(self, named: Mapping[str, str], split: Split, label: str) -> None:
        super().__init__(named, split, label)
        order = {name: index for index, name in enumerate(split.test)}
        self._chosen = sorted(order[name] for name in shuffled(split.test, 0)[:_COMPARED])
        speakers = np.array([named[split.test[index]] for index in self._chosen])
        self._pairs = np.array(list(combinations(range(len(self._chosen)), 2)), dtype=np.int64).reshape(-1, 2)
        self._same = speakers[self._pairs[:, 0]] == speakers[self._pairs[:, 1]]
        if self._same.all() or not self._same.any():
            raise InputError(f"expected pairs of the same {label} and of different ones in the test, got one kind only")

    def judge(self, outcomes: Sequence[Outcome]) -> dict[str, Figure]:
        rates = []
        for outcome in outcomes:
            directions = F.normalize(outcome.embeddings[self._chosen].double(), dim=1)
            cosines = (directions @ directions.T).numpy()[self._pairs[:, 0], self._pairs[:, 1]]
            rates.append(equal_error_rate(cosines, self._same, self._pairs))
        return {"equal error rate": figure(rates, len(self._chosen), resamples=200)}

    def baseline(self) -> tuple[str, dict[str, Figure]]:
        return "chance", {"equal error rate": Figure(0.5, 0.5, 0.5, (0.5,))}

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"trials": len(self._same), "of one class": int(self._same.sum())}


class _Texts:
    def __init__(self, texts: Mapping[str, str], split: Split) -> None:
        self.split, self._texts = split, texts
        self.characters = sorted(set(chain.from_iterable(texts[name] for name in split.train)))
        self.groups = dict.fromkeys(texts, "")
        self.outputs = 1 + len(self.characters)
        self._numbers = {character: index for index, character in enumerate(self.characters, 1)}

    def stride(self, frame_rate: float) -> int:
        return max(1, round(frame_rate / _STEPS_PER_SECOND))

    def loss(self, answer: Answer, ids: Sequence[str]) -> Float[Tensor, ""]:
        wanted = [[self._numbers[character] for character in self._texts[name]] for name in ids]
        counts = torch.tensor([len(numbers) for numbers in wanted])
        chances = answer.logits.float().log_softmax(-1).transpose(0, 1)
        numbers = torch.tensor(list(chain.from_iterable(wanted)), device=chances.device)
        # what has fewer steps than characters cannot be learnt from, and must not make the rest infinite
        return F.ctc_loss(chances, numbers, answer.lengths.cpu(), counts, blank=_BLANK, zero_infinity=True)

    def judge(self, outcomes: Sequence[Outcome]) -> dict[str, Figure]:
        return self._figures([[self._decoded(logits) for logits in outcome.logits] for outcome in outcomes])

    def baseline(self) -> tuple[str, dict[str, Figure]]:
        return "silence", self._figures([[""] * len(self.split.test)])

    def facts(self) -> dict[str, Any]:
        return {"characters": "".join(self.characters)}

    def _decoded(self, logits: Float[Tensor, "t c"]) -> str:
        runs = [index for index, _ in groupby(logits.argmax(-1).tolist())]
        return " ".join("".join(self.characters[index - 1] for index in runs if index != _BLANK).split())

    def _figures(self, guesses: Sequence[Sequence[str]]) -> dict[str, Figure]:
        texts = [self._texts[name] for name in self.split.test]

        def rate(cut: Any) -> Figure:
            wholes = [len(cut(text)) for text in texts]
            edits = [
                [edit_distance(cut(text), cut(guess)) for text, guess in zip(texts, seed, strict=True)]
                for seed in guesses
            ]
            return figure([ratio(seed, wholes) for seed in edits], len(texts))

        return {"character error rate": rate(list), "word error rate": rate(str.split)}


def _having(items: Mapping[str, Item], label: str) -> list[tuple[str, Item]]:
    """The recordings of which the manifest says this. InputError if there is none."""
    found = [(name, item) for name, item in items.items() if item.fields.get(label) is not None]
    if not found:
        fields = sorted({field for item in items.values() for field in item.fields})
        raise InputError(
            f"no recording has a field {label!r}",
            hint=f"its tokens know {', '.join(fields)}" if fields else "tokenize a .jsonl manifest with such a field",
        )
    return found


def _class_of(value: Any, label: str) -> str:
    if not isinstance(value, str | int):
        raise InputError(f"expected text or a whole number as {label}, got {value!r}")
    return str(value)
