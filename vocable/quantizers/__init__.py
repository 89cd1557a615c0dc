"""Quantizers, vectors [..., D] <-> codes [..., K]: they know nothing of time or audio."""

from vocable.quantizers.kmeans import FitEvidence, KMeans, fit_kmeans

__all__ = ["FitEvidence", "KMeans", "fit_kmeans"]
