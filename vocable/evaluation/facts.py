"""What figures depend on besides the recordings: the machine, versions, and how fast each stage was."""

from __future__ import annotations

import json
import math
import os
import platform
from pathlib import Path

import vocable
from vocable.metrics.metric import release
from vocable.progress import Progress

_LIBRARIES = ("torch", "numpy", "soxr")


def machine() -> str:
    """Cores and processor, as in "2 cores, Intel Xeon"."""
    cores = f"{os.cpu_count() or 1} cores"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{cores}, {names[0] if names else platform.machine()}"


def versions(libraries: set[str]) -> str:
    """vocable, what it computes with, and these libraries, each with its version."""
    told = [f"{name} {release(name)}" for name in (*_LIBRARIES, *sorted(libraries))]
    return ", ".join([f"vocable {vocable.__version__}", f"Python {platform.python_version()}", *told])


class Speeds:
    """Seconds of audio and seconds that they took, stage by stage, over all runs: a JSON line for each stage."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, stage: str, run: Progress) -> None:
        """Adds what a run that has just ended did."""
        if run.done:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([stage, run.audio_seconds, run.seconds]) + "\n")

    def of(self, stage: str) -> str:
        """As in "35 x real time"; "not measured" where no run of the stage came to its end."""
        audio, seconds = (math.fsum(column) for column in zip((0.0, 0.0), *self._lines(stage), strict=True))
        return f"{audio / seconds:,.3g} x real time" if seconds else "not measured"

    def _lines(self, stage: str) -> list[tuple[float, float]]:
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        found = []
        for line in lines:
            try:
                name, audio, seconds = json.loads(line)
                if name == stage:
                    found.append((float(audio), float(seconds)))
            except (ValueError, TypeError):
                continue  # a line cut off by a kill
        return found
