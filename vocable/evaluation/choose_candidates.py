"""What there is to choose from: layers of features, ways to quantize them, sizes of codebooks; and fitting one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers import ProductKMeans, ResidualKMeans, fit_kmeans, fit_product, fit_residual
from vocable.quantizers.kmeans import KMeans
from vocable.types import FeatureExtractor

KINDS = ("kmeans", "product", "residual")
Fitted = KMeans | ProductKMeans | ResidualKMeans


@dataclass(frozen=True, slots=True)
class Quantizing:
    """A kind of quantizer and how many codebooks it has: "kmeans", "product:2", "residual:4"."""

    kind: str
    codebooks: int

    @classmethod
    def of(cls, text: str) -> Quantizing:
        """What such a text stands for. InputError for another one."""
        found = re.fullmatch(r"kmeans|(product|residual):([1-9]\d{0,2})", text.strip())
        if found is None:
            raise InputError(
                f"expected a quantizer such as kmeans, product:2 or residual:4, got {text!r}",
                hint="the number is that of codebooks",
            )
        kind, count = found.groups()
        return cls("kmeans", 1) if kind is None or count == "1" else cls(kind, int(count))

    def __str__(self) -> str:
        return "kmeans" if self.kind == "kmeans" else f"{self.kind}:{self.codebooks}"

    def fits(self, dim: int) -> bool:
        """Whether vectors of that many dimensions can be quantized so."""
        return self.kind != "product" or dim % self.codebooks == 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """Units of one layer: `size` entries in each of the codebooks, at `frame_rate` Hz."""

    features: str
    layer: str
    quantizing: Quantizing
    size: int
    frame_rate: float

    @property
    def units(self) -> int:
        """Entries of all codebooks."""
        return self.size * self.quantizing.codebooks

    @property
    def bitrate(self) -> float:
        """Raw bit/s."""
        return math.log2(self.size) * self.quantizing.codebooks * self.frame_rate

    @property
    def labels(self) -> list[str]:
        """What its codebooks are called in an artifact."""
        many = self.quantizing.codebooks > 1
        return [f"{self.layer}.{index}" if many else self.layer for index in range(self.quantizing.codebooks)]


def grid(
    features: Mapping[str, FeatureExtractor],
    quantizers: Iterable[str],
    clusters: Iterable[int],
    *,
    budget: float | None = None,
) -> tuple[list[Candidate], list[str]]:
    """All combinations, those with the fewest bit/s first, and in words what was left out.

    budget: bit/s that a candidate may cost. InputError for an unknown quantizer, fewer than two entries, or if nothing
    is left.
    """
    ways, sizes = list(dict.fromkeys(map(Quantizing.of, quantizers))), list(dict.fromkeys(clusters))
    if not features or not ways or not sizes or min(sizes) < 2:
        raise InputError(f"expected features, quantizers and codebooks of 2 entries at least, got {sizes}")
    every = [
        Candidate(name, layer, way, size, extractor.sample_rate / extractor.hop_length)
        for name, extractor in features.items()
        for layer in extractor.layers
        for way in ways
        for size in sizes
    ]
    possible = [one for one in every if one.quantizing.fits(features[one.features].dim)]
    if not possible:
        dims = ", ".join(f"{name} {extractor.dim}" for name, extractor in features.items())
        raise InputError(f"expected groups that divide the dimensions of the features ({dims}), got {_names(ways)}")
    cheap = [one for one in possible if budget is None or one.bitrate <= budget]
    if not cheap:
        least = min(one.bitrate for one in possible)
        raise InputError(
            f"expected a candidate within {budget:g} bit/s, the cheapest has {least:,.0f}",
            hint="allow a larger --budget, or try fewer --clusters",
        )
    return sorted(cheap, key=lambda one: (one.bitrate, one.units)), _left_out(features, ways, possible, cheap, budget)


def fit(quantizing: Quantizing, size: int, points: Tensor, *, seed: int) -> tuple[Fitted, list[dict[str, Any]]]:
    """The quantizer fitted to points [n, D] as `vocable train kmeans` would, and how each codebook's fit went."""
    settled = partial(fit_kmeans, seed=seed)
    if quantizing.kind == "kmeans":
        book, went = settled(points, size)
        return book, [went.to_dict()]
    several = fit_product if quantizing.kind == "product" else fit_residual
    quantizer, each = several(points, [size] * quantizing.codebooks, fit=settled)
    return quantizer, [went.to_dict() for went in each]


def _names(ways: Sequence[Quantizing]) -> str:
    return ", ".join(map(str, ways))


def _left_out(
    features: Mapping[str, FeatureExtractor],
    ways: Sequence[Quantizing],
    possible: Sequence[Candidate],
    cheap: Sequence[Candidate],
    budget: float | None,
) -> list[str]:
    told = [
        f"{way} of {name}, whose {extractor.dim} dimensions make no {way.codebooks} groups"
        for name, extractor in features.items()
        for way in ways
        if not way.fits(extractor.dim)
    ]
    over = len(possible) - len(cheap)
    return told + ([f"{over} of {len(possible)} candidates, above {budget:g} bit/s"] if over else [])
