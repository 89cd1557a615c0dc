"""What a long run tells those who watch it, and what it says at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Progress:
    """Recordings of a run: `done` now, `skipped` as done earlier, `failed`, of `total`; and seconds of audio done."""

    total: int
    done: int = 0
    skipped: int = 0
    failed: int = 0
    audio_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Seconds of audio per second."""
        return self.audio_seconds / max(self.seconds, 1e-9)


Watcher = Callable[[Progress], None]


def unwatched(progress: Progress) -> None:
    """Nobody looks."""
