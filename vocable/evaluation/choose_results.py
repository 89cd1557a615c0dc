"""What a sweep found and which candidate it recommends; as JSON and as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vocable.evaluation.choose_scores import PNMI
from vocable.probes import Figure

COLUMNS = ("features", "quantizer", "units", "bit/s", "score", "seeds", "")
"""Of the table; "score" stands for the measure."""


_NOTES = {
    PNMI: " Held-out PNMI: share of the uncertainty about the phone in the test that codes resolve, as counted in the "
    "training; 1 at most."
}


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate, or the features themselves, of which what is of codebooks is None.

    size: entries of each codebook; units: of all. bitrate: raw bit/s. frame_rate: Hz. seconds: that fitting and judging
    took. as_good: whether it is not worse than the best candidate but for chance.
    """

    features: str
    layer: str
    quantizer: str
    size: int | None
    units: int | None
    bitrate: float | None
    frame_rate: float
    score: Figure
    seconds: float
    as_good: bool = False

    @property
    def place(self) -> str:
        """The layer, and of which features if that is not the same."""
        return self.layer if self.layer == self.features else f"{self.features} {self.layer}"

    @property
    def name(self) -> str:
        """In words, the whole of it."""
        if self.size is None:
            return f"{self.place}, {self.quantizer}"
        return f"{self.place}, {self.quantizer}, {self.size:,} units" + (" each" if self.units != self.size else "")


@dataclass(frozen=True)
class Choice:
    """What was asked, what every candidate scored, and which one to take.

    rows: candidates from the fewest bit/s on; best, chosen: places among them. bounds: the same of the features
    themselves. baseline: what needs no ears, and its score. rule: how the choice was made. unknown: what it does not
    know. left_out: what was not tried. failures: recordings that could not be read. commands: what makes and uses the
    tokenizer. facts: of the corpus, to be shown.
    """

    task: str
    label: str
    measure: str
    higher_is_better: bool
    baseline: tuple[str, float] | None
    split: str
    train: int
    test: int
    rows: tuple[Row, ...]
    bounds: tuple[Row, ...]
    best: int
    chosen: int
    rule: str
    unknown: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def recommended(self) -> Row:
        """The candidate to take."""
        return self.rows[self.chosen]

    @property
    def sentence(self) -> str:
        """The recommendation in a sentence or two."""
        row, best = self.recommended, self.rows[self.best]
        told = f"Take {row.name}: {self.measure} {shown(row.score, self.measure)} at {row.bitrate:,.0f} bit/s."
        if best is row:
            return f"{told} None of {len(self.rows)} candidates does better."
        more = f"{shown(best.score, self.measure)} at {best.bitrate:,.0f} bit/s"
        return f"{told} The best of {len(self.rows)}, {best.name}, has {more}; chance may explain that."

    def to_json(self) -> str:
        """Plain values, the resamples left out; what is not defined is null."""
        told = asdict(self)
        for row in (*told["rows"], *told["bounds"]):
            del row["score"]["resampled"]
        return json.dumps(_plain({"format": 1, **told}), indent=1, allow_nan=False) + "\n"

    def markdown(self) -> str:
        """The recommendation, the table, and what both rest on."""
        arrow = "↑" if self.higher_is_better else "↓"
        head = [*COLUMNS[:4], f"{self.measure} {arrow}", *COLUMNS[5:]]
        rule = ["---", "---", "---:", "---:", "---:", "---:", "---"]
        table = [head, rule] + [self.cells(row) for row in (*self.rows, *self.bounds)]
        lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in table]
        told = [self.sentence, "", *lines, "", self.caption(), "", self.rule, "", "Not known:"]
        return "".join(f"{_printable(line)}\n" for line in [*told, *(f"- {line}" for line in self.unknown)])

    def cells(self, row: Row) -> list[str]:
        """One line of the table."""
        seeds, known = row.score.seeds, row.size is not None
        books = "" if row.units == row.size else f"{(row.units or 0) // (row.size or 1)} x "
        return [
            row.place,
            row.quantizer,
            f"{books}{row.size:,}" if known else "-",
            f"{row.bitrate:,.0f}" if row.bitrate is not None else "-",
            shown(row.score, self.measure),
            f"{number(min(seeds), self.measure)} to {number(max(seeds), self.measure)}" if len(seeds) > 1 else "-",
            self.remark(row),
        ]

    def remark(self, row: Row) -> str:
        """What is to be said of a row beside its numbers."""
        if row.size is None:
            return "bound"
        if row is self.recommended:
            return "recommended"
        return "best" if row is self.rows[self.best] else "as good" if row.as_good else ""

    def caption(self) -> str:
        """What the table shows, in a few sentences."""
        what = f"Phones in {self.label}" if self.measure == PNMI else f"{self.task.capitalize()} of {self.label}"
        guess = f" Guessing ({self.baseline[0]}): {number(self.baseline[1], self.measure)} %." if self.baseline else ""
        return (
            f"{what}: {self.train:,} recordings to learn from, {self.test:,} to judge on (split: {self.split}); "
            f"95 % bootstrap intervals over these.{guess}{_NOTES.get(self.measure, '')}"
        )


def pick(rows: Sequence[Row], *, higher_is_better: bool) -> tuple[int, int, list[bool]]:
    """The best row, the one to recommend, and which are as good as the best but for chance.

    Recommended is, of those, the one with the fewest bit/s; among equals the one with fewer units, then the better one.
    """

    def loss(row: Row) -> float:
        return -row.score.value if higher_is_better else row.score.value

    order = range(len(rows))
    best = min(order, key=lambda index: (loss(rows[index]), _cost(rows[index])))
    good = [row.score.not_worse(rows[best].score, higher_is_better=higher_is_better) for row in rows]
    chosen = min((i for i in order if good[i]), key=lambda index: (*_cost(rows[index]), loss(rows[index])))
    return best, chosen, good


def number(value: float, measure: str) -> str:
    """A score without its interval, in percent unless it is PNMI."""
    return f"{value:.3f}" if measure == PNMI else f"{100 * value:.1f}"


def shown(score: Figure, measure: str) -> str:
    """A score with its interval as text."""
    value, low, high = (number(each, measure) for each in (score.value, score.low, score.high))
    return f"{value}{'' if measure == PNMI else ' %'} ({low} to {high})"


def _cost(row: Row) -> tuple[float, int]:
    # rates that are equal but for rounding are equal
    return round(row.bitrate or math.inf, 6), row.units or 0


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
