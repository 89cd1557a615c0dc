"""Quantizers as plain configuration and named tensors, and back: what an artifact holds of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from vocable.errors import ArtifactError, InputError
from vocable.quantizers.bins import ScalarBins
from vocable.quantizers.evaluate import Quantizer
from vocable.quantizers.kmeans import KMeans
from vocable.quantizers.pitch_bins import PitchBins
from vocable.quantizers.product import ProductKMeans
from vocable.quantizers.projection import RandomProjection
from vocable.quantizers.residual import ResidualKMeans
from vocable.quantizers.scaling import Scaling
from vocable.quantizers.standardized import Standardized
from vocable.quantizers.trained import TrainedQuantizer


@runtime_checkable
class Learned(Quantizer, Protocol):
    """A quantizer that knows how it is saved; its class has `from_config(config, tensors)`, the inverse of both."""

    def config(self) -> dict[str, Any]:
        """Plain JSON values, "kind" among them, that with the tensors decide every code."""

    def tensors(self) -> dict[str, Tensor]:
        """What was learned, each part under a name of its own."""


def _standardized(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Standardized:
    inner = config["quantizer"]
    if inner["kind"] == "standardized":
        raise InputError("expected k-means in standard units, got standard units again")
    scaling = Scaling(tensors["mean"].float(), tensors["deviation"].float())
    return Standardized(quantizer_from(inner, tensors, "quantizer"), scaling)


_KINDS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Tensor]], Quantizer]] = {
    "kmeans": lambda config, tensors: KMeans(tensors[""], spherical=config.get("spherical", False)),
    "bins": lambda config, tensors: ScalarBins.from_config(dict(config)),
    "pitch-bins": lambda config, tensors: PitchBins.from_config(config),
    "random-projection": lambda config, tensors: RandomProjection.from_config(dict(config)),
    "residual-kmeans": ResidualKMeans.from_config,
    "product-kmeans": ProductKMeans.from_config,
    "standardized": _standardized,
    "trained": TrainedQuantizer.from_config,
}


def quantizer_config(quantizer: object) -> dict[str, Any]:
    """Plain JSON values that, with the tensors, decide every code. InputError for a quantizer that cannot be saved."""
    if isinstance(quantizer, KMeans):
        return {"kind": "kmeans", "size": quantizer.codebook_sizes[0]} | (
            {"spherical": True} if quantizer.spherical else {}
        )
    if isinstance(quantizer, Standardized):
        return {"kind": "standardized", "quantizer": quantizer_config(quantizer.quantizer)}
    if isinstance(quantizer, ScalarBins | PitchBins | RandomProjection | Learned):
        return quantizer.config()
    raise InputError(f"expected KMeans, or a quantizer with a config() and tensors(), got {type(quantizer).__name__}")


def quantizer_tensors(quantizer: object, name: str) -> dict[str, Tensor]:
    """What was learned: centroids of k-means under `name`, parts of others under `name.part`, of some nothing."""
    if isinstance(quantizer, KMeans):
        return {name: quantizer.centroids}
    if isinstance(quantizer, Standardized):
        scaling = {f"{name}.mean": quantizer.scaling.mean, f"{name}.deviation": quantizer.scaling.deviation}
        return scaling | quantizer_tensors(quantizer.quantizer, f"{name}.quantizer")
    parts = quantizer.tensors() if isinstance(quantizer, Learned) else {}
    return {f"{name}.{part}": tensor for part, tensor in parts.items()}


def quantizer_from(config: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str) -> Quantizer:
    """The quantizer of this configuration with its tensors under `name`.

    ArtifactError for an unknown kind, or if a setting or a tensor is missing or makes no sense.
    """
    kind = config.get("kind")
    if kind not in _KINDS:
        raise ArtifactError(f"expected a quantizer of kind {', '.join(_KINDS)}, got {kind!r}", hint="update vocable")
    parts = {full[len(name) :].removeprefix("."): tensor for full, tensor in tensors.items() if _belongs(full, name)}
    try:
        return _KINDS[kind](config, parts)
    except KeyError as problem:
        missing = f"{name}.{problem.args[0]}".removesuffix(".")
        raise ArtifactError(f"expected a quantizer of kind {kind}, got {dict(config)} without {missing}") from problem
    except (TypeError, InputError) as problem:
        raise ArtifactError(f"expected a quantizer of kind {kind}, got {dict(config)}: {problem}") from problem


def _belongs(full: str, name: str) -> bool:
    return full == name or full.startswith(f"{name}.")
