"""Quantizers, vectors [..., D] <-> codes [..., K]: they know nothing of time or audio."""

from vocable.quantizers.bins import ScalarBins
from vocable.quantizers.evaluate import Judgement, decodes_prefixes, judge, soft_assign
from vocable.quantizers.kmeans import FitEvidence, KMeans, fit_kmeans
from vocable.quantizers.pitch_bins import PitchBins
from vocable.quantizers.product import ProductKMeans, fit_product
from vocable.quantizers.projection import RandomProjection
from vocable.quantizers.residual import ResidualKMeans, fit_residual
from vocable.quantizers.saved import quantizer_config, quantizer_from, quantizer_tensors
from vocable.quantizers.scaling import Scaling
from vocable.quantizers.standardized import Standardized, fit_standardized

__all__ = [
    "FitEvidence",
    "Judgement",
    "KMeans",
    "PitchBins",
    "ProductKMeans",
    "RandomProjection",
    "ResidualKMeans",
    "ScalarBins",
    "Scaling",
    "Standardized",
    "decodes_prefixes",
    "fit_kmeans",
    "fit_product",
    "fit_residual",
    "fit_standardized",
    "judge",
    "quantizer_config",
    "quantizer_from",
    "quantizer_tensors",
    "soft_assign",
]
