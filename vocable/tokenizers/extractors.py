"""One door to all feature extractors: by the name a user gives, and back from a configuration that was saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from vocable.errors import ArtifactError, InputError
from vocable.tokenizers.spectral import MFCC, LogMel
from vocable.tokenizers.ssl import SSLExtractor
from vocable.types import FeatureExtractor

_SPECTRAL: dict[str, Callable[..., FeatureExtractor]] = {"mfcc": MFCC, "logmel": LogMel}


def build(
    name: str, *, layers: Sequence[int] | None = None, revision: str | None = None, device: str = "cpu"
) -> FeatureExtractor:
    """The extractor called "mfcc" or "logmel", else the SSL model of that hub id or local directory.

    InputError if layers are asked of spectral features, or if the model does not have them.
    """
    if name not in _SPECTRAL:
        return SSLExtractor.from_pretrained(name, layers=layers, revision=revision, device=device)
    if layers is not None:
        raise InputError(f"{name} features have no layers", hint="leave out --layers, or name a model with --features")
    return _SPECTRAL[name]()


def rebuild(
    config: dict[str, Any], origin: dict[str, Any], weights: Mapping[str, Tensor], *, device: str = "cpu"
) -> FeatureExtractor:
    """The extractor of a saved configuration; its weights from the artifact if bundled, else from where origin says.

    ArtifactError if the weights found are not those of the configuration.
    """
    kind = config.get("kind")
    if kind == "ssl":
        return SSLExtractor.from_config(config, origin=origin, tensors=dict(weights) or None, device=device)
    if kind == "mfcc":
        return MFCC.from_config(config)
    if kind == "logmel":
        return LogMel.from_config(config)
    raise ArtifactError(f"expected an extractor of kind mfcc, logmel or ssl, got {kind!r}", hint="update vocable")


def weights(extractor: FeatureExtractor) -> dict[str, Tensor]:
    """The tensors to bundle with an artifact; none for features that need no weights."""
    return extractor.state_dict() if isinstance(extractor, SSLExtractor) else {}


def origin(extractor: FeatureExtractor) -> dict[str, Any]:
    """Where the extractor's weights are found; empty for features that need none."""
    return dict(extractor.origin) if isinstance(extractor, SSLExtractor) else {}
