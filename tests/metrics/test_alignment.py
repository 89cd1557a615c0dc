"""Delays are found whatever became of the phase."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conftest import sing
from vocable.metrics.alignment import ALIKE, aligned, delay
from vocable.metrics.reconstruction import stoi
from vocable.types import Audio


def without_phase(wave: np.ndarray, seed: int = 0) -> torch.Tensor:
    """A waveform of like spectra and other phases, as parametric codecs make it."""
    hann = torch.hann_window(512)
    spectra = torch.stft(torch.as_tensor(wave), 512, 128, window=hann, return_complex=True)
    turns = torch.rand(spectra.shape, generator=torch.Generator().manual_seed(seed)) * 2 * torch.pi
    return torch.istft(spectra * torch.polar(torch.ones(()), turns), 512, 128, window=hann, length=len(wave)).double()


def late(wave: torch.Tensor, samples: int) -> torch.Tensor:
    return torch.nn.functional.pad(wave, (samples, 0)) if samples >= 0 else wave[-samples:]


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("seconds", [-0.03, 0.0, 0.018])
def test_the_delay_of_what_lost_its_phase_is_found_to_some_milliseconds(rate: int, seconds: float) -> None:
    wave, moved = sing(2.0, rate), round(seconds * rate)
    other = without_phase(wave)
    x = torch.as_tensor(wave).double()
    assert abs(float(x @ other / (x.norm() * other.norm()))) < ALIKE
    assert delay(x, late(other, moved), rate, 0.05) == pytest.approx(moved, abs=0.004 * rate)


def test_what_has_no_delay_is_not_made_worse() -> None:
    for seed in range(3):
        wave = sing(2.0, seed=seed)
        x, y = Audio.of([torch.as_tensor(wave).double()], 16000), Audio.of([without_phase(wave, seed)], 16000)
        assert stoi(x, aligned(x, y, 0.05)).mean > stoi(x, y).mean - 0.01


def test_a_copy_is_found_to_the_sample_whatever_its_sign() -> None:
    wave = torch.as_tensor(sing(1.0)).double()
    for moved in (-123, -1, 0, 1, 777):
        assert delay(wave, -0.3 * late(wave, moved), 16000, 0.05) == moved


def test_a_copy_drowned_in_noise_is_found_to_the_sample() -> None:
    wave = torch.as_tensor(sing(2.0)).double()
    noise = torch.randn(len(wave), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noisy = wave + 2 * noise * wave.norm() / noise.norm()
    assert float(wave @ noisy / (wave.norm() * noisy.norm())) < ALIKE
    assert delay(wave, late(noisy, 321), 16000, 0.05) == 321


def test_nothing_and_silence_have_no_delay() -> None:
    wave = torch.as_tensor(sing(0.3)).double()
    for x, y in ((wave, torch.zeros(4800)), (torch.zeros(4800), wave), (torch.zeros(0), torch.zeros(0))):
        assert delay(x.double(), y.double(), 16000, 0.05) == 0
