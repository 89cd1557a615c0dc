from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from tests.conftest import sing
from vocable import testing
from vocable.errors import MissingDependencyError
from vocable.metrics import pitch_errors
from vocable.metrics.pitch_errors import f0_rmse, voicing_error
from vocable.types import Audio


@pytest.fixture
def swift() -> None:
    pytest.importorskip("swift_f0")


def one(*waves: np.ndarray, rate: int = 16000) -> Audio:
    return Audio.of([torch.as_tensor(np.asarray(wave, dtype=np.float32)) for wave in waves], rate)


def tone(hertz: float, seconds: float = 1.0, rate: int = 16000) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return 0.05 * sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 10))


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("rate", [16000, 24000])
def test_a_semitone_is_a_hundred_cents(rate: int) -> None:
    low, high = tone(150, rate=rate), tone(150 * 2 ** (1 / 12), rate=rate)
    scores = f0_rmse(one(low, low, high, rate=rate), one(low, high, 0.3 * high, rate=rate))
    assert scores.values[0] == 0
    assert scores.values[1] == pytest.approx(100, abs=5)
    assert scores.values[2] == pytest.approx(0, abs=5)


@pytest.mark.usefixtures("swift")
def test_voicing_counts_frames() -> None:
    noise = 0.05 * np.random.default_rng(0).standard_normal(16000)
    half = np.concatenate([tone(150, 0.5), noise[8000:]])
    scores = voicing_error(one(tone(150), tone(150), noise), one(tone(150), half, noise))
    assert scores.values[0] == scores.values[2] == 0
    assert scores.values[1] == pytest.approx(0.5, abs=0.05)


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("metric", [f0_rmse, voicing_error])
def test_laws(metric, monkeypatch: pytest.MonkeyPatch) -> None:
    def voices(seconds: float, rate: int, seed: int) -> torch.Tensor:
        level = 0.3 if seed == 11 else 1.5
        return torch.as_tensor(level * sing(seconds, rate, seed=seed))

    monkeypatch.setattr(testing, "noise", voices)  # noise has no pitch
    testing.check_metric(metric, higher_is_better=False)


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("metric", [f0_rmse, voicing_error])
def test_batches_do_not_matter(metric) -> None:
    waves, others = [sing(0.6), sing(0.9, seed=1)], [sing(0.6, seed=2), sing(0.9, seed=3)]
    together = metric(one(*waves), one(*others)).values
    alone = [metric(one(x), one(y)).values for x, y in zip(waves, others, strict=True)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.usefixtures("swift")
def test_what_has_no_pitch_fails() -> None:
    noise = 0.05 * np.random.default_rng(0).standard_normal(16000)
    scores = f0_rmse(one(tone(150), np.zeros(16000)), one(noise, tone(150)))
    assert scores.failures == {0: "no frame is voiced in both", 1: "the original is silent"}


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pitch_errors._extractor.cache_clear()
    pitch_errors._track.cache_clear()
    monkeypatch.setitem(sys.modules, "swift_f0", None)
    with pytest.raises(MissingDependencyError, match="swift-f0"):
        f0_rmse(one(tone(150)), one(tone(150)))
    pitch_errors._extractor.cache_clear()
