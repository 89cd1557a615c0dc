"""The table of a probe: figures with intervals for each system, as JSON and as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vocable.probes.scores import Figure

HIGHER_IS_BETTER = {
    "accuracy": True,
    "mean recall": True,
    "equal error rate": False,
    "character error rate": False,
    "word error rate": False,
}


@dataclass(frozen=True)
class ProbeRow:
    """One system: frame rate in Hz, bit/s (None for numbers), weights of its network, figures, weight of each layer."""

    name: str
    frame_rate: float | None
    bitrate: float | None
    parameters: int
    figures: Mapping[str, Figure]
    layers: Mapping[str, float]


@dataclass(frozen=True)
class ProbeReport:
    """What was asked, of how many recordings (`left_out`: no label, or in neither part), and how each system did."""

    task: str
    label: str
    split: str
    train: int
    test: int
    left_out: int
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any]
    rows: tuple[ProbeRow, ...]

    def to_json(self) -> str:
        """Plain values, without the resamples; what is not defined is null."""
        told = asdict(self)
        for row in told["rows"]:
            for one in row["figures"].values():
                del one["resampled"]
        return json.dumps(_plain(told), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def markdown(self) -> str:
        """A table with a row for each system, and below it what the figures rest on."""
        measures = list(self.rows[0].figures)
        mixed = any(len(row.layers) > 1 for row in self.rows)
        arrows = [f"{name} {'↑' if HIGHER_IS_BETTER[name] else '↓'}" for name in measures]
        lines = [["system", "bit/s", *arrows, "seeds"] + (["weight of layers"] if mixed else [])]
        lines.append(["---", "---:", *["---:"] * len(measures), "---:"] + (["---"] if mixed else []))
        lines += [self._cells(row, measures, mixed=mixed) for row in self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{self.caption()}\n"

    def caption(self) -> str:
        """In one line, what the table shows."""
        recipe = self.recipe
        seeds = "1 seed" if recipe["seeds"] == 1 else f"{recipe['seeds']} seeds"
        rest = f", {self.left_out:,} left out" if self.left_out else ""
        return (
            f"{self.task.capitalize()} of {self.label}, {recipe['head']} head: {self.train:,} recordings to train on, "
            f"{self.test:,} to test on{rest} (split: {self.split}); mean over {seeds} and, over test recordings, "
            "95 % bootstrap interval; seeds: lowest to highest."
        )

    def _cells(self, row: ProbeRow, measures: list[str], *, mixed: bool) -> list[str]:
        figures = [row.figures[name] for name in measures]
        seeds = figures[0].seeds
        cells = [
            _escaped(row.name),
            "-" if row.bitrate is None else f"{row.bitrate:,.0f}",
            *(f"{100 * each.value:.1f} % ({100 * each.low:.1f} to {100 * each.high:.1f})" for each in figures),
            f"{100 * min(seeds):.1f} to {100 * max(seeds):.1f}" if len(seeds) > 1 else "-",
        ]
        layers = ", ".join(f"{_escaped(name)} {weight:.2f}" for name, weight in row.layers.items())
        return cells + ([layers or "-"] if mixed else [])


def _escaped(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text).replace("|", "\\|")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
