from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vocable.errors import InputError
from vocable.metrics.augment import STANDARD, Noise, PitchShift, Reverberation, TimeStretch
from vocable.types import Audio

RATE = 16000


def sine(hertz, seconds=1.0, rate=RATE):
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


def loudest(wave, rate=RATE):
    """Hz of the strongest bin."""
    wave = wave.numpy() * np.hanning(len(wave))
    return np.abs(np.fft.rfft(wave)).argmax() * rate / len(wave)


def voice(seed=0, samples=12000):
    """Noise in bursts, as loud and as quiet as speech."""
    generator = torch.Generator().manual_seed(seed)
    envelope = torch.sin(torch.arange(samples) / 900).clamp(min=0)
    return 0.1 * envelope * torch.randn(samples, generator=generator)


def one(audio):
    assert len(audio) == 1
    return audio.waveform(0)[0]


@pytest.mark.parametrize("rate", [0.5, 0.8, 1.2, 3.0])
def test_stretching_changes_the_length_and_not_the_pitch(rate):
    out = one(TimeStretch(rate).apply(Audio.of([sine(220)], RATE), 0))
    assert len(out) == math.floor(RATE / rate + 0.5)
    assert loudest(out) == pytest.approx(220, abs=4)
    # overlaps are in phase, so nothing beats or fades
    middle = out[1000:-1000].unfold(0, 400, 200).square().mean(dim=1).sqrt()
    assert float(middle.min()) > 0.95 * float(middle.max())


def test_stretching_by_nothing_is_nothing():
    wave = voice()
    assert torch.allclose(one(TimeStretch(1).apply(Audio.of([wave], RATE), 0)), wave, atol=1e-6)


def test_events_come_sooner_in_faster_speech():
    wave = torch.zeros(RATE)
    wave[8000:8400] = sine(300)[:400]
    out = one(TimeStretch(1.25).apply(Audio.of([wave], RATE), 0))
    centre = float((out.square() * torch.arange(len(out))).sum() / out.square().sum())
    assert centre == pytest.approx(8200 / 1.25, abs=200)


@pytest.mark.parametrize(("semitones", "factor"), [(12, 2.0), (-12, 0.5), (4, 2 ** (1 / 3)), (0, 1.0)])
def test_pitch_changes_and_the_length_does_not(semitones, factor):
    out = one(PitchShift(semitones).apply(Audio.of([sine(400)], RATE), 0))
    assert len(out) == RATE
    assert loudest(out) == pytest.approx(400 * factor, abs=4)


@pytest.mark.parametrize("snr", [0.0, 10.0, 30.0])
def test_noise_has_the_level_that_is_asked_for(snr):
    wave = voice()
    noise = one(Noise(snr).apply(Audio.of([wave], RATE), 7)).double() - wave.double()
    ratio = wave.double().square().mean() / noise.square().mean()
    assert 10 * math.log10(ratio) == pytest.approx(snr, abs=1e-3)
    assert abs(float(noise[1:] @ noise[:-1] / (noise @ noise))) < 0.05


def test_a_room_decays_as_it_says():
    room = Reverberation(0.4, direct=3.0).response(RATE, 5)
    assert len(room) == 6400
    assert room[0] == 1
    assert 10 * math.log10(1 / np.square(room[1:]).sum()) == pytest.approx(3)
    # the energy that is still to come (Schroeder 1965) falls by 30 dB from a tenth to six tenths of the time
    left = np.cumsum(np.square(room[1:])[::-1])[::-1]
    assert 10 * math.log10(left[640] / left[3840]) == pytest.approx(30, abs=2)


def test_reverberation_is_a_convolution_as_loud_as_before():
    wave = voice()
    room = Reverberation(0.1)
    out = one(room.apply(Audio.of([wave], RATE), 3)).double().numpy()
    assert np.square(out).mean() == pytest.approx(float(wave.double().square().mean()), rel=1e-5)
    expected = np.convolve(wave.double().numpy(), room.response(RATE, 3))[: len(wave)]
    assert np.allclose(out / np.abs(out).max(), expected / np.abs(expected).max(), atol=1e-5)


@pytest.mark.parametrize("augmentation", STANDARD, ids=lambda a: a.name)
def test_neither_batch_nor_time_of_day_shows(augmentation):
    waves = [voice(1, 9000), voice(2, 12000)]
    together = augmentation.apply(Audio.of(waves, RATE), 11)
    assert together.sample_rate == RATE
    assert together.samples.dtype == torch.float32
    for index, wave in enumerate(waves):
        alone = one(augmentation.apply(Audio.of([wave], RATE), 11))
        assert torch.equal(together.waveform(index)[0], alone)
        assert bool(alone.isfinite().all())


def test_the_seed_decides_what_is_random():
    audio = Audio.of([voice()], RATE)
    for augmentation in (Noise(10), Reverberation()):
        assert not torch.equal(one(augmentation.apply(audio, 1)), one(augmentation.apply(audio, 2)))


@pytest.mark.parametrize("augmentation", STANDARD, ids=lambda a: a.name)
@pytest.mark.parametrize("samples", [1, 50, 3000])
def test_silence_and_clips_shorter_than_a_frame(augmentation, samples):
    for wave in (torch.zeros(samples), voice(4, samples) + 0.01):
        out = one(augmentation.apply(Audio.of([wave], RATE), 0))
        assert len(out) == (max(1, round(samples / 1.2)) if isinstance(augmentation, TimeStretch) else samples)
        assert bool(out.isfinite().all())


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="mono"):
        Noise(10).apply(Audio.of([torch.zeros(2, 100)], RATE), 0)
    for wrong in (lambda: TimeStretch(0), lambda: PitchShift(30), lambda: Reverberation(0)):
        with pytest.raises(InputError, match="expected"):
            wrong()
