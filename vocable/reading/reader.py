"""Blocks for a training: shuffled by a seed, shared out to ranks and workers, and resumed to the block.

The order of an epoch is a permutation of all blocks that is computed place by place. A step takes the next
`batch_size * world` places, of which rank r has every `world`-th from the r-th on. So the position is one number, the
blocks that all ranks together have behind them: the same on every rank, whatever the workers, and good for another
number of ranks or another batch size as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vocable.errors import InputError
from vocable.reading.blocks import Blocks
from vocable.reading.order import permuted

_TOGETHER = 64  # batches whose blocks are looked up at once: a lookup takes as long for few as for hundreds


class BlockReader(IterableDataset[Tensor]):
    """Batches [n, length] of shuffled blocks; iterating gives the rest of an epoch, and iterating again the next.

    batch_size: blocks of a batch on one rank; the last of an epoch may be smaller, and on some ranks missing.
    seed: names the order, another one in each epoch. rank, world: which of how many processes this is.
    drop_last: leave out what does not fill a batch on every rank, other blocks in each epoch. Then all batches have one
    size and all ranks as many, which trainings that meet in every step (DistributedDataParallel) need. Without it each
    block comes exactly once an epoch over all ranks.

    Batches are made here already: `DataLoader(reader, batch_size=None)`. Worker processes run ahead with copies of the
    reader, of whose work this one hears nothing; `with_workers` counts what was taken of them.

    InputError for counts below 1, a rank outside of the world, and fewer blocks than one for each rank (with drop_last,
    than a batch for each).
    """

    def __init__(
        self, blocks: Blocks, batch_size: int, *, seed: int, rank: int = 0, world: int = 1, drop_last: bool = False
    ) -> None:
        if batch_size < 1:
            raise InputError(f"expected batches of at least 1 block, got {batch_size}")
        if not 0 <= rank < world:
            raise InputError(f"expected a rank of 0..world - 1, got rank {rank} of {world}")
        needed = world * (batch_size if drop_last else 1)
        if len(blocks) < needed:
            raise InputError(
                f"expected at least {needed} blocks for {world} ranks, got {len(blocks)}",
                hint="choose shorter blocks, smaller batches or fewer processes",
            )
        self.blocks, self.batch_size, self.seed = blocks, int(batch_size), int(seed)
        self.rank, self.world, self.drop_last = rank, world, drop_last
        self._epoch = self._done = 0

    @property
    def epoch(self) -> int:
        """Of the batch that comes next."""
        return self._epoch

    @property
    def steps_left(self) -> int:
        """Batches until the epoch ends, on the rank that has most."""
        left = len(self.blocks) - self._done
        return left // self._step if self.drop_last else -(-left // self._step)

    def set_epoch(self, epoch: int) -> None:
        """Goes to the beginning of an epoch, as torch's DistributedSampler does. InputError if it is negative."""
        if epoch < 0:
            raise InputError(f"expected an epoch of at least 0, got {epoch}")
        self._epoch, self._done = epoch, 0

    def __iter__(self) -> Iterator[Tensor]:
        """The rest of the epoch. In a worker process every W-th batch of it, which the DataLoader puts in order."""
        worker = get_worker_info()
        if worker is None:
            return self._counted(self._batches(0, 1))
        return self._batches(worker.id, worker.num_workers)

    def with_workers(self, workers: int, *, pin_memory: bool = False) -> Iterator[Tensor]:
        """The rest of the epoch, the same batches in the same order, made ahead by `workers` processes.

        The position counts what was taken, not what the workers have ready. pin_memory: for copies to a GPU that do not
        block. InputError for fewer than 1 worker.
        """
        if workers < 1:
            raise InputError(f"expected at least 1 worker, got {workers}", hint="iterate over the reader itself")
        return self._counted(DataLoader(self, batch_size=None, num_workers=workers, pin_memory=pin_memory))

    def state_dict(self) -> dict[str, Any]:
        """The position after the batch that was taken last, in JSON's values: the same on all ranks in step."""
        return {"blocks": self._identity(), "epoch": self._epoch, "done": self._done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to a position: the next iteration goes on there. InputError if it is of other tokens, blocks or seed."""
        if state.get("blocks") != self._identity():
            raise InputError(
                "expected the position of a reader of the same tokens, blocks and seed, got another's",
                hint="read what it was saved with, or begin anew",
            )
        epoch, done = state.get("epoch"), state.get("done")
        if not (isinstance(epoch, int) and isinstance(done, int) and epoch >= 0 and 0 <= done <= len(self.blocks)):
            raise InputError(f"expected an epoch and 0..{len(self.blocks)} blocks behind, got {epoch!r} and {done!r}")
        self._epoch, self._done = epoch, done

    @property
    def _step(self) -> int:
        return self.batch_size * self.world

    def _batches(self, first: int, stride: int) -> Iterator[Tensor]:
        """The batches of steps `first`, `first + stride` ... from here on, as far as this rank has a part of them."""
        size, epoch, step = len(self.blocks), self._epoch, self._step
        starts = range(self._done + first * step, self._done + self.steps_left * step, stride * step)
        for index in range(0, len(starts), _TOGETHER):
            some = starts[index : index + _TOGETHER]
            places = [np.arange(start + self.rank, min(start + step, size), self.world) for start in some]
            order = permuted(np.concatenate(places), size, self.seed, epoch)
            for batch in np.split(order, np.cumsum([len(part) for part in places])[:-1]):
                if batch.size:
                    yield self.blocks.read(batch.tolist())

    def _counted(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        epoch, done, steps = self._epoch, self._done, self.steps_left
        for taken, batch in enumerate(batches, 1):
            # the position after the last batch is the beginning of the next epoch
            self._epoch, self._done = (epoch, done + taken * self._step) if taken < steps else (epoch + 1, 0)
            yield batch
        self._epoch, self._done = epoch + 1, 0

    def _identity(self) -> str:
        packed = self.blocks.packed
        facts = [len(packed.tokens), len(packed), packed.spec.to_dict(), packed.transform]
        facts += [type(self.blocks).__name__, self.blocks.length, self.blocks.pad, self.seed]
        return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
