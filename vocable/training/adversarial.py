"""The trainer of networks that make waveforms: spectral losses and discriminators.

It knows nothing of tokens or codecs: a `Task` says what is rendered, and how good it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from vocable.distributed import Processes
from vocable.nets.discriminators import Verdict, build_discriminators
from vocable.nets.losses import SpectralLoss, adversarial_loss, discriminator_loss, feature_loss
from vocable.nets.state import below
from vocable.training.balance import Balancer
from vocable.training.learner import Learner
from vocable.training.prefetch import Batch
from vocable.training.regime import Regime
from vocable.training.reports import Report
from vocable.training.trainer import ALONE, Trainable, Trainer

__all__ = ["AdversarialTrainer", "Batch", "Regime", "Rendition", "Report", "Task"]


class Rendition(NamedTuple):
    """What a step is about.

    real: waveforms as they should be. fake: what the network makes of them, float32 or bfloat16.
    losses: further ones (commitment, distillation), weighted already; they are added as they are.
    """

    real: Float[Tensor, "b n"]
    fake: Float[Tensor, "b n"]
    losses: dict[str, Tensor]


class Task(Trainable, Protocol):
    """What is trained, and on what."""

    @property
    def sample_rate(self) -> int: ...

    def render(self, batch: Batch) -> Rendition:
        """One forward pass, on the device, in training mode, under autocast; torch's random numbers are those of the
        step.
        """


class AdversarialTrainer(Trainer[Task]):
    """A `Trainer` of waveforms: balanced losses, averaged weights, one pass of the discriminators for both sides."""

    def __init__(
        self, task: Task, regime: Regime, *, device: str = "cpu", processes: Processes = ALONE, loaders: int = 2
    ) -> None:
        super().__init__(task, regime, device=device, processes=processes, loaders=loaders)
        with torch.random.fork_rng(devices=self._generators()):
            torch.manual_seed(regime.seed)
            critic = None if regime.discriminators == "none" else build_discriminators(regime.discriminators)
        if critic is not None:
            self._learners["discriminator"] = Learner(self._placed(critic), regime.clip)
        self._spectral = SpectralLoss(task.sample_rate).to(self.device)
        self._balancer = Balancer(asdict(regime.weights), processes)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values from which `restore` goes on."""
        tensors, values = super().state()
        return tensors | {f"balance.{name}": tensor for name, tensor in self._balancer.state().items()}, values

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Goes back to what `state` gave. KeyError or RuntimeError if it is of another training."""
        super().restore(tensors, values)
        self._balancer.restore(below("balance.", tensors), self.device)

    def identity(self) -> dict[str, Any]:
        """What a state and the training that goes on from it share."""
        return super().identity() | {"sample_rate": self.task.sample_rate}

    def _gradients(self, batch: Batch) -> tuple[dict[str, Tensor], float]:
        with self._autocast():
            rendition = self.task.render(batch)
        real, fake = rendition.real.float(), rendition.fake.float()
        at = fake.detach().requires_grad_()  # all that is known of the sound meets here
        losses: dict[str, Tensor] = self._spectral(real, at)._asdict()
        told: dict[str, Tensor] = {}
        if "discriminator" in self._learners and self._used >= self.regime.adversarial_from:
            ours, theirs = self._judged(real, at)
            losses |= {"adversarial": adversarial_loss(theirs), "features": feature_loss(ours, theirs)}
            told["discriminator"] = discriminator_loss(ours, theirs)
        balanced = self._balancer.gradient(losses, at)
        if told:
            critic = self._learners["discriminator"].parameters
            for weight, gradient in zip(critic, torch.autograd.grad(told["discriminator"], critic), strict=True):
                weight.grad = gradient
        added = [loss for loss in rendition.losses.values() if loss.requires_grad]
        torch.autograd.backward([fake, *added], [balanced, *[None] * len(added)])
        every = {**losses, **told, **rendition.losses}
        return {
            name: loss.detach().float().clone() for name, loss in every.items()
        }, real.numel() / self.task.sample_rate

    def _judged(self, real: Float[Tensor, "b n"], fake: Float[Tensor, "b n"]) -> tuple[list[Verdict], list[Verdict]]:
        """Verdicts on both, from which the network and the discriminators learn at once: nothing is judged twice."""
        critic = self._learners["discriminator"].network
        with self._autocast():
            return critic(real), critic(fake)
