from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vocable import audio
from vocable.errors import InputError
from vocable.presets import SAMPLES
from vocable.testing import check_exact_windows, check_extractor
from vocable.tokenizers.spectral import MFCC, LogMel
from vocable.tokenizers.stacked import SPEECH_MEAN, SPEECH_STD, StackedMel
from vocable.types import Audio, FeatureExtractor

EXTRACTORS = [
    LogMel(),
    LogMel(hop_length=320),
    LogMel(sample_rate=22050, hop_length=256, num_bands=40),
    MFCC(),
    MFCC(hop_length=320, num_coefficients=7),
    StackedMel(mean=SPEECH_MEAN, std=SPEECH_STD),
    StackedMel(sample_rate=24000, mel_hop_length=240, num_bands=128, window_seconds=0.04, stack=3),
]
Extractor = LogMel | MFCC | StackedMel
by_config = pytest.mark.parametrize("extractor", EXTRACTORS, ids=lambda e: f"{e.layers[0]}-{e.hop_length}")


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.2 * torch.randn(samples, generator=generator) * torch.rand(samples, generator=generator).square()


def alone(extractor: Extractor, wave: torch.Tensor) -> torch.Tensor:
    return extractor.extract(Audio.of([wave], extractor.sample_rate)).utterance(0)[0]


@by_config
def test_the_laws(extractor: Extractor) -> None:
    assert isinstance(extractor, FeatureExtractor)
    check_extractor(extractor)
    check_exact_windows(extractor)


