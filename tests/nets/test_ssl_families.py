from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny_models import rewrite_json, rewrite_tensors, tiny_config, tiny_net, write_tiny_model
from vocable.errors import InputError
from vocable.nets.encoder import parse_layers
from vocable.nets.ssl import SSLEncoder
from vocable.nets.ssl_config import SSLConfig
from vocable.tokenizers.ssl import SSLExtractor
from vocable.types import Audio


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def wave(length: int = 6000) -> Tensor:
    return 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(1)).cumsum(0).sin()


def upstream(folder: Path, samples: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Hidden states of transformers' model, and what the feed-forward network of each block gave."""
    import transformers

    model = transformers.AutoModel.from_pretrained(folder).eval()
    added: list[Tensor] = []
    for block in model.encoder.layers:
        block.feed_forward.register_forward_hook(lambda module, given, found: added.append(found[0]))
    with torch.no_grad():
        states = model(samples[None], output_hidden_states=True).hidden_states
    return [state[0] for state in states], added


@pytest.mark.parametrize(
    ("family", "large"), [("hubert", False), ("wav2vec2", True), ("wavlm", False), ("data2vec-audio", False)]
)
def test_both_conventions_of_a_layer_are_those_of_upstream(family: str, large: bool, tmp_path: Path) -> None:
    states, added = upstream(write_tiny_model(tmp_path, family, large=large), wave())
    config = tiny_config(family, large=large)
    net = SSLEncoder(config, ["L2.pre", 3, "1.pre", "2"]).eval().requires_grad_(False)
    net.load_state_dict(tiny_net(config).state_dict())
    found = net(wave()[None])[0]
    assert net.labels == ("L2.pre", "L3", "L1.pre", "L2")
    for ours, theirs in zip(found, [added[1], states[3], added[0], states[2]], strict=True):
        assert distance(ours, theirs) < 1e-5
    if large:
        assert distance(net(wave()[None])[0, 3] - found[0], states[2] - added[1]) < 1e-5


def make_distilled(folder: Path) -> None:
    """DistilHuBERT: two blocks, and no norm before the projection."""
    rewrite_json(folder / "config.json", num_hidden_layers=2, feat_proj_layer_norm=False)
    rewrite_tensors(
        folder, lambda there: {n: t for n, t in there.items() if ".layers.2." not in n and "projection.layer" not in n}
    )


def make_content(folder: Path) -> None:
    """ContentVec: a projection behind the last block, which no layer needs."""
    rewrite_tensors(folder, lambda there: there | {"final_proj.weight": torch.ones(8, 32)})


def make_pretraining(folder: Path) -> None:
    """A head's checkpoint, the model's tensors under its prefix."""
    prefix = json.loads((folder / "config.json").read_text())["model_type"].replace("-", "_")
    rewrite_tensors(folder, lambda there: {f"{prefix}.{name}": tensor for name, tensor in there.items()})


@pytest.mark.parametrize(
    ("family", "large", "change"),
    [
        ("hubert", False, make_distilled),
        ("hubert", False, make_content),
        ("unispeech", False, make_pretraining),
        ("unispeech-sat", True, make_pretraining),
        ("data2vec-audio", False, make_pretraining),
    ],
)
def test_checkpoints_of_relatives_are_read(family: str, large: bool, change: Any, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, family, large=large)
    change(folder)
    extractor = SSLExtractor.from_pretrained(str(folder))
    samples = wave()
    states, _ = upstream(folder, (samples - samples.mean()) / samples.std(correction=0) if large else samples)
    found = extractor.extract(Audio.of([samples], 16000)).utterance(0)
    assert len(found) == len(states)
    for ours, theirs in zip(found, states, strict=True):
        assert distance(ours, theirs) < 2e-5


def as_mert(folder: Path, **values: object) -> Path:
    write_tiny_model(folder)
    rewrite_json(folder / "config.json", model_type="mert_model", attention_relax=-1.0, **values)
    rewrite_json(folder / "preprocessor_config.json", sampling_rate=24000)
    return folder


def test_music_models_are_hubert_at_their_own_rate(tmp_path: Path) -> None:
    extractor = SSLExtractor.from_pretrained(str(as_mert(tmp_path)), layers=[2])
    assert (extractor.sample_rate, extractor.hop_length, extractor.context) == (24000, 320, 225)
    states, _ = upstream(write_tiny_model(tmp_path / "hubert"), wave())
    assert distance(extractor.extract(Audio.of([wave()], 24000)).utterance(0)[0], states[2]) < 1e-5
    again = SSLExtractor.from_config(extractor.config(), origin=extractor.origin)
    assert (again.sample_rate, again.config()) == (24000, extractor.config())
    bundled = SSLExtractor.from_config(extractor.config(), origin={}, tensors=extractor.state_dict())
    assert bundled.sample_rate == 24000


@pytest.mark.parametrize("values", [{"feature_extractor_cqt": True}, {"deepnorm": True}, {"attention_relax": 32.0}])
def test_music_models_with_parts_of_their_own_are_refused(values: dict[str, object], tmp_path: Path) -> None:
    as_mert(tmp_path)
    rewrite_json(tmp_path / "config.json", **values)
    with pytest.raises(InputError, match=next(iter(values))):
        SSLExtractor.from_pretrained(str(tmp_path))


def test_a_music_model_must_say_its_rate(tmp_path: Path) -> None:
    (as_mert(tmp_path) / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="expected the sampling_rate of the model in Hz, got None") as caught:
        SSLExtractor.from_pretrained(str(tmp_path))
    assert "preprocessor_config.json" in caught.value.hint


def test_layers_have_one_label_however_they_are_written() -> None:
    names: list[int | str] = [6, "7", "L8", "6.pre", "L7.pre", 0]
    assert [layer.label for layer in parse_layers(names, 12)] == ["L6", "L7", "L8", "L6.pre", "L7.pre", "L0"]
    assert [layer.label for layer in parse_layers(None, 2)] == ["L0", "L1", "L2"]


@pytest.mark.parametrize(
    "names", [["0.pre"], ["L13"], ["6", 6], ["l6"], ["6.post"], ["-1"], [-1], [True], ["13.pre"], [6, "x"], [1.5], [""]]
)
def test_names_of_no_layer_are_refused(names: list[Any]) -> None:
    with pytest.raises(InputError, match="expected distinct layers from 0 to 12, got") as caught:
        parse_layers(names, 12)
    assert '"L6.pre"' in caught.value.hint


@pytest.mark.parametrize("family", ["hubert", "data2vec-audio", "wavlm"])
def test_positions_are_told_in_the_same_way_without_what_is_prepared(family: str) -> None:
    config = replace(tiny_config(family), num_hidden_layers=1)
    plain, ready = tiny_net(config), tiny_net(config)
    ready.prepare(torch.float32)
    assert distance(ready(wave()[None]), plain(wave()[None])) < 1e-6


def test_settings_build_the_same_configuration() -> None:
    config = replace(tiny_config("data2vec-audio"), sample_rate=24000)
    assert SSLConfig.from_dict(json.loads(json.dumps(SSLEncoder(config, [1]).settings()))) == config
