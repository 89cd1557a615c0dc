"""The training of one probe: a seed decides everything, and held-out recordings say when to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vocable.errors import InputError
from vocable.probes.bodies import Head
from vocable.probes.material import Material
from vocable.probes.network import Answer, Attention, FrameFront, Network
from vocable.probes.tasks import Goal, Outcome

_LIKE = 16  # batches whose recordings are sorted by length before they are dealt
_LARGEST_GRADIENT = 1.0
_HALVE_AFTER = 2  # epochs without a gain


@dataclass(frozen=True, slots=True)
class Recipe:
    """How probes are built and trained: the same for all systems of a table.

    head: "linear" (mean and deviation over time), "bilstm" or "xvector". attention over layers: for each "frame" or for
    an "utterance". AdamW; the rate is halved after two epochs without a gain on held-out recordings, a tenth of the
    training, and after `patience` of them the best network is kept. seeds: trainings, from `seed` on. InputError for
    numbers that are not positive, or unknown names.
    """

    head: Head = "linear"
    attention: Attention = "frame"
    seeds: int = 3
    seed: int = 0
    dim: int = 128
    dropout: float = 0.1
    epochs: int = 60
    batch: int = 32
    learning_rate: float = 2e-3
    patience: int = 6

    def __post_init__(self) -> None:
        if self.head not in get_args(Head) or self.attention not in get_args(Attention):
            expected = f"expected a head of {', '.join(get_args(Head))} and attention by frame or utterance"
            raise InputError(f"{expected}, got {self.head!r} and {self.attention!r}")
        numbers = (self.seeds, self.dim, self.epochs, self.batch, self.patience)
        if min(numbers) < 1 or not self.learning_rate > 0 or not 0 <= self.dropout < 1:
            raise InputError("expected positive numbers in the recipe, and a dropout below 1")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training: losses of it and of what is held out, and recordings per second."""

    system: str
    seed: int
    number: int
    loss: float
    held: float
    rate: float


class Training:
    """One network on one material. The network is made at once, training it is `run`; neither leaves a trace outside.

    fit, held: ids to learn from and to stop by.
    """

    def __init__(
        self,
        material: Material,
        goal: Goal,
        recipe: Recipe,
        *,
        fit: Sequence[str],
        held: Sequence[str],
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.material, self.goal, self.recipe, self.seed, self.device = material, goal, recipe, seed, device
        self.fit, self.held = fit, held
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Network(
                material.layers,
                goal.outputs,
                head=recipe.head,
                attention=recipe.attention,
                dim=recipe.dim,
                dropout=recipe.dropout,
                stride=goal.stride(material.frame_rate),
            )
        if isinstance(self.network.front, FrameFront):
            self.network.front.start([material.items[name].frames for name in fit])
        self.network.to(device)
        self._optimizer = torch.optim.AdamW(self.network.parameters(), lr=recipe.learning_rate, fused=True)
        self._noise = torch.Generator().manual_seed(seed)

    def run(self, on_epoch: Callable[[Epoch], None] = lambda epoch: None) -> None:
        """Trains until held-out recordings gain no more. InputError if the training diverges."""
        best, stale, kept = float("inf"), 0, self._weights()
        for number in range(1, self.recipe.epochs + 1):
            began = time.monotonic()
            loss, held = self._learn(), self._judge()
            rate = len(self.fit) / max(time.monotonic() - began, 1e-9)
            on_epoch(Epoch(self.material.name, self.seed, number, loss, held, rate))
            if held < best:
                best, stale, kept = held, 0, self._weights()
                continue
            stale += 1
            if stale == self.recipe.patience:
                break
            if stale % _HALVE_AFTER == 0:
                for group in self._optimizer.param_groups:
                    group["lr"] /= 2
        if best == float("inf"):
            raise InputError(f"the probe on {self.material.name} diverged", hint="lower the learning rate")
        self.network.load_state_dict(kept)

    def outcome(self) -> tuple[Outcome, Tensor]:
        """What the network makes of the test, embeddings as differences from the mean of the training; and the mean
        weight [L] of each layer in the test.
        """
        test = self.goal.split.test
        answers = [(ids, self._answer(ids)) for ids in self._sorted(test)]
        logits: dict[str, Tensor] = {}
        for ids, answer in answers:
            for name, row, length in zip(ids, answer.logits, answer.lengths.tolist(), strict=True):
                logits[name] = (row[:length] if self.network.stride else row).cpu()
        place = {name: index for index, name in enumerate(name for ids, _ in answers for name in ids)}
        order = [place[name] for name in test]
        centre = torch.cat([self._answer(ids).embedding for ids in self._sorted(self.fit)]).mean(0)
        embeddings = (torch.cat([answer.embedding for _, answer in answers]) - centre).cpu()[order]
        weights = torch.cat([answer.weights for _, answer in answers]).mean(0)
        return Outcome([logits[name] for name in test], embeddings), weights.cpu()

    def _learn(self) -> float:
        total = 0.0
        for ids in self._dealt():
            loss = self.goal.loss(self._forward(ids, self._noise), ids)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
            self._optimizer.step()
            total += float(loss.detach()) * len(ids)
        return total / len(self.fit)

    @torch.no_grad()
    def _judge(self) -> float:
        losses = [(len(ids), float(self.goal.loss(self._forward(ids), ids))) for ids in self._sorted(self.held)]
        return sum(count * loss for count, loss in losses) / len(self.held)

    @torch.no_grad()
    def _answer(self, ids: Sequence[str]) -> Answer:
        return self._forward(ids)

    def _forward(self, ids: Sequence[str], noise: torch.Generator | None = None) -> Answer:
        frames = [self.material.items[name].frames for name in ids]
        lengths = torch.tensor([len(rows) for rows in frames])
        answer: Answer = self.network(
            pad_sequence(frames, batch_first=True).to(self.device), lengths.to(self.device), noise
        )
        return answer

    def _dealt(self) -> Iterator[list[str]]:
        """Batches of like length in a random order, every recording once."""
        order = [self.fit[index] for index in torch.randperm(len(self.fit), generator=self._noise).tolist()]
        size = self.recipe.batch
        batches = []
        for start in range(0, len(order), size * _LIKE):
            batches += list(self._sorted(order[start : start + size * _LIKE]))
        for index in torch.randperm(len(batches), generator=self._noise).tolist():
            yield batches[index]

    def _sorted(self, ids: Sequence[str]) -> Iterator[list[str]]:
        order = sorted(ids, key=lambda name: len(self.material.items[name].frames))
        for start in range(0, len(order), self.recipe.batch):
            yield order[start : start + self.recipe.batch]

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
