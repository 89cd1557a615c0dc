"""Distances of spectra and the losses of discriminators, against what can be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.nets.discriminators import Verdict
from vocable.nets.losses import (
    WINDOWS,
    SpectralLoss,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
    magnitudes,
)


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_sine_of_amplitude_one_has_magnitude_one() -> None:
    taper = torch.hann_window(512)
    sine = torch.sin(2 * math.pi * 32 / 512 * torch.arange(4096))
    found = magnitudes(sine[None], taper * 2 / taper.sum())
    assert found.shape == (1, 4096 // 128 + 1, 257)
    assert float(found[0, 16, 32]) == pytest.approx(1.0, abs=1e-4)
    assert float(magnitudes(torch.zeros(1, 4096), taper).max()) == pytest.approx(1e-5)


def test_magnitudes_are_those_of_numpy() -> None:
    wave, taper = _noise(1000), torch.hann_window(256)
    padded = np.pad(wave.numpy().astype(np.float64), 128)
    frame = padded[3 * 64 : 3 * 64 + 256] * taper.numpy()
    found = magnitudes(wave[None], taper)[0, 3]
    np.testing.assert_allclose(found.numpy(), np.maximum(np.abs(np.fft.rfft(frame)), 1e-5), rtol=1e-3, atol=1e-5)


def test_distances_by_hand() -> None:
    """Twice as loud: every logarithm differs by ln 2, and |S - 2 S| / |S| is 1."""
    loss = SpectralLoss(16000)
    real = _noise(2, 8000)
    same, twice = loss(real, real), loss(real, 2 * real)
    assert same == (0.0, 0.0)
    assert float(twice.mel) == pytest.approx(math.log(2), rel=1e-5)
    assert float(twice.stft) == pytest.approx(1 + math.log(2), rel=1e-4)


def test_waveforms_of_any_length_and_silence_have_finite_gradients() -> None:
    loss = SpectralLoss(24000)
    for real in (torch.zeros(1, 5000), _noise(1, 77)):
        fake = torch.zeros_like(real).requires_grad_()
        (gradient,) = torch.autograd.grad(sum(loss(real, fake)), fake)
        assert bool(gradient.isfinite().all())


def test_losses_are_float32_under_autocast() -> None:
    loss, real, fake = SpectralLoss(16000), _noise(1, 4000), _noise(1, 4000, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(real, fake) == loss(real, fake)
        mixed = loss(real, fake)
    assert mixed == loss(real, fake)


@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 24000, 44100, 48000])
def test_every_band_holds_a_bin_at_the_rates_in_use(sample_rate: int) -> None:
    loss = SpectralLoss(sample_rate)
    for length in WINDOWS:
        filters = loss.get_buffer(f"filters_{length}")
        assert filters.shape == (length // 2 + 1, length * 5 // 32)
        torch.testing.assert_close(filters.sum(0), torch.ones(length * 5 // 32))


def test_windows_that_are_too_short() -> None:
    with pytest.raises(InputError, match="too many"):
        SpectralLoss(48000, windows=(32,))


def _verdict(score: float, *maps: float) -> Verdict:
    return Verdict(torch.full((2, 1, 3), score), [torch.full((2, 4), value) for value in maps])


def test_hinges_by_hand() -> None:
    real, fake = [_verdict(0.25), _verdict(3.0)], [_verdict(0.5), _verdict(-2.0)]
    assert float(discriminator_loss(real, fake)) == pytest.approx(((0.75 + 1.5) + (0 + 0)) / 2)
    assert float(adversarial_loss(fake)) == pytest.approx((0.5 + 3) / 2)


def test_feature_matching_by_hand() -> None:
    real, fake = [_verdict(0, 2.0, -4.0)], [_verdict(0, 1.0, -4.0)]
    assert float(feature_loss(real, fake)) == pytest.approx((0.5 + 0) / 2)
