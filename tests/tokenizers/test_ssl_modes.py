from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny_models import FAMILIES, rewrite_json, write_tiny_model
from vocable.artifacts import hash_tensors
from vocable.errors import ArtifactError, InputError
from vocable.testing import check_extractor
from vocable.tokenizers import ssl
from vocable.tokenizers.ssl import SSLExtractor
from vocable.tokenizers.ssl_batches import bucketed, fixed
from vocable.types import Audio

LENGTHS = (9000, 50, 401, 3000, 20000)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    made = {family: write_tiny_model(root / family, family) for family in FAMILIES}
    return made | {"large": write_tiny_model(root / "large", "wav2vec2", large=True)}


def load(folder: Path, **options: Any) -> SSLExtractor:
    return SSLExtractor.from_pretrained(str(folder), **options)


def waves(*lengths: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [0.1 * torch.randn(n, generator=generator).cumsum(0).sin() for n in lengths]


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", [*FAMILIES, "large"])
@pytest.mark.parametrize("options", [{}, {"precision": "bf16", "mode": "fast", "normalize_layers": True}])
def test_every_family_keeps_the_laws(name: str, options: dict[str, Any], models: dict[str, Path]) -> None:
    check_extractor(load(models[name], layers=["L1", "2.pre", 3], **options))


@pytest.mark.parametrize("name", [*FAMILIES, "large"])
def test_batches_of_accelerators_equal_utterances_alone(name: str, models: dict[str, Path]) -> None:
    extractor = load(models[name])
    parts = [extractor._prepare(wave) for wave in waves(*LENGTHS)]
    expected = dict(extractor._run_all(parts))
    for batches in (
        fixed(parts, step=4000, limit=40000, window=400),
        bucketed(parts, limit=60000, padding=True),
        bucketed(parts, limit=60000, padding=False),
    ):
        for batch in batches:
            for row, frames in zip(batch.rows, extractor._run(batch)[1], strict=False):
                count = expected[row].shape[1]
                assert distance(frames[:, :count], expected[row]) < 1e-5
                assert not frames[:, count:].any()


def test_fixed_batches_have_the_same_bits_in_any_company(models: dict[str, Path]) -> None:
    extractor = load(models["hubert"])
    parts = [extractor._prepare(wave) for wave in waves(*LENGTHS, 19000, 18000)]

    def frames(rows: list[int]) -> dict[int, Tensor]:
        batches = fixed([parts[row] for row in rows], step=4000, limit=40000, window=400)
        return {
            rows[place]: found
            for batch in batches
            for place, found in zip(batch.rows, extractor._run(batch)[1], strict=False)
        }

    whole = frames([0, 1, 2, 3, 4, 5, 6])
    for rows in ([6, 5, 4, 3, 2, 1, 0], [4], [5, 1], [3, 6]):
        for row, found in frames(rows).items():
            assert torch.equal(found, whole[row])


@pytest.mark.parametrize(("precision", "limit"), [("bf16", 0.03), ("fp16", 0.005)])
@pytest.mark.parametrize("name", [*FAMILIES, "large"])
def test_low_precision_is_close(name: str, precision: str, limit: float, models: dict[str, Path]) -> None:
    audio = Audio.of(waves(8000), 16000)
    found = load(models[name], precision=precision).extract(audio).frames
    assert found.dtype == torch.float32
    assert 0 < distance(found, load(models[name]).extract(audio).frames) < limit


def test_low_precision_leaves_weights_and_the_first_convolution_alone(models: dict[str, Path]) -> None:
    full, low = load(models["hubert"], layers=[2]), load(models["hubert"], layers=[2], precision="bf16")
    assert {tensor.dtype for tensor in low.state_dict().values()} == {torch.float32}
    assert hash_tensors(low.state_dict()) == hash_tensors(full.state_dict()) == full.config()["weights"]
    assert low.config() == full.config() | {"precision": "bf16"}
    again = SSLExtractor.from_config(low.config(), origin={"model": "gone"}, tensors=full.state_dict())
    audio = Audio.of(waves(8000), 16000)
    assert torch.equal(again.extract(audio).frames, low.extract(audio).frames)
    assert isinstance(low._net, nn.Module)
    dtypes = {name: tensor.dtype for name, tensor in low._net.named_parameters()}
    assert dtypes["feature_extractor.conv_layers.0.conv.weight"] == torch.float32
    assert dtypes["feature_extractor.conv_layers.1.conv.weight"] == torch.bfloat16
    assert dtypes["encoder.layers.0.final_layer_norm.weight"] == torch.bfloat16


def test_normalised_layers_have_zero_mean_and_unit_variance(models: dict[str, Path]) -> None:
    audio = Audio.of(waves(8000, 3000), 16000)
    plain, normed = load(models["hubert"]), load(models["hubert"], normalize_layers=True)
    assert normed.config() == plain.config() | {"normalize_layers": True}
    raw = plain.extract(audio).utterance(1)
    centred = raw - raw.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(normed.extract(audio).utterance(1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"precision": "bf16"}, {"mode": "fast"}, {"normalize_layers": True}, {"precision": "fp16", "mode": "fast"}],
)
def test_every_option_is_part_of_the_configuration(options: dict[str, Any], models: dict[str, Path]) -> None:
    extractor = load(models["wavlm"], layers=["L3", "2.pre"], **options)
    config = json.loads(json.dumps(extractor.config()))
    assert config["layers"] == ["L3", "L2.pre"]
    assert {name: config[name] for name in options} == options
    assert (config != load(models["wavlm"], layers=["L3", "2.pre"]).config()) == bool(options)
    again = SSLExtractor.from_config(config, origin=extractor.origin)
    assert again.config() == extractor.config()


