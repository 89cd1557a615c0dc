"""Several processes of one job on this machine, as torchrun would start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys


def start_processes(command: list[str], world: int) -> list[subprocess.Popen[str]]:
    """`python command` in so many processes that find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def run_processes(command: list[str], world: int) -> list[tuple[int, str, str]]:
    """The same to its end: exit code, standard output and standard error of each."""
    started = start_processes(command, world)
    said = [process.communicate(timeout=120) for process in started]
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]
