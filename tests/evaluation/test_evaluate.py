"""A whole evaluation: known answers, what fails, going on where it broke off, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import sing
from tests.evaluation.test_systems import system
from vocable.corpus import Corpus
from vocable.errors import InputError, OutputError, SpecError
from vocable.evaluation import Evaluation, SoundSystem, evaluate
from vocable.evaluation.run import default_metrics, sample
from vocable.files import inside
from vocable.metrics.catalogue import METRICS as CATALOGUE
from vocable.metrics.metric import Metric
from vocable.metrics.reconstruction import Scores, mel_distance
from vocable.progress import Progress, Watcher
from vocable.types import Audio

METRICS = ("mel", "si_sdr")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Four recordings, two of which a manifest knows the text of."""
    lines = []
    for index in range(4):
        path = tmp_path / "speech" / f"r{index}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, sing(0.6 + 0.1 * index, seed=index), 16000)
        lines.append({"path": path.name} | ({"text": "hello", "speaker": "ann"} if index < 2 else {}))
    (tmp_path / "speech" / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Corpus.of(tmp_path / "speech" / "m.jsonl")


def copies(corpus: Corpus, folder: Path, delay: int = 0) -> Path:
    """Another program's sounds: the recordings themselves, perhaps late, as they were but for that."""
    folder.mkdir()
    for utterance in corpus:
        wave, rate = soundfile.read(utterance.path)
        soundfile.write(folder / f"{utterance.id}.wav", np.pad(wave, (delay, 0))[: len(wave)], rate)
    return folder


def test_known_answers(corpus: Corpus, tmp_path: Path) -> None:
    systems = [
        system("coarse", (8,)),
        *system("fine", (16, 16)).at([1, 2]),
        SoundSystem("copies", copies(corpus, tmp_path / "copies"), 256e3),
        SoundSystem("late", copies(corpus, tmp_path / "late", 160)),
    ]
    found = evaluate(corpus, systems, tmp_path / "out", metrics=METRICS, max_shift=0.02, facts={"a": "b"})
    assert [one.name for one in found.systems] == ["original", "coarse", "fine @ 1", "fine @ 2", "copies", "late"]
    assert [one.kind for one in found.systems] == ["original", *["tokens"] * 3, *["sounds"] * 2]
    original, coarse, first, both, same, late = found.systems
    assert original.scores["mel"].values == (0.0,) * 4 and math.isinf(original.scores["si_sdr"].summary.mean)
    assert same.scores["mel"].values == original.scores["mel"].values
    assert coarse.scores["mel"].summary.mean > 1
    # moved back, all that is missing of a late copy is its end
    assert late.scores["si_sdr"].summary.mean > 10 > coarse.scores["si_sdr"].summary.mean
    assert (original.bitrate, coarse.bitrate, first.bitrate, both.bitrate) == (None, 300.0, 400.0, 800.0)
    assert (same.bitrate, late.bitrate) == (256e3, None)
    assert [item.text for item in found.items] == ["hello", "hello", "", ""]
    assert found.items[2].seconds == pytest.approx(0.8) and found.facts["a"] == "b"
    assert first.tokens is not None and both.tokens is not None and same.tokens is None
    assert [row.label for row in first.tokens.rates] == ["logmel.0", "all"]
    assert both.tokens.rates[0] == first.tokens.rates[0]
    assert coarse.facts["vocoder"] == "inversion" and "x real time" in coarse.facts["tokenized at"]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"evaluation.json", "evaluation.md", "index.html", "scores.jsonl", "tokens", "sounds"} <= written
    assert {path.name for path in (tmp_path / "out" / "tokens").iterdir()} == {"coarse", "fine"}
    again = Evaluation.load(tmp_path / "out")
    assert [one.name for one in again.systems] == [one.name for one in found.systems]
    for one in found.systems[1:]:
        assert one.sounds is not None
        for item in found.items:
            made = inside(tmp_path / "out" / one.sounds, item.id, one.suffix)
            assert soundfile.info(made).frames == round(item.seconds * 16000)


