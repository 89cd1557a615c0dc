"""The folder of work of a training: whose it is, what was reported, what validations sounded like."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vocable.errors import InputError
from vocable.files import is_vacant, remove, write_atomic
from vocable.training.reports import Report

CHECKPOINT = "checkpoint.safetensors"
"""The state of the training."""

TOKENS = "tokens"
"""The store of the corpus's tokens, of a vocoder."""

SAMPLES, ORIGINALS, LATEST = "samples", "originals", "latest"
"""The folder of sound to hear; in it the recordings, and what the network made of them at the latest validation."""

_HEAD, _REPORTS = "training.json", "reports.jsonl"


def claim(work: Path, kind: str) -> None:
    """Makes a folder that of a training of this kind. InputError if it is anything else's, so that no file is lost."""
    head, data = work / _HEAD, json.dumps({"training": kind}).encode() + b"\n"
    if head.is_file() and head.read_bytes() == data:
        return
    if not is_vacant(work):
        raise InputError(f"{work} is not the work of a training of a {kind}", hint="name another folder with --work")
    write_atomic(head, data)


class Diary:
    """Keeps what is reported, and the sound of each validation, so that both outlive an interruption."""

    def __init__(self, work: Path, on_report: Callable[[Report], None]) -> None:
        self._path, self._samples, self._on_report = work / _REPORTS, work / SAMPLES, on_report

    def __call__(self, report: Report) -> None:
        """Notes a report and passes it on."""
        line = {"step": report.step, "losses": dict(report.losses), "figures": dict(report.figures)}
        with self._path.open("a") as file:
            file.write("\n" + json.dumps(line))
        if report.figures:
            self._keep_latest(report.step)
        self._on_report(report)

    def curve(self) -> list[dict[str, Any]]:
        """Step, losses and figures of each validation and of the last report; of what came twice, the latter."""
        entries = sorted(self._entries().items())
        return [entry for step, entry in entries if entry["figures"] or step == entries[-1][0]]

    def _entries(self) -> dict[int, dict[str, Any]]:
        found = {}
        for line in self._path.read_text().split("\n") if self._path.exists() else ():
            try:
                entry = json.loads(line)
                found[int(entry["step"])] = entry
            except (ValueError, KeyError, TypeError):
                continue  # empty, or cut off by a kill: the report is made again
        return found

    def _keep_latest(self, step: int) -> None:
        latest, named = self._samples / LATEST, self._samples / f"step-{step:07}"
        if latest.is_dir():
            remove(named)
            latest.rename(named)
