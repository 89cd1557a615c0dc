"""The table of presets against the arithmetic of the configurations that it speaks of."""

from __future__ import annotations

import math
import sys
from types import ModuleType

import pytest

from vocable import builtin
from vocable.errors import ArtifactError, InputError
from vocable.presets import SAMPLES, WEIGHT_FREE, Preset, checkpoint, find, presets, tokenizer
from vocable.tokenizers import UnitTokenizer

ALL = {preset.name: preset for preset in presets()}


def test_names_are_distinct_and_every_kind_is_there() -> None:
    assert len(ALL) == len(presets())
    assert {preset.kind for preset in presets()} == {"built-in", "weight-free", "features+kmeans", "codec"}


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_what_a_preset_says_hangs_together(preset: Preset) -> None:
    assert preset.bitrate == pytest.approx(
        preset.sample_rate / preset.hop_length * math.log2(math.prod(preset.codebooks))
    )
    assert (preset.download is None) == (preset.kind in ("built-in", "weight-free"))
    assert (preset.licence == "none needed") == (preset.kind == "weight-free")
    assert (preset.learned_from is not None) == (preset.kind == "built-in")
    trained = preset.kind == "features+kmeans"
    assert (preset.features is not None) == (preset.layers is not None) == (preset.clusters is not None) == trained
    if preset.layers is not None:
        assert preset.codebooks == (preset.clusters,) * len(preset.layers)
        assert preset.features == preset.download
        assert f"--preset {preset.name}" in preset.command
    else:
        assert f"--tokenizer {preset.name}" in preset.command
    assert preset.what == preset.what.strip(". ")
    assert "arXiv:" in preset.reference


@pytest.mark.parametrize("name", list(WEIGHT_FREE))
def test_what_needs_no_weights_is_built_as_announced(name: str) -> None:
    preset, units = ALL[name], tokenizer(name)
    assert isinstance(units, UnitTokenizer)
    spec = units.spec
    assert (spec.sample_rate, spec.hop_length) == (preset.sample_rate, preset.hop_length)
    assert tuple(book.size for book in spec.codebooks) == preset.codebooks
    assert spec.bitrate == pytest.approx(preset.bitrate)
    assert checkpoint(name) is None


def test_all_that_is_weight_free_can_be_built() -> None:
    assert set(WEIGHT_FREE) == {preset.name for preset in presets() if preset.kind == "weight-free"}


def test_built_in_models_come_first_and_are_not_fetched() -> None:
    assert [preset.name for preset in presets()][:2] == ["vocable-units", "vocable-codec"]
    assert checkpoint("vocable-units") is None
    if not builtin.installed():
        with pytest.raises(ArtifactError, match="not in this installation"):
            tokenizer("vocable-codec")


def test_encodec_and_mimi_are_as_their_default_configurations() -> None:
    from transformers import EncodecConfig, MimiConfig

    encodec, preset = EncodecConfig(), ALL["encodec-24khz"]
    assert (encodec.sampling_rate, encodec.hop_length) == (preset.sample_rate, preset.hop_length)
    assert (encodec.codebook_size,) * encodec.num_quantizers == preset.codebooks
    assert encodec.target_bandwidths[-1] * 1000 == preset.bitrate
    mimi, preset = MimiConfig(), ALL["mimi"]
    assert (mimi.sampling_rate, mimi.frame_rate) == (preset.sample_rate, preset.frame_rate)
    assert (mimi.codebook_size,) * mimi.num_quantizers == preset.codebooks


def test_encodec_at_48_khz_spends_24_kbit() -> None:
    from transformers import EncodecConfig

    config, preset = EncodecConfig(sampling_rate=48000, target_bandwidths=[3.0, 6.0, 12.0, 24.0]), ALL["encodec-48khz"]
    assert (config.codebook_size,) * config.num_quantizers == preset.codebooks
    assert (config.frame_rate, preset.bitrate) == (preset.frame_rate, 24000)


@pytest.mark.parametrize(
    ("name", "ratios", "rate", "books", "bitrate"),
    [
        ("dac-16khz", [2, 4, 5, 8], 16000, 12, 6000),
        ("dac-24khz", [2, 4, 5, 8], 24000, 32, 24000),
        ("dac-44khz", [2, 4, 8, 8], 44100, 9, 7752),
    ],
)
def test_dac_has_the_hop_of_its_strides(name: str, ratios: list[int], rate: int, books: int, bitrate: float) -> None:
    from transformers import DacConfig

    config, preset = DacConfig(downsampling_ratios=ratios, sampling_rate=rate, n_codebooks=books), ALL[name]
    assert (config.sampling_rate, math.prod(config.downsampling_ratios)) == (preset.sample_rate, preset.hop_length)
    assert (config.codebook_size,) * config.n_codebooks == preset.codebooks
    assert preset.bitrate == pytest.approx(bitrate, abs=1)


def test_the_x_codecs_are_as_their_default_configurations() -> None:
    from transformers import NeuCodecConfig, Xcodec2Config, XcodecConfig

    first, preset = XcodecConfig(), ALL["xcodec"]
    assert (first.sample_rate, first.hop_length) == (preset.sample_rate, preset.hop_length)
    assert (first.codebook_size,) * first.num_quantizers == preset.codebooks
    for config, name in ((Xcodec2Config(), "xcodec2"), (NeuCodecConfig(), "neucodec")):
        assert (math.prod(config.quantization_levels),) == ALL[name].codebooks
        assert math.prod(config.downsampling_ratios) == ALL[name].hop_length


def test_ssl_models_have_a_frame_every_320_samples_at_16_khz() -> None:
    from transformers import HubertConfig, WavLMConfig

    for config in (HubertConfig(), WavLMConfig()):
        assert math.prod(config.conv_stride) == 320
    assert {(p.sample_rate, p.hop_length) for p in presets() if p.features} == {(16000, 320)}


def test_a_codec_is_fetched_by_its_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    class NeuralCodec:
        @classmethod
        def from_pretrained(cls, model: str) -> str:
            return f"codec {model}"

    module = ModuleType("vocable.tokenizers.codec")
    module.NeuralCodec = NeuralCodec  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vocable.tokenizers.codec", module)
    assert str(tokenizer("mimi")) == "codec kyutai/mimi"
    assert checkpoint("dac-16khz") == "descript/dac_16khz"


def test_names_that_are_no_presets() -> None:
    assert checkpoint("facebook/encodec_24khz") is None
    with pytest.raises(InputError, match="'dml'") as problem:
        find("dml")
    assert problem.value.hint == "did you mean dmel?"
    with pytest.raises(InputError, match="name of a preset"):
        tokenizer("units/")


def test_units_are_to_be_trained_first() -> None:
    for ask in (checkpoint, tokenizer):
        with pytest.raises(InputError, match="yet to be trained") as problem:
            ask("hubert-base-l6-k100")
        assert "vocable train kmeans" in problem.value.hint


def test_the_samples_are_where_they_should_be() -> None:
    assert SAMPLES.is_file()
