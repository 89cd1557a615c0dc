"""Line charts as SVG, for pages and documents: no plotting library, no script, and colours that follow the reader's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vocable.metrics.report import escape

STYLE = """
.chart { font: 12px system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; fill: #5d646b; }
.chart .name { font-size: 14px; font-weight: 600; fill: #1b1e21; }
.chart .sheet { fill: #fbfbf9; }
.chart .grid { stroke: #e1e2de; }
.chart .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart .key { font-weight: 600; }
.chart .s0 { stroke: #00688b; } .chart .f0 { fill: #00688b; }
.chart .s1 { stroke: #b3541e; } .chart .f1 { fill: #b3541e; }
.chart .s2 { stroke: #4c7a34; } .chart .f2 { fill: #4c7a34; }
@media (prefers-color-scheme: dark) {
  .chart { fill: #989fa6; }
  .chart .name { fill: #e4e6e8; }
  .chart .sheet { fill: #121416; }
  .chart .grid { stroke: #2a2e32; }
  .chart .s0 { stroke: #63c3e4; } .chart .f0 { fill: #63c3e4; }
  .chart .s1 { stroke: #f0a070; } .chart .f1 { fill: #f0a070; }
  .chart .s2 { stroke: #a2cf85; } .chart .f2 { fill: #a2cf85; }
}
"""
"""The look of charts, in light and in dark; three lines of a chart have colours of their own."""

WIDTH, HEIGHT = 360, 240
_LEFT, _RIGHT, _TOP = 48, 16, 36
_LETTER = 7  # pixels, about


@dataclass(frozen=True)
class Chart:
    """Lines over a common axis.

    lines: name -> points (x, y) from left to right, at least one. ticks: places on the x axis and what stands there,
    in order; a line feed starts a second line. Labels that would touch are left out. axis: what the labels are, five
    letters a line at most.
    """

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    ticks: Sequence[tuple[float, str]]
    axis: str = ""


def draw(chart: Chart, *, left: int = 0, top: int = 0) -> str:
    """An <svg> element of WIDTH x HEIGHT units that wants `STYLE`; `left` and `top` place it within another one."""
    frame = _Frame(chart)
    keys = _keys(list(chart.lines)) if len(chart.lines) > 1 else ""
    lines = "".join(frame.line(index, name) for index, name in enumerate(chart.lines))
    place = f'x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" ' if left or top else ""
    title = escape(chart.title)
    return (
        f'<svg class="chart" {place}viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
        f'<text class="name" x="0" y="16">{title}</text>{keys}{frame.rows()}{frame.columns()}{lines}</svg>'
    )


def figure(charts: Sequence[Chart], *, columns: int = 2) -> str:
    """A picture file of several charts that carries its style and its background with it."""
    gap = 24
    wide, tall = columns, -(-len(charts) // columns)
    width, height = gap + wide * (WIDTH + gap), gap + tall * (HEIGHT + gap)
    drawn = "".join(
        draw(chart, left=gap + index % columns * (WIDTH + gap), top=gap + index // columns * (HEIGHT + gap))
        for index, chart in enumerate(charts)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><style>{STYLE}</style>'
        f'<rect class="sheet" width="{width}" height="{height}"/>{drawn}</svg>\n'
    )


class _Frame:
    """The rectangle that the lines are drawn in, and its scales."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        places = [x for points in chart.lines.values() for x, _ in points] + [x for x, _ in chart.ticks]
        self.first, self.last = min(places), max(places)
        self.bottom = HEIGHT - 12 - 14 * max(len(label.split("\n")) for _, label in chart.ticks)
        self.levels = round_levels([y for points in chart.lines.values() for _, y in points])

    def x(self, value: float) -> float:
        share = (value - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return round(_LEFT + 8 + share * (WIDTH - _LEFT - _RIGHT - 8), 1)

    def y(self, value: float) -> float:
        share = (value - self.levels[0]) / (self.levels[-1] - self.levels[0])
        return round(self.bottom - share * (self.bottom - _TOP), 1)

    def line(self, index: int, name: str) -> str:
        """One line, its points, and for each of them what a pointer is told."""
        points = [(self.x(x), self.y(y), self._told(name, x, y)) for x, y in self.chart.lines[name]]
        path = " ".join(f"{x},{y}" for x, y, _ in points)
        dots = "".join(
            f'<circle class="f{index % 3}" cx="{x}" cy="{y}" r="3.5"><title>{escape(told)}</title></circle>'
            for x, y, told in points
        )
        return f'<polyline class="line s{index % 3}" points="{path}"/>{dots}'

    def rows(self) -> str:
        """The horizontal lines and their values."""
        return "".join(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT + 8}" y1="{self.y(level)}" y2="{self.y(level)}"/>'
            f'<text x="{_LEFT - 8}" y="{self.y(level) + 4}" text-anchor="end">{level:g}</text>'
            for level in self.levels
        )

    def columns(self) -> str:
        """What stands under the lines, as much of it as has room."""
        shown = [_stacked(self.chart.axis, 0, self.bottom + 18, "start")] if self.chart.axis else []
        end = -math.inf
        for place, label in self.chart.ticks:
            half = _LETTER * max(map(len, label.split("\n"))) / 2
            if self.x(place) - half > end:
                shown.append(_stacked(label, self.x(place), self.bottom + 18, "middle"))
                end = self.x(place) + half + 2
        return "".join(shown)

    def _told(self, name: str, x: float, y: float) -> str:
        at = dict(self.chart.ticks).get(x, f"{x:g}").replace("\n", ", ")
        return f"{at}: {y:.4g}" if len(self.chart.lines) == 1 else f"{name}, {at}: {y:.4g}"


def round_levels(values: Sequence[float]) -> list[float]:
    """Levels that the values lie between, multiples of 1, 2, 2.5 or 5 times a power of ten, some five of them.

    They span a tenth of the largest value at least: what hardly differs is to look so.
    """
    high = max(values)
    low = min(*values, high - abs(high) / 10)
    rough = ((high - low) or 1.0) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(first + 1, last) + 1)]


def _keys(names: Sequence[str]) -> str:
    """The names of the lines in their colours, at the upper right."""
    told, right = "", WIDTH - _RIGHT + 8
    for index, name in reversed(list(enumerate(names))):
        told += f'<text class="key f{index % 3}" x="{right}" y="16" text-anchor="end">{escape(name)}</text>'
        right -= _LETTER * len(name) + 12
    return told


def _stacked(label: str, x: float, y: float, anchor: str) -> str:
    lines = (
        f'<tspan x="{x}" y="{y + 14 * index}">{escape(line)}</tspan>' for index, line in enumerate(label.split("\n"))
    )
    return f'<text text-anchor="{anchor}">{"".join(lines)}</text>'
