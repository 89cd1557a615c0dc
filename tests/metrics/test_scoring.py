from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import sing
from vocable.errors import InputError, VocableError
from vocable.metrics import catalogue, scoring
from vocable.metrics.catalogue import METRICS
from vocable.metrics.reconstruction import Scores
from vocable.metrics.scoring import score_pairs, summarize_scores
from vocable.progress import Progress
from vocable.types import Audio

NAMES = ["mel", "snr", "stoi"]


@pytest.fixture
def pairs(tmp_path: Path) -> list[tuple[str, Path, Path]]:
    """Two pairs that can be scored, one that is silent, one without a file, one that is too short."""
    noise = 0.01 * np.random.default_rng(0).standard_normal(48000)
    waves = {"a": sing(1.0), "b": sing(1.5, seed=1), "silent": np.zeros(16000), "short": sing(1.0, seed=2)}
    for name, wave in waves.items():
        soundfile.write(tmp_path / f"{name}.wav", wave, 16000, subtype="FLOAT")
        worse = (wave + noise[: len(wave)] * (name != "silent"))[: -4000 if name == "short" else None]
        soundfile.write(tmp_path / f"{name}-out.wav", worse, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "none.wav", sing(0.5), 16000)
    return [(name, tmp_path / f"{name}.wav", tmp_path / f"{name}-out.wav") for name in [*waves, "none"]]


def same(x: dict[str, scoring.PairScores], y: dict[str, scoring.PairScores]) -> bool:
    return list(x) == list(y) and all(
        x[name].ids == y[name].ids
        and x[name].failures == y[name].failures
        and torch.equal(x[name].scores.values.nan_to_num(), y[name].scores.values.nan_to_num())
        for name in x
    )


def test_scores_are_those_of_the_metrics_and_failures_are_named(pairs) -> None:
    found = score_pairs(pairs, NAMES)
    wave, worse = (torch.as_tensor(soundfile.read(path, dtype="float32")[0]) for path in pairs[1][1:])
    for name in NAMES:
        alone = METRICS[name].function(Audio.of([wave], 16000), Audio.of([worse], 16000))
        assert found[name].ids == ("a", "b", "silent", "short", "none")
        assert found[name].scores.values[1] == alone.values[0]
        assert "16000 samples in the original, 12000" in found[name].failures["short"]
        assert "cannot be opened" in found[name].failures["none"]
    assert found["snr"].failures["silent"] == "the original is silent"
    assert found["mel"].scores.count == 3 and found["snr"].scores.count == 2


def test_processes_give_the_same(pairs) -> None:
    assert same(score_pairs(pairs, NAMES), score_pairs(pairs, NAMES, workers=2))


