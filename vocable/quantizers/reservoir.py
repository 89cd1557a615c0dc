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

    Memory: capacity x (layers x dim x 4 + 8) bytes, paid as it fills; `layer` returns a sorted copy of one layer.
    """

    def __init__(self, capacity: int, layers: int, dim: int, *, seed: int = 0) -> None:
        if capacity < 1:
            raise InputError(f"expected room for at least one frame, got {capacity}", hint="allow more memory")
        self.capacity, self.seed, self.seen = capacity, seed, 0
        self._frames = np.empty((layers, capacity, dim), np.float32)
        self._keys = np.empty(capacity, np.uint64)

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, utterance: str, first: int, frames: Float[Tensor, "l t d"]) -> None:
        """Offers T frames of all layers, of which the first is number `first` of its utterance."""
        arriving = frames.detach().cpu().numpy()
        keys = _keys(f"{self.seed}:{utterance}", first, arriving.shape[1])
        room = min(self.capacity - len(self), len(keys))
        held = len(self)
        self._frames[:, held : held + room] = arriving[:, :room]
        self._keys[held : held + room] = keys[:room]
        self.seen += len(keys)
        self._replace_largest(keys[room:], arriving[:, room:])

    def layer(self, index: int) -> Float[Tensor, "n d"]:
        """The frames kept of one layer, in the order of their keys."""
        order = np.argsort(self._keys[: len(self)], kind="stable")
        return torch.from_numpy(self._frames[index, order])

    def _replace_largest(self, keys: np.ndarray, frames: np.ndarray) -> None:
        if not len(keys):
            return
        everything = np.concatenate([self._keys, keys])
        smallest = np.argpartition(everything, self.capacity - 1)[: self.capacity]
        stays = np.zeros(len(everything), bool)
        stays[smallest] = True
        (leaving,), (entering,) = np.nonzero(~stays[: self.capacity]), np.nonzero(stays[self.capacity :])
        self._frames[:, leaving] = frames[:, entering]
        self._keys[leaving] = keys[entering]


def _keys(name: str, first: int, count: int) -> np.ndarray:
    """One 64-bit key per frame: the SplitMix64 sequence (Steele et al., 2014) started at a hash of the name."""
    start = np.frombuffer(sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], np.uint64)
    z = start + np.arange(first + 1, first + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
