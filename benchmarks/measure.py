"""Running a command and telling how long it took, how much memory, and on what machine."""

from __future__ import annotations

import os
import platform
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """Wall seconds, and the peak of the memory of the process and its children together (proportional set size, MB)."""

    seconds: float
    megabytes: float


def run(command: Sequence[str | os.PathLike[str]]) -> Cost:
    """Runs a command to its end. RuntimeError, with what it said, if it fails."""
    began = time.monotonic()
    with subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True) as child:
        peak = [0.0]
        watcher = threading.Thread(target=_watch, args=(child, peak))
        watcher.start()
        _, said = child.communicate()
        seconds = time.monotonic() - began
        watcher.join()
    if child.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{said}")
    return Cost(seconds, peak[0])


def machine() -> str:
    """One line for a table of results."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    packages = " ".join(f"{name} {version(name)}" for name in ("torch", "faiss-cpu", "transformers", "numpy"))
    return f"{os.cpu_count()} cores ({names[0]}), {platform.system()}, Python {platform.python_version()}, {packages}"


def commit() -> str:
    """The short hash of the commit measured."""
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


def _watch(child: subprocess.Popen[str], peak: list[float]) -> None:
    while child.poll() is None:
        peak[0] = max(peak[0], sum(_proportional_set_size(pid) for pid in family(child.pid)))
        time.sleep(0.05)


def family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(descendant for one in children for descendant in family(int(one)))]


def _proportional_set_size(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024 * 1.048576
