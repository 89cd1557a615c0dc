"""What goes into the package: 16 bits, nothing too large, nothing of this machine, a vocoder of these very units."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scripts import pack_models
from tests.stand_ins import pack_parts, write_parts, write_units, write_vocoder
from tests.tiny_foreign import write_tiny_foreign
from vocable.artifacts import read_fingerprint, read_tensors
from vocable.builtin import CODEC, ENCODER, NAMES, SUMS, UNITS, VOCODER
from vocable.errors import ArtifactError, InputError
from vocable.tokenizers import NeuralCodec, SSLExtractor, UnitTokenizer
from vocable.types import Audio
from vocable.vocoders import UnitVocoder


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def models(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_parts(parts, tmp_path_factory.mktemp("packed") / "models")


def speech() -> Audio:
    torch.manual_seed(1)
    return Audio.of([0.1 * torch.randn(8000)], 16000)


def test_weights_are_in_16_bits_and_sums_are_beside_them(models: Path) -> None:
    for name in (ENCODER, VOCODER, CODEC):
        stored = read_tensors(models / name / "model.safetensors")
        assert {tensor.dtype for tensor in stored.values() if tensor.is_floating_point()} == {torch.float16}
    sums = (models / SUMS).read_text().splitlines()
    files = [path for name in NAMES for path in (models / name).iterdir()]
    assert sorted(line.partition("  ")[2] for line in sums) == sorted(str(path.relative_to(models)) for path in files)


def test_the_encoder_is_the_one_given_but_rounded(parts: Path, models: Path) -> None:
    given, packed = (SSLExtractor.from_pretrained(str(folder)) for folder in (parts / "encoder", models / ENCODER))
    rounded = {name: tensor.half().float() for name, tensor in given.state_dict().items()}
    assert all(torch.equal(tensor, rounded[name]) for name, tensor in packed.state_dict().items())
    assert {**given.config(), "weights": None} == {**packed.config(), "weights": None}


def test_units_of_a_rounded_encoder_are_others_and_the_vocoder_follows(parts: Path, models: Path) -> None:
    before, after = read_fingerprint(parts / "units"), read_fingerprint(models / UNITS)
    assert before != after
    assert UnitVocoder.from_pretrained(parts / "vocoder").spec.source == before
    assert UnitVocoder.from_pretrained(models / VOCODER).spec.source == after


def test_units_of_an_encoder_in_16_bits_stay_what_they_are(models: Path, tmp_path: Path) -> None:
    units = write_units(models / ENCODER, tmp_path / "units")
    pack_models.pack_units(tmp_path / "units", tmp_path / UNITS, models / ENCODER)
    assert read_fingerprint(tmp_path / UNITS) == units.fingerprint
    assert json.loads((tmp_path / UNITS / "config.json").read_text())["origin"] == {"model": ENCODER, "revision": None}


def test_a_vocoder_of_other_units_is_refused(models: Path, tmp_path: Path) -> None:
    units = write_units(write_tiny_foreign(tmp_path / "encoder", "w2v-bert", seed=1), tmp_path / "units")
    write_vocoder(units.spec, tmp_path / "vocoder")
    with pytest.raises(InputError, match="expected a vocoder of the units"):
        pack_models.pack(models, vocoder=tmp_path / "vocoder")


def test_units_of_another_kind_of_encoder_are_refused(models: Path, parts: Path, tmp_path: Path) -> None:
    wider = write_tiny_foreign(tmp_path / "encoder", "w2v-bert", intermediate_size=64)
    units = write_units(wider, tmp_path / "units")
    with pytest.raises(InputError, match="expected units of the encoder in"):
        pack_models.pack_units(tmp_path / "units", tmp_path / UNITS, models / ENCODER)
    assert units.fingerprint != read_fingerprint(parts / "units")


def test_a_path_of_this_machine_and_too_large_a_file_are_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / CODEC
    folder.mkdir()
    (folder / "training.json").write_text(json.dumps({"judged": ["a", {"b": "/home/somebody/a"}]}))
    with pytest.raises(InputError, match="expected no paths of this machine"):
        pack_models.check(tmp_path)
    pack_models.check(models)
    monkeypatch.setattr(pack_models, "LARGEST", 10)
    with pytest.raises(InputError, match="expected at most 10 bytes a file"):
        pack_models.check(models)


def test_a_bundle_in_16_bits_carries_its_rounded_model(parts: Path, tmp_path: Path) -> None:
    units = UnitTokenizer.from_pretrained(parts / "units")
    units.save_pretrained(tmp_path / "half", bundle=True, half=True)
    loaded = UnitTokenizer.from_pretrained(tmp_path / "half")
    rounded = SSLExtractor.from_pretrained(str(parts / "encoder"), layers=[1, 2]).state_dict()
    assert all(torch.equal(t, rounded[name].half().float()) for name, t in loaded.extractor.state_dict().items())
    assert loaded.fingerprint == read_fingerprint(tmp_path / "half") != units.fingerprint
    loaded.save_pretrained(tmp_path / "whole", bundle=True)
    again = UnitTokenizer.from_pretrained(tmp_path / "whole")
    assert again.fingerprint == loaded.fingerprint
    assert torch.equal(again.encode(speech()).codes, loaded.encode(speech()).codes)


def test_a_vocoder_in_16_bits_is_another(parts: Path, tmp_path: Path) -> None:
    vocoder = UnitVocoder.from_pretrained(parts / "vocoder")
    vocoder.save_pretrained(tmp_path / "half", half=True)
    loaded = UnitVocoder.from_pretrained(tmp_path / "half")
    assert loaded.fingerprint == read_fingerprint(tmp_path / "half") != vocoder.fingerprint
    rounded = {name: tensor.half().float() for name, tensor in vocoder.decoder.state_dict().items()}
    assert all(torch.equal(tensor, rounded[name]) for name, tensor in loaded.decoder.state_dict().items())
    data = bytearray((tmp_path / "half" / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "half" / "model.safetensors").write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged"):
        UnitVocoder.from_pretrained(tmp_path / "half")


def test_the_packed_codec_streams_and_decodes_any_first_few(models: Path) -> None:
    codec = NeuralCodec.from_pretrained(str(models / CODEC))
    tokens = codec.encode(speech())
    for count in (1, 8):
        audio = codec.decode(tokens.take(range(count)))
        assert audio.lengths.tolist() == [8000]
