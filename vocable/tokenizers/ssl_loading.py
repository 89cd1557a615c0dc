"""Networks of SSL models from checkpoints and from saved settings, whichever class runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vocable.errors import ArtifactError, InputError
from vocable.nets.encoder import Encoder
from vocable.nets.ssl import SSLEncoder
from vocable.nets.ssl_config import FAMILIES, SSLConfig
from vocable.tokenizers import foreign
from vocable.tokenizers.checkpoint import Checkpoint

_CODECS = ("encodec", "dac", "mimi", "xcodec", "xcodec2", "neucodec")
_SAMPLE_RATE = 16000
_PREFIXES = ("", "hubert.", "wav2vec2.", "wavlm.", "unispeech.", "unispeech_sat.", "data2vec_audio.")
_PROBE = "feature_extractor.conv_layers.0.conv.weight"
_NEW_NAMES = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


def load_encoder(checkpoint: Checkpoint, layers: Sequence[int | str] | None, *, sample_rate: int) -> Encoder:
    """The network of a checkpoint with its weights, in float32; tensors that these layers do not need stay unread.

    ArtifactError if a file or a tensor is missing or damaged. InputError for layers that the model does not have, or
    a kind of model that is not supported.
    """
    values = checkpoint.config
    if _is_foreign(values.get("model_type")):
        net: Encoder = foreign.load(checkpoint, layers)
        if net.sample_rate != sample_rate:
            raise InputError(f"expected a model of {net.sample_rate} Hz, got one of {sample_rate} Hz")
        return net
    native = _empty(SSLConfig.from_dict({**values, "sample_rate": sample_rate}), layers)
    prefix = next((prefix for prefix in _PREFIXES if prefix + _PROBE in checkpoint.files), "")
    names = {name: _written(prefix + name, checkpoint.files) for name in native.state_dict()}
    return _filled(native, checkpoint.read(names), str(checkpoint.folder))


def rebuild_encoder(settings: Mapping[str, Any], layers: Sequence[str], tensors: Mapping[str, Tensor]) -> Encoder:
    """The network that `settings()` described, with these weights. ArtifactError if they do not fit."""
    if settings.get("model_type") not in FAMILIES:
        return foreign.rebuild(settings, tensors)
    return _filled(_empty(SSLConfig.from_dict(settings), layers), tensors, "the artifact")


def read_preprocessing(checkpoint: Checkpoint) -> tuple[int, bool]:
    """The sample rate in Hz of a checkpoint's model, and whether it wants waveforms of zero mean and unit variance.

    InputError if no preprocessor_config.json says at which rate a music model runs: they differ.
    """
    values = checkpoint.read_json("preprocessor_config.json") or {}
    model_type = checkpoint.config.get("model_type")
    rate = values.get("sampling_rate", None if model_type == "mert_model" else _SAMPLE_RATE)
    if type(rate) is not int or rate <= 0:
        raise InputError(
            f"expected the sampling_rate of the model in Hz, got {rate!r}",
            hint="it stands in preprocessor_config.json, which belongs beside config.json",
        )
    if values.get("feature_extractor_type", "Wav2Vec2FeatureExtractor") != "Wav2Vec2FeatureExtractor":
        return rate, False
    normed = checkpoint.config.get("feat_extract_norm") == "layer" or model_type == "data2vec-audio"
    return rate, bool(values.get("do_normalize", normed))


def _is_foreign(model_type: Any) -> bool:
    """InputError if nobody runs this kind of model as an extractor."""
    supported = (*FAMILIES, *foreign.FAMILIES)
    if model_type in supported:
        return model_type in foreign.FAMILIES
    hint = 'name it as "latents:MODEL" to use its encoder\'s output as features' if model_type in _CODECS else ""
    raise InputError(f"expected a model of type {', '.join(supported)}, got {model_type!r}", hint=hint)


def _empty(config: SSLConfig, layers: Sequence[int | str] | None) -> SSLEncoder:
    with torch.device("meta"):
        return SSLEncoder(config, layers)


def _written(name: str, files: Mapping[str, str]) -> str:
    """The name under which a tensor was saved: weight norm is written in two ways."""
    stem, _, last = name.rpartition(".")
    return f"{stem}.{_NEW_NAMES[last]}" if last in _NEW_NAMES and name not in files else name


def _filled(net: SSLEncoder, tensors: Mapping[str, Tensor], place: str) -> SSLEncoder:
    expected = net.state_dict()
    if expected.keys() != tensors.keys():
        raise ArtifactError(
            f"{place} does not hold this model's tensors: {sorted(expected.keys() ^ tensors.keys())[0]}"
        )
    for name, tensor in expected.items():
        if tensor.shape != tensors[name].shape:
            found = list(tensors[name].shape)
            raise ArtifactError(f"expected {name} of shape {list(tensor.shape)}, got {found} in {place}")
    net.load_state_dict(dict(tensors), assign=True)
    return net
