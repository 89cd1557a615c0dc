"""What a language model sees in a step of training, how it is judged, and its trainer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vocable.errors import InputError
from vocable.language.model import surprise
from vocable.language.packs import Pack, Packs
from vocable.training.crops import random_numbers
from vocable.training.prefetch import Batch
from vocable.training.trainer import Trainer

_JUDGED_IDS = 40_000  # while it is trained: at the end all of what is held out counts
_BATCH_IDS = 16_384


@dataclass(frozen=True, slots=True)
class Predicted:
    """How well ids of recordings are foretold, the end of each among them.

    nats: of all ids together. ids: how many. seconds: of audio they stand for.
    """

    nats: float
    ids: int
    seconds: float

    @property
    def loss(self) -> float:
        """Nats an id."""
        return self.nats / self.ids

    @property
    def perplexity(self) -> float:
        """As many equally likely ids would be as hard to foretell."""
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_second(self) -> float:
        """Bits for a second of audio: what streams of any tokenizer can be compared by."""
        return self.nats / math.log(2) / self.seconds


@dataclass(frozen=True, eq=False)
class _Window:
    """Ids [n] that are seen at once; those from `first` on count."""

    ids: np.ndarray
    first: int


def _windows(ids: np.ndarray, context: int) -> Iterable[_Window]:
    """Every id but the first counts in one window, with at least half a context before it where there is as much."""
    yield _Window(ids[: context + 1], 1)
    step = max(1, context // 2)
    for start in range(step, len(ids) - context - 1 + step, step):
        yield _Window(ids[start : start + context + 1], context + 1 - step)


def predicted(network: nn.Module, held: Pack, context: int, *, most: int | None = None) -> Predicted:
    """How well the network, in evaluation mode, foretells recordings, each by itself from its beginning on.

    most: ids of the first recordings that are enough; None for all of them.
    """
    device = next(network.parameters()).device
    windows: list[_Window] = []
    count, used = 0, 0
    for ids in held.recordings():
        if most is not None and count >= most:
            break
        windows += _windows(ids, context)
        count, used = count + len(ids) - 1, used + 1
    samples = (length for _, (_, length) in zip(range(used), held.packed.utterances(), strict=False))
    windows.sort(key=lambda window: len(window.ids))
    size, nats = max(1, _BATCH_IDS // (context + 1)), 0.0
    for start in range(0, len(windows), size):
        nats += _nats(network, windows[start : start + size], device)
    return Predicted(nats, count, sum(samples) / held.packed.spec.sample_rate)


@torch.no_grad()
def _nats(network: nn.Module, windows: list[_Window], device: torch.device) -> float:
    longest = max(len(window.ids) for window in windows)
    ids = torch.zeros(len(windows), longest, dtype=torch.int64)
    counts = torch.zeros(len(windows), longest - 1, dtype=torch.bool)
    for row, mask, window in zip(ids, counts, windows, strict=True):
        row[: len(window.ids)] = torch.from_numpy(window.ids.astype(np.int64))
        mask[window.first - 1 : len(window.ids) - 1] = True
    # what is behind the end of a window changes nothing before it: attention looks back only
    return float(surprise(network, ids.to(device)).double()[counts.to(device)].sum())


class LanguageTask:
    """A network learns to tell the next id, recordings end to end. context, batch: ids of a crop, crops of a step.

    InputError if there are fewer than two ids to learn from.
    """

    def __init__(self, network: nn.Module, packs: Packs, *, context: int, batch: int, seed: int = 0) -> None:
        if len(packs.training.ids) < 2:
            raise InputError("expected recordings to learn from, got none with an id")
        self.network, self._packs, self._seed = network, packs, seed
        self._context, self._rows = context, batch
        self._length = min(context, len(packs.training.ids) - 1)

    @property
    def seconds(self) -> float:
        """Of audio in a step of one process."""
        return self._rows * self._length / self._packs.training.rate

    def batch(self, step: int, *, rank: int, world: int) -> Batch:
        """The crops of a step in one process, a function of the arguments: ids [B, context + 1] (int64)."""
        ids = self._packs.training.ids
        starts = random_numbers(self._seed, step, rank).integers(len(ids) - self._length, size=self._rows)
        crops = np.stack([ids[start : start + self._length + 1] for start in starts])
        return {"ids": torch.from_numpy(crops.astype(np.int64))}

    def loss(self, batch: Batch) -> Tensor:
        """Nats an id."""
        return surprise(self.network, batch["ids"]).mean()

    def judge(self) -> dict[str, float]:
        """Nats an id, perplexity and bits a second of recordings held out, of 40,000 ids at most."""
        found = predicted(self.network, self._packs.held, self._context, most=_JUDGED_IDS)
        return {"loss": found.loss, "perplexity": found.perplexity, "bits/s": found.bits_per_second}


class LanguageTrainer(Trainer[LanguageTask]):
    """A `Trainer` of one `LanguageTask`. What a regime says of discriminators and spectral losses is left aside."""

    def _gradients(self, batch: Batch) -> tuple[dict[str, Tensor], float]:
        with self._autocast():
            loss = self.task.loss(batch)
        loss.backward()
        return {"loss": loss.detach().clone()}, self.task.seconds

    def _figures(self) -> dict[str, float]:
        with self._autocast():
            return super()._figures()
