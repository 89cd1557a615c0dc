"""The rule by which a candidate is recommended, and the figures it rests on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.browser import open_page
from tests.metrics.test_report import HOSTILE
from vocable.evaluation.choose_page import write_choice_page
from vocable.evaluation.choose_phones import surprises
from vocable.evaluation.choose_results import Choice, Row, pick
from vocable.metrics.tokens import contingency, pnmi
from vocable.probes.scores import Figure, figure, ratio


def score(value: float, half: float = 0.05) -> Figure:
    """A figure whose resamples lie evenly within `half` of it, those of other values in other orders."""
    places = np.random.default_rng(round(1000 * value)).permutation(np.linspace(-half, half, 1001))
    return Figure(value, value - half, value + half, (value,), tuple((value + places).tolist()))


def row(size: int, bitrate: float, value: Figure, **changes) -> Row:
    return replace(Row("logmel", "logmel", "kmeans", size, size, bitrate, 100.0, value, 1.0), **changes)


def test_the_cheapest_that_is_as_good_as_the_best() -> None:
    rows = [row(2, 100, score(0.5)), row(8, 300, score(0.83)), row(64, 600, score(0.9)), row(99, 700, score(0.89))]
    assert pick(rows, higher_is_better=True) == (2, 1, [False, True, True, True])
    errors = [row(2, 100, score(0.5)), row(8, 300, score(0.17)), row(64, 600, score(0.1))]
    assert pick(errors, higher_is_better=False) == (2, 1, [False, True, True])


def test_among_equals_fewer_units_then_the_better_score() -> None:
    dear = row(10, 600, score(0.9), layer="L0")
    pair, alone = row(8, 600, score(0.9), units=16), row(64, 600.0000000001, score(0.9))
    assert pick([dear, alone, pair], higher_is_better=True)[1] == 0
    assert pick([alone, pair], higher_is_better=True)[1] == 1
    layers = [row(8, 300, score(value), layer=name) for name, value in (("L3", 0.88), ("L6", 0.9), ("L9", 0.89))]
    assert pick(layers, higher_is_better=True)[:2] == (1, 1)


def test_pairing_sees_what_intervals_hide() -> None:
    """A candidate that errs wherever the best does, and on four recordings more, is worse, however wide both are."""
    best = np.repeat([1.0, 0.0], [60, 40])
    worse = np.repeat([1.0, 0.0], [52, 48])
    other = np.repeat([0.0, 1.0], [46, 54])  # nearly as often right, but elsewhere
    scores = {}
    for name, hits in (("best", best), ("worse", worse), ("other", other)):
        scores[name] = figure([ratio(hits.tolist(), [1.0] * 100)], 100)
    assert scores["worse"].high > scores["best"].low
    assert not scores["worse"].not_worse(scores["best"], higher_is_better=True)
    assert scores["other"].not_worse(scores["best"], higher_is_better=True)
    assert scores["best"].not_worse(scores["best"], higher_is_better=True)


def test_surprises_by_hand() -> None:
    """Code 0: a, a, b; code 1: b. The prior is 3/6 each; T is 2 and 1."""
    codes, phones = np.array([[0], [0], [0], [1]]), ["a", "a", "b", "b"]
    knowing, blind = surprises(codes, phones, np.array([[0], [0], [1], [2]]), ["a", "b", "a", "a"])
    assert (2.0**-blind).tolist() == [0.5] * 4
    assert (2.0**-knowing).tolist() == pytest.approx([(2 + 2 / 2) / 5, (1 + 2 / 2) / 5, (0 + 1 / 2) / 2, 1 / 2])


def test_chances_of_all_phones_add_up_and_the_codebook_before_helps() -> None:
    draw = np.random.default_rng(3)
    codes, phones = draw.integers(0, 5, (200, 3)), draw.choice(list("abcd"), 200).tolist()
    new = np.repeat(draw.integers(0, 6, (1, 3)), 4, axis=0)
    assert (2.0 ** -surprises(codes, phones, new, list("abcd"))[0]).sum() == pytest.approx(1)
    first = surprises(codes[:, :1], phones, codes[:20, :1], phones[:20])[0]
    unseen = np.concatenate([codes[:20, :1], np.full((20, 1), 99)], axis=1)
    assert surprises(codes[:, :2], phones, unseen, phones[:20])[0].tolist() == first.tolist()


def test_random_codes_say_nothing_however_many() -> None:
    """PNMI as such takes a thousand random codes for half of what there is to know."""
    draw = np.random.default_rng(4)
    phones = draw.choice(list("abcdefgh"), 4000).tolist()
    for size in (10, 1000):
        codes = draw.integers(0, size, (4000, 1))
        knowing, blind = surprises(codes[:2000], phones[:2000], codes[2000:], phones[2000:])
        assert -0.2 < 1 - knowing.sum() / blind.sum() < 0.01
    assert pnmi(contingency(torch.from_numpy(codes[2000:, 0]), phones[2000:])) > 0.4
    named = np.array([[ord(phone)] for phone in phones])
    knowing, blind = surprises(named[:2000], phones[:2000], named[2000:], phones[2000:])
    assert 1 - knowing.sum() / blind.sum() > 0.99


def choice(names: list[str] | None = None) -> Choice:
    layers = names or ["L3", "L6"]
    rows = [
        row(size, 50.0 * np.log2(size), score(0.6 + index / 10 + size / 2000), layer=layer, quantizer=way)
        for size in (50, 100, 200)
        for index, layer in enumerate(layers)
        for way in ("kmeans", "residual:2")
    ]
    bounds = [Row("logmel", layer, "continuous", None, None, None, 100.0, score(0.95, 0.02), 1.0) for layer in layers]
    best, chosen, good = pick(rows, higher_is_better=True)
    texts = tuple(names or ["nothing"])
    return Choice(
        task="classification",
        label=layers[0],
        measure="accuracy",
        higher_is_better=True,
        baseline=(layers[0], 0.1),
        split="field split",
        train=100,
        test=50,
        rows=tuple(replace(one, as_good=fine) for one, fine in zip(rows, good, strict=True)),
        bounds=tuple(bounds),
        best=best,
        chosen=chosen,
        rule="Rule: the cheapest.",
        unknown=texts,
        left_out=texts,
        failures=texts,
        commands=texts,
        facts=dict(zip(texts, texts, strict=True)),
    )


def test_the_table_and_the_figures() -> None:
    found = choice()
    lines = found.markdown().splitlines()
    # 0.8 is the best, whose interval 0.725 reaches at the least rate
    assert lines[0] == (
        "Take logmel L6, kmeans, 50 units: accuracy 72.5 % (67.5 to 77.5) at 282 bit/s. "
        "The best of 12, logmel L6, kmeans, 200 units, has 80.0 % (75.0 to 85.0) at 382 bit/s; "
        "chance may explain that."
    )
    assert sum(line.endswith("| recommended |") for line in lines) == 1
    assert sum(line.endswith("| bound |") for line in lines) == 2
    told = json.loads(found.to_json())
    assert told["rows"][told["chosen"]]["layer"] == found.recommended.layer
    assert "resampled" not in told["rows"][0]["score"]


STATE = """
const all = selector => [...document.querySelectorAll(selector)];
const within = (inner, outer) => inner.left >= outer.left && inner.right <= outer.right + 1
  && inner.top >= outer.top && inner.bottom <= outer.bottom;
