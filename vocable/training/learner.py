"""A network that learns: its gradients, how long they are and may be, and its optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vocable.nets.state import below
from vocable.training.balance import LengthLimit

_BETAS = (0.8, 0.99)


class Learner:
    """AdamW on those parameters of a network that want gradients."""

    def __init__(self, network: nn.Module, clip: float) -> None:
        self.network = network
        self.parameters = [weight for weight in network.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(self.parameters, betas=_BETAS, fused=True)
        self._limit = LengthLimit(clip)

    def forget(self) -> None:
        """Leaves no gradient of a step before."""
        self._optimizer.zero_grad(set_to_none=True)

    def gradients(self) -> list[Tensor]:
        """The gradient of every parameter, zeros where none came, so that all processes and steps have the same."""
        for weight in self.parameters:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        return [weight.grad for weight in self.parameters if weight.grad is not None]

    def length(self) -> Float[Tensor, ""]:
        """The norm of all gradients together."""
        return torch.nn.utils.get_total_norm(self.gradients()).float()

    def learn(self, length: float, rate: float) -> None:
        """One step at this learning rate with gradients of this length, shortened where it is beyond the limit."""
        limit = self._limit.next(length)
        if length > limit:
            torch._foreach_mul_(self.gradients(), limit / length)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and moments; plain values of the limit."""
        tensors = {f"weights.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for index, slots in self._optimizer.state_dict()["state"].items():
            tensors |= {f"moments.{index}.{name}": tensor for name, tensor in slots.items()}
        return tensors, {"lengths": list(self._limit.sums)}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Goes back to what `state` gave. KeyError or RuntimeError if it is of another network."""
        self.network.load_state_dict(below("weights.", tensors))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in below("moments.", tensors).items():
            index, _, slot = name.partition(".")
            slots.setdefault(int(index), {})[slot] = tensor
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": slots, "param_groups": groups})
        total, count = values["lengths"]
        self._limit.sums = (float(total), float(count))
