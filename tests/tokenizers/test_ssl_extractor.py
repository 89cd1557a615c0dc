from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny_models import rewrite_json, rewrite_tensors, write_tiny_model
from vocable.clock import num_frames
from vocable.errors import ArtifactError, InputError
from vocable.testing import check_extractor
from vocable.tokenizers.ssl import SSLExtractor
from vocable.types import Audio, FeatureExtractor


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("large"), large=True)


@pytest.fixture
def model(base: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(base, tmp_path / "model"))


def load(folder: Path, *layers: int) -> SSLExtractor:
    return SSLExtractor.from_pretrained(str(folder), layers=layers or None)


def waves(*lengths: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [0.1 * torch.randn(n, generator=generator) + 0.02 for n in lengths]


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_describes_itself(base: Path) -> None:
    extractor = load(base, 2, 1)
    assert isinstance(extractor, FeatureExtractor)
    assert (extractor.sample_rate, extractor.hop_length, extractor.window, extractor.context) == (16000, 320, 400, 150)
    assert (extractor.layers, extractor.dim) == (("L2", "L1"), 32)
    assert load(base).layers == ("L0", "L1", "L2", "L3")


@pytest.mark.parametrize("size", ["base", "large"])
def test_keeps_the_laws(size: str, request: pytest.FixtureRequest) -> None:
    check_extractor(load(request.getfixturevalue(size), 1, 3))


@settings(max_examples=10)
@given(lengths=st.lists(st.integers(1, 4000), min_size=1, max_size=5), size=st.sampled_from(["base", "large"]))
def test_same_bits_alone_and_in_any_batch(lengths: list[int], size: str, base: Path, large: Path) -> None:
    extractor, parts = load({"base": base, "large": large}[size], 0, 2), waves(*lengths)
    batch = extractor.extract(Audio.of(parts, 16000))
    assert batch.lengths.tolist() == [num_frames(n, 320, 400) for n in lengths]
    for index, part in enumerate(parts):
        alone = extractor.extract(Audio.of([part], 16000))
        assert torch.equal(batch.utterance(index), alone.utterance(0))
        assert not batch.frames[index, :, int(batch.lengths[index]) :].any()


@pytest.mark.parametrize("size", ["base", "large"])
def test_same_bits_on_any_number_of_threads(size: str, request: pytest.FixtureRequest) -> None:
    extractor = load(request.getfixturevalue(size), 1)
    audio = Audio.of(waves(500, 1, *range(33000, 63000, 3001)), 16000)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(extractor.extract(audio).frames)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("size", ["base", "large"])
def test_equals_transformers_with_its_own_preprocessing(size: str, request: pytest.FixtureRequest) -> None:
    import transformers

    folder = request.getfixturevalue(size)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    prepare = transformers.AutoFeatureExtractor.from_pretrained(folder)
    (wave,) = waves(20000)
    values = prepare(wave.numpy().astype(np.float64), sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        expected = theirs(values, output_hidden_states=True).hidden_states
    found = load(folder, 0, 1, 2).extract(Audio.of([wave], 16000)).utterance(0)
    for ours, states in zip(found, expected, strict=False):
        assert distance(ours, states[0]) < 1e-5


@pytest.mark.parametrize(("big", "normalize"), [(False, False), (True, True)])
def test_normalisation_follows_the_front_end_where_no_file_says(big: bool, normalize: bool, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, large=big, preprocessor=False)
    assert load(folder, 1).config()["normalize"] is normalize


def test_normalised_features_do_not_depend_on_level(large: Path) -> None:
    (wave,) = waves(6000)
    quiet, loud = (load(large, 1).extract(Audio.of([level * wave + level], 16000)).frames for level in (0.1, 0.7))
    assert distance(quiet, loud) < 1e-3


def test_refuses_other_audio(base: Path) -> None:
    extractor = load(base, 1)
    with pytest.raises(InputError, match="expected mono audio at 16000 Hz, got 1 channels at 8000 Hz"):
        extractor.extract(Audio.of(waves(900), 8000))
    with pytest.raises(InputError, match="got 2 channels"):
        extractor.extract(Audio.of([torch.zeros(2, 900)], 16000))
    with pytest.raises(InputError, match="expected at least one sample"):
        extractor.extract(Audio.of([torch.zeros(0)], 16000))


def test_loads_no_deeper_than_it_runs(model: Path) -> None:
    whole = load(model).extract(Audio.of(waves(5000), 16000)).frames
    rewrite_tensors(model, lambda tensors: {name: t for name, t in tensors.items() if "encoder.layers.2." not in name})
    extractor = load(model, 1, 2)
    assert torch.equal(extractor.extract(Audio.of(waves(5000), 16000)).frames, whole[:, [1, 2]])
    assert not any("encoder.layers.2." in name for name in extractor.state_dict())
    with pytest.raises(ArtifactError, match=r"lacks the tensor encoder.layers.2\..* and \d+ more"):
        load(model, 3)


@pytest.mark.parametrize("layers", [(-1,), (4,), (1, 1)])
def test_refuses_layers_that_are_not_there(base: Path, layers: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected distinct layers from 0 to 3"):
        load(base, *layers)


def as_ctc(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"hubert.{name}": tensor for name, tensor in tensors.items()} | {"lm_head.weight": torch.zeros(5, 32)}


def with_old_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    new = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    return {name.replace(p, new[p]): t for name, t in tensors.items() for p in new if p in name} | {
        name: t for name, t in tensors.items() if "parametrizations" not in name
    }


@pytest.mark.parametrize("change", [as_ctc, with_old_names, lambda tensors: as_ctc(with_old_names(tensors))])
def test_identity_does_not_depend_on_how_the_weights_were_saved(
    model: Path, base: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    before = load_file(model / "model.safetensors").keys()
    rewrite_tensors(model, change)
    assert load_file(model / "model.safetensors").keys() != before
    assert load(model, 2).config() == load(base, 2).config()


def test_reads_shards(model: Path, base: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    files = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in tensors if files[name] == file}, model / file)
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    assert load(model, 2).config() == load(base, 2).config()
    (model / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model-00002-of-00002\.safetensors is missing"):
        load(model, 2)


def test_half_precision_files_run_in_single_precision(model: Path, base: Path) -> None:
    rewrite_tensors(model, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    found, expected = (load(folder, 2).extract(Audio.of(waves(5000), 16000)).frames for folder in (model, base))
    assert found.dtype == torch.float32
    assert 0 < distance(found, expected) < 1e-2


def test_is_rebuilt_from_its_configuration(base: Path) -> None:
    extractor = load(base, 2, 0)
    config = json.loads(json.dumps(extractor.config()))
    assert str(base) not in json.dumps(config)
    assert extractor.origin == {"model": str(base), "revision": None}
    audio = Audio.of(waves(5000), 16000)
    bundled = SSLExtractor.from_config(
        config, origin={"model": "gone", "revision": None}, tensors=extractor.state_dict()
    )
    for again in (SSLExtractor.from_config(config, origin=extractor.origin), bundled):
        assert again.config() == extractor.config()
        assert torch.equal(again.extract(audio).frames, extractor.extract(audio).frames)


@pytest.mark.parametrize("name", ["encoder.layers.1.attention.k_proj.weight", "feature_projection.projection.bias"])
def test_one_other_weight_is_another_model(model: Path, name: str) -> None:
    extractor = load(model, 2)
    tensors = extractor.state_dict() | {name: extractor.state_dict()[name].clone()}
    tensors[name].view(-1)[3] += 1e-3
    with pytest.raises(ArtifactError, match="expected the weights"):
        SSLExtractor.from_config(extractor.config(), origin=extractor.origin, tensors=tensors)
    rewrite_tensors(model, lambda there: there | {name: tensors[name]})
    with pytest.raises(ArtifactError, match=f"expected the weights .* in {model}") as caught:
        SSLExtractor.from_config(extractor.config(), origin=extractor.origin)
    assert "put the model" in caught.value.hint


@pytest.mark.parametrize(
    "missing", ["kind", "model", "layers", "normalize", "normalize_layers", "precision", "mode", "weights"]
)
def test_refuses_a_broken_configuration(base: Path, missing: str) -> None:
    extractor = load(base, 1)
    config = {name: value for name, value in extractor.config().items() if name != missing}
    with pytest.raises(ArtifactError, match=r"expected (the configuration|settings) of an SSL extractor"):
        SSLExtractor.from_config(config, origin=extractor.origin)


def test_refuses_bundled_tensors_that_do_not_fit(base: Path) -> None:
    extractor = load(base, 1)
    tensors = extractor.state_dict()
    tensors.pop("encoder.layer_norm.bias")
    with pytest.raises(ArtifactError, match=r"tensors: encoder\.layer_norm\.bias"):
        SSLExtractor.from_config(extractor.config(), origin=extractor.origin, tensors=tensors)


def truncate(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def leave_a_pickle(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def misshape(model: Path) -> None:
    rewrite_tensors(model, lambda tensors: tensors | {"encoder.layer_norm.bias": torch.zeros(33)})


def make_integers(model: Path) -> None:
    rewrite_tensors(model, lambda tensors: tensors | {"encoder.layer_norm.bias": torch.zeros(32, dtype=torch.int64)})


def map_outside(model: Path) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda model: (model / "config.json").unlink(), ArtifactError, r"config\.json is missing"),
        (lambda model: (model / "config.json").write_text("{"), ArtifactError, r"config\.json is not JSON"),
        (lambda model: (model / "config.json").write_text("[]"), ArtifactError, "is not a JSON object"),
        (lambda model: (model / "model.safetensors").unlink(), ArtifactError, r"has no model\.safetensors"),
        (leave_a_pickle, ArtifactError, "pickled weights are not opened"),
        (truncate, ArtifactError, r"model\.safetensors is damaged"),
        (lambda model: (model / "model.safetensors").write_text("?"), ArtifactError, "is damaged"),
        (misshape, ArtifactError, r"expected encoder\.layer_norm\.bias of shape \[32\], got \[33\]"),
        (make_integers, ArtifactError, r"encoder\.layer_norm\.bias .* holds torch\.int64"),
        (map_outside, ArtifactError, "does not map tensors to files"),
        (lambda model: rewrite_json(model / "config.json", model_type="bert"), InputError, "hubert, wav2vec2, wavlm"),
        (lambda model: rewrite_json(model / "config.json", hidden_size=64), ArtifactError, "of shape"),
        (
            lambda model: rewrite_json(model / "preprocessor_config.json", sampling_rate="16k"),
            InputError,
            "expected the sampling_rate of the model in Hz, got '16k'",
        ),
    ],
)
def test_says_what_is_wrong_with_a_model(
    model: Path, damage: Callable[[Path], object], error: type[Exception], message: str
) -> None:
    damage(model)
    with pytest.raises(error, match=message) as caught:
        load(model, 2)
    assert "\n" not in str(caught.value)


def test_a_pickle_comes_with_the_way_out(model: Path) -> None:
    leave_a_pickle(model)
    with pytest.raises(ArtifactError) as caught:
        load(model, 2)
    assert f"`vocable import {model} --out NEW`" in caught.value.hint


@pytest.mark.parametrize("place", ["/nowhere/at/all", "./model", "a/b/c"])
def test_says_that_a_directory_is_not_there(place: str) -> None:
    with pytest.raises(ArtifactError, match="is not a directory"):
        SSLExtractor.from_pretrained(place)


HUB_SCRIPT = """
import json, sys
from vocable.errors import ArtifactError
from vocable.tokenizers.ssl import SSLExtractor
lazy = not {"transformers", "huggingface_hub", "safetensors"} & set(sys.modules)
extractor = SSLExtractor.from_pretrained("someone/tiny", layers=[1])
again = SSLExtractor.from_config(extractor.config(), origin=extractor.origin)
problems = []
for name, revision in (("someone/other", None), ("someone/tiny", "v2")):
    try:
        SSLExtractor.from_pretrained(name, revision=revision)
    except ArtifactError as problem:
        problems.append([str(problem), problem.hint])
print(json.dumps([lazy, extractor.origin, again.origin, extractor.config(), problems]))
"""


def test_hub_ids_are_pinned_to_their_commit_and_nothing_is_said(base: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(base, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HUB_SCRIPT],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    lazy, origin, origin_again, config, problems = json.loads(done.stdout)
    assert lazy
    assert origin == origin_again == {"model": "someone/tiny", "revision": commit}
    assert config == load(base, 1).config()
    assert done.stderr == ""
    (unknown, hint), (revision, _) = problems
    assert unknown.startswith("someone/other is neither a directory here nor a model that the hub gives")
    assert "local directory" in hint
    assert revision.startswith("someone/tiny at revision v2 is neither")
