"""Threads that each run torch's operators alone: many small operators in a row then need no barriers between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

Runner = Callable[[Callable[[torch.Tensor], int], Iterable[torch.Tensor]], int]


@contextmanager
def worker_map(device: torch.device) -> Iterator[Runner]:
    """A function that sums the results of calls, made in as many threads as torch may use on a CPU, else in this one."""
    threads = torch.get_num_threads()
    if threads == 1 or device.type != "cpu":
        yield lambda function, values: sum(map(function, values))
        return
    with ThreadPoolExecutor(threads, "kmeans", torch.set_num_threads, (1,)) as pool:
        try:
            yield lambda function, values: sum(pool.map(function, values))
        finally:
            torch.set_num_threads(threads)  # what the workers set was theirs, and the default of threads to come
