"""Quantizers, vectors [..., D] <-> codes [..., K]: they know nothing of time or audio."""

from vocable.quantizers.bins import ScalarBins
from vocable.quantizers.kmeans import FitEvidence, KMeans, fit_kmeans
from vocable.quantizers.projection import RandomProjection
from vocable.quantizers.saved import quantizer_config, quantizer_from, quantizer_tensors

__all__ = [
    "FitEvidence",
    "KMeans",
    "RandomProjection",
    "ScalarBins",
    "fit_kmeans",
    "quantizer_config",
    "quantizer_from",
    "quantizer_tensors",
]
