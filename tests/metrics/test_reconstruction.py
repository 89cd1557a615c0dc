from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vocable.errors import InputError
from vocable.metrics import reconstruction as metrics
from vocable.metrics.reconstruction import Scores
from vocable.types import Audio

RATE = 16000
ALL = [metrics.stoi, metrics.estoi, metrics.si_sdr, metrics.mel_distance]


def speechlike(seconds: float = 1.5, seed: int = 0, rate: int = RATE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * rate)) / rate
    harmonics = sum(torch.sin(2 * torch.pi * 120 * k * time) / k for k in range(1, 20))
    noise = torch.randn(len(time), generator=generator)
    return 0.1 * (harmonics + 0.3 * noise) * (1.1 + torch.sin(2 * torch.pi * 3.3 * time))


def noisy(wave: torch.Tensor, level: float, seed: int = 1) -> torch.Tensor:
    return wave + level * torch.randn(len(wave), generator=torch.Generator().manual_seed(seed))


def one(wave: torch.Tensor, rate: int = RATE) -> Audio:
    return Audio.of([wave], rate)


@pytest.mark.parametrize(("metric", "best"), [*zip(ALL, [1, 1, math.inf, 0], strict=True)])
def test_identical_audio_is_best_and_more_noise_is_worse(metric, best):
    wave = speechlike()
    scores = [metric(one(wave), one(noisy(wave, level))).mean for level in (0.0, 0.02, 0.3)]
    assert scores[0] == pytest.approx(best, abs=1e-9)
    assert scores == sorted(scores, reverse=metric is not metrics.mel_distance)
    assert len(set(scores)) == 3


@pytest.mark.parametrize("metric", ALL)
def test_an_item_scores_the_same_bits_alone_and_in_a_batch(metric):
    waves = [speechlike(1.0, 1), speechlike(1.7, 2), speechlike(0.9, 3)]
    worse = [noisy(wave, 0.1) for wave in waves]
    together = metric(Audio.of(waves, RATE), Audio.of(worse, RATE))
    alone = [metric(one(x), one(y)) for x, y in zip(waves, worse, strict=True)]
    assert together.values.dtype == torch.float64 and not together.failures
    assert torch.equal(together.values, torch.cat([score.values for score in alone]))


def test_padding_is_never_heard():
    wave = speechlike()
    dirty = torch.full((1, 1, len(wave) + 999), 0.7)
    dirty[0, 0, : len(wave)] = noisy(wave, 0.1)
    padded = Audio(dirty, torch.tensor([len(wave)]), RATE)
    for metric in ALL:
        assert torch.equal(metric(one(wave), padded).values, metric(one(wave), one(noisy(wave, 0.1))).values)


@pytest.mark.parametrize("metric", [metrics.stoi, metrics.estoi])
def test_what_is_too_short_or_silent_fails_and_is_not_averaged(metric):
    wave = speechlike()
    mostly_silent = torch.cat([torch.zeros(RATE), speechlike(0.2)])
    waves = [wave, wave[:100], wave[: int(0.39 * RATE)], torch.zeros(RATE), mostly_silent, wave[:0], wave]
    scores = metric(Audio.of(waves, RATE), Audio.of([*waves[:-1], torch.zeros(len(wave))], RATE))
    assert sorted(scores.failures) == [1, 2, 3, 4, 5, 6]
    assert scores.values.isnan().tolist() == [False] + [True] * 6
    assert (scores.count, scores.failed, scores.mean) == (1, 6, scores.values[0].item())
    assert "0.4 s" in scores.failures[4] and "original is silent" in scores.failures[3]
    assert "resynthesis is silent" in scores.failures[6] and "no samples" in scores.failures[5]


@pytest.mark.parametrize("metric", ALL)
def test_a_bad_item_fails_alone(metric):
    wave = speechlike()
    broken = wave.clone()
    broken[5] = math.nan
    scores = metric(Audio.of([wave, wave, wave], RATE), Audio.of([broken, wave[:-1], noisy(wave, 0.1)], RATE))
    assert sorted(scores.failures) == [0, 1] and scores.count == 1
    assert "finite" in scores.failures[0] and "24000 samples" in scores.failures[1]
    assert math.isfinite(scores.mean)


def test_a_judge_that_gives_no_number_has_failed():
    wave = one(speechlike())
    scores = metrics.score_each(wave, wave, lambda *_: math.nan)
    assert scores.failures == {0: "the metric gives no number"} and scores.count == 0


def test_audio_that_cannot_be_compared_is_refused():
    wave = speechlike()
    with pytest.raises(InputError, match="16000 Hz"):
        metrics.stoi(one(wave), one(wave, 24000))
    with pytest.raises(InputError, match="mono"):
        metrics.si_sdr(Audio.of([wave[None].repeat(2, 1)], RATE), Audio.of([wave[None].repeat(2, 1)], RATE))


def test_estoi_gives_the_same_bits_in_any_run_and_leaves_numpy_alone():
    clean, worse = one(speechlike()), one(noisy(speechlike(), 0.1))
    np.random.seed(1)
    first = metrics.estoi(clean, worse).values
    left = np.random.standard_normal()
    np.random.seed(1)
    assert left == np.random.standard_normal()
    np.random.seed(2)
    assert torch.equal(first, metrics.estoi(clean, worse).values)


def test_si_sdr_by_hand():
    target, noise = torch.tensor([1.0, -1, 1, -1]), torch.tensor([1.0, 1, -1, -1])  # orthogonal, without mean
    assert metrics.si_sdr(one(target), one(3 * target + 0.3 * noise)).mean == pytest.approx(20, abs=1e-5)
    assert metrics.si_sdr(one(target), one(target + 0.1 * noise + 5)).mean == pytest.approx(20, abs=1e-5)
    assert metrics.si_sdr(one(target), one(noise)).mean == -math.inf


def test_mel_distance_of_a_louder_copy_is_its_gain():
    wave = noisy(torch.zeros(RATE), 0.1)
    assert metrics.mel_distance(one(wave), one(10 * wave)).mean == pytest.approx(20, abs=1e-3)
    assert metrics.mel_distance(one(torch.zeros(999)), one(torch.zeros(999))).mean == 0


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100])
def test_a_sinusoid_lights_its_own_mel_band_at_full_scale(rate):
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(rate, dtype=torch.float64) / rate)
    mel = metrics.mel_spectrogram(tone, rate, window=0.064, hop=0.01, bands=80, top=rate / 2)
    assert mel.shape[0] == 80
    centre = 2595 * math.log10(1 + 1000 / 700) / (2595 * math.log10(1 + rate / 1400)) * 81 - 1
    assert abs(int(mel[:, 50].argmax()) - centre) <= 1
    assert 0.1 < float(mel[:, 50].max()) <= 1


def test_scores_of_batches_join_in_order():
    parts = [
        Scores(torch.tensor([1.0, math.nan]).double(), {1: "x"}),
        Scores(torch.tensor([math.nan]).double(), {0: "y"}),
    ]
    joined = Scores.join(iter(parts))
    assert joined.failures == {1: "x", 2: "y"} and joined.mean == 1
    assert math.isnan(Scores.join([]).mean) and Scores.join([]).count == 0
