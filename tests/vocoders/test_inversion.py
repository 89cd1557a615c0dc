from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pystoi import stoi
from torch import Tensor

from vocable.errors import InputError, SpecError
from vocable.quantizers import ScalarBins
from vocable.testing import check_vocoder
from vocable.tokenizers.spectral import MFCC, LogMel
from vocable.types import Audio, Codebook, Features, Tokens, TokenSpec, Vocoder
from vocable.vocoders.inversion import SpectralInverter, UnitInverter

SMALL = LogMel(num_bands=20)


class Nearest:
    """A quantizer whose entries are the vectors it is given."""

    def __init__(self, entries: Tensor) -> None:
        self.entries = entries
        self.dim = entries.shape[1]
        self.codebook_sizes = (len(entries),)
        self.most = 0

    def encode(self, vectors: Tensor) -> Tensor:
        return torch.cdist(vectors, self.entries).argmin(-1, keepdim=True)

    def decode(self, codes: Tensor) -> Tensor:
        self.most = max(self.most, len(codes))
        return self.entries[codes[..., 0]]


def voice(seconds: float) -> Tensor:
    """Harmonics of a wandering pitch in syllables, and a little noise [n]."""
    time = torch.arange(round(seconds * 16000)) / 16000
    phase = 2 * torch.pi * torch.cumsum(120 + 30 * torch.sin(4 * time), 0) / 16000
    harmonics = sum(torch.sin(k * phase) * (1.2 + torch.sin(5 * time + k)) / k for k in range(1, 30))
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return 0.05 * (torch.as_tensor(harmonics) + 0.1 * noise) * torch.sin(9 * time).square()


def features(extractor: LogMel | MFCC, wave: Tensor) -> Features:
    return extractor.extract(Audio.of([wave], 16000))


def units(extractor: LogMel | MFCC, entries: Tensor, **settings: int) -> UnitInverter:
    spec = TokenSpec(16000, extractor.hop_length, (Codebook(len(entries), extractor.layers[0]),), source="abc")
    return UnitInverter(extractor, Nearest(entries), spec, **settings)


def mel_error(extractor: LogMel, wanted: Tensor, wave: Tensor) -> Tensor:
    """Mean absolute difference of log-mel bands, per frame."""
    return (features(extractor, wave).frames[0, 0] - wanted).abs().mean(1)


@pytest.mark.parametrize(
    ("extractor", "least", "most"),
    [(LogMel(), 0.95, 0.35), (LogMel(hop_length=320), 0.9, 0.6), (MFCC(), 0.85, 1.0)],
    ids=["logmel-100", "logmel-50", "mfcc"],
)
def test_continuous_features_give_the_sound_back(extractor: LogMel | MFCC, least: float, most: float) -> None:
    wave = voice(3.0)
    given_features = features(extractor, wave)
    again = SpectralInverter(extractor).invert(given_features, torch.tensor([len(wave)])).samples[0, 0]
    assert stoi(wave.numpy(), again.numpy(), 16000) > least
    assert mel_error(LogMel(), features(LogMel(), wave).frames[0, 0], again).mean().item() < most


def test_a_tone_keeps_its_pitch_and_its_loudness() -> None:
    tone = 0.3 * torch.sin(2 * torch.pi * 440 / 16000 * torch.arange(16000))
    again = SpectralInverter(LogMel()).invert(features(LogMel(), tone), torch.tensor([16000])).samples[0, 0]
    assert torch.fft.rfft(again).abs().argmax().item() == pytest.approx(440, abs=25)
    assert again.std().item() == pytest.approx(tone.std().item(), rel=0.3)


def test_silence_stays_silent() -> None:
    again = SpectralInverter(LogMel()).invert(features(LogMel(), torch.zeros(8000)), torch.tensor([8000]))
    assert again.samples.abs().max().item() < 1e-5


@given(st.integers(1, 4000), st.sampled_from([LogMel(), LogMel(hop_length=320), MFCC(), LogMel(hop_length=177)]))
def test_as_many_samples_as_asked_for(samples: int, extractor: LogMel | MFCC) -> None:
    inverter = SpectralInverter(extractor, iterations=1, seconds=0.05)
    audio = inverter.invert(features(extractor, torch.randn(samples)), torch.tensor([samples]))
    assert audio.lengths.tolist() == [samples]
    assert audio.samples.shape == (1, 1, samples)
    assert audio.samples.isfinite().all()


