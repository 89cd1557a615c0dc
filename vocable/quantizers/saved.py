"""Quantizers as plain configuration and named tensors, and back: what an artifact holds of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vocable.errors import ArtifactError, InputError
from vocable.quantizers.bins import ScalarBins
from vocable.quantizers.kmeans import KMeans
from vocable.quantizers.projection import RandomProjection

AnyQuantizer = KMeans | ScalarBins | RandomProjection
_WEIGHT_FREE: dict[str, type[ScalarBins] | type[RandomProjection]] = {
    "bins": ScalarBins,
    "random-projection": RandomProjection,
}


def quantizer_config(quantizer: object) -> dict[str, Any]:
    """Plain JSON values that, with the tensors, decide every code. InputError for a quantizer that cannot be saved."""
    if isinstance(quantizer, KMeans):
        return {"kind": "kmeans", "size": quantizer.codebook_sizes[0]}
    if isinstance(quantizer, ScalarBins | RandomProjection):
        return quantizer.config()
    raise InputError(f"expected KMeans, ScalarBins or RandomProjection, got {type(quantizer).__name__}")


def quantizer_tensors(quantizer: object, name: str) -> dict[str, Tensor]:
    """What was learned, under `name`: the centroids of k-means, nothing for quantizers without weights."""
    return {name: quantizer.centroids} if isinstance(quantizer, KMeans) else {}


def quantizer_from(config: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str) -> AnyQuantizer:
    """The quantizer of this configuration with its tensors under `name`.

    ArtifactError for an unknown kind, or if a setting or a tensor is missing or makes no sense.
    """
    kind = config.get("kind")
    if kind != "kmeans" and kind not in _WEIGHT_FREE:
        known = ", ".join(["kmeans", *_WEIGHT_FREE])
        raise ArtifactError(f"expected a quantizer of kind {known}, got {kind!r}", hint="update vocable")
    try:
        return KMeans(tensors[name]) if kind == "kmeans" else _WEIGHT_FREE[kind].from_config(dict(config))
    except (KeyError, TypeError, InputError) as problem:
        raise ArtifactError(f"expected a quantizer of kind {kind}, got {dict(config)}: {problem}") from problem
