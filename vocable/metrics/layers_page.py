"""The report on layers as people read it: a table of aligned text, and a page with a plot for each measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vocable.metrics.chart import STYLE, Chart, draw
from vocable.metrics.layers import LayerReport, LayerRow
from vocable.metrics.report import escape, fill, save_page, template


@dataclass(frozen=True)
class Measure:
    """A column: its title, its field of `LayerRow`, how it is written, and whether more of it is better."""

    title: str
    field: str
    form: str
    best: bool = False

    def value(self, row: LayerRow) -> float | None:
        """The number in this column."""
        found: float | None = getattr(row, self.field)
        return found

    def shown(self, row: LayerRow) -> str:
        """The number as text; a dash where it is not defined."""
        value = self.value(row)
        return "-" if value is None else format(value, self.form)


MEASURES = (
    Measure("explained", "explained", ".4f", best=True),
    Measure("usage", "usage", ".1%"),
    Measure("entropy", "entropy", ".2f"),
    Measure("bit/s", "bitrate", ".0f"),
    Measure("bit/s, runs once", "deduplicated", ".0f"),
    Measure("PNMI", "pnmi", ".3f", best=True),
    Measure("phone purity", "phone_purity", ".3f", best=True),
    Measure("cluster purity", "cluster_purity", ".3f"),
)
"""In the order of the columns."""

_NOTES = {
    "explained": "Explained: 1 minus the share of the variance of the frames that is lost by quantizing them.",
    "entropy": "Entropy: bits that a code carries, if codes are coded one by one.",
    "bit/s, runs once": "Runs once: a run of equal codes is sent as one, without its duration.",
    "PNMI": "PNMI: share of the uncertainty about the phone that the code resolves. It grows with the number of units.",
    "phone purity": "Phone purity: frames named rightly by the commonest phone of their code.",
    "cluster purity": "Cluster purity: frames named rightly by the commonest code of their phone.",
}


def table(report: LayerReport) -> str:
    """Lines of aligned text, a head and one for each codebook; measures that are nowhere defined are left out."""
    measures = _measures(report)
    cells = [["codebook", "units", *(measure.title for measure in measures)]]
    cells += [[row.label, str(row.size), *(measure.shown(row) for measure in measures)] for row in report.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(_aligned(line, widths) for line in cells)


def write_layers_page(
    path: Path, report: LayerReport, *, title: str, facts: Mapping[str, str], commands: Sequence[str] = ()
) -> None:
    """Writes the page; it appears whole or not at all, and needs neither a network nor a script.

    facts: label -> value, the grid at the top; commands: what made the page. OutputError if it cannot be written.
    """
    measures = _measures(report)
    fields = {
        "TITLE": escape(title),
        "FACTS": "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items()),
        "CHARTS": "".join(f"<figure>{draw(chart)}</figure>" for chart in _charts(report.rows, measures)),
        "TABLE": _markup(report.rows, measures),
        "NOTES": "".join(f"<p>{_NOTES[measure.title]}</p>" for measure in measures if measure.title in _NOTES),
        "COMMANDS": escape("\n".join(commands)),
    }
    save_page(path, fill(template("layers.html").replace("{{STYLE}}", STYLE), fields))


def _measures(report: LayerReport) -> list[Measure]:
    return [measure for measure in MEASURES if any(measure.value(row) is not None for row in report.rows)]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])


def _charts(rows: Sequence[LayerRow], measures: Sequence[Measure]) -> list[Chart]:
    ticks = [(float(index), row.label) for index, row in enumerate(rows)]

    def line(measure: Measure) -> list[tuple[float, float]]:
        values = [measure.value(row) for row in rows]
        return [(float(index), value) for index, value in enumerate(values) if value is not None]

    lines = {measure.title: line(measure) for measure in measures}
    rates = {name: lines.pop(title) for title, name in (("bit/s", "raw"), ("bit/s, runs once", "runs once"))}
    single = {title: Chart(title, {title: points}, ticks) for title, points in lines.items()}
    first = [single.pop(title) for title in ("PNMI", "phone purity", "cluster purity", "explained") if title in single]
    return [*first, *single.values(), Chart("bit/s", rates, ticks)]


def _markup(rows: Sequence[LayerRow], measures: Sequence[Measure]) -> str:
    best = {measure.field: _best([measure.value(row) for row in rows]) for measure in measures if measure.best}
    head = "".join(f'<th scope="col">{title}</th>' for title in ("codebook", "units", *(m.title for m in measures)))

    def cell(measure: Measure, row: LayerRow) -> str:
        value = measure.value(row)
        strong = ' class="best"' if value is not None and value == best.get(measure.field) else ""
        return f"<td{strong}>{measure.shown(row)}</td>"

    lines = "".join(
        f'<tr><th scope="row">{escape(row.label)}</th><td>{row.size}</td>{"".join(cell(m, row) for m in measures)}</tr>'
        for row in rows
    )
    return f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody>"


def _best(values: Sequence[float | None]) -> float | None:
    """The largest, if they differ at all."""
    known = {value for value in values if value is not None}
    return max(known) if len(known) > 1 else None
