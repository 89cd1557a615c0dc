"""Losses weighed by what they do to the waveform, and running averages of how long gradients are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from vocable.distributed import Processes

_DECAY = 0.999  # of the lengths of each loss's gradient, as in EnCodec
_LIMIT_DECAY = 0.99
_TINY = 1e-12


class Balancer:
    """One gradient at the waveform in which each loss has the share that its weight says, whatever its scale.

    The gradient of each loss is divided by the running average of its length (per waveform, the mean over the batch),
    then the weighted mean is taken: Défossez et al. 2022 (EnCodec), eq. 4. Averages are over all processes.
    """

    def __init__(self, weights: Mapping[str, float], processes: Processes) -> None:
        self.weights, self._processes = dict(weights), processes
        self._averages: dict[str, Tensor] = {}  # per loss: decayed sums of lengths and of ones

    def gradient(self, losses: Mapping[str, Tensor], at: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """The gradient with respect to `at`, from which all losses come; their graphs are kept."""
        names = [name for name in losses if self.weights[name] > 0]
        found = [torch.autograd.grad(losses[name], at, retain_graph=True)[0] for name in names]
        lengths = torch.stack([torch.linalg.vector_norm(gradient, dim=1).mean() for gradient in found]).double()
        self._processes.sum_(lengths).div_(self._processes.world)
        total = sum(self.weights[name] for name in names)
        balanced = torch.zeros_like(at)
        for name, gradient, length in zip(names, found, lengths, strict=True):
            average = self._average(name, length)
            balanced += gradient * (self.weights[name] / total / average.clamp_min(_TINY)).to(at.dtype)
        return balanced

    def state(self) -> dict[str, Tensor]:
        return dict(self._averages)

    def restore(self, averages: Mapping[str, Tensor], device: torch.device) -> None:
        self._averages = {name: average.to(device) for name, average in averages.items()}

    def _average(self, name: str, length: Float[Tensor, ""]) -> Float[Tensor, ""]:
        before = self._averages.get(name)
        latest = torch.stack([length, torch.ones_like(length)])
        sums = latest if before is None else before * _DECAY + latest
        self._averages[name] = sums
        return sums[0] / sums[1]


class LengthLimit:
    """How long a gradient may be: so many times the running average of those before it, themselves limited."""

    def __init__(self, times: float, sums: tuple[float, float] = (0.0, 0.0)) -> None:
        self.times, self.sums = times, sums

    def next(self, length: float) -> float:
        """The limit for a gradient of this length, which from now on is part of the average."""
        total, count = self.sums
        limit = self.times * total / count if count else length
        self.sums = _LIMIT_DECAY * total + min(length, limit), _LIMIT_DECAY * count + 1
        return limit