return {
  charts: all("figure svg").map(svg => svg.getAttribute("aria-label")),
  dots: all("figure circle title").length,
  rings: all("figure circle.line").length,
  bounds: all("figure .bound").length,
  inside: all("figure circle, figure text, figure .line").every(
    part => within(part.getBoundingClientRect(), part.closest("figure").getBoundingClientRect())),
  best: all("tr.best").length,
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
    write_choice_page(tmp_path / "choice.html", choice())
    with open_page(tmp_path / "choice.html", width=width, scheme=scheme) as driver:
        assert driver.get_log("browser") == []
        state = driver.execute_script(STATE)
    assert state["charts"] == ["accuracy of logmel L3 over bit/s", "accuracy of logmel L6 over bit/s"]
    assert (state["dots"], state["rings"], state["bounds"], state["best"]) == (12, 1, 2, 1)
    assert state["inside"] and state["line"] == line
    assert (state["overflow"], state["active"], state["fetched"]) == (0, 0, 0)


def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    found = choice(HOSTILE)
    write_choice_page(tmp_path / "choice.html", found)
    text = (tmp_path / "choice.html").read_text(encoding="ascii")
    assert "<script" not in text and "<img" not in text and "{{DATA}} {{TITLE}}" in text
    assert found.markdown().encode() and json.loads(found.to_json())["label"] == HOSTILE[0]
