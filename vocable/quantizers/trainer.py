"""The training of a quantizer on vectors in memory: a seed decides everything, and any check can be gone on from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.errors import InputError
from vocable.nets.state import below
from vocable.quantizers.trainable import Design, TrainableQuantizer
from vocable.quantizers.trained import TrainedQuantizer

_HELD_OUT = 20  # one of so many frames, and at most _JUDGED
_JUDGED = 8192
_FIRST = 65536  # frames that the first codebooks and principal components are made of
_WARM_UP = 100  # steps until the learning rate is reached
_LARGEST_GRADIENT = 1.0
_LEAST_GAIN = 1e-3  # of the error, for a check to count as better


@dataclass(frozen=True, slots=True)
class Schedule:
    """How to train: `steps` batches of `batch` frames by AdamW (Loshchilov & Hutter 2019).

    The learning rate rises for the first steps and falls to zero along a cosine. At the start and every `check_every`
    steps the error of held-out frames is taken; after `patience` checks without a gain of 0.1 % training stops, and the
    best is kept.
    """

    steps: int = 4000
    batch: int = 1024
    learning_rate: float = 3e-4
    check_every: int = 100
    patience: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.check_every, self.patience) < 1 or not self.learning_rate > 0:
            raise InputError(f"expected positive numbers in the schedule, got {asdict(self)}")

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        warm = min(1.0, (step + 1) / min(_WARM_UP, self.steps))
        return self.learning_rate * warm * (1 + math.cos(math.pi * step / self.steps)) / 2


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found: steps so far, the mean squared distance of held-out frames to what they decode to (as for
    k-means, summed over D), and the share of entries that they use, the mean over codebooks.
    """

    step: int
    objective: float
    usage: float


class Trainer:
    """One quantizer in training on points [n, D], which stay where they are.

    A twentieth of the points is held out, chosen by the seed whichever recordings they are from. The result depends on
    the points, their order, the design, the schedule, the device and (on a CPU, in the last bits) the number of
    threads, and not on interruptions: every step draws from a generator seeded by its number.

    InputError if there are fewer than two points or they do not fit.
    """

    def __init__(
        self, points: Float[Tensor, "n d"], design: Design, schedule: Schedule, *, device: str = "cpu"
    ) -> None:
        if points.ndim != 2 or len(points) < 2 or not points.is_floating_point():
            raise InputError(f"expected two points [n, D] at least, got {points.dtype} {list(points.shape)}")
        self.points, self.schedule, self.device = points, schedule, torch.device(device)
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(schedule.seed))
        held = max(1, min(len(points) // _HELD_OUT, _JUDGED))
        self._held, self._train = order[:held], order[held:]
        with self._randomness(-1):
            self._model = model = design.build(points.shape[1], batch=schedule.batch).to(self.device)
            self._optimizer = torch.optim.AdamW(_groups(model), lr=schedule.learning_rate)
        self.curve: list[Check] = []
        self._step, self._best = 0, _copied(model.state_dict())

    @property
    def best(self) -> int:
        """Which check of the curve the result is from."""
        return _best(self.curve)

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or patience is at an end."""
        if self._step >= self.schedule.steps:
            return True
        return len(self.curve) - self.best > self.schedule.patience

    def run(self, on_check: Callable[[Check], None] = lambda check: None) -> None:
        """Trains to the end. `on_check` hears of each check; then `state` says all that is needed to go on from there.

        InputError if a point is not finite, points are constant, or the training diverges.
        """
        if not self.curve:
            with self._randomness(0):
                self._model.begin(self._rows(self._train[:_FIRST]))
            self._judge()
            on_check(self.curve[-1])
        while not self.finished:
            until = min(self._step + self.schedule.check_every, self.schedule.steps)
            for step in range(self._step, until):
                with self._randomness(step + 1):
                    self._learn(step)
            self._step = until
            self._judge()
            on_check(self.curve[-1])

    def result(self) -> TrainedQuantizer:
        """The best quantizer so far, frozen."""
        now = _copied(self._model.state_dict())
        self._model.load_state_dict(self._best)
        frozen = self._model.eval().freeze()
        self._model.load_state_dict(now)
        return frozen

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values from which `restore` goes on."""
        tensors = {f"model.{name}": tensor for name, tensor in self._model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        for index, slots in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in slots.items()}
        return _copied(tensors), {"step": self._step, "curve": [asdict(check) for check in self.curve]}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Goes back to what `state` gave. KeyError or RuntimeError if it is of another design."""
        self._model.load_state_dict(below("model.", tensors))
        self._best = _copied(below("best.", tensors))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in below("optimizer.", tensors).items():
            index, _, slot = name.partition(".")
            slots.setdefault(int(index), {})[slot] = tensor
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self._step, self.curve = int(values["step"]), [Check(**check) for check in values["curve"]]

    @contextmanager
    def _randomness(self, step: int) -> Iterator[None]:
        """Random numbers, libraries' too, are functions of the seed and the step; the caller's stay as they were."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed((self.schedule.seed * 1_000_003 + step + 1) % 2**63)
            yield

    def _learn(self, step: int) -> None:
        schedule, model = self.schedule, self._model.train()
        model.bottleneck.advance(step / schedule.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = schedule.rate(step) * group["share"]
        rows = self._rows(self._train[torch.randint(len(self._train), (schedule.batch,))])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = model(rows).loss
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
        self._optimizer.step()

    @torch.no_grad()
    def _judge(self) -> None:
        model, rows = self._model.eval(), self._rows(self._held)
        trial = model(rows)
        objective = float(trial.error.double() * model.coder.scale.double().square() * rows.shape[1])
        if not math.isfinite(objective):
            raise InputError("the training diverged: its error is not finite", hint="use a lower --learning-rate")
        sizes = model.bottleneck.freeze().codebook_sizes
        usage = sum(len(column.unique()) / size for column, size in zip(trial.codes.T, sizes, strict=True)) / len(sizes)
        self.curve.append(Check(self._step, objective, usage))
        if self.best == len(self.curve) - 1:
            self._best = _copied(model.state_dict())

    def _rows(self, which: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
        rows = self.points[which.to(self.points.device)].float()
        if not bool(rows.isfinite().all()):
            raise InputError("expected finite points, got NaN or infinity", hint="look for broken audio or features")
        return rows.to(self.device)


def _groups(model: TrainableQuantizer) -> list[dict[str, Any]]:
    """The parameters by the share of the learning rate that they get."""
    encoder = [*model.coder.before.parameters(), *model.coder.into.parameters()]
    slow = {id(parameter) for parameter in encoder}
    others = [parameter for parameter in model.parameters() if id(parameter) not in slow]
    return [{"params": others, "share": 1.0}, {"params": encoder, "share": model.bottleneck.encoder_rate}]


def _best(curve: list[Check]) -> int:
    """The last check that gained at least 0.1 % on the best before it."""
    best = 0
    for index, check in enumerate(curve):
        if check.objective < curve[best].objective * (1 - _LEAST_GAIN):
            best = index
    return best


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
