"""Charts put points where their values are, name them, and are XML whatever the names."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from vocable.metrics.chart import HEIGHT, WIDTH, Chart, draw, figure, round_levels


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    return [element for element in ElementTree.fromstring(svg).iter() if element.tag.split("}")[-1] == tag]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 4.0], [0, 1, 2, 3, 4]),
        ([0.41, 0.58], [0.4, 0.45, 0.5, 0.55, 0.6]),
        ([564.4, 1096.6], [400, 600, 800, 1000, 1200]),
        ([1.0, 1.0], [0.9, 0.925, 0.95, 0.975, 1.0]),
        ([0.9999, 1.0], [0.9, 0.925, 0.95, 0.975, 1.0]),
        ([-3.0, -1.0], [-3, -2.5, -2, -1.5, -1]),
    ],
)
def test_levels_are_round_and_hold_all_values(values: list[float], expected: list[float]) -> None:
    assert round_levels(values) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, -2.0, 1e-12, 3e7])
def test_one_value_has_levels_around_it(value: float) -> None:
    levels = round_levels([value])
    slack = 1e-9 * abs(value)
    assert levels[0] - slack <= value <= levels[-1] + slack and len(levels) > 1


def test_points_lie_where_their_values_are() -> None:
    chart = Chart("PNMI", {"mfcc": [(0, 0.0), (1, 2.0), (3, 4.0)]}, [(0, "L0"), (1, "L1"), (3, "L3")])
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in elements(draw(chart), "circle")]
    (left, bottom), (second, middle), (right, top) = dots
    assert (second - left) / (right - left) == pytest.approx(1 / 3, abs=1e-3)
    assert (bottom - middle) / (bottom - top) == pytest.approx(1 / 2, abs=1e-3)
    assert 0 < left < right < WIDTH and 0 < top < bottom < HEIGHT
    assert [title.text for title in elements(draw(chart), "title")] == ["L0: 0", "L1: 2", "L3: 4"]


def test_lines_are_named_where_there_are_several() -> None:
    points = [(0.0, 1.0), (1.0, 2.0)]
    ticks = [(0.0, "564\nK 50"), (1.0, "664\nK 100")]
    texts = [text.text for text in elements(draw(Chart("STOI", {"a": points, "b": points}, ticks)), "text")]
    assert {"STOI", "a", "b"} <= set(texts)
    assert "a" not in [text.text for text in elements(draw(Chart("STOI", {"a": points}, ticks)), "text")]
    lines = [span.text for span in elements(draw(Chart("STOI", {"a": points}, ticks, axis="bit/s\nunits")), "tspan")]
    assert lines == ["bit/s", "units", "564", "K 50", "664", "K 100"]


def test_labels_that_would_touch_are_left_out() -> None:
    ticks = [(float(index), f"L{index}") for index in range(49)]
    chart = Chart("usage", {"usage": [(place, 1.0) for place, _ in ticks]}, ticks)
    spans = elements(draw(chart), "tspan")
    places = [float(span.get("x")) for span in spans]
    assert 5 < len(spans) < 49 and spans[0].text == "L0"
    assert all(later - earlier >= 14 for earlier, later in pairwise(places))


def test_names_are_text_and_never_markup() -> None:
    evil = "<script>&\"'\udcff"
    svg = draw(Chart(evil, {evil: [(0, 1.0)], "b": [(0, 2.0)]}, [(0, evil)]))
    assert "<script" not in svg
    svg.encode("ascii")


def test_a_figure_stands_alone() -> None:
    chart = Chart("PNMI", {"a": [(0, 1.0)]}, [(0, "L0")])
    svg = figure([chart, chart, chart], columns=2)
    root = ElementTree.fromstring(svg)
    inner = [element for element in root if element.tag.endswith("svg")]
    places = {(int(element.get("x")), int(element.get("y"))) for element in inner}
    assert len(places) == 3 and int(root.get("height")) > 2 * HEIGHT and int(root.get("width")) > 2 * WIDTH
    assert "prefers-color-scheme: dark" in elements(svg, "style")[0].text
