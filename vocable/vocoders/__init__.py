"""Tokens -> Audio: the weight-free inversion of spectral units, and the resynthesis of whole stores."""

from vocable.vocoders.folder import resynthesize
from vocable.vocoders.inversion import SpectralInverter, UnitInverter

__all__ = ["SpectralInverter", "UnitInverter", "resynthesize"]