def test_rates_of_errors_are_averaged_over_words(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(texts: Sequence[str], sounds: Audio) -> Scores:
        """All wrong in one word, all right in nine, nothing to say without a text."""
        words = [len(text.split()) for text in texts]
        values = torch.tensor([float(count == 1) for count in words], dtype=torch.float64)
        failures = {index: "no text" for index, count in enumerate(words) if not count}
        return Scores(values, failures, torch.tensor(words, dtype=torch.float64))

    judge = Metric("wrong", mel_distance, "", False, "made up", against_text=wrong)
    monkeypatch.setitem(cast(dict[str, Metric], CATALOGUE), "wrong", judge)
    told = dict(zip(("r0", "r1", "r2", "r3"), ("one", "nine " * 9, "", "one"), strict=True))
    texts = Corpus([replace(one, fields={"text": told[one.id]}) for one in corpus])
    (tmp_path / "made").mkdir()
    for name in ("r0", "r1", "r2"):
        shutil.copy(tmp_path / "speech" / f"{name}.wav", tmp_path / "made")
    found = evaluate(texts, [SoundSystem("made", tmp_path / "made")], tmp_path / "out", metrics=["wrong"])
    column = found.systems[1].scores["wrong"]
    assert column.values == (1.0, 0.0, None, None)
    assert column.failures == {"r2": "no text", "r3": "no sound file"}
    assert column.summary.mean == pytest.approx(0.1)


def test_what_fails_is_counted_with_the_reason(corpus: Corpus, tmp_path: Path) -> None:
    paths = {utterance.id: utterance.path for utterance in corpus}
    paths["r0"].write_bytes(b"no sound")
    spoiled = sing(0.5)
    spoiled[100] = np.nan
    soundfile.write(paths["r1"], spoiled, 16000, subtype="FLOAT")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("r1", "r2"):
        shutil.copy(paths["r2"], elsewhere / f"{name}.wav")
    found = evaluate(corpus, [system(), SoundSystem("x", elsewhere)], tmp_path / "out", metrics=["mel"])
    assert set(found.left_out) == {"r0"} and [item.id for item in found.items] == ["r1", "r2", "r3"]
    original, units, outside = (one.scores["mel"] for one in found.systems)
    assert set(original.failures) == {"r1"} and set(units.failures) == {"r1"}
    assert "not tokenized" in units.failures["r1"] and "finite" in units.failures["r1"]
    assert outside.failures["r3"] == "no sound file" and set(outside.failures) == {"r1", "r3"}
    assert outside.values == (None, 0.0, None) and (outside.summary.count, outside.summary.failed) == (1, 2)
    assert units.summary.count == 2 and units.summary.failed == 1
    text = (tmp_path / "out" / "evaluation.md").read_text()
    assert "r0: left out" in text and "mel, x: 1 of 3 failed: no sound file (r3)" in text


class Stopped(Exception):
    pass


class Watched:
    """Notes how every stage ended, and may stop in the middle of one."""

    def __init__(self, stop: str = "") -> None:
        self.stop, self.ends = stop, {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[Watcher]:
        def watch(progress: Progress) -> None:
            self.ends[what] = progress
            if what == self.stop and progress.done >= 2:
                raise Stopped

        yield watch


@pytest.mark.parametrize("stop", ["resynthesize units", "score"])
def test_it_goes_on_where_it_broke_off(corpus: Corpus, tmp_path: Path, stop: str) -> None:
    out, systems = tmp_path / "out", [system()]
    with pytest.raises(Stopped):
        evaluate(corpus, systems, out, metrics=METRICS, stage=Watched(stop))
    assert not (out / "evaluation.json").exists()
    second = Watched()
    found = evaluate(corpus, systems, out, metrics=METRICS, stage=second)
    assert second.ends["tokenize units"].skipped == 4 and second.ends["tokenize units"].done == 0
    assert second.ends[stop].skipped >= 2
    fresh = evaluate(corpus, systems, tmp_path / "fresh", metrics=METRICS)
    assert [one.scores for one in found.systems[1:]] == [one.scores for one in fresh.systems[1:]]
    third = Watched()
    more = evaluate(corpus, [*systems, system("others", (9,))], out, metrics=[*METRICS, "snr"], stage=third)
    assert third.ends["resynthesize units"].done == 0 and third.ends["resynthesize others"].done == 4
    assert more.systems[1].scores["mel"] == found.systems[1].scores["mel"]


def test_another_tokenizer_under_the_same_name(corpus: Corpus, tmp_path: Path) -> None:
    before = evaluate(corpus, [system()], tmp_path / "out", metrics=["mel"])
    other = system(sizes=(9,))
    with pytest.raises(SpecError, match="holds tokens of tokenizer") as caught:
        evaluate(corpus, [other], tmp_path / "out", metrics=["mel"])
    assert "--overwrite" in caught.value.hint
    after = evaluate(corpus, [other], tmp_path / "out", metrics=["mel"], overwrite=True)
    fresh = evaluate(corpus, [other], tmp_path / "fresh", metrics=["mel"])
    assert after.systems[1].scores == fresh.systems[1].scores != before.systems[1].scores


def test_a_recording_that_has_changed_since(corpus: Corpus, tmp_path: Path) -> None:
    evaluate(corpus, [system()], tmp_path / "out", metrics=["mel"])
    soundfile.write(next(iter(corpus)).path, sing(0.9, seed=9), 16000)
    with pytest.raises(InputError, match="1 of the recordings are not those that were tokenized"):
        evaluate(corpus, [system()], tmp_path / "out", metrics=["mel"])
    found = evaluate(corpus, [system()], tmp_path / "out", metrics=["mel"], overwrite=True)
    assert not found.systems[1].scores["mel"].failures


def test_a_single_recording_has_scores_and_no_token_figures(corpus: Corpus, tmp_path: Path) -> None:
    found = evaluate(sample(corpus, 1), [system()], tmp_path / "out", metrics=["mel"])
    units = found.systems[1]
    assert units.scores["mel"].summary.count == 1 and units.tokens is None
    assert "at least two recordings" in units.facts["no token figures"]


def test_fewer_recordings_of_the_same_store(corpus: Corpus, tmp_path: Path) -> None:
    evaluate(corpus, [system()], tmp_path / "out", metrics=["mel"])
    few = evaluate(sample(corpus, 2), [system()], tmp_path / "out", metrics=["mel"])
    fresh = evaluate(sample(corpus, 2), [system()], tmp_path / "fresh", metrics=["mel"])
    assert few.systems[1].tokens == fresh.systems[1].tokens and len(few.items) == 2


def test_what_is_refused_leaves_nothing_behind(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="no metric 'loudness'"):
        evaluate(corpus, [system()], out, metrics=["loudness"])
    with pytest.raises(InputError, match="distinct names"):
        evaluate(corpus, [system(), system()], out, metrics=["mel"])
    with pytest.raises(InputError, match="folder of sounds"):
        evaluate(corpus, [system(), SoundSystem("x", tmp_path / "nowhere")], out, metrics=["mel"])
    for utterance in corpus:
        utterance.path.write_bytes(b"")
    with pytest.raises(InputError, match="no recording of 4 could be read"):
        evaluate(corpus, [system()], out, metrics=["mel"])
    assert not out.exists()


def test_a_folder_that_is_something_else(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "index.html").write_text("years of work")
    with pytest.raises(OutputError, match="is there already and is no evaluation"):
        evaluate(corpus, [system()], tmp_path / "thesis", metrics=["mel"], overwrite=True)
    assert (tmp_path / "thesis" / "index.html").read_text() == "years of work"


def test_samples_grow(corpus: Corpus) -> None:
    sizes = [[utterance.id for utterance in sample(corpus, count, seed=3)] for count in (1, 2, 3, 9)]
    assert [len(ids) for ids in sizes] == [1, 2, 3, 4]
    assert all(set(few) < set(more) for few, more in pairwise(sizes))
    assert all(ids == sorted(ids) for ids in sizes)
    assert len({tuple(one.id for one in sample(corpus, 1, seed=seed)) for seed in range(9)}) > 1
    assert len(sample(corpus, None)) == 4


def test_default_metrics_need_no_choice() -> None:
    names, missing = default_metrics()
    assert {"mel", "stoi", "si_sdr"} <= set(names) and not set(names) & set(missing)
    assert all("pip install" in how for how in missing.values())
