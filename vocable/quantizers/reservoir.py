"""A uniform sample of the frames of a corpus, in memory of a stated size."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers.reduce import ALONE, Reducer


class FrameReservoir:
    """Keeps `capacity` frames drawn uniformly from all that are added, the same frames for every layer.

    Each frame has a key, a hash of the seed, its utterance and its place in it; the frames with the smallest keys stay
    (bottom-k sampling: Cohen and Kaplan, "Summarizing Data Using Bottom-k Sketches", 2007). So what is kept, and the
    order it is given back in, do not depend on the order or the chunks in which frames arrive, nor on the processes
    that they arrive in (see `merge`).

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
                self._drop_largest(self.capacity)

    def merge(self, reduce: Reducer) -> None:
        """Makes the reservoirs of all processes one sample of `capacity`, each frame of it where it arrived.

        From then on `seen` and the length are those of the whole, and nothing more is to be added.
        """
        self._drop_largest(self.capacity)
        keys = self._all_keys(reduce)
        if len(keys) > self.capacity:
            largest = np.partition(keys, self.capacity - 1)[self.capacity - 1]
            self._drop_largest(int((self._keys[: self._held] <= largest).sum()))
        self.seen = int(reduce.sum_(torch.tensor([self.seen])))

    def layer(self, index: int, reduce: Reducer = ALONE) -> Float[Tensor, "n d"]:
        """The frames kept of one layer, in the order of their keys.

        Of several processes, whose reservoirs are merged, each gets as many of them: rank 0 those that come first. For
        a moment each holds all frames of the layer.
        """
        self._drop_largest(self.capacity)
        order = np.argsort(self._all_keys(reduce), kind="stable")
        mine = order[share(len(order), reduce)]
        if reduce.world == 1:
            return torch.from_numpy(self._frames[index, mine])
        return _select(reduce.gather(torch.from_numpy(self._frames[index, : self._held])), mine)

    def _all_keys(self, reduce: Reducer) -> np.ndarray:
        """The keys held by all processes, those of rank 0 first."""
        signed = torch.from_numpy(self._keys[: self._held].view(np.int64))
        return np.concatenate([part.numpy() for part in reduce.gather(signed)]).view(np.uint64)

    def _drop_largest(self, room: int) -> None:
        """Keeps the frames with the `room` smallest keys, in no order."""
        if self._held <= room:
            return
        stays = np.zeros(self._held, bool)
        stays[np.argpartition(self._keys[: self._held], max(0, room - 1))[:room]] = True
        leaving = np.flatnonzero(~stays[:room])
        entering = room + np.flatnonzero(stays[room:])
        self._frames[:, leaving] = self._frames[:, entering]
        self._keys[leaving] = self._keys[entering]
        self._held = room
        self._largest = self._keys[:room].max() if room else np.uint64(0)


def share(count: int, reduce: Reducer) -> slice:
    """The part of `count` rows in a row that falls to this process: as many for each, or one more."""
    return slice(count * reduce.rank // reduce.world, count * (reduce.rank + 1) // reduce.world)


def _select(parts: list[Tensor], rows: np.ndarray) -> Float[Tensor, "n d"]:
    """Rows of the parts as if these were one tensor."""
    selected, start = parts[0].new_empty(len(rows), parts[0].shape[1]), 0
    for part in parts:
        inside = np.flatnonzero((rows >= start) & (rows < start + len(part)))
        selected[torch.from_numpy(inside)] = part[torch.from_numpy(rows[inside] - start)]
        start += len(part)
    return selected


def _keys(name: str, first: int, count: int) -> np.ndarray:
    """One 64-bit key per frame: the SplitMix64 sequence (Steele et al., 2014) started at a hash of the name."""
    start = np.frombuffer(sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], np.uint64)
    z = start + np.arange(first + 1, first + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
