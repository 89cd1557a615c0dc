"""The exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vocable.training.checkpoints import unbroken


class WeightAverage:
    """Averages of the parameters, as Polyak has them; buffers are those of the network itself.

    After n updates the past is kept by min(decay, (1 + n) / (10 + n)), so that the start is soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self.tensors = {name: weight.detach().clone() for name, weight in network.named_parameters()}

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Takes the network's weights in after so many updates before this one."""
        decay = min(self._decay, (1 + updates) / (10 + updates))
        for name, weight in self._network.named_parameters():
            self.tensors[name].lerp_(weight, 1 - decay)

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """KeyError if the tensors are of another network."""
        for name, average in self.tensors.items():
            average.copy_(tensors[name])

    @contextmanager
    def in_place(self) -> Iterator[nn.Module]:
        """The network with the averages as its weights, in evaluation mode, until the block ends."""
        trained = {name: weight.detach().clone() for name, weight in self._network.named_parameters()}
        mode = self._network.training
        try:
            self._put(self.tensors)
            yield self._network.eval()
        finally:
            with unbroken():
                self._put(trained)
                self._network.train(mode)

    @torch.no_grad()
    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        for name, weight in self._network.named_parameters():
            weight.copy_(tensors[name])
