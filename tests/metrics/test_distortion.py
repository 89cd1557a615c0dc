from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.conftest import sing
from vocable.errors import InputError
from vocable.metrics.alignment import aligned
from vocable.metrics.reconstruction import sdr, si_sdr, snr
from vocable.testing import check_metric
from vocable.types import Audio

RATE = 16000


def one(wave: np.ndarray | torch.Tensor) -> Audio:
    return Audio.of([torch.as_tensor(wave)], RATE)


def at_snr(wave: np.ndarray, decibels: float, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(len(wave))
    noise -= noise @ wave / (wave @ wave) * wave
    return wave + noise * np.sqrt(wave @ wave / (noise @ noise) / 10 ** (decibels / 10))


@pytest.mark.parametrize("metric", [snr, sdr])
def test_laws(metric) -> None:
    check_metric(metric, higher_is_better=True)


@pytest.mark.parametrize("decibels", [-5.0, 10.0, 40.0])
def test_noise_of_a_known_level_gives_that_ratio(decibels: float) -> None:
    wave = sing(2.0).astype(np.float64)
    noisy = one(at_snr(wave, decibels))
    assert snr(one(wave), noisy).mean == pytest.approx(decibels, abs=1e-6)
    # the filter of 512 taps explains some of the noise: 512 of 32,000 dimensions, 0.07 dB, and more where it is louder
    assert sdr(one(wave), noisy).mean == pytest.approx(decibels, abs=0.5)
    assert si_sdr(one(wave), noisy).mean == pytest.approx(decibels, abs=0.01)


def test_identical_audio_has_no_distortion() -> None:
    wave = one(sing(1.0))
    assert snr(wave, wave).mean == math.inf
    assert sdr(wave, wave).mean > 150


def test_what_each_ratio_forgives() -> None:
    wave = sing(1.0).astype(np.float64)
    half, late = wave / 2, np.concatenate([np.zeros(100), wave[:-100]])
    assert snr(one(wave), one(half)).mean == pytest.approx(20 * math.log10(2))
    assert min(sdr(one(wave), one(half)).mean, si_sdr(one(wave), one(half)).mean) > 150
    assert max(snr(one(wave), one(late)).mean, si_sdr(one(wave), one(late)).mean) < 5
    assert sdr(one(wave), one(late)).mean > 15  # 100 samples of 16,000 are lost


def test_sdr_is_a_projection_on_512_delays() -> None:
    random = np.random.default_rng(3)
    wave, other = random.standard_normal(900), random.standard_normal(900)
    delayed = np.stack([np.concatenate([np.zeros(lag), wave, np.zeros(511 - lag)]) for lag in range(512)], axis=1)
    goal = np.concatenate([other, np.zeros(511)])
    basis = np.linalg.qr(delayed)[0]
    target = basis @ (basis.T @ goal)
    expected = 10 * np.log10((target @ target) / ((goal - target) @ (goal - target)))
    assert sdr(one(wave), one(other)).mean == pytest.approx(expected, abs=1e-9)


def test_a_pure_tone_has_an_sdr() -> None:
    tone = np.sin(0.1 * np.arange(RATE))
    assert sdr(one(tone), one(at_snr(tone, 10))).mean == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("metric", [snr, sdr])
def test_silence_fails(metric) -> None:
    wave, silence = torch.as_tensor(sing(0.5)), torch.zeros(8000)
    scores = metric(Audio.of([wave, silence, wave], RATE), Audio.of([silence, wave, wave], RATE))
    assert scores.failures == {0: "the resynthesis is silent", 1: "the original is silent"}


def test_threads_do_not_move_a_bit() -> None:
    clean, noisy = one(sing(3.0)), one(at_snr(sing(3.0).astype(np.float64), 10))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(sdr(clean, noisy).values)
            assert torch.get_num_threads() == threads
        assert torch.equal(*found)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("delay", [-300, -1, 0, 7, 300])
def test_a_constant_delay_is_found_and_taken_away(delay: int) -> None:
    wave = sing(1.0, seed=2)
    moved = np.concatenate([np.zeros(max(0, delay), np.float32), wave[max(0, -delay) :]])
    back = aligned(one(wave), one(-0.5 * at_snr(moved.astype(np.float64), 10)), 0.02)
    assert back.lengths.tolist() == [len(wave)]
    inner = slice(400, -400)
    found = back.waveform(0)[0].numpy()[inner]
    assert -np.corrcoef(found, wave[inner])[0, 1] > 0.94


def test_a_delay_beyond_the_bound_is_not_looked_for() -> None:
    wave = sing(0.5)
    moved = one(np.concatenate([np.zeros(100, np.float32), wave]))
    assert not torch.equal(aligned(one(wave), moved, 0.005).samples, one(wave).samples)
    assert torch.equal(aligned(one(wave), moved, 0.01).samples, one(wave).samples)
    assert torch.equal(aligned(one(wave), one(wave), 0.0).samples, one(wave).samples)


def test_alignment_wants_what_metrics_want() -> None:
    with pytest.raises(InputError, match="8000 Hz"):
        aligned(one(sing(0.1)), Audio.of([torch.zeros(800)], 8000), 0.1)
