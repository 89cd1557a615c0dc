"""The trainer of encoders: one loss, averaged weights, and a state from which it goes on to the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from vocable.distributed import Processes
from vocable.errors import InputError
from vocable.training.averages import WeightAverage
from vocable.training.checkpoints import Checkpoint, unbroken
from vocable.training.encoder_task import EncoderTask, figures
from vocable.training.learner import Learner, below
from vocable.training.prefetch import Batch, prefetched
from vocable.training.regime import Regime
from vocable.training.reports import Ledger, Report

_ALONE = Processes()
_LOADERS = 2  # threads that make batches ahead


class EncoderTrainer:
    """One `EncoderTask` in training, by AdamW. What a regime says of discriminators and spectral losses is left aside.

    On a CPU the result depends on the task, the regime, the number of processes and (in the last bits) of threads, and
    not on interruptions: every step draws from generators seeded by its number. `minutes` depend on the clock.

    device: where it runs. processes: those of one job; each has batches of its own, and all have the same weights.
    """

    def __init__(
        self, task: EncoderTask, regime: Regime, *, device: str = "cpu", processes: Processes = _ALONE
    ) -> None:
        self.task, self.regime, self.device, self._processes = task, regime, torch.device(device), processes
        task.network.to(self.device)
        self._share_weights()
        self._learner = Learner(task.network, regime.clip)
        self._average = WeightAverage(task.network, regime.ema)
        self._ledger, self._step, self._spent, self._used = Ledger(), 0, 0.0, 0.0
        if regime.compile:
            task.network.compile()

    def run(self, on_report: Callable[[Report], None], checkpoint: Checkpoint | None = None) -> None:
        """Trains until the budget is used, from the state in the checkpoint's file if there is one.

        on_report hears, in the first process, every `report_every` steps, of checks on what is held out, and of the
        end. The checkpoint is written when it is due, at the end, and when the training is interrupted. Several
        processes have to see the same file.

        InputError if the loss or the gradient is not finite (the file is then that of an earlier step), or if the
        checkpoint is of another training. ArtifactError if it is damaged.
        """
        if checkpoint is not None:
            checkpoint.restore(self)
        self._require_agreement()
        started = time.monotonic() - self._spent
        self._note_time(started)
        with (
            torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []),
            prefetched(self._batch, self._step, self.device, _LOADERS) as take,
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
        """The averaged weights of the network, on the CPU."""
        with self._average.in_place() as network:
            return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the rest of the training depends on."""
        own, kept = self._learner.state()
        tensors = {f"network.{name}": tensor for name, tensor in own.items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self._average.tensors.items()}
        return tensors, {"step": self._step, "spent": self._spent, "ledger": asdict(self._ledger), "network": kept}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Goes back to what `state` gave. KeyError or RuntimeError if it is of another training."""
        self._learner.restore(below("network.", tensors), values["network"])
        self._average.restore(below("average.", tensors))
        self._step, self._spent = int(values["step"]), float(values["spent"])
        self._ledger = Ledger(**values["ledger"])

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
            self._learner.forget()
            self.task.network.train()
            with self._autocast():
                prediction = self.task.predict(batch)
                loss = self.task.loss(prediction)
            loss.backward()
            values = {name: value.detach().clone() for name, value in figures(prediction).items()}
            told = self._learn(values, checkpoint)
            self._step += 1
            audio = self.task.seconds * self._processes.world
            self._ledger.add(told, audio, ready - began, time.monotonic() - ready)

    def _learn(self, values: Mapping[str, Tensor], checkpoint: Checkpoint | None) -> dict[str, float]:
        """Takes the gradients of all processes into the weights, unless one is not finite; gives the mean values."""
        self._mean_([*self._learner.gradients(), *values.values()])
        # the one place where the host waits for the device: so the times are those of the work, too
        *told, length = torch.stack([*values.values(), self._learner.length()]).tolist()
        if not all(map(math.isfinite, (*told, length))):
            kept = checkpoint is not None and checkpoint.path.exists()
            hint = "go on from the last checkpoint with a lower learning rate" if kept else "use a lower learning rate"
            raise InputError(f"the training diverged at step {self._step + 1}: it is not finite", hint=hint)
        self._learner.learn(length, self.regime.rate(self._step, self._used))
        self._average.update(self._step)
        return dict(zip(values, told, strict=True))

    def _tell(self, on_report: Callable[[Report], None]) -> None:
        """Checks on what is held out and reports, where this step is one for that."""
        last, step = self._used >= 1, self._step
        checked = last or step % self.regime.check_every == 0
        if not checked and step % self.regime.report_every:
            return
        found = self._checked() if checked else {}
        ledger, self._ledger = self._ledger, Ledger()
        speed, computing = ledger.audio / ledger.seconds, ledger.computing / ledger.seconds
        share, minutes = min(self._used, 1.0), self._spent / 60
        if self._processes.rank == 0:
            on_report(Report(step, share, minutes, speed, computing, ledger.means(), found, None))

    def _checked(self) -> dict[str, float]:
        found: dict[str, float] = {}
        if self._processes.rank == 0:
            with self._average.in_place(), torch.no_grad(), self._autocast():
                found = self.task.judge()
        self._processes.meet()  # the others wait, however long it takes
        return found

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

    @torch.no_grad()
    def _share_weights(self) -> None:
        """All processes begin with the weights of the first."""
        for tensor in self.task.network.parameters() if self._processes.world > 1 else ():
            self._processes.sum_(tensor.data if self._processes.rank == 0 else tensor.data.zero_())

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
