"""One door to all feature extractors: by the name a user gives, and back from a configuration that was saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from vocable.errors import ArtifactError, InputError
from vocable.tokenizers.latents import LatentExtractor
from vocable.tokenizers.pitch import PitchExtractor
from vocable.tokenizers.spectral import MFCC, LogMel
from vocable.tokenizers.ssl import Precision, SSLExtractor
from vocable.tokenizers.ssl_batches import Mode
from vocable.tokenizers.stacked import StackedMel
from vocable.types import FeatureExtractor

LATENTS = "latents:"
_BUILT_IN: dict[str, type[MFCC] | type[LogMel] | type[StackedMel] | type[PitchExtractor]] = {
    "mfcc": MFCC,
    "logmel": LogMel,
    "stacked-mel": StackedMel,
    "pitch": PitchExtractor,
}
_LEARNED: dict[str, Callable[..., FeatureExtractor]] = {
    "ssl": SSLExtractor.from_config,
    "latents": LatentExtractor.from_config,
}


def build(
    name: str,
    *,
    layers: Sequence[int | str] | None = None,
    precision: Precision = "fp32",
    mode: Mode = "exact",
    normalize_layers: bool = False,
    revision: str | None = None,
    device: str = "cpu",
) -> FeatureExtractor:
    """The extractor that a name stands for.

    "mfcc", "logmel" and "stacked-mel" need no weights; "pitch" has its own in an optional package. "latents:MODEL" is
    what a codec's encoder gives, before it is quantized. Anything else is the hub id or the local directory of an SSL
    model; the settings are explained there.
    InputError if settings of SSL models are asked of others, or layers that the model does not have.
    """
    if name not in _BUILT_IN and not name.startswith(LATENTS):
        return SSLExtractor.from_pretrained(
            name,
            layers=layers,
            revision=revision,
            device=device,
            precision=precision,
            mode=mode,
            normalize_layers=normalize_layers,
        )
    if layers is not None or normalize_layers or (precision, mode) != ("fp32", "exact"):
        raise InputError(
            f"{name} features have no layers, precision or mode",
            hint="leave these options out, or name a self-supervised model with --features",
        )
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
    return LatentExtractor.from_pretrained(name.removeprefix(LATENTS), revision=revision, device=device)


def rebuild(
    config: dict[str, Any], origin: dict[str, Any], weights: Mapping[str, Tensor], *, device: str = "cpu"
) -> FeatureExtractor:
    """The extractor of a saved configuration; its weights from the artifact if bundled, else from where origin says.

    ArtifactError if the weights found are not those of the configuration.
    """
    kind = config.get("kind")
    if kind in _LEARNED:
        return _LEARNED[kind](config, origin=origin, tensors=dict(weights) or None, device=device)
    if kind in _BUILT_IN:
        return _BUILT_IN[kind].from_config(config)
    known = ", ".join([*_BUILT_IN, *_LEARNED])
    raise ArtifactError(f"expected an extractor of kind {known}, got {kind!r}", hint="update vocable")


def weights(extractor: FeatureExtractor) -> dict[str, Tensor]:
    """The tensors to bundle with an artifact; none for features that need no weights."""
    return extractor.state_dict() if isinstance(extractor, SSLExtractor | LatentExtractor) else {}


def origin(extractor: FeatureExtractor) -> dict[str, Any]:
    """Where the extractor's weights are found; empty for features that need none."""
    return dict(extractor.origin) if isinstance(extractor, SSLExtractor | LatentExtractor) else {}
