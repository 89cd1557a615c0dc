"""What training has in common whatever is trained: budget, batches, averaged weights, checkpoints, processes.

It knows nothing of waveforms or units: a task has a network, batches and figures, a trainer its gradients.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from vocable.distributed import Processes
from vocable.errors import InputError
from vocable.nets.state import below
from vocable.training.averages import WeightAverage
from vocable.training.checkpoints import Checkpoint, unbroken
from vocable.training.learner import Learner
from vocable.training.prefetch import Batch, prefetched
from vocable.training.regime import Regime
from vocable.training.reports import Best, Ledger, Report

ALONE = Processes()


class Trainable(Protocol):
    """What is trained, and on what."""

    @property
    def network(self) -> nn.Module:
        """What is trained; the trainer moves it to its device. Processes begin with the weights of the first."""

    def batch(self, step: int, *, rank: int, world: int) -> Batch:
        """CPU tensors, a function of the arguments alone; called by other threads, ahead of time."""

    def judge(self) -> dict[str, float]:
        """Figures on what is held out ("mel": the lower the better) of the network as it is, with averaged weights.

        In evaluation mode and without gradients. Called in the first process only.
        """


T = TypeVar("T", bound=Trainable)


class Trainer(ABC, Generic[T]):
    """One task in training, by AdamW.

    On a CPU the result depends on the task, the regime, the number of processes and (in the last bits) of threads, and
    not on interruptions: every step draws from a generator seeded by its number. `minutes` depend on the clock.

    device: where it runs. processes: those of one job; each has batches of its own, and all have the same weights.
    loaders: threads that make batches ahead.
    """

    def __init__(self, task: T, regime: Regime, *, device: str, processes: Processes, loaders: int = 2) -> None:
        self.task, self.regime, self.device = task, regime, torch.device(device)
        self._processes, self._loaders = processes, loaders
        self._learners = {"network": Learner(self._placed(task.network), regime.clip)}
        self._average = WeightAverage(task.network, regime.ema)
        self._ledger, self._step, self._spent, self._used = Ledger(), 0, 0.0, 0.0
        self.best: Best | None = None
        if regime.compile:
            task.network.compile()

    @abstractmethod
    def _gradients(self, batch: Batch) -> tuple[dict[str, Tensor], float]:
        """Fills the gradients; gives all losses, by name, and the seconds of audio in the batch."""

    def run(self, on_report: Callable[[Report], None], checkpoint: Checkpoint | None = None) -> None:
        """Trains until the budget is used, from the state in the checkpoint's file if there is one.

        on_report hears, in the first process, every `report_every` steps, of checks on what is held out, and of the
        end. The checkpoint is written when it is due, at the end, and when the training is interrupted
        (KeyboardInterrupt). Several processes have to see the same file.

        InputError if a loss or a gradient is not finite (the file is then that of an earlier step), or if the
        checkpoint is of another training. ArtifactError if it is damaged.
        """
        if checkpoint is not None:
            checkpoint.restore(self)
        self._require_agreement()
        started = time.monotonic() - self._spent
        self._note_time(started)
        with (
            torch.random.fork_rng(devices=self._generators()),
            prefetched(self._batch, self._step, self.device, self._loaders) as take,
        ):
            try:
                while self._used < 1:
                    self._advance(take, checkpoint)
                    self._note_time(started)
                    self._tell(on_report)
                    self._save(checkpoint, now=self._used >= 1)
            except KeyboardInterrupt:
                self._save(checkpoint, now=True)
                raise

    def weights(self) -> dict[str, Tensor]:
        """The state of the network with its averaged weights, copies on the CPU."""
        with self._average.in_place() as network:
            return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values from which `restore` goes on."""
        tensors = {f"average.{name}": tensor for name, tensor in self._average.tensors.items()}
        values: dict[str, Any] = {"step": self._step, "spent": self._spent, "ledger": asdict(self._ledger)}
        values["best"] = asdict(self.best) if self.best else None
        for role, learner in self._learners.items():
            own, values[role] = learner.state()
            tensors |= {f"{role}.{name}": tensor for name, tensor in own.items()}
        return tensors, values

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Goes back to what `state` gave. KeyError or RuntimeError if it is of another training."""
        for role, learner in self._learners.items():
            learner.restore(below(f"{role}.", tensors), values[role])
        self._average.restore(below("average.", tensors))
        self._step, self._spent = int(values["step"]), float(values["spent"])
        self._ledger = Ledger(**values["ledger"])
        self.best = Best(**values["best"]) if values["best"] else None

    def identity(self) -> dict[str, Any]:
        """What a state and the training that goes on from it share."""
        shapes = {name: list(tensor.shape) for name, tensor in self.task.network.state_dict().items()}
        job = {"device": self.device.type, "world": self._processes.world}
        return {"regime": self.regime.identity(), "network": shapes, **job}

    def _advance(self, take: Callable[[], Batch], checkpoint: Checkpoint | None) -> None:
        """One step, which an interruption does not break."""
        began = time.monotonic()
        batch = take()
        ready = time.monotonic()
        with unbroken():
            self._seed(self._step + 1)
            for learner in self._learners.values():
                learner.forget()
            self.task.network.train()
            losses, seconds = self._gradients(batch)
            told = self._learn(losses, checkpoint)
            self._step += 1
            self._ledger.add(told, seconds * self._processes.world, ready - began, time.monotonic() - ready)

    def _learn(self, losses: Mapping[str, Tensor], checkpoint: Checkpoint | None) -> dict[str, float]:
        """Takes the gradients of all processes into the weights, unless one is not finite; gives the mean losses."""
        active = [learner for role, learner in self._learners.items() if role == "network" or role in losses]
        self._mean_([*(part for learner in active for part in learner.gradients()), *losses.values()])
        # the one place where the host waits for the device: so the times are those of the work, too
        numbers = torch.stack([*losses.values(), *(learner.length() for learner in active)]).tolist()
        told, lengths = dict(zip(losses, numbers, strict=False)), numbers[len(losses) :]
        if not all(map(math.isfinite, numbers)):
            raise _diverged(self._step, told, checkpoint)
        for learner, length in zip(active, lengths, strict=True):
            learner.learn(length, self.regime.rate(self._step, self._used))
        self._average.update(self._step)
        return told

    def _tell(self, on_report: Callable[[Report], None]) -> None:
        """Checks on what is held out and reports, where this step is one for that."""
        last, step = self._used >= 1, self._step
        checked = last or step % self.regime.check_every == 0
        if not checked and step % self.regime.report_every:
            return
        figures = self._checked() if checked else {}
        mel = figures.get("mel", math.inf)
        if mel < (self.best.mel if self.best else math.inf):
            self.best = Best(step, mel)
        ledger, self._ledger = self._ledger, Ledger()
        speed, computing = ledger.audio / ledger.seconds, ledger.computing / ledger.seconds
        share, minutes = min(self._used, 1.0), self._spent / 60
        if self._processes.rank == 0:
            on_report(Report(step, share, minutes, speed, computing, ledger.means(), figures, self.best))

    def _checked(self) -> dict[str, float]:
        figures: dict[str, float] = {}
        if self._processes.rank == 0:
            self._seed(-self._step)
            with self._average.in_place(), torch.no_grad():
                figures = self._figures()
        self._processes.meet()  # the others wait, however long it takes
        return figures

    def _figures(self) -> dict[str, float]:
        return self.task.judge()

    def _save(self, checkpoint: Checkpoint | None, *, now: bool) -> None:
        if checkpoint is not None and self._processes.rank == 0 and (now or checkpoint.due):
            checkpoint.save(self)

    def _note_time(self, started: float) -> None:
        """How much of the budget is used; where minutes count, by the clock of the first process."""
        steps, minutes = self.regime.steps, self.regime.minutes
        self._spent = time.monotonic() - started
        self._used = self._step / steps if steps else 0.0
        if minutes is not None:
            own = self._spent / 60 / minutes if self._processes.rank == 0 else 0.0
            shared = self._processes.sum_(torch.tensor([own], dtype=torch.float64, device=self.device))
            self._used = max(self._used, float(shared))

    def _require_agreement(self) -> None:
        steps = torch.tensor([self._step, -self._step], device=self.device)
        most, least = self._processes.max_(steps).tolist()
        if most != -least:
            raise InputError(
                "expected all processes to go on from one checkpoint, got several states",
                hint="put it where all of them see it",
            )

    def _placed(self, network: nn.Module) -> nn.Module:
        """The network on the device, with the weights that it has in the first process."""
        network.to(self.device)
        if self._processes.world > 1:
            for tensor in [*network.parameters(), *network.buffers()]:
                if tensor.is_floating_point():
                    data = tensor.detach()
                    self._processes.sum_(data if self._processes.rank == 0 else data.zero_())
        return network

    @torch.no_grad()
    def _mean_(self, tensors: list[Tensor]) -> None:
        """Each tensor becomes its mean over all processes, in one exchange."""
        if self._processes.world == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self._processes.sum_(flat).div_(self._processes.world)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def _batch(self, step: int) -> Batch:
        return self.task.batch(step, rank=self._processes.rank, world=self._processes.world)

    def _autocast(self) -> torch.autocast:
        wanted = self.regime.precision
        enabled = wanted == "bf16" or (wanted == "auto" and self.device.type == "cuda")
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _seed(self, step: int) -> None:
        """Random numbers are functions of the seed, the step and the process."""
        torch.manual_seed((self.regime.seed * 1_000_003 + step * 4096 + self._processes.rank) % 2**63)

    def _generators(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []


def _diverged(step: int, losses: Mapping[str, float], checkpoint: Checkpoint | None) -> InputError:
    broken = [name for name, loss in losses.items() if not math.isfinite(loss)]
    what = f"{' and '.join(broken)} not finite" if broken else "its gradient is not finite"
    kept = checkpoint is not None and checkpoint.path.exists()
    hint = "go on from the last checkpoint with a lower learning rate" if kept else "use a lower learning rate"
    return InputError(f"the training diverged at step {step + 1}: {what}", hint=hint)
