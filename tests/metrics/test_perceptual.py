from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import vocable
from tests.conftest import sing
from vocable.audio import read, resample
from vocable.corpus import Corpus
from vocable.errors import MissingDependencyError
from vocable.metrics.perceptual import pesq_nb, pesq_wb
from vocable.testing import check_metric
from vocable.types import Audio


def one(wave: np.ndarray, rate: int = 16000) -> Audio:
    return Audio.of([torch.as_tensor(wave)], rate)


def noisy(wave: np.ndarray, level: float) -> np.ndarray:
    return wave + level * np.random.default_rng(1).standard_normal(len(wave)).astype(np.float32)


class FakeError(RuntimeError):
    pass


class FakeShortError(RuntimeError):
    pass


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, str]]:
    """In place of the package, one that notes what it is asked, answers the mean of the estimate and hears steps."""
    calls: list[tuple[int, int, str]] = []

    def pesq(rate: int, reference: np.ndarray, estimate: np.ndarray, mode: str) -> float:
        calls.append((rate, len(reference), mode))
        if len(reference) < rate / 4:
            raise FakeShortError
        if not np.diff(reference).any():
            raise FakeError
        return float(np.round(estimate.mean(), 3))

    module = ModuleType("pesq")
    vars(module).update(pesq=pesq, NoUtterancesError=FakeError, BufferTooShortError=FakeShortError)
    monkeypatch.setitem(sys.modules, "pesq", module)
    return calls


def test_what_is_long_is_judged_in_equal_stretches(heard) -> None:
    reference = np.tile([0.2, -0.2], 20 * 16000).astype(np.float32)
    estimate = reference + np.repeat([0.1, 0.3], 20 * 16000).astype(np.float32)
    scores = pesq_wb(one(reference), one(estimate))
    assert heard == [(16000, n, "wb") for n in (213334, 213333, 213333)]
    assert scores.mean == pytest.approx((0.1 + 0.2 + 0.3) / 3, abs=1e-3)


def test_stretches_without_speech_have_no_share(heard) -> None:
    reference = np.concatenate([np.tile([0.2, -0.2], 15 * 8000), np.full(15 * 16000, 0.1)]).astype(np.float32)
    estimate = reference + np.repeat([0.1, 0.9], 15 * 16000).astype(np.float32)
    assert pesq_wb(one(reference), one(estimate)).mean == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(("metric", "rate", "mode"), [(pesq_nb, 8000, "nb"), (pesq_wb, 16000, "wb")])
@pytest.mark.parametrize("given", [8000, 16000, 24000])
def test_each_band_has_its_rate(heard, metric, rate: int, mode: str, given: int) -> None:
    metric(one(sing(1.0, given), given), one(sing(1.0, given), given))
    assert heard == [(rate, rate, mode)]


def test_what_is_short_or_silent_fails(heard) -> None:
    wave, silence = torch.as_tensor(sing(0.2)), torch.zeros(3200)
    scores = pesq_wb(Audio.of([wave, silence], 16000), Audio.of([wave, wave], 16000))
    assert scores.failures == {0: "less than 0.25 s, too short for PESQ", 1: "the original is silent"}


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(MissingDependencyError, match="pesq") as missing:
        pesq_nb(one(sing(1.0)), one(sing(1.0)))
    assert missing.value.hint == "pip install 'vocable[metrics]'"


@pytest.fixture
def package() -> ModuleType:
    return pytest.importorskip("pesq")


@pytest.mark.parametrize(("metric", "best"), [(pesq_nb, 4.549), (pesq_wb, 4.644)])
def test_laws_and_known_answers(package: ModuleType, metric, best: float) -> None:
    wave = sing(2.0)
    scores = [metric(one(wave), one(noisy(wave, level))).mean for level in (0, 0.01, 0.1)]
    assert scores[0] == pytest.approx(best, abs=1e-3)
    assert scores == sorted(scores, reverse=True) and scores[2] < scores[1] < scores[0] - 0.05
    assert metric(one(wave), one(wave / 3)).mean == pytest.approx(best, abs=1e-2)
    check_metric(metric, higher_is_better=True)


def test_scores_are_those_of_the_package(package: ModuleType) -> None:
    clean, worse = one(sing(1.5, 24000), 24000), one(noisy(sing(1.5, 24000), 0.02), 24000)
    x, y = (resample(audio, 16000).samples[0, 0].double().numpy() for audio in (clean, worse))
    assert pesq_wb(clean, worse).mean == float(package.pesq(16000, x, y, "wb"))


def test_many_utterances_do_not_break_the_package(package: ModuleType) -> None:
    burst = np.concatenate([noisy(np.zeros(4800, np.float32), 0.1), np.zeros(6400, np.float32)])
    wave = np.tile(burst, 60)
    assert 1 <= pesq_wb(one(wave), one(noisy(wave, 0.01))).mean < 4.6


def speech() -> np.ndarray:
    """Real speech [n] at 16 kHz, from the package."""
    samples = Corpus.of(Path(vocable.__file__).parent / "samples" / "samples.jsonl")
    return np.concatenate([read(utterance.path, 16000).samples[0, 0].numpy() for utterance in samples])


def test_a_resynthesis_that_dies_on_the_way_has_no_score(package: ModuleType) -> None:
    clean = speech()[: 20 * 16000]
    assert len(clean) == 20 * 16000
    dead, loud = noisy(clean, 0.01), noisy(clean, 0.01)
    dead[len(clean) // 2 :] = 0
    loud[len(clean) // 2 :] *= 1e30
    whole, *broken = (pesq_wb(one(clean), one(wave)) for wave in (noisy(clean, 0.01), dead, loud))
    assert whole.count == 1
    for scores in broken:
        assert scores.failures == {0: "PESQ hears nothing in the resynthesis where the original speaks"}


def test_what_the_original_does_not_say_has_no_share(package: ModuleType) -> None:
    clean = np.concatenate([speech()[: 15 * 16000], np.zeros(15 * 16000, np.float32)])
    worse = noisy(clean, 0.01)
    first = slice(15 * 16000)
    assert pesq_wb(one(clean), one(worse)).mean == pesq_wb(one(clean[first]), one(worse[first])).mean
