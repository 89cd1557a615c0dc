"""What holds of whole families of metrics: symmetry, freedom of level, and indifference to what else is in a batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vocable.metrics
from tests.conftest import sing
from vocable.metrics import (
    METRICS,
    Scores,
    log_spectral_distance,
    mel_cepstral_distortion,
    mel_distance,
    run_lengths,
    sdr,
    si_sdr,
    snr,
    stft_distance,
    summarize_scores,
    unit_edit_distance,
)
from vocable.types import Audio

RATE = 16000
FAST = [mel_distance, stft_distance, log_spectral_distance, mel_cepstral_distortion, snr, si_sdr, sdr]
seeds = st.integers(0, 9)
gains = st.floats(-20, 20)  # dB


def one(wave: np.ndarray) -> Audio:
    return Audio.of([torch.as_tensor(wave, dtype=torch.float64)], RATE)


def worse(wave: np.ndarray, seed: int) -> np.ndarray:
    return wave + 0.02 * np.random.default_rng(seed).standard_normal(len(wave))


def test_all_names_are_there_and_are_what_their_modules_have() -> None:
    assert sorted(vocable.metrics.__all__) == sorted(vocable.metrics._HOME_OF) == dir(vocable.metrics)
    assert all(
        callable(getattr(vocable.metrics, name))
        for name in vocable.metrics.__all__
        if not name.isupper() or name == "ABX"
    )
    with pytest.raises(AttributeError, match="no attribute 'pesk'"):
        vocable.metrics.pesk  # noqa: B018


@pytest.mark.parametrize("metric", [mel_distance, log_spectral_distance, mel_cepstral_distortion])
@given(seed=seeds)
def test_distances_are_symmetric_and_no_nearer_by_a_detour(metric, seed: int) -> None:
    a, b, c = (one(sing(0.1, seed=seed + k)) for k in range(3))
    assert metric(a, b).mean == metric(b, a).mean > 0
    assert metric(a, c).mean <= metric(a, b).mean + metric(b, c).mean + 1e-9


@pytest.mark.parametrize("metric", FAST)
@settings(max_examples=10)
@given(seed=seeds, gain=gains)
def test_only_what_says_so_is_free_of_level(metric, seed: int, gain: float) -> None:
    (entry,) = (entry for entry in METRICS.values() if entry.function is metric)
    wave = sing(0.2, seed=seed).astype(np.float64)
    louder = 10 ** (gain / 20) * worse(wave, seed)
    moved = abs(metric(one(wave), one(louder)).mean - metric(one(wave), one(worse(wave, seed))).mean)
    if entry.level_free:
        assert moved < 0.05  # dB; the floor of spectra is where it is
    elif abs(gain) > 1:
        assert moved > 0.01


@settings(max_examples=10)
@given(st.lists(st.tuples(seeds, st.floats(0.05, 0.3)), min_size=2, max_size=4), st.integers(0, 3))
def test_a_batch_is_its_items_in_any_order(items: list[tuple[int, float]], cut: int) -> None:
    waves = [torch.as_tensor(sing(seconds, seed=seed)) for seed, seconds in items]
    others = [torch.as_tensor(worse(wave.numpy(), 1)) for wave in waves]
    others[-1] = others[-1][:-1]
    for metric in (mel_distance, si_sdr):
        whole = metric(Audio.of(waves, RATE), Audio.of(others, RATE))
        turned = metric(Audio.of(waves[::-1], RATE), Audio.of(others[::-1], RATE))
        assert torch.equal(whole.values.flip(0).nan_to_num(), turned.values.nan_to_num())
        assert list(whole.failures) == [len(waves) - 1] and list(turned.failures) == [0]
        parts = [Audio.of(part, RATE) for side in (waves, others) for part in (side[:cut], side[cut:]) if part]
        half = len(parts) // 2
        joined = Scores.join(metric(x, y) for x, y in zip(parts[:half], parts[half:], strict=True))
        assert torch.equal(joined.values.nan_to_num(), whole.values.nan_to_num())
        assert joined.failures == whole.failures


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=30), st.integers(0, 3))
def test_what_failed_has_no_part_in_a_mean_or_its_interval(values: list[float], failed: int) -> None:
    kept = torch.tensor(values, dtype=torch.float64)
    alone = summarize_scores(Scores(kept, {}))
    whole = torch.cat([torch.full((failed,), math.nan, dtype=torch.float64), kept])
    mixed = summarize_scores(Scores(whole, dict.fromkeys(range(failed), "silence")))
    assert (mixed.mean, mixed.low, mixed.high, mixed.count) == (alone.mean, alone.low, alone.high, alone.count)
    assert mixed.failed == failed
    assert (
        min(values) - 1e-9 <= mixed.low <= mixed.mean + 1e-9 and mixed.mean - 1e-9 <= mixed.high <= max(values) + 1e-9
    )


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.lists(st.integers(1, 4), min_size=20, max_size=20))
def test_how_long_units_last_does_not_matter_to_their_distance(codes: list[int], lengths: list[int]) -> None:
    units, _ = run_lengths(np.array(codes))
    assert unit_edit_distance(units, np.repeat(codes, lengths[: len(codes)])) == 0


def test_a_mean_of_infinities_of_both_signs_is_none() -> None:
    assert math.isnan(Scores(torch.tensor([math.inf, -math.inf, 1.0], dtype=torch.float64), {}).mean)
    assert Scores(torch.tensor([math.inf, -math.inf, 1.0], dtype=torch.float64), {1: "why"}).mean == math.inf
