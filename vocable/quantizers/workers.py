"""Threads that each run torch's operators alone: many small operators in a row then need no barriers between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

S = TypeVar("S")
T = TypeVar("T")


class Workers:
    """As many threads as torch may use on a CPU; on another device, or for a single thread, the caller's own."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self._pool = pool

    def map(self, function: Callable[[S], T], values: Iterable[S]) -> list[T]:
        """Results in the order of the values."""
        return list(map(function, values) if self._pool is None else self._pool.map(function, values))


@contextmanager
def workers(device: torch.device) -> Iterator[Workers]:
    """Workers for the tensors of a device. Meanwhile torch's operators are serial in this thread too."""
    threads = torch.get_num_threads()
    if threads == 1 or device.type != "cpu":
        yield Workers(None)
        return
    try:
        with ThreadPoolExecutor(threads, "kmeans", torch.set_num_threads, (1,)) as pool:
            torch.set_num_threads(1)
            yield Workers(pool)
    finally:
        torch.set_num_threads(threads)
