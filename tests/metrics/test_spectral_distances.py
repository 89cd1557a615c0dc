from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.conftest import sing
from vocable.metrics import spectral_distances as distances
from vocable.metrics.reconstruction import Scores, mel_spectrogram
from vocable.testing import check_metric
from vocable.types import Audio

ALL = [distances.stft_distance, distances.log_spectral_distance, distances.mel_cepstral_distortion]


def one(wave: np.ndarray, rate: int = 16000) -> Audio:
    return Audio.of([torch.as_tensor(wave)], rate)


def white(count: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(count)


def spectrogram(wave: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Magnitudes [T, bins] of periodic Hann windows, numpy's own way."""
    size = 1 << (window - 1).bit_length()
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    padded = np.pad(wave, size // 2)
    left = (size - window) // 2
    starts = range(left, len(padded) - size + left + 1, hop)
    frames = np.stack([padded[start : start + window] * hann for start in starts])
    return np.maximum(np.abs(np.fft.rfft(frames, size)) * 2 / hann.sum(), 1e-5)


@pytest.mark.parametrize("metric", ALL)
def test_laws(metric) -> None:
    check_metric(metric, higher_is_better=False)


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100])
def test_identity_is_zero_and_more_noise_is_worse(metric, rate: int) -> None:
    wave = sing(0.7, rate).astype(np.float64)
    noise = white(len(wave))
    scores = [metric(one(wave, rate), one(wave + level * noise, rate)).mean for level in (0, 0.01, 0.1, 1)]
    assert scores[0] == 0
    assert scores == sorted(set(scores))


@pytest.mark.parametrize("metric", ALL)
def test_batches_do_not_matter(metric) -> None:
    waves = [torch.as_tensor(sing(seconds, seed=seed)) for seed, seconds in enumerate((0.5, 0.8, 0.31))]
    worse = [wave + torch.as_tensor(white(len(wave), 9)) for wave in waves]
    together = metric(Audio.of(waves, 16000), Audio.of(worse, 16000))
    alone = [metric(one(x), one(y)) for x, y in zip(waves, worse, strict=True)]
    assert torch.equal(together.values, Scores.join(alone).values)


@pytest.mark.parametrize("rate", [16000, 24000])
def test_stft_distance_is_the_formula(rate: int) -> None:
    x, y = sing(0.4, rate).astype(np.float64), sing(0.4, rate, seed=1).astype(np.float64)
    expected = []
    for window, hop in ((0.01, 0.002), (0.025, 0.005), (0.05, 0.01)):
        ours, theirs = (spectrogram(wave, round(window * rate), round(hop * rate)) for wave in (x, y))
        convergence = np.linalg.norm(ours - theirs) / np.linalg.norm(ours)
        expected.append(convergence + np.abs(np.log(ours) - np.log(theirs)).mean())
    assert distances.stft_distance(one(x, rate), one(y, rate)).mean == pytest.approx(np.mean(expected), rel=1e-9)


def test_log_spectral_distance_is_the_formula() -> None:
    x, y = sing(0.4).astype(np.float64), sing(0.4, seed=1).astype(np.float64)
    ours, theirs = (20 * np.log10(spectrogram(wave, 512, 128)) for wave in (x, y))
    expected = np.sqrt(((ours - theirs) ** 2).mean(axis=1)).mean()
    assert distances.log_spectral_distance(one(x), one(y)).mean == pytest.approx(expected, rel=1e-9)


def test_a_louder_copy_is_as_far_as_its_gain() -> None:
    wave = white(16000)
    louder = one(10 ** (6 / 20) * wave)
    assert distances.log_spectral_distance(one(wave), louder).mean == pytest.approx(6, abs=1e-6)
    gain = 10 ** (6 / 20)
    assert distances.stft_distance(one(wave), louder).mean == pytest.approx(gain - 1 + math.log(gain), abs=1e-6)
    assert distances.mel_cepstral_distortion(one(wave), louder).mean == pytest.approx(0, abs=1e-9)


def test_mel_cepstral_distortion_by_hand() -> None:
    """A ripple of A dB over the mel bands, one cosine, is a distortion of A / sqrt(2), its root mean square."""
    band = np.arange(40) + 0.5
    mel = torch.full((40, 3), 0.01, dtype=torch.float64)
    ripple = torch.as_tensor(10 ** (5 / 20 * np.cos(math.pi / 40 * 3 * band)))[:, None]
    gap = distances.cepstrum(mel * ripple) - distances.cepstrum(mel)
    decibels = 10 / math.log(10) * (2 * gap.square().sum(0)).sqrt()
    assert decibels.tolist() == pytest.approx([5 / math.sqrt(2)] * 3)
    assert distances.cepstrum(2 * mel).abs().max() < 1e-12


def test_mel_cepstral_distortion_of_a_filter_by_hand() -> None:
    """The same ripple as a filter of sound: 5 dB times a cosine along the mel scale of 40 bands up to 8 kHz."""
    wave = white(32000)
    mel = np.log10(1 + np.fft.rfftfreq(len(wave), 1 / 16000) / 700) / np.log10(1 + 8000 / 700)
    ripple = 10 ** (5 / 20 * np.cos(math.pi / 40 * 3 * (41 * mel - 0.5)))
    filtered = np.fft.irfft(np.fft.rfft(wave) * ripple)
    found = distances.mel_cepstral_distortion(one(wave), one(filtered)).mean
    assert found == pytest.approx(5 / math.sqrt(2), rel=0.02)  # bands are wide, and average over the ripple


def test_mel_cepstral_distortion_is_the_formula() -> None:
    x, y = sing(0.4).astype(np.float64), sing(0.4, seed=1).astype(np.float64)
    ours, theirs = (
        np.log(mel_spectrogram(torch.as_tensor(z), 16000, window=0.032, hop=0.005, bands=40, top=8000).numpy())
        for z in (x, y)
    )
    basis = np.cos(np.pi / 40 * np.outer(np.arange(1, 25), np.arange(40) + 0.5)) / 20
    squares = ((basis @ (ours - theirs)) ** 2).sum(axis=0)
    expected = (10 / math.log(10) * np.sqrt(2 * squares)).mean()
    assert distances.mel_cepstral_distortion(one(x), one(y)).mean == pytest.approx(expected, rel=1e-9)


def test_silence_fails_where_a_value_would_mean_nothing() -> None:
    silence, wave = one(np.zeros(8000)), one(white(8000))
    assert distances.stft_distance(silence, wave).failures == {0: "the original is silent"}
    assert distances.stft_distance(wave, silence).failed == 0
    assert distances.mel_cepstral_distortion(wave, silence).failures == {0: "the resynthesis is silent"}
    assert distances.log_spectral_distance(silence, silence).mean == 0


def test_a_clip_shorter_than_a_window_has_a_distance() -> None:
    x, y = white(50), white(50, 1)
    assert all(metric(one(x), one(y)).mean > 0 for metric in ALL)
