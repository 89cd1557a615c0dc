from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tiny_foreign import VARIANTS, upstream_model
from vocable.clock import num_frames
from vocable.errors import InputError
from vocable.nets.foreign import FAMILIES
from vocable.nets.foreign_base import ForeignEncoder
from vocable.nets.foreign_features import KaldiMel, WhisperMel

NAMES = list(VARIANTS)


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def wave(length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(length, generator=generator).cumsum(0).sin() * 0.3 + 0.05


def encoder(theirs: Any, layers: list[int | str] | None = None) -> ForeignEncoder:
    """Ours with their weights."""
    values = theirs.config.to_dict()
    net = FAMILIES[values["model_type"]](values, layers).eval().requires_grad_(False)
    source = theirs.encoder if values["model_type"] == "whisper" else theirs
    tensors = source.state_dict()
    net.load_state_dict({name: tensors[name.removeprefix("model.")] for name in net.state_dict()})
    return net


def upstream(theirs: Any, name: str, samples: Tensor) -> tuple[Tensor, ...]:
    """All hidden states [t, d] that transformers gives, with its own features."""
    import transformers

    preprocessor = VARIANTS[name][2]
    if preprocessor["feature_extractor_type"] == "Wav2Vec2FeatureExtractor":
        given, model = {"input_values": samples[None]}, theirs
    else:
        extractor = getattr(transformers, preprocessor["feature_extractor_type"])(**preprocessor)
        given, model = extractor(samples.numpy(), sampling_rate=16000, return_tensors="pt"), theirs
        model = theirs.encoder if name == "whisper" else theirs
        given = {key: given[key] for key in ("input_features", "attention_mask") if key in given}
    with torch.no_grad():
        states = model(**given, output_hidden_states=True).hidden_states
    return tuple(state[0] for state in states)


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    return {name: upstream_model(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_equals_transformers(models: dict[str, nn.Module], name: str) -> None:
    net = encoder(models[name])
    assert net.labels == ("L0", "L1", "L2", "L3")
    for length in (720, 5201, 20000):
        found = net(wave(length)[None])[0]
        expected = torch.stack(upstream(models[name], name, wave(length)))[:, : found.shape[1]]
        assert found.shape == expected.shape == (4, num_frames(length, net.hop_length, net.window), net.dim)
        # for w2v-BERT theirs takes the mean of each mel band in float32, which is 1e-5 from the mean
        bound = 3e-5 if "bert" in name else 1e-5
        for ours, theirs in zip(found, expected, strict=True):
            assert distance(ours, theirs) < bound


@pytest.mark.parametrize(("norm", "squeeze", "width"), [("layer", 3, 16), ("group", 1, 32)])
@pytest.mark.parametrize("name", ["sew", "sew-d"])
def test_other_shapes_of_sew(name: str, norm: str, squeeze: int, width: int) -> None:
    conv_dim = [8] * 12 + [width]
    theirs = upstream_model(name, feat_extract_norm=norm, squeeze_factor=squeeze, conv_dim=conv_dim, conv_bias=True)
    found = encoder(theirs)(wave(9000)[None])[0]
    assert distance(found, torch.stack(upstream(theirs, name, wave(9000)))) < 1e-5


def test_constants_of_published_shapes() -> None:
    expected = {"sew": (640, 720), "sew-d": (640, 720), "wav2vec2-conformer": (320, 400)}
    expected |= {"wav2vec2-bert": (320, 560), "whisper": (320, 1)}
    with torch.device("meta"):
        nets = {name: family({"num_hidden_layers": 1}, [0]) for name, family in FAMILIES.items()}
    assert {name: (net.hop_length, net.window) for name, net in nets.items()} == expected
    assert {name: net.longest for name, net in nets.items() if net.longest} == {"whisper": 1500}
    assert [name for name, net in nets.items() if net.padding] == ["whisper"]


@pytest.mark.parametrize("name", ["sew", "sew-d", "conformer-rotary", "w2v-bert", "whisper"])
@pytest.mark.parametrize("squeeze", [2, 3])
def test_frames_are_counted_exactly(models: dict[str, nn.Module], name: str, squeeze: int) -> None:
    if squeeze == 3 and "sew" not in name:
        return
    theirs = upstream_model(name, squeeze_factor=squeeze) if "sew" in name else models[name]
    net = encoder(theirs, [0])
    edges = [net.window + frames * net.hop_length + offset for frames in range(6) for offset in (-1, 0, 1)]
    for length in (*edges[1:], 1999, 5000):
        assert net(wave(length)[None]).shape[2] == num_frames(length, net.hop_length, net.window), length
        if name != "whisper":
            kept = len(upstream(theirs, name, wave(length))[0])
            kept -= name == "w2v-bert" and ((length - 400) // 160 + 1) % 2  # theirs pads the odd mel frame, masked
            assert kept == num_frames(length, net.hop_length, net.window), length


@pytest.mark.parametrize("name", NAMES)
def test_a_shallow_encoder_gives_the_same_bits(models: dict[str, nn.Module], name: str) -> None:
    whole, shallow = encoder(models[name]), encoder(models[name], ["L2", 0])
    assert shallow.labels == ("L2", "L0")
    assert not any(".2." in key and "layer" in key and "conv" not in key for key in shallow.state_dict())
    assert torch.equal(shallow(wave(4000)[None])[0], whole(wave(4000)[None])[0, [2, 0]])


@pytest.mark.parametrize("name", NAMES)
def test_settings_and_tensors_are_the_network(models: dict[str, nn.Module], name: str) -> None:
    net = encoder(models[name], [3, 1])
    settings = net.settings()
    assert not any(word in str(settings) for word in ("dropout", "version", "dtype", "path", "token_id"))
    again = FAMILIES[settings["model_type"]](settings["config"], settings["layers"]).eval()
    again.load_state_dict(net.state_dict())
    assert again.settings() == settings
    with torch.no_grad():
        assert torch.equal(again(wave(4000)[None]), net(wave(4000)[None]))


@pytest.mark.parametrize("name", NAMES)
def test_a_call_leaves_nothing_behind(models: dict[str, nn.Module], name: str) -> None:
    def held(net: nn.Module) -> list[tuple[int, str, int]]:
        parts = [(module, vars(module) | module._buffers) for module in net.modules()]
        return [(id(module), key, id(value)) for module, values in parts for key, value in values.items()]

    net = encoder(models[name])
    net(wave(3000)[None])
    before = held(net)
    net(wave(9000)[None])
    assert held(net) == before


@pytest.mark.parametrize("name", NAMES)
def test_threads_share_an_encoder(models: dict[str, nn.Module], name: str) -> None:
    net = encoder(models[name])
    clips = [wave(720 + 977 * index, seed=index) for index in range(8)]
    alone = [net(clip[None]) for clip in clips]

    @torch.no_grad()
    def run(index: int) -> bool:
        return torch.equal(net(clips[index % len(clips)][None]), alone[index % len(clips)])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, np.random.default_rng(0).permutation(24).tolist()))


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_one_length(models: dict[str, nn.Module], name: str) -> None:
    net = encoder(models[name])
    clips = torch.stack([wave(5000, seed=seed) for seed in range(3)])
    together = net(clips)
    for clip, frames in zip(clips, together, strict=True):
        assert distance(frames, net(clip[None])[0]) < 1e-5
    if not net.padding:
        with pytest.raises(InputError, match="without padding"):
            net(clips, torch.tensor([5000, 4000, 3000]))


def test_whisper_takes_what_is_padded(models: dict[str, nn.Module]) -> None:
    net = encoder(models["whisper"])
    lengths = [5000, 1, 3200, 128000] + [700] * 30
    padded = torch.full((len(lengths), 130000), 17.0)
    for row, length in zip(padded, lengths, strict=True):
        row[:length] = wave(length, seed=length)
    together = net(padded, torch.tensor(lengths))
    assert together.shape[2] == 400
    for frames, length in zip(together, lengths, strict=True):
        alone = net(wave(length, seed=length)[None])[0]
        assert distance(frames[:, : alone.shape[1]], alone) < 1e-5
    with pytest.raises(InputError, match="at most 400 frames"):
        net(padded, torch.tensor([128001, *lengths[1:]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_low_precision_stays_near(models: dict[str, nn.Module], name: str, dtype: torch.dtype) -> None:
    # long enough for positions that bfloat16 cannot count
    clip = wave(31999 if name == "whisper" else 200000)[None]
    found = encoder(models[name]).to(dtype)(clip)
    assert found.dtype == dtype
    assert distance(found.float(), encoder(models[name])(clip)) < 0.1


def test_whisper_refuses_what_it_would_cut(models: dict[str, nn.Module]) -> None:
    net = encoder(models["whisper"])
    assert net(wave(128000)[None]).shape[2] == net.longest == 400
    with pytest.raises(InputError, match="at most 400 frames"):
        net(wave(128001)[None])


@pytest.mark.parametrize("layers", [[4], [-1], [1, 1], [1, "L1"], [], ["six"], [True]])
def test_layers_that_are_not_there(layers: list[int | str]) -> None:
    with pytest.raises(InputError, match="distinct layers from 0 to 3"), torch.device("meta"):
        FAMILIES["sew"](VARIANTS["sew"][1], layers)


def test_layers_before_the_residual_are_another_familys() -> None:
    with pytest.raises(InputError, match=r"layers like L3, got L2.pre") as caught, torch.device("meta"):
        FAMILIES["sew"](VARIANTS["sew"][1], ["L2.pre"])
    assert "like wav2vec 2.0 and HuBERT" in caught.value.hint


@pytest.mark.parametrize(
    "broken",
    [{"hidden_size": "wide"}, {"conv_dim": [8]}, {"hidden_act": "none"}, {"feat_extract_norm": "batch"}],
)
def test_configurations_that_are_none(broken: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="configuration of a sew model"), torch.device("meta"):
        FAMILIES["sew"]({**VARIANTS["sew"][1], **broken}, [0])


def test_a_convolution_among_the_blocks_is_not_built() -> None:
    with pytest.raises(InputError, match="without conv_kernel_size"):
        FAMILIES["sew-d"]({**VARIANTS["sew-d"][1], "conv_kernel_size": 3}, [0])


@pytest.mark.parametrize("bands", [80, 20])
def test_kaldi_features(bands: int) -> None:
    from transformers import SeamlessM4TFeatureExtractor

    theirs = SeamlessM4TFeatureExtractor(feature_size=bands, num_mel_bins=bands)
    clip = wave(16000 * 3 + 80)
    found = KaldiMel(bands, 16000)(clip[None])[0].numpy()
    mel = theirs._extract_fbank_features(clip.numpy()).astype(np.float64)
    np.testing.assert_allclose(found, (mel - mel.mean(0)) / np.sqrt(mel.var(0, ddof=1) + 1e-7), atol=1e-6)
    pairs = theirs(clip.numpy(), sampling_rate=16000, return_tensors="np")["input_features"][0]
    np.testing.assert_allclose(found[: len(found) // 2 * 2].reshape(-1, 2 * bands), pairs[: len(found) // 2], atol=2e-5)


@pytest.mark.parametrize("bands", [80, 128])
def test_whisper_features(bands: int) -> None:
    from transformers import WhisperFeatureExtractor

    clips = torch.stack([wave(16000), 1e-3 * wave(16000, seed=1)])
    expected = WhisperFeatureExtractor(feature_size=bands)(list(clips.numpy()), sampling_rate=16000)["input_features"]
    found = WhisperMel(bands, 16000)(nn.functional.pad(clips, (0, 29 * 16000)))
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-6)
