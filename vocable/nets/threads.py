"""How many threads one operation is split over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread_each() -> Iterator[int]:
    """Operations in the block, and in threads started there, run on one thread; gives the number they had before.

    For operations too short to share: the threads of one wait for the last of them, which on a machine with other
    work takes longer than the operation. Work is shared by giving each thread an utterance of its own instead.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
