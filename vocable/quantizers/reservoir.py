"""A uniform sample of the frames of a corpus, in memory of a stated size."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vocable.errors import InputError


class FrameReservoir:
    """Keeps `capacity` frames drawn uniformly from all that are added, the same frames for every layer.

    Each frame has a key, a hash of the seed, its utterance and its place in it; the frames with the smallest keys stay
    (bottom-k sampling: Cohen and Kaplan, "Summarizing Data Using Bottom-k Sketches", 2007). So what is kept, and the
    order it is given back in, do not depend on the order or the chunks in which frames arrive.

    Memory: 17/16 x capacity x (layers x dim x 4 + 8) bytes, paid as it fills; `layer` returns a sorted copy of one
    layer. The sixteenth takes newcomers until the largest keys are thrown out, so that it need not be done each time.
    """

    def __init__(self, capacity: int, layers: int, dim: int, *, seed: int = 0) -> None:
        if capacity < 1:
            raise InputError(f"expected room for at least one frame, got {capacity}", hint="allow more memory")
        self.capacity, self.seed, self.seen = capacity, seed, 0
        room = capacity + capacity // 16 + 1
        self._frames = np.empty((layers, room, dim), np.float32)
        self._keys = np.empty(room, np.uint64)
        self._held, self._largest = 0, np.uint64(2**64 - 1)

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, utterance: str, first: int, frames: Float[Tensor, "l t d"]) -> None:
        """Offers T frames of all layers, of which the first is number `first` of its utterance."""
        arriving = frames.detach().cpu().float().numpy()
        keys = _keys(f"{self.seed}:{utterance}", first, arriving.shape[1])
        self.seen += len(keys)
        small = np.flatnonzero(keys <= self._largest)
        while len(small):
            taken, small = np.split(small, [len(self._keys) - self._held])
            end = self._held + len(taken)
            self._frames[:, self._held : end] = arriving[:, taken]
            self._keys[self._held : end] = keys[taken]
            self._held = end
            if end == len(self._keys):
                self._drop_largest()

    def layer(self, index: int) -> Float[Tensor, "n d"]:
        """The frames kept of one layer, in the order of their keys."""
        self._drop_largest()
        order = np.argsort(self._keys[: self._held], kind="stable")
        return torch.from_numpy(self._frames[index, order])

    def _drop_largest(self) -> None:
        if self._held <= self.capacity:
            return
        stays = np.zeros(self._held, bool)
        stays[np.argpartition(self._keys[: self._held], self.capacity - 1)[: self.capacity]] = True
        leaving = np.flatnonzero(~stays[: self.capacity])
        entering = self.capacity + np.flatnonzero(stays[self.capacity :])
        self._frames[:, leaving] = self._frames[:, entering]
        self._keys[leaving] = self._keys[entering]
        self._held, self._largest = self.capacity, self._keys[: self.capacity].max()


def _keys(name: str, first: int, count: int) -> np.ndarray:
    """One 64-bit key per frame: the SplitMix64 sequence (Steele et al., 2014) started at a hash of the name."""
    start = np.frombuffer(sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], np.uint64)
    z = start + np.arange(first + 1, first + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
