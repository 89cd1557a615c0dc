from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny_own_codecs import random_codec, short_design, tiny_design
from vocable.clock import Windows
from vocable.errors import ArtifactError, InputError, OutputError
from vocable.testing import check_codec, check_saving, check_stream, noise
from vocable.tokenizers import LatentExtractor, NeuralCodec, is_model, load
from vocable.tokenizers.codec import is_codec
from vocable.tokenizers.own_codec import MODEL_TYPE
from vocable.training.codec_designs import CodecDesign
from vocable.types import Audio

_PAPERS = ("encodec", "dac", "wavtokenizer", "taae", "speechtokenizer")
MANNERS = ("tiny", "spectral-tiny", *(f"{name}-tiny" for name in _PAPERS))
QUANTIZERS: dict[str, dict[str, Any]] = {
    "simvq": {},
    "lfq": {},
    "fsq": {"codebooks": 3, "levels": (4, 4, 4)},
    "grouped-rvq": {"codebooks": 2},
}


@cache
def short(causal: bool = True, generator: str = "istft", **options: Any) -> NeuralCodec:
    return NeuralCodec(*random_codec(short_design(causal=causal, generator=generator)), **options)


def codec(design: CodecDesign, **options: Any) -> NeuralCodec:
    return NeuralCodec(*random_codec(design), **options)


def sound(seconds: float, coder: NeuralCodec) -> Audio:
    return Audio.of([noise(seconds, coder.sample_rate, 3)], coder.sample_rate)


@pytest.mark.parametrize("name", MANNERS)
def test_every_manner_keeps_the_laws(name: str) -> None:
    design = tiny_design(name, sample_rate=8000)
    coder = codec(design)
    check_codec(coder)
    assert coder.spec.frame_rate == design.sample_rate / design.hop_length
    assert coder.spec.labels[0] == f"{design.label}0"
    assert is_codec({"model_type": MODEL_TYPE})
    tokens = coder.encode(sound(1.0, coder))
    assert len(tokens.codes[0, 0].unique()) > 1


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_every_quantizer_keeps_the_laws(kind: str) -> None:
    check_codec(codec(tiny_design("taae-tiny", sample_rate=8000, quantizer=kind, **QUANTIZERS[kind])))


def test_hifigan_keeps_the_laws() -> None:
    check_codec(short(generator="hifigan"))


@pytest.mark.parametrize("name", ["encodec-tiny", "taae-tiny", "spectral-tiny"])
def test_causal_codecs_stream(name: str) -> None:
    coder = codec(tiny_design(name, causal=True, sample_rate=8000))
    assert coder.net.causal
    check_stream(coder)
    with coder.streaming() as stream:
        assert stream.latency == coder.spec.hop_length