def test_a_process_that_dies_is_told_of(pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead(ProcessPoolExecutor):
        def map(self, *_: object) -> Iterator[object]:
            raise BrokenProcessPool

    monkeypatch.setattr(scoring, "ProcessPoolExecutor", Dead)
    with pytest.raises(VocableError, match="ended unexpectedly") as died:
        score_pairs(pairs, ["snr"], workers=1)
    assert "cache" in died.value.hint


def test_what_is_kept_is_not_computed_again(pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, seen = tmp_path / "deep" / "scores.jsonl", []

    def note(progress: Progress) -> None:
        seen.append((progress.done, progress.skipped))

    first = score_pairs(pairs[:2], ["mel"], cache=cache, watcher=note)
    cache.write_bytes(cache.read_bytes() + b'["half a li')
    whole = score_pairs(pairs, NAMES, cache=cache, watcher=note)
    assert seen == [(1, 0), (2, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]
    assert len([line for line in cache.read_text().split("\n") if line]) == 2 + 1 + 2 * 2 + 3 + 3
    monkeypatch.setattr(scoring, "_judge", pytest.fail)
    assert same(score_pairs(pairs[:4], NAMES, cache=cache), score_pairs(pairs[:4], NAMES, cache=cache, workers=2))
    assert torch.equal(first["mel"].scores.values, whole["mel"].scores.values[:2])
    again = score_pairs(pairs[:4], NAMES, cache=cache)
    assert all(again[name].failures.items() <= whole[name].failures.items() for name in NAMES)
    assert torch.equal(again["stoi"].scores.values[:2], whole["stoi"].scores.values[:2])


def test_another_file_version_or_shift_is_computed_anew(pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, (key, reference, estimate) = tmp_path / "scores.jsonl", pairs[0]
    judged: list[str] = []
    judge = scoring._judge
    monkeypatch.setattr(scoring, "_judge", lambda task: judged.append(task.id) or judge(task))
    before = score_pairs([pairs[0]], ["snr"], cache=cache)
    score_pairs([pairs[0]], ["snr"], cache=cache, max_shift=0.01)
    soundfile.write(estimate, sing(1.0, seed=5), 16000)
    after = score_pairs([(key, reference, estimate)], ["snr"], cache=cache)
    assert not same(before, after) and len(judged) == 3
    newer = {**METRICS, "snr": replace(METRICS["snr"], version=2)}
    monkeypatch.setattr(catalogue, "METRICS", newer)
    score_pairs([(key, reference, estimate)], ["snr"], cache=cache)
    assert len(judged) == 4
    lines = [json.loads(line) for line in cache.read_text().split("\n") if line]
    assert [line[0].split()[2:] for line in lines] == [
        ["snr/1", "0"],
        ["snr/1", "0.01/1"],
        ["snr/1", "0"],
        ["snr/2", "0"],
    ]


def test_infinite_scores_are_kept(pairs, tmp_path: Path) -> None:
    twin = [(pairs[0][0], pairs[0][1], pairs[0][1])]
    found = [score_pairs(twin, ["snr"], cache=tmp_path / "scores.jsonl") for _ in range(2)]
    assert [scores["snr"].scores.mean for scores in found] == [math.inf] * 2


def test_rates_small_gaps_and_delays_are_bridged(tmp_path: Path) -> None:
    wave = sing(2.0)
    late = np.concatenate([np.zeros(333), wave])
    soundfile.write(tmp_path / "x.wav", wave, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "late.wav", late, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.flac", np.stack([sing(2.0, 48000)] * 2, axis=1), 48000)
    soundfile.write(tmp_path / "x48.wav", sing(2.0, 48000), 48000)
    task = [("x", tmp_path / "x.wav", tmp_path / "late.wav")]
    assert score_pairs(task, ["snr"])["snr"].scores.mean < 5
    assert score_pairs(task, ["snr"], max_shift=0.05)["snr"].scores.mean > 100
    mixed = score_pairs([("y", tmp_path / "x48.wav", tmp_path / "stereo.flac")], ["mel"])
    assert mixed["mel"].scores.mean < 0.1
    down = score_pairs([("z", tmp_path / "x.wav", tmp_path / "x48.wav")], ["mel"])
    assert down["mel"].failures == {}


def test_what_cannot_be_asked_is_refused(pairs) -> None:
    with pytest.raises(InputError, match="no metric 'pesk'") as unknown:
        score_pairs(pairs, ["pesk"])
    assert "pesq_wb" in unknown.value.hint
    with pytest.raises(InputError, match="id of its own"):
        score_pairs(pairs + pairs[:1], ["mel"])
    assert score_pairs([], ["mel"])["mel"].scores.count == 0


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(7).normal(3, 2, 400)
    found = summarize_scores(Scores(torch.tensor([*values, math.nan]), {400: "no"}))
    assert (found.count, found.failed) == (400, 1)
    assert found.mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert (found.mean - found.low, found.high - found.mean) == pytest.approx((half, half), rel=0.12)
    assert found == summarize_scores(Scores(torch.tensor([*values, math.nan]), {400: "no"}))


def test_there_is_no_interval_where_none_is_defined() -> None:
    single = summarize_scores(Scores(torch.tensor([2.0]), {}))
    assert single.mean == 2 and math.isnan(single.low) and math.isnan(single.high)
    endless = summarize_scores(Scores(torch.tensor([2.0, math.inf]), {}))
    assert endless.mean == math.inf and math.isnan(endless.low)
    nothing = summarize_scores(Scores(torch.tensor([math.nan]).double(), {0: "no"}))
    assert math.isnan(nothing.mean) and (nothing.count, nothing.failed) == (0, 1)
    same_all = summarize_scores(Scores(torch.tensor([2.0, 2.0]), {}))
    assert (same_all.low, same_all.high) == (2, 2)


def test_the_catalogue_keeps_its_word() -> None:
    wave = sing(1.5)
    noisy = wave + 0.03 * np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    for name, metric in METRICS.items():
        assert metric.name == name and metric.what
        if metric.needs:
            continue
        clean, worse, louder, best = (Audio.of([torch.as_tensor(x)], 16000) for x in (wave, noisy, 2 * noisy, wave))
        found, identical = metric.function(clean, worse).mean, metric.function(clean, best).mean
        assert (identical > found) == metric.higher_is_better, name
        moved = abs(metric.function(clean, louder).mean - found)
        assert (moved < 1e-4) == metric.level_free, name


def test_a_library_is_part_of_what_a_score_is() -> None:
    assert METRICS["mel"].identity == "mel/1"
    assert METRICS["stoi"].identity.startswith("stoi/1/pystoi-0.")
    assert replace(METRICS["mel"], library="surely-not-here").identity == "mel/1/surely-not-here-missing"
