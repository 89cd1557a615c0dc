"""Tables of an evaluation: order, figures, failures, and text that stays text."""

from __future__ import annotations

import math
from dataclasses import replace

from tests.evaluation.test_results import example
from vocable.evaluation.results import Column
from vocable.evaluation.tables import by_bitrate, comparison, failures, markdown
from vocable.metrics.scoring import Summary


def column(*values: float | None, mean: float, low: float = math.nan, high: float = math.nan) -> Column:
    failed = {name: "silent" for name, value in zip("ab", values, strict=True) if value is None}
    return Column(values, failed, Summary(mean, low, high, len(values) - len(failed), len(failed)))


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_original_first_then_by_bitrate() -> None:
    found = example()
    units = found.systems[1]
    others = [replace(units, name="opus", bitrate=None), replace(units, name="fine", bitrate=9e3), units]
    assert [s.name for s in by_bitrate([*others, found.systems[0]])] == ["original", "units", "fine", "opus"]


def test_cells_have_the_decimals_that_the_interval_allows() -> None:
    found = example()
    cells = {
        "∞": column(math.inf, math.inf, mean=math.inf),
        "3.25, 1 failed": column(3.25, None, mean=3.25),
        "0.8123 (0.8105 to 0.8140)": column(0.81, 0.82, mean=0.81231, low=0.81051, high=0.81399),
        "12.3 (11.2 to 13.4)": column(11.0, 13.0, mean=12.34, low=11.24, high=13.41),
        "1250 (1000 to 1500)": column(1e3, 15e2, mean=1250.4, low=1000.2, high=1500.4),
        "4.549": column(4.549, 4.549, mean=4.549, low=4.549, high=4.549),
        "-, 2 failed": column(None, None, mean=math.nan),
    }
    for expected, one in cells.items():
        told = replace(found, systems=(replace(found.systems[1], scores={"snr": one}),))
        assert rows(comparison(told))[2] == ["units", "150", expected]
    assert rows(comparison(found))[0] == ["system", "bit/s", "snr ↑ (dB)"]


def test_what_fails_alike_is_one_line() -> None:
    found = example()
    lost = column(None, None, mean=math.nan)
    partly = Column((1.0, None), {"b": "too short"}, Summary(1.0, math.nan, math.nan, 1, 1))
    metrics = tuple(replace(found.metrics[0], name=name) for name in ("snr", "stoi", "mel"))
    systems = (
        replace(found.systems[1], name="x", scores=dict.fromkeys(("snr", "stoi", "mel"), lost)),
        replace(found.systems[1], name="y", scores={"snr": partly, "stoi": partly, "mel": column(1, 2, mean=1.5)}),
    )
    assert failures(replace(found, metrics=metrics, systems=systems, left_out={"c": "no sound file"})) == [
        "c: left out: no sound file",
        "all metrics, x: 2 of 2 failed: silent (a, b)",
        "snr, stoi, y: 1 of 2 failed: too short (b)",
    ]


def test_names_break_no_table() -> None:
    found = example()
    hostile = "x|y\n<script>alert(1)</script> [a](javascript:b)"
    told = replace(found, title=hostile, systems=(*found.systems, replace(found.systems[1], name=hostile)))
    text = markdown(told)
    assert "<script" not in text.replace("\\<", "") and "[a]" not in text.replace("\\[", "")
    assert len(comparison(told).splitlines()) == 5
    assert "\\|" in comparison(told)


def test_all_of_it_is_told() -> None:
    text = markdown(example())
    for part in ("# two systems", "machine: a small one", "1 of 2 failed: silent (b)", "PNMI", "vocable evaluate"):
        assert part in text
    # what codebooks are there for costs once: the row of the sum of all, and the codebook's own
    assert sum(line.startswith("| units ") for line in text.splitlines()) == 3
