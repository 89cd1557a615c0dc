"""The features of a sweep: extracted once, on disk, to be read by layer and by recording."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vocable.files import inside
from vocable.quantizers.reservoir import FrameReservoir
from vocable.tokenizers.feature_cache import FeatureCache
from vocable.tokenizers.feature_cache_head import DTYPES, FINISHED, read


class StoredFrames:
    """The frames of a feature cache, and where those of each recording that is there lie among them."""

    def __init__(self, cache: FeatureCache) -> None:
        head, places = read(cache.path)
        rows = np.fromfile(cache.path / FINISHED, "<i8").tolist()
        self.cache, self._total = cache, int(head["frames"])
        self.places = {
            place.id: slice(place.first, place.first + count)
            for place, count in zip(places, rows, strict=True)
            if count
        }

    def count(self, ids: Iterable[str]) -> int:
        """Frames of these recordings."""
        return sum(self.places[name].stop - self.places[name].start for name in ids)

    def layer(self, label: str) -> Float[Tensor, "n d"]:
        """All rows of a layer, in the file and not in memory; only `places` says which of them mean something."""
        suffix, kind = DTYPES[self.cache.precision]
        file = inside(self.cache.path, label, f".{suffix}")
        # copy on write: torch knows no tensors that must not be changed
        return torch.from_numpy(np.memmap(file, kind, "c", shape=(self._total, self.cache.dim)))

    def sample(self, label: str, ids: Iterable[str], capacity: int, *, seed: int) -> FrameReservoir:
        """At most `capacity` frames of these recordings: those that `vocable train kmeans` would keep, in its order."""
        names = list(ids)
        reservoir = FrameReservoir(min(capacity, max(1, self.count(names))), 1, self.cache.dim, seed=seed)
        rows = self.layer(label)
        for name in names:
            reservoir.add(name, 0, rows[self.places[name]][None])
        return reservoir