def test_streams_hand_over_from_window_to_window() -> None:
    coder = short(windows=Windows(20, 12, 80))
    wave = noise(0.5, 8000, 1)
    whole = coder.encode(Audio.of([wave], 8000))
    with coder.streaming() as stream:
        codes = torch.cat([*(stream.encode(part) for part in wave.split(333)), stream.finish()], dim=1)
        parts = [stream.decode(codes), stream.finish_decoding()]
    assert torch.equal(codes, whole.utterance(0))
    expected = coder.decode(whole).waveform(0)
    torch.testing.assert_close(torch.cat(parts, 1)[:, :4000], expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_only_causal_codecs_stream() -> None:
    with pytest.raises(InputError, match="vocable-codec cannot stream"):
        short(causal=False).streaming()


@pytest.mark.parametrize("causal", [True, False])
def test_context_makes_windows_exact(causal: bool) -> None:
    whole = short(causal)
    windowed = short(causal, windows=Windows(30, whole.net.context, 80))
    audio = sound(1.5, whole)
    codes = whole.encode(audio)
    assert (codes.codes == windowed.encode(audio).codes).float().mean() > 0.99
    blocks = torch.cat(list(windowed.decode_blocks(codes.utterance(0), 12000)))
    expected = whole.decode(codes).waveform(0)[0]
    torch.testing.assert_close(blocks, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("causal", [True, False])
def test_no_thread_count_matters(causal: bool) -> None:
    before, found = torch.get_num_threads(), []
    waves = Audio.of([noise(seconds, 8000, 4) for seconds in (1.1, 0.2, 0.6)], 8000)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            tokens = short(causal).encode(waves)
            found.append((tokens.codes, short(causal).decode(tokens).samples))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_saves_and_loads(tmp_path: Path) -> None:
    coder = short()
    check_saving(coder, NeuralCodec.from_saved, tmp_path / "saved")  # its weights are nowhere else


def test_is_published_and_read_back(tmp_path: Path) -> None:
    coder = codec(short_design())
    coder.evidence = {"recordings": 2}
    coder.publish(tmp_path / "codec")
    assert json.loads((tmp_path / "codec" / "config.json").read_text())["model_type"] == MODEL_TYPE
    assert not is_model(str(tmp_path / "codec"))
    again = load(str(tmp_path / "codec"))
    assert isinstance(again, NeuralCodec)
    assert (again.spec, again.evidence) == (coder.spec, coder.evidence)
    check_saving(again, NeuralCodec.from_saved, tmp_path / "reference")
    with pytest.raises(OutputError, match="is there already"):
        coder.publish(tmp_path / "codec")
    audio = sound(0.5, coder)
    fewer = load(str(tmp_path / "codec"), codebooks=2)
    assert torch.equal(fewer.encode(audio).codes, coder.encode(audio).codes[:, :2])


def test_its_encoder_gives_features(tmp_path: Path) -> None:
    coder = short()
    coder.publish(tmp_path / "codec")
    extractor = LatentExtractor.from_pretrained(str(tmp_path / "codec"))
    audio = sound(0.5, coder)
    frames = extractor.extract(audio).frames
    assert frames.shape == (1, 1, 50, 8)
    assert torch.equal(coder.net.quantize(frames[:, 0]), coder.encode(audio).codes)


def test_low_precision_is_near() -> None:
    audio = sound(0.5, short())
    codes, low = (coder.encode(audio).codes for coder in (short(), short(precision="bf16")))
    assert (codes[:, 0] == low[:, 0]).float().mean() > 0.8
    tokens = short().encode(audio)
    full, less = (coder.net.decode(tokens.codes) for coder in (short(), short(precision="bf16")))
    assert less.dtype == torch.float32
    torch.testing.assert_close(less, full, atol=0.05 * float(full.abs().max()), rtol=0)


def _without(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if key != name}


def test_what_does_not_fit_is_refused() -> None:
    settings, tensors = random_codec(short_design())
    for name in ("encoder.out.bias", "quantizer.1"):
        with pytest.raises(ArtifactError, match=f"got no {name}"):
            NeuralCodec(settings, _without(tensors, name))
    with pytest.raises(ArtifactError, match=r"expected encoder.out.bias of shape \[8\], got \[9\]"):
        NeuralCodec(settings, tensors | {"encoder.out.bias": torch.zeros(9)})
    with pytest.raises(InputError, match=r"expected a quantizer of kind residual-kmeans, .*got 'other'"):
        NeuralCodec({**settings, "quantizer": {"kind": "other"}}, tensors)
    with pytest.raises(InputError, match="expected a quantizer of 8 dimensions"):
        NeuralCodec({**settings, "quantizer": {"kind": "fsq", "levels": [3, 3]}}, tensors)
    with pytest.raises(InputError, match="expected the configuration of a vocable-codec"):
        NeuralCodec({key: value for key, value in settings.items() if key != "decoder"}, tensors)
    with pytest.raises(InputError, match="expected an encoder and a decoder of one hop length, got 160 and 80"):
        NeuralCodec({**settings, "encoder": {**settings["encoder"], "strides": [4, 4, 10]}}, tensors)
    with pytest.raises(InputError, match="expected 1 to 3 codebooks, got 4"):
        NeuralCodec(settings, tensors, num_codebooks=4)
    with pytest.raises(InputError, match="expected a precision among"):
        NeuralCodec(settings, tensors, precision="int8")