@pytest.mark.parametrize("options", [{"precision": "int8"}, {"mode": "quick"}, {"precision": "float32"}])
def test_refuses_options_that_it_does_not_know(options: dict[str, Any], models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="expected precision fp32, bf16, fp16 and mode exact, fast, got"):
        load(models["hubert"], **options)
    config = load(models["hubert"], layers=[1]).config() | options
    with pytest.raises(ArtifactError, match="expected the configuration"):
        SSLExtractor.from_config(config, origin={"model": str(models["hubert"]), "revision": None})


@pytest.mark.parametrize("model_type", ["encodec", "dac", "mimi", "xcodec", "xcodec2", "neucodec"])
def test_a_codec_comes_with_the_way_to_its_latents(model_type: str, tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    rewrite_json(tmp_path / "config.json", model_type=model_type)
    with pytest.raises(
        InputError, match=f"expected a model of type hubert, .*, whisper.*, got '{model_type}'"
    ) as caught:
        load(tmp_path)
    assert "latents:MODEL" in caught.value.hint


class Bounded(nn.Module):
    """Sums of 4 samples, of 10 frames at most, whose batches must not be padded."""

    padding, longest, sample_rate, hop_length, window, labels, dim = False, 10, 100, 4, 4, ("L0",), 1

    def settings(self) -> dict[str, Any]:
        return {"model_type": "bounded"}

    def forward(self, samples: Tensor, lengths: Tensor | None = None) -> Tensor:
        assert lengths is None
        return samples.unfold(1, 4, 4).sum(-1)[:, None, :, None]


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("cpu", [True, False])
def test_runs_any_encoder_within_its_bounds(mode: Any, cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = ssl.plan
    monkeypatch.setattr(ssl, "plan", lambda waves, mode, **how: plan(waves, mode, **(how | {"cpu": cpu})))
    extractor = SSLExtractor(Bounded(), normalize=False, origin={}, mode=mode)
    assert (extractor.longest, extractor.sample_rate, extractor.layers) == (10, 100, ("L0",))
    features = extractor.extract(Audio.of([torch.ones(43), torch.ones(3), torch.ones(40)], 100))
    assert features.lengths.tolist() == [10, 1, 10]
    assert [features.utterance(row).sum() for row in range(3)] == [40, 3, 40]
    with pytest.raises(InputError, match="expected at most 10 frames at once, got 11"):
        extractor.extract(Audio.of([torch.ones(44)], 100))


def test_what_runs_here_has_no_bound(models: dict[str, Path]) -> None:
    assert load(models["hubert"]).longest is None
