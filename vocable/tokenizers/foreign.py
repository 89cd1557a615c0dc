"""Checkpoints of the SSL families that run on transformers' classes: from their files, and back from settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vocable.errors import ArtifactError, InputError
from vocable.nets.foreign import FAMILIES as _CLASSES
from vocable.nets.foreign_base import ForeignEncoder
from vocable.tokenizers.checkpoint import Checkpoint

FAMILIES = tuple(_CLASSES)
_OURS = "model."
_PREFIXES = ("", "sew.", "sew_d.", "wav2vec2_conformer.", "wav2vec2_bert.", "encoder.", "model.encoder.")
_OLD_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def load(checkpoint: Checkpoint, layers: Sequence[int | str] | None) -> ForeignEncoder:
    """The encoder of a checkpoint; only the tensors that the deepest of the layers needs are read.

    InputError for layers that the model does not have, or features other than the family's. ArtifactError if a tensor
    is missing, damaged or of another shape.
    """
    net = _empty(checkpoint.config, layers)
    _check_features(checkpoint.read_json("preprocessor_config.json") or {}, net)
    names = [name.removeprefix(_OURS) for name in net.state_dict()]
    prefix = next((prefix for prefix in _PREFIXES if prefix + _probe(names) in checkpoint.files), "")
    tensors = checkpoint.read({_OURS + name: _written(prefix + name, checkpoint.files) for name in names})
    return _filled(net, tensors, str(checkpoint.folder))


def rebuild(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ForeignEncoder:
    """The encoder that `settings()` and `state_dict()` described. ArtifactError if they do not fit."""
    try:
        net = _empty({**settings["config"], "model_type": settings["model_type"]}, settings["layers"])
    except (KeyError, TypeError, InputError) as problem:
        raise ArtifactError(f"expected the settings of an encoder, got {settings!r}") from problem
    return _filled(net, tensors, "the artifact")


def _empty(values: Mapping[str, Any], layers: Sequence[int | str] | None) -> ForeignEncoder:
    model_type = values.get("model_type")
    if model_type not in FAMILIES:
        raise InputError(f"expected a model of type {', '.join(FAMILIES)}, got {model_type!r}")
    with torch.device("meta"):
        return _CLASSES[model_type](values, layers)


def _check_features(preprocessor: Mapping[str, Any], net: ForeignEncoder) -> None:
    for name, expected in net.features().items():
        if preprocessor.get(name, expected) != expected:
            raise InputError(f"expected a {net.model_type} model with {name} {expected!r}, got {preprocessor[name]!r}")


def _probe(names: Sequence[str]) -> str:
    """A tensor that every checkpoint of the family has and whose name was never changed."""
    return next(name for name in names if "parametrizations" not in name)


def _written(name: str, files: Mapping[str, str]) -> str:
    """The name under which a tensor was saved: that of weight norm has changed."""
    for new, old in _OLD_NAMES.items():
        if name.endswith(new) and name not in files:
            return name.removesuffix(new) + old
    return name


def _filled(net: ForeignEncoder, tensors: Mapping[str, Tensor], place: str) -> ForeignEncoder:
    expected = net.state_dict()
    if expected.keys() != tensors.keys():
        name = sorted(expected.keys() ^ tensors.keys())[0]
        raise ArtifactError(f"{place} does not hold this model's tensors: {name.removeprefix(_OURS)}")
    for name, tensor in expected.items():
        if tensor.shape != tensors[name].shape:
            shapes = f"of shape {list(tensor.shape)}, got {list(tensors[name].shape)}"
            raise ArtifactError(f"expected {name.removeprefix(_OURS)} {shapes} in {place}")
    net.load_state_dict(dict(tensors), assign=True)
    return net
