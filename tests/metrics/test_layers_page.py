"""The table is aligned text, and the page holds it with its plots, needs no script and fits any screen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.browser import open_page
from tests.metrics.test_report import HOSTILE
from vocable.errors import OutputError
from vocable.metrics.layers import LayerReport, LayerRow
from vocable.metrics.layers_page import table, write_layers_page
from vocable.types import Codebook, TokenSpec


def report(*, labelled: bool = True, names: list[str] | None = None) -> LayerReport:
    labels = names or ["L3", "L6", "L12"]
    rows = [
        LayerRow(
            label,
            100,
            0.7 + index / 100,
            1.0,
            6.5,
            332.2,
            201.5,
            *([0.5 - index / 10, 0.6, 0.3] if labelled else [None] * 3),
        )
        for index, label in enumerate(labels)
    ]
    spec = TokenSpec(16000, 320, tuple(Codebook(100, label) for label in labels), "made-up", 400)
    return LayerReport(spec, tuple(rows), 8, 60.0, 3000, 1000 * labelled, ())


def test_the_table_is_aligned() -> None:
    lines = table(report()).split("\n")
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split("  ")[0] == "codebook" and lines[0].endswith("cluster purity")
    assert lines[3].split() == ["L12", "100", "0.7200", "100.0%", "6.50", "332", "202", "0.300", "0.600", "0.300"]


def test_measures_that_are_nowhere_defined_are_left_out() -> None:
    assert "PNMI" not in table(report(labelled=False))
    found = report()
    partly = replace(found, rows=(replace(found.rows[0], pnmi=None), *found.rows[1:]))
    assert table(partly).split("\n")[1].split()[7] == "-"


STATE = """
const all = selector => [...document.querySelectorAll(selector)];
return {
  best: all("td.best").map(cell => cell.textContent),
  charts: all("figure svg").map(svg => svg.getAttribute("aria-label")),
  dots: all("figure circle").length,
  inside: all("figure circle").every(dot => {
    const [box, frame] = [dot.getBoundingClientRect(), dot.closest("figure").getBoundingClientRect()];
    return box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom;
  }),
  line: getComputedStyle(document.querySelector("polyline")).stroke,
  overflow: document.documentElement.scrollWidth - innerWidth,
  active: document.scripts.length + all("img, iframe, object, embed, link").length,
  fetched: performance.getEntriesByType("resource").length,
};
"""


@pytest.mark.parametrize(
    ("width", "scheme", "line"), [(1280, "light", "rgb(0, 104, 139)"), (390, "dark", "rgb(99, 195, 228)")]
)
def test_the_page_in_a_browser(tmp_path: Path, width: int, scheme: str, line: str) -> None:
    path = tmp_path / "a page.html"
    write_layers_page(path, report(), title="Layers", facts={"audio": "8 recordings"}, commands=["vocable report"])
    with open_page(path, width=width, scheme=scheme) as driver:
        assert driver.get_log("browser") == []
        state = driver.execute_script(STATE)
    assert state["charts"] == ["PNMI", "phone purity", "cluster purity", "explained", "usage", "entropy", "bit/s"]
    assert state["dots"] == 8 * 3 and state["inside"]
    assert state["best"] == ["0.500", "0.7200"]
    assert state["line"] == line
    assert (state["overflow"], state["active"], state["fetched"]) == (0, 0, 0)


def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    facts = dict(zip(HOSTILE, HOSTILE, strict=True))
    write_layers_page(path, report(names=HOSTILE), title=HOSTILE[0], facts=facts, commands=HOSTILE)
    text = path.read_text(encoding="ascii")
    assert "<script" not in text and "<img" not in text and "{{DATA}} {{TITLE}}" in text


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_layers_page(tmp_path / "nowhere" / "page.html", report(), title="", facts={})
