"""Pitch on the clock of tokens: where its frames lie, with an estimator made up; and the real one, if it is there."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vocable.clock import Windows, num_frames
from vocable.errors import ArtifactError, InputError, MissingDependencyError
from vocable.quantizers import PitchBins
from vocable.testing import check_extractor, check_long_audio, check_saving, check_tokenizer
from vocable.tokenizers import PitchExtractor, UnitTokenizer, build
from vocable.tokenizers.joined import pitch_units
from vocable.tokenizers.units import default_windows
from vocable.types import Audio, FeatureExtractor, TokenSpec


class Counting:
    """An estimator whose pitch is the number of its frame, from 1 on, and which is sure of every other."""

    def detect(self, audio: np.ndarray, sample_rate: float, fmin: float, fmax: float) -> SimpleNamespace:
        assert (sample_rate, fmin, fmax, audio.dtype) == (16000, 50.0, 800.0, np.float32)
        count = np.arange(max(1, len(audio) // 256))
        return SimpleNamespace(pitch_hz=1.0 + count, confidence=np.where(count % 2, 0.5, 0.49))


class Listening:
    """An estimator whose pitch is how loud its frame is, and which needs some sound to be sure."""

    def detect(self, audio: np.ndarray, sample_rate: float, fmin: float, fmax: float) -> SimpleNamespace:
        count = max(1, len(audio) // 256)
        loudness = np.array([np.abs(audio[256 * i : 256 * i + 256]).mean(dtype=np.float64) for i in range(count)])
        return SimpleNamespace(pitch_hz=60 + 600 * loudness, confidence=np.minimum(1.0, 20 * loudness))


def extractor_with(detector: object, **settings: int) -> PitchExtractor:
    extractor = PitchExtractor(**settings)
    extractor.__dict__["detector"] = detector
    return extractor


def frames_found(extractor: PitchExtractor, samples: int) -> list[int]:
    """Which of the estimator's frames the tokens' have."""

    class Sure(Counting):
        def detect(self, *arguments: object) -> SimpleNamespace:
            track = super().detect(*arguments)  # type: ignore[arg-type]
            return SimpleNamespace(pitch_hz=track.pitch_hz, confidence=np.ones(len(track.pitch_hz)))

    extractor = extractor_with(Sure(), **{name: getattr(extractor, name) for name in CLOCK})
    audio = Audio.of([torch.zeros(samples)], extractor.sample_rate)
    features = extractor.extract(audio).utterance(0)[0]
    return (2 ** features[:, 0]).round().long().sub(1).tolist()


CLOCK = ("sample_rate", "hop_length", "window")


@pytest.mark.parametrize(
    ("clock", "first"),
    [
        ((16000, 160, 1), [0, 1, 2, 2, 3, 3, 4]),  # middles 80, 240, 400, 560, 720, 880, 1040 over 256
        ((16000, 320, 400), [1, 2, 3, 4, 6, 7]),  # 160, 480, 800, 1120, 1440, 1760
        ((16000, 512, 1), [1, 3, 5, 7]),  # 256, 768, ...: exactly on frames
        ((16000, 256, 1), [1, 2, 3, 4]),  # half way: the later
        ((24000, 480, 1), [1, 2, 3, 4, 6]),  # at 24 kHz its frames are 384 samples apart
        ((22050, 441, 1), [1, 2, 3, 4, 6]),  # 352.8
    ],
)
def test_frames_nearest_to_the_middle_of_the_hop(clock: tuple[int, int, int], first: list[int]) -> None:
    extractor = PitchExtractor(**dict(zip(CLOCK, clock, strict=True)))
    found = frames_found(extractor, 2 * extractor.sample_rate)
    assert found[: len(first)] == first
    # two seconds are 125 whole frames of 16 ms: beyond the last there is none nearer; a window of 400 ends earlier
    assert found[-1] == (123 if clock[2] == 400 else 124)
    assert found == sorted(found)


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 400, 719, 720, 721, 16000])
@pytest.mark.parametrize("clock", [(16000, 160, 1), (16000, 320, 400), (24000, 480, 1)])
def test_as_many_frames_as_tokens(clock: tuple[int, int, int], samples: int) -> None:
    extractor = extractor_with(Counting(), **dict(zip(CLOCK, clock, strict=True)))
    features = extractor.extract(Audio.of([torch.zeros(samples)], clock[0]))
    assert features.frames.shape == (1, 1, num_frames(samples, *clock[1:]), 2)


def test_octaves_where_voiced_and_zeros_elsewhere() -> None:
    features = extractor_with(Counting(), hop_length=512).extract(Audio.of([torch.zeros(2048)], 16000))
    assert features.utterance(0)[0].tolist() == [[1.0, 1.0], [2.0, 1.0], [pytest.approx(np.log2(6)), 1.0], [3.0, 1.0]]
    features = extractor_with(Counting(), hop_length=256).extract(Audio.of([torch.zeros(1024)], 16000))
    assert features.utterance(0)[0].tolist() == [[1.0, 1.0], [0.0, 0.0], [2.0, 1.0], [2.0, 1.0]]


@pytest.mark.parametrize("clock", [(16000, 160, 1), (16000, 320, 400), (24000, 480, 1)])
def test_the_laws(clock: tuple[int, int, int]) -> None:
    extractor = extractor_with(Listening(), **dict(zip(CLOCK, clock, strict=True)))
    assert isinstance(extractor, FeatureExtractor)
    check_extractor(extractor)
    check_tokenizer(UnitTokenizer(extractor, [PitchBins()]))


@pytest.mark.parametrize(("hop", "context"), [(160, 24), (320, 12), (256, 13), (200, 32)])
def test_windows_begin_where_a_frame_of_the_estimator_does(hop: int, context: int) -> None:
    extractor = extractor_with(Listening(), hop_length=hop)
    windows = default_windows(extractor)
    assert (extractor.context, windows.context * hop % 256, windows.frames * hop % 256) == (context, 0, 0)
    whole = UnitTokenizer(extractor, [PitchBins()])
    check_long_audio(whole, Windows(2 * context, context, hop) if hop != 256 else Windows(25, context, hop))


def test_configuration_and_doors() -> None:
    extractor = PitchExtractor(sample_rate=24000, hop_length=480)
    assert PitchExtractor.from_config(extractor.config()) == extractor
    assert build("pitch") == PitchExtractor()
    with pytest.raises(InputError, match="no layers"):
        build("pitch", layers=[1])


@pytest.mark.parametrize(
    "settings", [{"hop_length": 0}, {"low": 20.0}, {"low": 300.0, "high": 200.0}, {"high": 4000.0}]
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError):
        PitchExtractor(**settings)  # type: ignore[arg-type]


def test_other_rates_and_stereo_are_refused() -> None:
    extractor = extractor_with(Listening())
    for audio in (Audio.of([torch.zeros(800)], 8000), Audio.of([torch.zeros(2, 800)], 16000)):
        with pytest.raises(InputError, match="mono"):
            extractor.extract(audio)


def test_without_the_package_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "swift_f0", None)
    units = UnitTokenizer(PitchExtractor(), [PitchBins()])  # a tokenizer can be looked at without it
    assert units.spec.labels == ("f0",)
    with pytest.raises(MissingDependencyError, match="swift-f0") as missing:
        units.encode(Audio.of([torch.zeros(800)], 16000))
    assert missing.value.hint == "pip install 'vocable[pitch]'"
    with pytest.raises(MissingDependencyError):
        pitch_units(units.spec)


def test_another_network_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"another")
    module = SimpleNamespace(__file__=str(tmp_path / "__init__.py"))
    monkeypatch.setitem(sys.modules, "swift_f0", module)
    with pytest.raises(ArtifactError, match="expected the pitch estimator 6385e8c2ebc3"):
        PitchExtractor().extract(Audio.of([torch.zeros(800)], 16000))


@pytest.fixture
def units() -> UnitTokenizer:
    pytest.importorskip("swift_f0")
    return pitch_units(TokenSpec(16000, 160, UnitTokenizer(PitchExtractor(), [PitchBins()]).spec.codebooks, "x"))


def gliding(seconds: float) -> tuple[torch.Tensor, np.ndarray]:
    """A tone of nine harmonics around 200 Hz, and its pitch at every sample."""
    time = np.arange(round(16000 * seconds)) / 16000
    pitch = 200 * 2 ** (0.5 * np.sin(2 * np.pi * 0.5 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    return torch.from_numpy(0.1 * sum(np.sin(k * phase) / k for k in range(1, 10))).float(), pitch


def test_the_pitch_of_a_tone(units: UnitTokenizer) -> None:
    wave, pitch = gliding(3.0)
    silence = torch.zeros(8000)
    codes = units.encode(Audio.of([torch.cat([wave, silence])], 16000)).utterance(0)[0]
    found = PitchBins().decode(codes[:, None])
    assert found[:297, 1].mean() > 0.99  # the estimator's receptive field reaches into the silence
    cents = 1200 * (found[5:290, 0].double() - torch.from_numpy(np.log2(pitch[80 + 160 * 5 : 160 * 290 : 160])))
    assert cents.abs().mean() < 25  # half a bin is 12.5, half a frame of the glide 6
    assert int(codes[-40:].max()) == 0


def test_the_laws_with_the_real_estimator(units: UnitTokenizer, tmp_path: Path) -> None:
    check_extractor(units.extractor)
    check_tokenizer(units)
    check_saving(units, UnitTokenizer.from_pretrained, tmp_path / "units")


def test_real_windows_are_the_whole(units: UnitTokenizer) -> None:
    wave = gliding(4.0)[0]
    whole = units.encode(Audio.of([wave], 16000)).codes
    short = UnitTokenizer(units.extractor, units.quantizers, windows=Windows(80, units.extractor.context, 160))
    assert torch.equal(short.encode(Audio.of([wave], 16000)).codes, whole)


def test_threads_do_not_matter(units: UnitTokenizer) -> None:
    batch = Audio.of([gliding(seconds)[0] for seconds in (1.0, 0.3, 0.7, 1.2)], 16000)
    before, codes = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            codes.append(units.encode(batch).codes)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(codes[0], codes[1]) and torch.equal(codes[0], codes[2])
