"""The page of an evaluation as a file: what it holds, how it is fitted into a size, and that text stays text."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import sing
from tests.metrics.test_report import HOSTILE, page_of
from vocable.errors import InputError, OutputError
from vocable.evaluation.page import write_evaluation_page
from vocable.evaluation.page_data import ribbons
from vocable.evaluation.page_sounds import HIGHEST, LOWEST, ranked
from vocable.evaluation.results import Column, Evaluation, Item, Judged, Phones, System, TokenFigures
from vocable.files import inside
from vocable.metrics.coding import Rates
from vocable.metrics.runs import CodebookUse
from vocable.metrics.scoring import Summary
from vocable.store import Entry, TokenStore
from vocable.types import Codebook, TokenSpec

STOI = Judged("stoi", "short-time intelligibility", "", True, "stoi/1")
MEL = Judged("mel", "multi-scale mel distance", "dB", False, "mel/1")


def column(*values: float | None, why: str = "PESQ finds no speech") -> Column:
    kept = [value for value in values if value is not None]
    mean = sum(kept) / len(kept) if kept else math.nan
    failures = {f"item {index}": why for index, value in enumerate(values) if value is None}
    known = len(kept) > 1 and math.isfinite(mean)
    low, high = (mean - 0.1, mean + 0.1) if known else (math.nan, math.nan)
    return Column(values, failures, Summary(mean, low, high, len(kept), len(failures)))


def figures(*labels: str, scale: float = 1.0) -> TokenFigures:
    rates = [Rates(label, *(scale * (500.0 - 30 * k) for k in range(10))) for label in labels]
    total = Rates("all", *(scale * len(labels) * (500.0 - 30 * k) for k in range(10)))
    use = [
        CodebookUse(label, 64, 50.0, 30.0, 5 / 3, (3, 2), 0.75 - 0.1 * k, 16, 5.0, 0.83 - 0.1 * k, 32.0)
        for k, label in enumerate(labels)
    ]
    phones = {label: Phones(0.5 - 0.1 * k, 0.4, 0.3) for k, label in enumerate(labels)}
    return TokenFigures(50.0, (*rates, total), tuple(use), dict.fromkeys(labels, 90.0), phones)


def write_sounds(folder: Path, items: tuple[Item, ...], rate: int, seed: int) -> None:
    for number, item in enumerate(items):
        path = inside(folder, item.id, ".flac")
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sing(item.seconds, rate, seed=seed + number), rate)


def compared(folder: Path, *, count: int = 3, seconds: float = 0.8, rate: int = 16000, names=("a", "b @ 1", "b @ 2")):
    """An evaluation of `count` items called "item 0" and so on: the original, a system of one codebook, two of more."""
    items = tuple(
        Item(f"item {index}", str(folder / "originals" / f"item {index}.flac"), seconds, f"text {index}", "ann")
        for index in range(count)
    )
    write_sounds(folder / "originals", items, rate, 0)
    for index, _ in enumerate(names):
        write_sounds(folder / "sounds" / str(index), items, rate, 10 * (index + 1))

    def system(index: int, name: str) -> System:
        tokens = figures("L1") if not index else figures(*(f"rvq{k}" for k in range(2 * index)))
        stoi = column(*(0.5 + 0.1 * index + 0.01 * k for k in range(count)))
        mel = column(None, *(3.0 - index + 0.2 * k for k in range(1, count)))
        scores = {"stoi": stoi, "mel": mel}
        return System(
            name, "tokens", 500.0 * (2 * index or 1), f"sounds/{index}", ".flac", {"speed": "3 x"}, tokens, scores
        )

    perfect = {"stoi": column(*[1.0] * count), "mel": column(*[0.0] * count)}
    original = System("original", "original", None, None, "", {}, None, perfect)
    systems = (original, *(system(index, name) for index, name in enumerate(names)))
    return Evaluation("A comparison", items, (STOI, MEL), systems, {"machine": "small"}, ("vocable evaluate",))


def sounds_of(path: Path) -> dict[int, list[bytes | None]]:
    """The players as the page holds them: item -> sounds of the systems."""
    texts = page_of(path)[0].texts
    packed = {int(tag.removeprefix("script#sounds-")): text for tag, text in texts.items() if "#sounds-" in tag}
    return {
        item: [None if one == "-" else base64.b64decode(one) for one in text.strip().split(" ")]
        for item, text in packed.items()
    }


def around_sounds(evaluation: Evaluation, folder: Path) -> float:
    """Megabytes of the page without any sound."""
    return write_evaluation_page(evaluation, folder, clips=0).stat().st_size / 1e6


def decoded(sound: bytes) -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(sound), dtype="float32")


def test_sounds_that_fit_are_lossless_and_in_the_order_of_the_systems(tmp_path):
    evaluation = compared(tmp_path)
    path = write_evaluation_page(evaluation, tmp_path)
    assert path == tmp_path / "index.html"
    assert page_of(path)[1]["sounds"]["coding"] == "FLAC"
    places = ["originals", "sounds/0", "sounds/1", "sounds/2"]
    for item, row in sounds_of(path).items():
        for place, sound in zip(places, row, strict=True):
            wave, rate = decoded(sound)
            expected, known = soundfile.read(tmp_path / place / f"item {item}.flac", dtype="float32")
            assert rate == known == 16000
            np.testing.assert_array_equal(wave, expected)


def test_scores_and_figures_travel_whole(tmp_path):
    evaluation = compared(tmp_path)
    odd = replace(evaluation.systems[3], scores={"stoi": column(math.inf, -math.inf, None)}, tokens=None, bitrate=None)
    data = page_of(write_evaluation_page(replace(evaluation, systems=(*evaluation.systems[:3], odd)), tmp_path))[1]
    assert [metric["name"] for metric in data["metrics"]] == ["stoi", "mel"]
    mel = data["systems"][1]["scores"][1]
    assert mel["values"] == [None, 3.2, 3.4] and (mel["count"], mel["failed"]) == (2, 1)
    assert mel["failures"] == [["item 0", "PESQ finds no speech"]]
    assert data["systems"][3]["scores"][0]["values"] == ["Infinity", "-Infinity", None]
    assert data["systems"][3]["scores"][1] is None and data["systems"][3]["tokens"] is None
    tokens = data["systems"][2]["tokens"]
    assert [row["label"] for row in tokens["rates"]] == ["rvq0", "rvq1", "all"]
    assert tokens["pairs"] == [["rvq0", 90.0], ["rvq1", 90.0]] and tokens["phones"][0][1]["pnmi"] == 0.5


def test_what_does_not_fit_is_opus_at_the_bitrate_that_does(tmp_path):
    evaluation = compared(tmp_path, count=2, seconds=1.5, rate=22050, names=("a", "b"))
    megabytes = around_sounds(evaluation, tmp_path) + 0.08
    seen: list[int] = []
    path = write_evaluation_page(
        evaluation, tmp_path, megabytes=megabytes, watcher=lambda progress: seen.append(progress.done)
    )
    told = page_of(path)[1]["sounds"]
    assert told["coding"] == "Opus" and seen == [1, 2]
    assert path.stat().st_size <= megabytes * 1e6
    assert len(told["clips"]) == 2
    wave, rate = decoded(sounds_of(path)[0][1])
    assert rate == 24000 and abs(len(wave) / rate - 1.5) < 0.001
    measured = 8 * sum(len(sound) for row in sounds_of(path).values() for sound in row) / (2 * 3 * 1.5)
    assert told["bitrate"] == pytest.approx(measured, rel=1e-3)
    assert LOWEST < measured < HIGHEST
    smaller = write_evaluation_page(evaluation, tmp_path, megabytes=megabytes - 0.02)
    assert page_of(smaller)[1]["sounds"]["bitrate"] < told["bitrate"]


def test_where_even_that_is_too_much_the_worst_and_some_others_stay(tmp_path):
    evaluation = compared(tmp_path, count=6, seconds=1.0, names=("a",))
    megabytes = around_sounds(evaluation, tmp_path) + 0.02
    path = write_evaluation_page(evaluation, tmp_path, megabytes=megabytes)
    assert path.stat().st_size <= megabytes * 1e6
    kept = {clip["item"] for clip in page_of(path)[1]["sounds"]["clips"]}
    assert 0 < len(kept) < 6 and kept == set(ranked(evaluation)[: len(kept)])
    assert 0 in kept  # of stoi, the first metric, it has the least
    assert page_of(path)[1]["sounds"]["ranked"] == "stoi"
    assert set(sounds_of(path)) == kept


def test_ranked_goes_by_turns_and_counts_failures_as_worst(tmp_path):
    evaluation = compared(tmp_path, count=5)
    assert sorted(ranked(evaluation)) == list(range(5))
    assert ranked(evaluation) == ranked(evaluation)
    failing = replace(evaluation.systems[1], scores={"stoi": column(0.1, 0.2, 0.3, None, 0.4)})
    assert ranked(replace(evaluation, systems=(evaluation.systems[0], failing)))[0] == 3
    distance = replace(evaluation, metrics=(MEL, STOI), systems=(evaluation.systems[0], evaluation.systems[1]))
    assert ranked(distance)[0] == 0  # failed
    assert len(ranked(replace(evaluation, metrics=(), systems=evaluation.systems[:1]))) == 5


def test_clips_limits_the_players(tmp_path):
    evaluation = compared(tmp_path)
    kept = sounds_of(write_evaluation_page(evaluation, tmp_path, clips=2))
    assert set(kept) == set(ranked(evaluation)[:2])
    assert sounds_of(write_evaluation_page(evaluation, tmp_path, clips=0)) == {}
    with pytest.raises(InputError, match="0 clips or more"):
        write_evaluation_page(evaluation, tmp_path, clips=-1)


def test_a_page_too_small_for_any_sound_is_refused(tmp_path):
    evaluation = compared(tmp_path, count=1)
    with pytest.raises(InputError, match="room for one recording"):
        write_evaluation_page(evaluation, tmp_path, megabytes=0.001)


def test_sounds_that_cannot_be_read_are_named_and_the_others_stay(tmp_path):
    evaluation = compared(tmp_path)
    (tmp_path / "sounds" / "1" / "item 2.flac").unlink()
    (tmp_path / "originals" / "item 0.flac").write_bytes(b"no sound")
    path = write_evaluation_page(evaluation, tmp_path)
    told = page_of(path)[1]["sounds"]
    assert [(item, system) for item, system, _ in told["missing"]] in (
        [("item 0", "original"), ("item 2", "b @ 1")],
        [("item 2", "b @ 1"), ("item 0", "original")],
    )
    assert all(why for _, _, why in told["missing"])
    assert {clip["item"]: clip["systems"] for clip in told["clips"]} == {0: [1, 2, 3], 1: [0, 1, 2, 3], 2: [0, 1, 3]}
    assert sounds_of(path)[2][2] is None and sounds_of(path)[2][3] is not None


def test_long_recordings_are_cut(tmp_path):
    evaluation = compared(tmp_path, count=1, seconds=31.0, rate=8000, names=("a",))
    path = write_evaluation_page(evaluation, tmp_path)
    wave, rate = decoded(sounds_of(path)[0][0])
    assert len(wave) == 30 * rate


def test_hostile_text_is_only_data_and_the_policy_names_the_script(tmp_path):
    base = compared(tmp_path, count=1)
    systems = tuple(
        replace(system, name=name, facts={name: name}, scores={HOSTILE[0]: column(None, why=name)})
        for system, name in zip(base.systems, HOSTILE, strict=False)
    )
    judged = tuple(Judged(text, text, text, True, text) for text in HOSTILE)
    items = (replace(base.items[0], text=HOSTILE[0], speaker=HOSTILE[1]),)
    evaluation = replace(
        base,
        title=HOSTILE[0],
        items=items,
        metrics=judged,
        systems=systems,
        facts={HOSTILE[0]: HOSTILE[1]},
        commands=tuple(HOSTILE),
        left_out={HOSTILE[2]: HOSTILE[3]},
    )
    path = write_evaluation_page(evaluation, tmp_path)
    page, data = page_of(path)
    assert data["title"] == HOSTILE[0] and data["commands"] == HOSTILE
    assert [system["name"] for system in data["systems"]] == HOSTILE[:4]
    assert [tag for tag in page.tags if tag.startswith(("script", "img"))] == [
        "script#data",
        "script",
        "script#sounds-0",
    ]
    text = path.read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    policy = next(value for name, value in page.attributes if name == "content")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")
    assert "{{SOUNDS}}" not in text and "{{SCRIPT}}" not in text


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    evaluation = compared(tmp_path)
    (tmp_path / "index.html").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_evaluation_page(evaluation, tmp_path)


def test_units_come_from_the_stores_as_many_codebooks_as_the_system_has(tmp_path):
    evaluation = compared(tmp_path, count=2)
    spec = TokenSpec(16000, 320, tuple(Codebook(64, f"rvq{k}") for k in range(4)), "f" * 64)
    codes = np.arange(4 * 40, dtype=np.uint8).reshape(4, 40) % 64
    TokenStore.create(tmp_path / "tokens", spec).append([Entry("item 1", codes, 12800), Entry("other", codes, 12800)])
    two, four = (replace(system, store="tokens") for system in evaluation.systems[2:])
    gone = replace(evaluation.systems[1], store="nowhere")
    evaluation = replace(evaluation, systems=(evaluation.systems[0], gone, two, four))
    drawn = page_of(write_evaluation_page(evaluation, tmp_path))[1]["ribbons"]
    assert [(ribbon["system"], ribbon["labels"]) for ribbon in drawn] == [
        (2, ["rvq0", "rvq1"]),
        (3, ["rvq0", "rvq1", "rvq2", "rvq3"]),
    ]
    ((item, packed),) = drawn[1]["codes"]
    assert item == 1 and (drawn[1]["start"], drawn[1]["step"]) == (0.0, 0.02)
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(packed), "<u2").reshape(4, 40), codes)


def test_units_take_no_more_room_than_they_are_given(tmp_path):
    evaluation = compared(tmp_path, count=1)
    spec = TokenSpec(16000, 320, tuple(Codebook(64, f"rvq{k}") for k in range(4)), "f" * 64)
    TokenStore.create(tmp_path / "tokens", spec).append([Entry("item 0", np.zeros((4, 40), np.uint8), 12800)])
    evaluation = replace(evaluation, systems=(evaluation.systems[0], replace(evaluation.systems[3], store="tokens")))

    def kept(room: int) -> list[int]:
        return [len(ribbon["labels"]) for ribbon in ribbons(evaluation, tmp_path, [0], room)]

    assert [kept(room) for room in (0, 150, 300, 10_000)] == [[], [1], [2], [4]]
    assert all(len(ribbons(evaluation, tmp_path, [0], room)[0]["codes"][0][1]) <= room for room in (150, 300))
