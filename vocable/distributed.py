"""Several processes that do one job together, as torchrun starts them: who they are, and how their tensors meet."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, Thread

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store

from vocable.errors import InputError, VocableError

_TIMEOUT = timedelta(minutes=5)
_POLL_SECONDS = 0.2
_FAILED = "failed"
_START = "start it by torchrun"
_AGAIN = "see what the others said, and run the same command again: what is in a --cache is kept"


class Processes:
    """The processes of one job, seen from one of them: a `Reducer` (vocable.quantizers.reduce) over gloo and NCCL.

    rank: number of this process. world: how many there are; with one, every method is the identity.
    VocableError from any method, within the time-out, if another process has ended or does not answer.
    """

    def __init__(
        self, rank: int = 0, world: int = 1, *, store: Store | None = None, timeout: timedelta = _TIMEOUT
    ) -> None:
        self.rank, self.world = rank, world
        self._store, self._timeout, self._meetings = store, timeout.total_seconds(), 0

    def sum_(self, t: Tensor) -> Tensor:
        """`t` itself, holding now the sum over all processes."""
        return self._reduce(t, dist.ReduceOp.SUM)

    def max_(self, t: Tensor) -> Tensor:
        """`t` itself, holding now the elementwise maximum over all processes."""
        return self._reduce(t, dist.ReduceOp.MAX)

    def gather(self, t: Tensor) -> list[Tensor]:
        """The tensors of all processes by rank; they may differ in the length of their first axis."""
        if self.world == 1:
            return [t]
        lengths = [int(n) for n in self._gather(torch.tensor([len(t)], device=t.device))]
        padded = t.new_zeros(max(lengths), *t.shape[1:])
        padded[: len(t)] = t
        return [part[:n] for part, n in zip(self._gather(padded), lengths, strict=True)]

    def meet(self) -> None:
        """Waits until all processes call this, however long they work, as long as they live."""
        if self._store is None:
            return
        self._meetings += 1
        key, pulse = f"met/{self._meetings}", _Pulse(self._store, self.world, self._timeout)
        with _told():
            self._store.add(key, 1)
            while self._store.add(key, 0) < self.world:
                pulse.require()
                time.sleep(_POLL_SECONDS)

    def _reduce(self, t: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        if self.world > 1 and t.numel():
            with _told():
                dist.all_reduce(t, operation)
        return t

    def _gather(self, t: Tensor) -> list[Tensor]:
        parts = [torch.empty_like(t) for _ in range(self.world)]
        if t.numel():
            with _told():
                dist.all_gather(parts, t)
        return parts


def meet(reduce: object) -> None:
    """Waits for the other processes if `reduce` joins several."""
    if isinstance(reduce, Processes):
        reduce.meet()


@contextmanager
def from_environment(*, timeout: timedelta = _TIMEOUT) -> Iterator[Processes]:
    """The processes that torchrun started (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT); without it, this one alone.

    Tensors on CUDA meet through NCCL, others through gloo. Where the block ends, the processes wait for one another;
    where it fails, the others are told. InputError for variables that make no sense, VocableError if a process is
    missing.
    """
    rank, world = _number("RANK", 0), _number("WORLD_SIZE", 1)
    if world == 1:
        yield Processes()
        return
    with _told():
        store = _join(rank, world, timeout)
    processes = Processes(rank, world, store=store, timeout=timeout)
    try:
        with _beating(store, rank, timeout.total_seconds() / 20):
            yield processes
            processes.meet()
            # from here on nobody asks the store, which may go with rank 0
            processes.sum_(torch.zeros(1, dtype=torch.int64))
    except BaseException as problem:
        _tell(store, f"process {rank}: {problem or type(problem).__name__}")
        raise
    dist.destroy_process_group()  # after a failure this could wait for the dead


def own_device(device: str) -> str:
    """The accelerator of this process among those of its machine, for a `device` that leaves it open."""
    return f"cuda:{_number('LOCAL_RANK', 0)}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


class _Pulse:
    """Whether the other processes live: each counts up a number of its own in the store."""

    def __init__(self, store: Store, world: int, timeout: float) -> None:
        self._store, self._timeout = store, timeout
        self._seen = [(0, time.monotonic())] * world

    def require(self) -> None:
        """VocableError if a process has failed, or gave no sign of life for the time-out."""
        if self._store.check([_FAILED]):
            raise VocableError(f"another process failed: {self._store.get(_FAILED).decode()}", hint=_AGAIN)
        now = time.monotonic()
        for rank, (count, last) in enumerate(self._seen):
            latest = self._store.add(f"beat/{rank}", 0)
            if latest != count:
                self._seen[rank] = latest, now
            elif now - last > self._timeout:
                raise VocableError(f"process {rank} gave no sign of life for {self._timeout:.0f} s", hint=_AGAIN)


@contextmanager
def _beating(store: Store, rank: int, seconds: float) -> Iterator[None]:
    stop = Event()

    def beat() -> None:
        while not stop.wait(seconds):
            try:
                store.add(f"beat/{rank}", 1)
            except RuntimeError:  # the store is gone: whoever needs it next will say so
                return

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _told() -> Iterator[None]:
    """Errors of communication in one sentence."""
    try:
        yield
    except RuntimeError as problem:
        reason = str(problem).strip().partition("\n")[0]
        raise VocableError(f"another process ended or did not answer ({reason})", hint=_AGAIN) from problem


def _join(rank: int, world: int, timeout: timedelta) -> Store:
    from torch.distributed.rendezvous import rendezvous

    # errors are raised where they happen, instead of ending the process
    os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
    try:
        store, _, _ = next(rendezvous("env://", rank, world, timeout=timeout))
    except ValueError as problem:
        raise InputError(f"expected the variables that torchrun sets: {problem}", hint=_START) from problem
    store.set_timeout(timeout)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(own_device("cuda"))
    collectives = PrefixStore("collectives", store)
    dist.init_process_group(backend, store=collectives, rank=rank, world_size=world, timeout=timeout)
    return PrefixStore("vocable", store)


def _tell(store: Store, message: str) -> None:
    with suppress(RuntimeError):  # nobody may be left to be told
        store.set(_FAILED, message)


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise InputError(f"expected a number in the variable {variable}, got {text!r}", hint=_START)
    return int(text)
