"""Evaluations are saved and read back whole."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from vocable.errors import ArtifactError
from vocable.evaluation.results import (
    NAME,
    Column,
    Evaluation,
    Item,
    Judged,
    Phones,
    System,
    TokenFigures,
)
from vocable.metrics.coding import Rates
from vocable.metrics.runs import CodebookUse
from vocable.metrics.scoring import Summary


def example() -> Evaluation:
    rates = tuple(Rates(label, *(100.0 + k for k in range(10))) for label in ("L1", "all"))
    use = (CodebookUse("L1", 8, 50.0, 30.0, 5 / 3, (3, 2), 0.75, 2, 2.5, 0.83, 5.6),)
    tokens = TokenFigures(50.0, rates, use, {"L1": 90.0}, {"L1": Phones(0.5, 0.4, 0.3)})
    exact = Column((math.inf, math.inf), {}, Summary(math.inf, math.nan, math.nan, 2, 0))
    partial = Column((3.25, None), {"b": "silent"}, Summary(3.25, math.nan, math.nan, 1, 1))
    original = System("original", "original", None, None, "", {}, None, {"snr": exact})
    units = System(
        "units", "tokens", 150.0, "sounds/units", ".flac", {"speed": "3 x"}, tokens, {"snr": partial}, "tokens/units"
    )
    return Evaluation(
        title="two systems",
        items=(Item("a", "/a.wav", 1.5, "hello", "ann"), Item("b", "/b.wav", 2.0)),
        metrics=(Judged("snr", "signal-to-noise ratio", "dB", True, "snr/1"),),
        systems=(original, units),
        facts={"machine": "a small one"},
        commands=("vocable evaluate",),
    )


def test_saved_and_read_back_whole(tmp_path: Path) -> None:
    example().save(tmp_path)
    # NaN differs from itself, so what is compared is what is written
    Evaluation.load(tmp_path).save(tmp_path / "again")
    assert (tmp_path / NAME).read_bytes() == (tmp_path / "again" / NAME).read_bytes()
    read = Evaluation.load(tmp_path)
    assert read.systems[1].tokens == example().systems[1].tokens
    assert read.systems[0].scores["snr"].values == (math.inf, math.inf)
    assert math.isnan(read.systems[0].scores["snr"].summary.low)
    assert read.items == example().items and read.metrics == example().metrics


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 2}', b'{"format": 1}', b'{"format": NaN}'])
def test_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(ArtifactError, match="expected an evaluation"):
        Evaluation.load(tmp_path)


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="expected an evaluation"):
        Evaluation.load(tmp_path)
