from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.audio_utils import mel_filter_bank

from vocable.errors import InputError
from vocable.nets.phase import Stft, griffin_lim, mel_to_power
from vocable.nets.spectral import ExactProduct, dct_matrix, deltas, frame, log_mel, mel_filters


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rate", "size", "bands", "low"), [(16000, 512, 80, 60.0), (24000, 1024, 40, 0.0)])
def test_mel_filters_are_slaneys_without_normalisation(rate: int, size: int, bands: int, low: float) -> None:
    reference = mel_filter_bank(size // 2 + 1, bands, low, rate / 2, rate, norm=None, mel_scale="slaney")
    np.testing.assert_allclose(mel_filters(rate, size, bands, low, rate / 2).numpy(), reference, atol=1e-12)


def test_a_band_without_a_bin_is_refused() -> None:
    with pytest.raises(InputError, match="too many"):
        mel_filters(16000, 256, 128, 0.0, 8000.0)


def test_dct_is_scipys() -> None:
    x = random(7, 40).double()
    reference = scipy.fft.dct(x.numpy(), type=2, norm="ortho")[:, :13]
    np.testing.assert_allclose((x @ dct_matrix(40, 13)).numpy(), reference, atol=1e-12)


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 99))
def test_exact_products_are_products_and_have_no_order(rows: int, inner: int, seed: int) -> None:
    x, matrix = random(rows, inner, seed=seed) * 10.0 ** random(rows, 1, seed=seed + 1), random(inner, 5, seed=seed + 2)
    product = ExactProduct(matrix)(x)
    bound = 2.0**-16 * matrix.abs().max() * x.abs().sum(1, keepdim=True).double()
    assert bool(((product - x.double() @ matrix.double()).abs() <= bound).all())
    order = torch.randperm(inner, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(ExactProduct(matrix[order])(x[:, order]), product)
    assert torch.equal(torch.cat([ExactProduct(matrix)(row[None]) for row in x]), product)


def test_exact_products_of_nothing_are_zero() -> None:
    assert torch.equal(ExactProduct(torch.eye(3))(torch.zeros(2, 3)), torch.zeros(2, 3, dtype=torch.float64))


def test_frames_by_hand() -> None:
    wave = torch.tensor([[1.0, 2, 3, 4, 5], [6, 7, 8, float("nan"), 99]])
    frames = frame(wave, torch.tensor([5, 3]), window_length=4, hop_length=2)
    assert frames[0].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 0, 0]]
    assert frames[1].tolist() == [[0, 6, 7, 8], [7, 8, 0, 0], [0, 0, 0, 0]]


def test_log_mel_is_what_numpy_says() -> None:
    frames, window, bank = random(1, 300, 400) * 0.1, torch.hann_window(400), mel_filters(16000, 512, 80, 60.0, 8000.0)
    taper = window.double().numpy() / window.double().numpy().sum()
    power = np.abs(np.fft.rfft(frames[0].double().numpy() * taper, 512)) ** 2
    reference = np.log(np.maximum(power @ bank.numpy(), 1e-8))
    np.testing.assert_allclose(log_mel(frames, window, ExactProduct(bank), 1e-8)[0].numpy(), reference, atol=1e-4)


def test_a_full_scale_sine_peaks_at_a_quarter() -> None:
    sine = torch.sin(2 * torch.pi * 1000 / 16000 * torch.arange(400))
    mel = log_mel(sine.expand(1, 1, -1), torch.hann_window(400), ExactProduct(torch.eye(257)), 1e-8)
    assert mel.max().exp().item() == pytest.approx(0.25, rel=1e-3)
    assert mel.argmax().item() == 32


def test_deltas_by_hand() -> None:
    values = torch.tensor([0.0, 1, 4, 9, 16, 1e9, float("nan")])[None, :, None]
    slopes = deltas(values, torch.tensor([5]))[0, :5, 0]
    # (2 (x[t+2] - x[t-2]) + x[t+1] - x[t-1]) / 10, ends repeated
    expected = [(2 * 4 + 1) / 10, (2 * 9 + 4) / 10, (2 * 16 + 8) / 10, (2 * 15 + 12) / 10, (2 * 12 + 7) / 10]
    torch.testing.assert_close(slopes, torch.tensor(expected))


def test_deltas_of_a_line_are_its_slope() -> None:
    line = 3.0 * torch.arange(20.0)[None, :, None]
    torch.testing.assert_close(deltas(line, torch.tensor([20]))[0, 2:-2, 0], torch.full((16,), 3.0))


@pytest.mark.parametrize(("window", "hop"), [(400, 100), (512, 80), (551, 137)])
def test_stft_is_undone_by_its_inverse(window: int, hop: int) -> None:
    stft, wave = Stft(torch.hann_window(window), hop), random(6000)
    again = stft.inverse(stft(wave))
    inner = slice(window, len(again) - window)
    torch.testing.assert_close(again[inner], wave[: len(again)][inner], atol=1e-5, rtol=1e-5)


def test_mel_to_power_finds_a_spectrum_with_those_bands() -> None:
    bank = mel_filters(16000, 512, 80, 60.0, 8000.0).float()
    mel = random(50, 257).square() @ bank * 10.0 ** random(50, 1, seed=1)
    power = mel_to_power(mel, bank, steps=100)
    assert bool((power >= 0).all())
    assert (((power @ bank) - mel).norm() / mel.norm()).item() < 0.02


def test_griffin_lim_comes_nearer_and_goes_on_from_what_is_known() -> None:
    stft = Stft(torch.hann_window(400), 100)
    wave = torch.sin(0.3 * torch.arange(8100)) * torch.linspace(0.1, 1, 8100)
    magnitude = stft(wave).abs()

    def miss(iterations: int, known: torch.Tensor) -> float:
        guess = griffin_lim(magnitude, stft, iterations, known, 0)
        return ((stft(guess).abs() - magnitude).norm() / magnitude.norm()).item()

    assert miss(32, wave[:0]) < 0.5 * miss(0, wave[:0])
    guess = griffin_lim(magnitude, stft, 32, wave[:2000], 0)
    after = slice(2000, 3000)
    assert torch.corrcoef(torch.stack([guess[after], wave[after]]))[0, 1].item() > 0.9
