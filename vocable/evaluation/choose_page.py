"""The recommendation as a page: scores over bit/s for each layer, the table, what is not known, and the commands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from vocable.evaluation.choose_results import COLUMNS, Choice, Row, shown
from vocable.evaluation.choose_scores import PNMI
from vocable.metrics.chart import HEIGHT, STYLE, WIDTH, round_levels
from vocable.metrics.report import escape, fill, save_page

_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 16, 46, 32
_TICK = 40  # units between labels of the x axis at least


def write_choice_page(path: Path, choice: Choice) -> None:
    """Writes the page; it appears whole or not at all, and needs neither a network nor a script.

    OutputError if it cannot be written.
    """
    notes = [choice.caption(), choice.rule, *(f"Left out: {what}." for what in choice.left_out)]
    notes += [f"Not readable: {what}" for what in choice.failures]
    fields = {
        "TITLE": escape(f"Units for {choice.label}"),
        "SENTENCE": escape(choice.sentence),
        "FACTS": "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in choice.facts.items()),
        "CHARTS": "".join(f"<figure>{chart}</figure>" for chart in charts(choice)),
        "TABLE": _table(choice),
        "NOTES": "".join(f"<p>{escape(note)}</p>" for note in notes),
        "UNKNOWN": "".join(f"<li>{escape(line)}</li>" for line in choice.unknown),
        "COMMANDS": escape("\n".join(choice.commands)),
    }
    page = files("vocable.evaluation").joinpath("choose.html").read_text(encoding="utf-8")
    save_page(path, fill(page.replace("{{STYLE}}", STYLE), fields))


def charts(choice: Choice) -> list[str]:
    """A plot for each layer, all with the same scales: a line for each quantizer, its score over bit/s."""
    places = list(dict.fromkeys(row.place for row in choice.rows))
    return [_Plot(choice, place).draw() for place in places]


class _Plot:
    def __init__(self, choice: Choice, place: str) -> None:
        self.choice, self.place = choice, place
        self.rows = [row for row in choice.rows if row.place == place]
        self.bound = next((row for row in choice.bounds if row.place == place), None)
        self.ways = list(dict.fromkeys(row.quantizer for row in choice.rows))
        rates = [row.bitrate or 1.0 for row in choice.rows]
        self.first, self.last = math.log2(min(rates)), math.log2(max(rates))
        scale = self._scale
        ends = [scale * end for row in (*choice.rows, *choice.bounds) for end in (row.score.low, row.score.high)]
        self.levels = round_levels(ends)
        self.floor = HEIGHT - _BOTTOM

    @property
    def _scale(self) -> float:
        return 1.0 if self.choice.measure == PNMI else 100.0

    def draw(self) -> str:
        """An <svg> element that wants `STYLE`."""
        named = f'<text class="name" x="0" y="16">{escape(self.place)}</text>'
        lines = "".join(self._line(index, way) for index, way in enumerate(self.ways))
        told = escape(f"{self.choice.measure} of {self.place} over bit/s")
        frame = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}"'
        return f'<svg class="chart" {frame}>{named}{self._keys()}{self._grid()}{self._bound()}{lines}</svg>'

    def x(self, bitrate: float) -> float:
        span = self.last - self.first
        share = (math.log2(bitrate) - self.first) / span if span else 0.5
        return round(_LEFT + 10 + share * (WIDTH - _LEFT - _RIGHT - 20), 1)

    def y(self, value: float) -> float:
        share = (self._scale * value - self.levels[0]) / (self.levels[-1] - self.levels[0])
        return round(self.floor - share * (self.floor - _TOP), 1)

    def _line(self, index: int, way: str) -> str:
        rows = [row for row in self.rows if row.quantizer == way]
        path = " ".join(f"{self.x(row.bitrate or 1.0)},{self.y(row.score.value)}" for row in rows)
        return f'<polyline class="line s{index % 3}" points="{path}"/>' + "".join(self._dot(index, row) for row in rows)

    def _dot(self, index: int, row: Row) -> str:
        x, y, low, high = self.x(row.bitrate or 1.0), *map(self.y, (row.score.value, row.score.low, row.score.high))
        told = escape(f"{row.name}, {row.bitrate:,.0f} bit/s: {shown(row.score, self.choice.measure)}")
        ring = f'<circle class="line s{index % 3}" cx="{x}" cy="{y}" r="8"/>' if row is self.choice.recommended else ""
        return (
            f'<line class="line s{index % 3}" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>{ring}'
            f'<circle class="f{index % 3}" cx="{x}" cy="{y}" r="3.5"><title>{told}</title></circle>'
        )

    def _bound(self) -> str:
        if self.bound is None:
            return ""
        y, ends = self.y(self.bound.score.value), f'x1="{_LEFT}" x2="{WIDTH - _RIGHT}"'
        told = escape(f"{self.bound.name}: {shown(self.bound.score, self.choice.measure)}")
        return (
            f'<line class="line bound" {ends} y1="{y}" y2="{y}" stroke-dasharray="5 4"><title>{told}</title></line>'
            f'<text x="{_LEFT + 2}" y="{y - 5}">continuous</text>'
        )

    def _keys(self) -> str:
        if len(self.ways) == 1:
            return ""
        spans = (f'<tspan class="key f{i % 3}">{escape(way)}</tspan>' for i, way in enumerate(self.ways))
        return f'<text x="0" y="34">{" ".join(spans)}</text>'

    def _grid(self) -> str:
        rows = "".join(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{level:g}</text>'
            for level in self.levels
            for y in [self.y(level / self._scale)]
        )
        return rows + "".join(self._ticks())

    def _ticks(self) -> Iterator[str]:
        y, end = self.floor + 20, -math.inf
        yield f'<text x="0" y="{y}">bit/s</text>'
        for rate in sorted({row.bitrate or 1.0 for row in self.choice.rows}):
            if self.x(rate) - end >= _TICK:
                end = self.x(rate)
                yield f'<text x="{end}" y="{y}" text-anchor="middle">{rate:,.0f}</text>'


def _table(choice: Choice) -> str:
    arrow = "↑" if choice.higher_is_better else "↓"
    titles = [*COLUMNS[:4], f"{choice.measure} {arrow}", *COLUMNS[5:-1], "remark"]
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    lines = "".join(_line(choice, row) for row in (*choice.rows, *choice.bounds))
    return f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody>"


def _line(choice: Choice, row: Row) -> str:
    name, *cells = choice.cells(row)
    kind = ' class="best"' if row is choice.recommended else ""
    rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr{kind}><th scope="row">{escape(name)}</th>{rest}</tr>'