@pytest.mark.parametrize("smooth", [False, True])
def test_seams_are_neither_seen_nor_heard(smooth: bool) -> None:
    extractor, wave = LogMel(), voice(6.0) + 1e-3
    frames = features(extractor, wave).frames[0, 0]
    inverter = SpectralInverter(extractor, seconds=0.5, smooth=smooth)
    again = torch.cat(list(inverter.blocks(frames.__getitem__, len(frames), len(wave))))
    seams = torch.arange(1, 12) * 8000
    # a click is a jump: its second difference stands out against those of the sound around it
    bend = again.diff(n=2).abs()
    at_seams = torch.stack([bend[seam - 250 : seam + 250].max() for seam in seams.tolist()])
    between = torch.stack([bend[seam + 3750 : seam + 4250].max() for seam in seams.tolist()])
    assert at_seams.mean() < 1.3 * between.mean()
    assert at_seams.max() < 1.3 * bend.max()
    error = mel_error(extractor, frames, again)
    assert torch.cat([error[seams // 160 - 1], error[seams // 160]]).mean() < 1.3 * error.mean()


def test_windows_cost_no_intelligibility() -> None:
    extractor, wave = LogMel(), voice(4.0)
    frames = features(extractor, wave)
    count = torch.tensor([len(wave)])
    whole, cut = (SpectralInverter(extractor, seconds=s).invert(frames, count).samples[0, 0] for s in (60.0, 0.5))
    assert stoi(wave.numpy(), cut.numpy(), 16000) > stoi(wave.numpy(), whole.numpy(), 16000) - 0.01


def test_the_vocoder_keeps_the_laws() -> None:
    vocoder = units(SMALL, torch.randn(50, 20) - 8, iterations=4)
    assert isinstance(vocoder, Vocoder)
    samples = [1, 160, 161, 5000, 300]
    codes = [torch.randint(50, (1, vocoder.spec.num_frames(n))) for n in samples]
    check_vocoder(vocoder, Tokens.of(codes, vocoder.spec, samples))


@given(st.lists(st.integers(1, 6000), min_size=1, max_size=3), st.sampled_from([1, 2]))
def test_same_samples_alone_and_in_any_batch_with_any_threads(samples: list[int], threads: int) -> None:
    vocoder = units(SMALL, torch.randn(50, 20, generator=torch.Generator().manual_seed(0)) - 8, iterations=2)
    codes = [torch.arange(vocoder.spec.num_frames(n))[None] * 7 % 50 for n in samples]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = vocoder.decode(Tokens.of(codes, vocoder.spec, samples))
    finally:
        torch.set_num_threads(before)
    for index, (row, count) in enumerate(zip(codes, samples, strict=True)):
        alone = vocoder.decode(Tokens.of([row], vocoder.spec, [count]))
        assert torch.equal(alone.waveform(0), together.waveform(index))


def test_a_large_codebook_speaks() -> None:
    wave = voice(3.0)
    frames = features(LogMel(), wave).frames[0, 0]
    vocoder = units(LogMel(), frames[::3])
    codes = Nearest(frames[::3]).encode(frames).T
    again = vocoder.decode(Tokens.of([codes], vocoder.spec, [len(wave)])).waveform(0)[0]
    assert stoi(wave.numpy(), again.numpy(), 16000) > 0.8


def test_long_tokens_are_decoded_some_seconds_at_a_time() -> None:
    quantizer = Nearest(torch.randn(50, 20) - 8)
    spec = TokenSpec(16000, 160, (Codebook(50, "logmel"),), source="abc")
    vocoder = UnitInverter(SMALL, quantizer, spec, iterations=1)
    codes, samples = torch.randint(50, (1, 4321)), 4321 * 160 - 7
    blocks = list(vocoder.decode_blocks(codes, samples))
    assert [len(block) for block in blocks] == [160000] * 4 + [51353]
    assert quantizer.most == 1000 + 2 * (10 + 1)
    whole = vocoder.decode(Tokens.of([codes], spec, [samples])).waveform(0)[0]
    assert torch.equal(torch.cat(blocks), whole)


def test_bins_of_bands_are_inverted_as_they_are_and_steps_of_one_codebook_smoothed() -> None:
    extractor, wave = LogMel(hop_length=400, window_seconds=0.05), voice(3.0)
    bins = ScalarBins(80, low=-18.42, high=-2.0)
    books = tuple(Codebook(16, f"logmel.{band}") for band in range(80))
    vocoder = UnitInverter(extractor, bins, TokenSpec(16000, 400, books, source="abc"))
    codes = bins.encode(features(extractor, wave).frames[0, 0]).T
    again = vocoder.decode(Tokens.of([codes], vocoder.spec, [len(wave)])).waveform(0)[0]
    assert stoi(wave.numpy(), again.numpy(), 16000) > 0.75
    assert not vocoder.inverter.smooth
    assert units(SMALL, torch.zeros(5, 20)).inverter.smooth


def test_tokens_without_some_codebooks_are_refused() -> None:
    books = tuple(Codebook(4, f"logmel.{band}") for band in range(20))
    spec = TokenSpec(16000, 160, books, source="abc")
    vocoder = UnitInverter(SMALL, ScalarBins(20, low=-18.0, high=-2.0, size=4), spec, iterations=1)
    tokens = Tokens.of([torch.zeros(20, 3, dtype=torch.int64)], spec)
    assert vocoder.decode(tokens).lengths.tolist() == [480]
    for which in (range(19), range(19, -1, -1)):
        with pytest.raises(SpecError, match="all 20 codebooks"):
            vocoder.decode(tokens.take(which))


def test_no_tokens_are_no_sound() -> None:
    vocoder = units(SMALL, torch.zeros(5, 20))
    empty = Tokens.of([torch.zeros(1, 0, dtype=torch.int64)], vocoder.spec, [0])
    assert vocoder.decode(empty).lengths.tolist() == [0]


def test_what_does_not_fit_is_refused() -> None:
    vocoder = units(SMALL, torch.zeros(5, 20))
    strange = TokenSpec(16000, 160, vocoder.spec.codebooks, source="another")
    with pytest.raises(SpecError, match="tokens of"):
        vocoder.decode(Tokens.of([torch.zeros(1, 3, dtype=torch.int64)], strange))
    with pytest.raises(InputError, match="frames"):
        list(vocoder.decode_blocks(torch.zeros(1, 3, dtype=torch.int64), 1000))
    with pytest.raises(InputError, match="one tokenizer"):
        UnitInverter(SMALL, Nearest(torch.zeros(5, 21)), vocoder.spec)
    with pytest.raises(InputError, match="one tokenizer"):
        UnitInverter(LogMel(num_bands=20, hop_length=320), Nearest(torch.zeros(5, 20)), vocoder.spec)
    with pytest.raises(InputError, match="seconds"):
        SpectralInverter(SMALL, seconds=0.0)
