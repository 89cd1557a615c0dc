"""Metrics against the libraries that the field uses, on noise, on the package's speech and on real recordings.

torchmetrics and auraloss are compared with where they are installed; pystoi and pesq are what computes the scores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vocable
from vocable.audio import read, resample
from vocable.metrics import estoi, pesq_nb, pesq_wb, sdr, si_sdr, snr, stft_distance, stoi
from vocable.metrics.spectral_distances import STFT_RESOLUTIONS
from vocable.types import Audio

Pair = tuple[Tensor, Tensor, int]


def worse(wave: Tensor, seed: int = 0) -> Tensor:
    """Muffled, noisy, off zero, 1 dB softer."""
    noise = torch.randn(len(wave), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.89 * (0.7 * wave + 0.3 * wave.roll(1)) + 0.01 * noise + 0.002


@pytest.fixture(params=["noise", "speech", "librispeech", "festvox"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """At most 3 s of an original and something worse, and their rate."""
    if request.param == "noise":
        wave = 0.1 * torch.randn(24000, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        return wave, worse(wave), 16000
    path = Path(vocable.__file__).parent / "samples" / "af_heart-01.flac"
    if request.param != "speech":
        folder: Path = request.getfixturevalue("shared_audio")
        lines = map(json.loads, (folder / "dev.jsonl").read_text().splitlines())
        path = folder / next(line["path"] for line in lines if line["corpus"].startswith(request.param))
    audio = read(path)
    wave = audio.waveform(0)[0, : 3 * audio.sample_rate].double()
    return wave, worse(wave), audio.sample_rate


def ours(metric: Any, pair: Pair) -> float:
    x, y, rate = pair
    scores = metric(Audio.of([x], rate), Audio.of([y], rate))
    assert not scores.failures
    return float(scores.mean)


def test_ratios_are_those_of_torchmetrics(pair: Pair) -> None:
    theirs = pytest.importorskip("torchmetrics.functional.audio")
    x, y, _ = pair
    assert ours(snr, pair) == pytest.approx(float(theirs.signal_noise_ratio(y, x)), abs=1e-9)
    expected = theirs.scale_invariant_signal_distortion_ratio(y, x, zero_mean=True)
    assert ours(si_sdr, pair) == pytest.approx(float(expected), abs=1e-9)
    assert ours(sdr, pair) == pytest.approx(float(theirs.signal_distortion_ratio(y, x)), abs=1e-6)


def test_the_stft_distance_is_that_of_auraloss(pair: Pair) -> None:
    loss = pytest.importorskip("auraloss").freq.MultiResolutionSTFTLoss
    x, y, rate = pair
    # it mirrors the ends and has another floor: both ends are silent here, and what lies between is far above floors
    silence = torch.zeros(2048, dtype=torch.float64)
    faint = 0.003 * torch.randn(len(x), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x, y = (torch.cat([silence, 1e4 * (wave + faint), silence]) for wave in (x, y))
    windows = [round(window * rate) for window, _ in STFT_RESOLUTIONS]
    hops = [round(hop * rate) for _, hop in STFT_RESOLUTIONS]
    sizes = [1 << (window - 1).bit_length() for window in windows]
    theirs = loss(fft_sizes=sizes, hop_sizes=hops, win_lengths=windows)
    assert ours(stft_distance, (x, y, rate)) == pytest.approx(float(theirs(y[None, None], x[None, None])), rel=1e-6)


def test_intelligibility_is_that_of_pystoi(pair: Pair) -> None:
    from pystoi import stoi as theirs

    x, y, rate = pair
    assert ours(stoi, pair) == theirs(x.numpy(), y.numpy(), rate)
    np.random.seed(3)  # pystoi adds a little noise to ESTOI
    assert ours(estoi, pair) == pytest.approx(theirs(x.numpy(), y.numpy(), rate, extended=True), abs=1e-9)


@pytest.mark.parametrize(("metric", "rate", "mode"), [(pesq_nb, 8000, "nb"), (pesq_wb, 16000, "wb")])
def test_quality_is_that_of_pesq(pair: Pair, metric: Any, rate: int, mode: str) -> None:
    theirs = pytest.importorskip("pesq").pesq
    x, y, given = pair
    heard = resample(Audio.of([x, y], given), rate).samples[:, 0].double().numpy()
    assert ours(metric, pair) == theirs(rate, *heard, mode)
