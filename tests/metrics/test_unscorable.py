"""No metric of reconstruction scores a crash: what cannot be judged is counted with a reason, and nothing is raised."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.conftest import sing
from vocable.metrics.catalogue import METRICS
from vocable.metrics.reconstruction import Scores
from vocable.types import Audio

OWN = [name for name, metric in METRICS.items() if metric.needs in (None, "metrics", "pitch")]
DISTANCES = {"mel", "stft", "lsd"}  # a spectrum of silence is one at the floor
RATE = 16000


def with_one(wave: np.ndarray, value: float) -> np.ndarray:
    changed = wave.copy()
    changed[7] = value
    return changed


VOICE = sing(0.6)
SILENCE, CONSTANT = np.zeros_like(VOICE), np.full_like(VOICE, 0.5)
BROKEN = {
    "empty": (VOICE[:0], VOICE[:0]),
    "lengths": (VOICE, VOICE[:-1]),
    "not a number": (VOICE, with_one(VOICE, math.nan)),
    "not a number in the original": (with_one(VOICE, math.nan), VOICE),
    "infinite": (VOICE, with_one(VOICE, -math.inf)),
    "beyond float32": (VOICE.astype(np.float64) * 1e200, VOICE.astype(np.float64) * 1e200),
}
SILENT = {
    "silent resynthesis": (VOICE, SILENCE),
    "constant resynthesis": (VOICE, CONSTANT),
    "silent original": (SILENCE, VOICE),
    "constant original": (CONSTANT, VOICE),
    "both silent": (SILENCE, SILENCE),
    "both constant": (CONSTANT, CONSTANT),
    "half a step of 16 bits": (VOICE * 1e-6, VOICE * 1e-6),
    "one sample": (VOICE[:1], VOICE[:1]),
}
ODD = {
    "two samples": (VOICE[:2], -VOICE[:2]),
    "ten samples": (VOICE[:10], VOICE[10:20]),
    "clicks": (with_one(SILENCE, 1.0), with_one(SILENCE, -0.5)),
    "all clipped": (np.sign(VOICE), -np.sign(VOICE)),
    "as loud as float32 can be": (VOICE, np.sign(VOICE) * 3e38),
}


@pytest.fixture(params=OWN)
def name(request: pytest.FixtureRequest) -> str:
    if library := METRICS[request.param].library:
        pytest.importorskip(library.replace("-", "_"))
    return str(request.param)


def scored(name: str, pairs: list[tuple[np.ndarray, np.ndarray]], rate: int = RATE) -> Scores:
    """The scores; whatever they are, a failure has a reason, and what has none is a number."""
    both = (Audio.of([torch.as_tensor(wave) for wave in side], rate) for side in zip(*pairs, strict=True))
    scores = METRICS[name].function(*both)
    assert {i for i, value in enumerate(scores.values.tolist()) if math.isnan(value)} == set(scores.failures)
    assert all(scores.failures.values())
    return scores


def test_what_is_broken_fails_and_leaves_the_others_alone(name: str) -> None:
    good = (VOICE, VOICE + 0.01 * sing(0.6, seed=1))
    assert all(scored(name, [pair]).failures for pair in BROKEN.values())
    alone = scored(name, [good])
    scores = scored(name, [*BROKEN.values(), good])
    assert sorted(scores.failures) == list(range(len(BROKEN)))
    assert alone.count == 1 and scores.mean == alone.mean


@pytest.mark.parametrize("case", SILENT)
def test_silence_fails_or_is_as_far_as_a_spectrum_at_the_floor(name: str, case: str) -> None:
    scores = scored(name, [SILENT[case]])
    if name not in DISTANCES:
        assert "silent" in scores.failures[0]
    elif np.array_equal(*SILENT[case]):
        assert scores.failures or scores.mean == 0
    elif not scores.failures:
        noise = 0.1 * np.random.default_rng(0).standard_normal(len(VOICE)).astype(np.float32)
        assert scores.mean > 2 * scored(name, [(VOICE, noise)]).mean


@pytest.mark.parametrize("case", ODD)
def test_odd_sounds_have_a_score_or_a_reason(name: str, case: str) -> None:
    scored(name, [ODD[case]])


@pytest.mark.parametrize("rate", [100, 8000, 48000])
def test_any_rate_will_do(name: str, rate: int) -> None:
    clean, other = (0.5 * sing(0.6, rate, seed=seed) for seed in (0, 1))
    same, different = (scored(name, [pair], rate) for pair in ((clean, clean), (clean, other)))
    if rate > 100:  # below, 0.6 s are too few samples to hear speech in
        assert not same.failures
        better = METRICS[name].higher_is_better
        assert different.failures or (same.mean > different.mean if better else same.mean <= different.mean)