@by_config
@given(st.integers(1, 2000))
def test_one_frame_per_started_hop(extractor: Extractor, samples: int) -> None:
    frames = alone(extractor, noise(samples))
    assert frames.shape == (-(-samples // extractor.hop_length), extractor.dim)
    assert frames.isfinite().all()


@by_config
@given(st.lists(st.integers(1, 25000), min_size=1, max_size=3), st.integers(0, 99), st.sampled_from([1, 2]))
def test_same_bits_in_any_batch_with_any_threads(
    extractor: Extractor, lengths: list[int], seed: int, threads: int
) -> None:
    waves = [noise(length, seed + index) for index, length in enumerate(lengths)]
    batch = Audio.of(waves, extractor.sample_rate)
    for row, length in zip(batch.samples, lengths, strict=True):
        row[:, length:] = float("nan")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = extractor.extract(batch)
    finally:
        torch.set_num_threads(before)
    for index, wave in enumerate(waves):
        assert torch.equal(together.utterance(index)[0], alone(extractor, wave))


@by_config
@given(st.integers(1, 120000), st.integers(0, 400), st.integers(1, 400))
def test_same_bits_in_any_window(extractor: Extractor, samples: int, first: int, count: int) -> None:
    wave, hop, context = noise(samples), extractor.hop_length, extractor.context
    total = -(-samples // hop)
    first = min(first, total - 1)
    begin, end = max(0, first - context), min(total, first + count + context)
    piece = alone(extractor, wave[begin * hop : end * hop])[first - begin :][:count]
    assert torch.equal(piece, alone(extractor, wave)[first : first + count])


@by_config
def test_one_frame_less_of_context_is_not_enough(extractor: Extractor) -> None:
    wave, hop, context = noise(40 * extractor.hop_length), extractor.hop_length, extractor.context
    piece = alone(extractor, wave[10 * hop : (20 + 2 * context) * hop])
    whole = alone(extractor, wave)[10 : 20 + 2 * context]
    assert torch.equal(piece[context:-context], whole[context:-context])
    assert not torch.equal(piece[context - 1], whole[context - 1])
    assert not torch.equal(piece[-context], whole[-context])


@by_config
def test_silence_and_extremes_are_finite(extractor: Extractor) -> None:
    silence = alone(extractor, torch.zeros(5000))
    assert torch.equal(silence, silence[:1].expand_as(silence))
    assert alone(extractor, torch.full((5000,), 3e38)).isfinite().all()
    assert alone(extractor, torch.full((5000,), 1e-42)).isfinite().all()


def test_silence_is_the_floor() -> None:
    extractor = LogMel()
    torch.testing.assert_close(alone(extractor, torch.zeros(300)).exp(), torch.full((2, 80), extractor.floor))


@pytest.mark.parametrize("hertz", [200.0, 440.0, 3000.0])
def test_a_tone_lies_in_the_band_of_its_frequency(hertz: float) -> None:
    extractor = LogMel()
    frames = alone(extractor, torch.sin(2 * torch.pi * hertz / 16000 * torch.arange(16000)))
    band = frames[50].argmax().item()
    assert extractor.filters[:, band].argmax().item() * 16000 / 512 == pytest.approx(hertz, abs=40)
    assert (frames[5:-5].argmax(1) == band).all()


def test_a_click_is_loudest_in_its_own_frame() -> None:
    click = torch.zeros(16000)
    click[57 * 160 + 80] = 1
    assert alone(LogMel(), click).sum(1).argmax().item() == 57


@pytest.mark.parametrize("kind", [LogMel, MFCC])
def test_configuration_goes_through_json(kind: type[LogMel] | type[MFCC]) -> None:
    extractor = kind(hop_length=200, num_bands=30)
    assert kind.from_config(json.loads(json.dumps(extractor.config()))) == extractor
    with pytest.raises(InputError, match="expected the configuration"):
        kind.from_config({**extractor.config(), "colour": "red"})
    with pytest.raises(InputError, match="expected the configuration"):
        kind.from_config({**extractor.config(), "kind": "ssl"})


def test_audio_of_another_rate_or_with_channels_is_refused() -> None:
    for extractor in (LogMel(), MFCC()):
        with pytest.raises(InputError, match="16000 Hz"):
            extractor.extract(Audio.of([torch.zeros(100)], 8000))
        with pytest.raises(InputError, match="2 channels"):
            extractor.extract(Audio.of([torch.zeros(2, 100)], 16000))


def test_no_samples_are_no_frames() -> None:
    features = MFCC().extract(Audio.of([torch.zeros(0)], 16000))
    assert features.lengths.tolist() == [0]


@pytest.mark.parametrize(
    "settings", [{"hop_length": 0}, {"hop_length": 500}, {"num_bands": 400}, {"floor": 0.0}, {"sample_rate": -1}]
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float]) -> None:
    for kind in (LogMel, MFCC):
        with pytest.raises(InputError):
            kind(**settings).extract(Audio.of([torch.zeros(100)], 16000))  # type: ignore[arg-type]


def test_no_more_cepstra_than_bands() -> None:
    with pytest.raises(InputError, match="coefficients"):
        MFCC(num_coefficients=41)


def test_a_stack_is_its_frames_side_by_side() -> None:
    wave = noise(16000)
    mel = alone(LogMel(), wave)
    stacks = alone(StackedMel(), wave)
    assert torch.equal(stacks, mel.reshape(25, 320))
    normal = alone(StackedMel(mean=SPEECH_MEAN, std=SPEECH_STD), wave)
    assert torch.equal(normal.reshape(100, 80), (mel - torch.tensor(SPEECH_MEAN)) / torch.tensor(SPEECH_STD))


def test_the_last_stack_is_filled_up_with_what_zeros_give() -> None:
    wave = noise(2 * 640 + 170)
    padded = torch.cat([wave, torch.zeros(470)])
    assert torch.equal(alone(StackedMel(), wave), alone(LogMel(), padded).reshape(3, 320))
    # frames that no longer touch the sound are at the floor
    torch.testing.assert_close(alone(StackedMel(), wave)[2, 240:].exp(), torch.full((80,), 1e-8))


def test_the_constants_are_those_of_the_bundled_speech() -> None:
    clips = [audio.read(path, 16000) for path in sorted(SAMPLES.parent.glob("*.flac"))]
    frames = torch.cat([LogMel().extract(clip).frames[0, 0] for clip in clips]).double()
    # rounded to one decimal, and resamplers differ in their last bits
    torch.testing.assert_close(frames.mean(0), torch.tensor(SPEECH_MEAN).double(), atol=0.06, rtol=0)
    torch.testing.assert_close(frames.std(0), torch.tensor(SPEECH_STD).double(), atol=0.06, rtol=0)


def test_stacks_go_through_json() -> None:
    for extractor in (StackedMel(), StackedMel(stack=2, num_bands=3, mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 0.5))):
        assert StackedMel.from_config(json.loads(json.dumps(extractor.config()))) == extractor
    with pytest.raises(InputError, match="expected the configuration"):
        StackedMel.from_config(LogMel().config())


@pytest.mark.parametrize("settings", [{"stack": 0}, {"mean": (0.0,)}, {"std": (1.0,)}, {"std": (0.0,) * 80}])
def test_stacks_that_cannot_be_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(InputError):
        StackedMel(**settings)  # type: ignore[arg-type]
