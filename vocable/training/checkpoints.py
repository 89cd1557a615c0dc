"""The state of a training in one file, and interruptions that wait until a state is whole."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from vocable.artifacts import read_state, write_state
from vocable.errors import ArtifactError, InputError

_DELETE = "delete it to begin again"


class Resumable(Protocol):
    """What a checkpoint is of."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values from which `restore` goes on."""

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Goes back to what `state` gave. KeyError, ValueError or RuntimeError if it is of another design."""

    def identity(self) -> dict[str, Any]:
        """Plain values that a state and the training that goes on from it must share."""


class Checkpoint:
    """One safetensors file, written whole or not at all, with the JSON values and what they belong to in its header.

    path: where. owner: what the training is of beyond its own settings (corpus, tokenizer, design), as a hash.
    seconds: between two writes, at least.
    """

    def __init__(self, path: Path, owner: str, *, seconds: float = 600.0) -> None:
        self.path, self.owner, self.seconds = path, owner, seconds
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._written >= self.seconds

    def save(self, training: Resumable) -> None:
        """Writes the state, in place of the last one. OutputError if it cannot be written."""
        tensors, values = training.state()
        header = {"owner": self._belonging(training), "values": json.dumps(values)}
        write_state(self.path, tensors, header)
        self._written = time.monotonic()

    def restore(self, training: Resumable) -> None:
        """Goes on from the file, if there is one.

        InputError if it is the state of another training, ArtifactError if it is damaged.
        """
        if not self.path.exists():
            return
        tensors, header = read_state(self.path)
        if header.get("owner") != self._belonging(training):
            raise InputError(
                f"{self.path} is the state of another training",
                hint="name another place, or the corpus, the design and the settings that it began with",
            )
        try:
            training.restore(tensors, json.loads(header["values"]))
        except (KeyError, ValueError, TypeError, RuntimeError) as problem:
            raise ArtifactError(f"{self.path} is damaged: {problem}", hint=_DELETE) from problem

    def _belonging(self, training: Resumable) -> str:
        return sha256(json.dumps([self.owner, training.identity()], sort_keys=True).encode()).hexdigest()


@contextmanager
def unbroken() -> Iterator[None]:
    """Ctrl-C waits until the block has ended, so that nobody sees half of what it does."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread is interrupted
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        if came:
            signal.raise_signal(signal.SIGINT)
