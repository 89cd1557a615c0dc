"""Batches made ahead by threads, and moved to the device while it computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import torch
from torch import Tensor

Batch = dict[str, Tensor]

_AHEAD = 2  # batches per thread


@contextmanager
def prefetched(
    make: Callable[[int], Batch], first: int, device: torch.device, threads: int
) -> Iterator[Callable[[], Batch]]:
    """A function that gives the batches of steps `first`, `first + 1` ... on the device, each time the next.

    `make` runs on other threads, and for a few steps that nobody may come to; what it raises is raised where its batch
    is asked for.
    """
    pinned = device.type == "cuda"

    def made(step: int) -> Batch:
        batch = make(step)
        return {name: tensor.pin_memory() for name, tensor in batch.items()} if pinned else batch

    pool = ThreadPoolExecutor(threads, thread_name_prefix="batches")
    steps = count(first)
    pending = deque(pool.submit(made, next(steps)) for _ in range(_AHEAD * threads))

    def take() -> Batch:
        pending.append(pool.submit(made, next(steps)))
        return {name: tensor.to(device, non_blocking=True) for name, tensor in pending.popleft().result().items()}

    try:
        yield take
    finally:
        pool.shutdown(cancel_futures=True)
