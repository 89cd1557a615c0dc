from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.tiny_foreign import VARIANTS, upstream_model, write_tiny_foreign
from tests.tiny_models import rewrite_json, rewrite_tensors
from vocable.clock import num_frames
from vocable.errors import ArtifactError, InputError
from vocable.quantizers import fit_kmeans
from vocable.testing import check_extractor, check_saving, check_tokenizer, noise
from vocable.tokenizers import UnitTokenizer, foreign
from vocable.tokenizers.checkpoint import Checkpoint
from vocable.tokenizers.ssl import SSLExtractor
from vocable.types import Audio

NAMES = list(VARIANTS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("foreign")
    return {name: write_tiny_foreign(root / name, name) for name in NAMES}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A SEW model to break."""
    return write_tiny_foreign(tmp_path / "model", "sew")


def wave(length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(length, generator=generator) + 0.02


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def upstream(folder: Path, samples: Tensor) -> Tensor:
    """All hidden states [l, t, d], from the files and through the feature extractor of transformers."""
    import transformers

    model: Any = transformers.AutoModel.from_pretrained(folder)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    given = extractor(samples.numpy(), sampling_rate=16000, return_tensors="pt")
    if "whisper" in folder.name:
        model, given = model.encoder, {"input_features": given["input_features"]}
    with torch.no_grad():
        return torch.cat(model(**given, output_hidden_states=True).hidden_states)


@pytest.mark.parametrize("name", NAMES)
def test_frames_equal_transformers(folders: dict[str, Path], name: str) -> None:
    extractor = SSLExtractor.from_pretrained(str(folders[name]))
    assert extractor.layers == ("L0", "L1", "L2", "L3")
    assert extractor.normalize == (VARIANTS[name][2]["feature_extractor_type"] == "Wav2Vec2FeatureExtractor")
    for length in (2000, 20001):
        frames = extractor.extract(Audio.of([wave(length)], 16000)).utterance(0)
        expected = upstream(folders[name], wave(length))
        assert frames.shape[1] == num_frames(length, extractor.hop_length, extractor.window)
        # theirs pads an odd mel frame of w2v-BERT; and takes means of mel bands in float32
        assert distance(frames, expected[:, : frames.shape[1]]) < (3e-5 if "bert" in name else 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_laws_of_extractors(folders: dict[str, Path], name: str) -> None:
    check_extractor(SSLExtractor.from_pretrained(str(folders[name]), layers=["L3", 0]))


@pytest.mark.parametrize("name", ["sew", "conformer-rotary", "w2v-bert", "whisper"])
def test_laws_of_units(folders: dict[str, Path], name: str, tmp_path: Path) -> None:
    extractor = SSLExtractor.from_pretrained(str(folders[name]), layers=[2])
    frames = extractor.extract(Audio.of([noise(1.9, 16000, 42)], 16000)).utterance(0)
    tokenizer = UnitTokenizer(extractor, [fit_kmeans(frames[0], 8)[0]])
    check_tokenizer(tokenizer)
    check_saving(tokenizer, UnitTokenizer.from_pretrained, tmp_path / "units")
    tokenizer.save_pretrained(tmp_path / "bundle", bundle=True)
    assert UnitTokenizer.from_pretrained(tmp_path / "bundle").fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_settings_and_tensors_rebuild_it(folders: dict[str, Path], name: str) -> None:
    net = foreign.load(Checkpoint.open(str(folders[name])), [2])
    settings = json.loads(json.dumps(net.settings()))
    again = foreign.rebuild(settings, net.state_dict())
    assert again.settings() == settings
    assert torch.equal(again.eval()(wave(4000)[None]), net.eval()(wave(4000)[None]))


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("sew", "ForCTC"),
        ("sew-d", "ForCTC"),
        ("conformer-relative", "ForPreTraining"),
        ("w2v-bert", "ForCTC"),
        ("whisper", "ForConditionalGeneration"),
        ("whisper", "ForAudioClassification"),
    ],
)
def test_the_model_under_a_head(name: str, head: str, tmp_path: Path) -> None:
    changes = {} if name == "whisper" else {"vocab_size": 12}
    folder = write_tiny_foreign(tmp_path, name, head, **changes)
    theirs: Any = upstream_model(name, head, **changes)
    base = theirs.base_model if head != "ForAudioClassification" else theirs
    tensors = (base.encoder if name == "whisper" else base).state_dict()
    net = foreign.load(Checkpoint.open(str(folder)), None)
    assert net.state_dict()
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, tensors[key.removeprefix("model.")]), key


def test_only_the_tensors_needed_are_read(model: Path) -> None:
    rewrite_tensors(model, lambda all_: {name: t for name, t in all_.items() if "encoder.layers.2." not in name})
    assert foreign.load(Checkpoint.open(str(model)), [2]).labels == ("L2",)
    with pytest.raises(ArtifactError, match=r"lacks the tensor encoder\.layers\.2"):
        foreign.load(Checkpoint.open(str(model)), None)


def test_weight_norm_under_its_old_names(model: Path) -> None:
    expected = foreign.load(Checkpoint.open(str(model)), None).state_dict()
    rewrite_tensors(
        model,
        lambda all_: {
            name.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): tensor
            for name, tensor in all_.items()
        },
    )
    assert any(name.endswith("weight_g") for name in load_file(model / "model.safetensors"))
    found = foreign.load(Checkpoint.open(str(model)), None).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_tensors_of_another_shape(model: Path) -> None:
    rewrite_tensors(model, lambda all_: all_ | {"layer_norm.weight": torch.ones(3)})
    with pytest.raises(ArtifactError, match=r"expected layer_norm.weight of shape \[16\], got \[3\]"):
        foreign.load(Checkpoint.open(str(model)), None)


def test_a_pickle_is_not_opened(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="pickled weights are not opened"):
        foreign.load(Checkpoint.open(str(model)), None)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("w2v-bert", "stride", 1),
        ("w2v-bert", "num_mel_bins", 80),
        ("whisper", "hop_length", 80),
        ("whisper", "n_fft", 512),
    ],
)
def test_features_of_another_kind(name: str, field: str, value: int, tmp_path: Path) -> None:
    folder = write_tiny_foreign(tmp_path, name)
    rewrite_json(folder / "preprocessor_config.json", **{field: value})
    with pytest.raises(InputError, match=f"with {field} .*, got {value}"):
        foreign.load(Checkpoint.open(str(folder)), None)


def test_another_kind_of_model(model: Path) -> None:
    rewrite_json(model / "config.json", model_type="bert")
    with pytest.raises(InputError, match="expected a model of type sew, sew-d, wav2vec2-conformer"):
        foreign.load(Checkpoint.open(str(model)), None)


def test_settings_that_do_not_fit(model: Path) -> None:
    net = foreign.load(Checkpoint.open(str(model)), [1])
    settings, tensors = net.settings(), net.state_dict()
    for broken in ({}, {**settings, "layers": [9]}, {**settings, "config": None}, {**settings, "model_type": "bert"}):
        with pytest.raises(ArtifactError, match="expected the settings of an encoder"):
            foreign.rebuild(broken, tensors)
    with pytest.raises(ArtifactError, match=r"does not hold this model's tensors: encoder.layers.1"):
        foreign.rebuild({**settings, "layers": [2]}, tensors)
    wide = {**settings, "config": {**settings["config"], "intermediate_size": 50}}
    with pytest.raises(ArtifactError, match=r"intermediate_dense.*expected|expected .*intermediate_dense"):
        foreign.rebuild(wide, tensors)


@pytest.mark.parametrize("name", NAMES)
def test_low_precision_is_another_extractor(folders: dict[str, Path], name: str) -> None:
    precise = SSLExtractor.from_pretrained(str(folders[name]), layers=[3])
    coarse = SSLExtractor.from_pretrained(str(folders[name]), layers=[3], precision="bf16")
    audio = Audio.of([wave(9000), wave(12000, seed=1)], 16000)
    found, expected = coarse.extract(audio), precise.extract(audio)
    assert found.frames.dtype == torch.float32
    assert coarse.config() != precise.config()
    assert 1e-5 < distance(found.frames, expected.frames) < 0.1
