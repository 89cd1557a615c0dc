from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from tests.tiny_codecs import NAMES, tiny_config, tiny_tensors, write_tiny_codec
from vocable.errors import ArtifactError, InputError
from vocable.testing import check_extractor, noise
from vocable.tokenizers.codec import NeuralCodec
from vocable.tokenizers.latents import LatentExtractor
from vocable.types import Audio, FeatureExtractor

CODECS = tuple(name for name in NAMES if name != "dac-44k")  # differs from dac-16k in its strides alone


@cache
def extractor(name: str) -> LatentExtractor:
    return LatentExtractor(tiny_config(name), tiny_tensors(name))


@pytest.mark.parametrize("name", CODECS)
def test_keeps_the_laws(name: str) -> None:
    # the law's longest utterance takes 1.01 s, one window of EnCodec at 48 kHz 1 s
    longer = tiny_config("encodec-48k", chunk_length_s=1.1)
    found = LatentExtractor(longer, tiny_tensors(name)) if name == "encodec-48k" else extractor(name)
    assert isinstance(found, FeatureExtractor)
    assert (found.layers, found.window) == (("latents",), 1)
    check_extractor(found)


@pytest.mark.parametrize("name", ["encodec-48k", "mimi"])
def test_they_are_what_the_codec_quantizes(name: str) -> None:
    found, coder = extractor(name), NeuralCodec(tiny_config(name), tiny_tensors(name))
    audio = Audio.of([noise(0.4, coder.sample_rate, 1)], coder.sample_rate)
    frames = found.extract(audio).utterance(0)
    codes = coder.encode(audio).utterance(0)[: len(coder.net.labels)]
    assert torch.equal(coder.net.quantize(frames)[0], codes)


def test_takes_no_more_than_a_window_at_48_khz() -> None:
    found = extractor("encodec-48k")
    assert (found.longest, found.context) == (150, 0)
    with pytest.raises(InputError, match="expected at most 150 frames, got 151"):
        found.extract(Audio.of([torch.zeros(48001)], 48000))
    assert extractor("mimi").longest is None


def test_takes_mono_audio_at_its_rate() -> None:
    with pytest.raises(InputError, match="expected mono audio at 24000 Hz"):
        extractor("mimi").extract(Audio.of([torch.zeros(2, 9)], 24000))
    with pytest.raises(InputError, match="at least one sample"):
        extractor("mimi").extract(Audio.of([torch.zeros(0)], 24000))


@pytest.mark.parametrize("bundled", [True, False])
def test_comes_back_from_its_configuration(tmp_path: Path, bundled: bool) -> None:
    folder = write_tiny_codec(tmp_path / "model", "dac-16k")
    found = LatentExtractor.from_pretrained(str(folder), precision="bf16")
    assert found.config()["kind"] == "latents"
    tensors = found.state_dict() if bundled else None
    again = LatentExtractor.from_config(found.config(), origin=found.origin, tensors=tensors)
    audio = Audio.of([noise(0.2, 16000, 1)], 16000)
    assert again.config() == found.config()
    assert torch.equal(again.extract(audio).frames, found.extract(audio).frames)


def test_refuses_other_weights(tmp_path: Path) -> None:
    folder = write_tiny_codec(tmp_path / "model", "dac-16k")
    found = LatentExtractor.from_pretrained(str(folder))
    write_tiny_codec(folder, "dac-16k", seed=1)
    with pytest.raises(ArtifactError, match="expected the weights"):
        LatentExtractor.from_config(found.config(), origin=found.origin)
    with pytest.raises(ArtifactError, match="expected the configuration of codec latents"):
        LatentExtractor.from_config({"kind": "latents"}, origin=found.origin)
