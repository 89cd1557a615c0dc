"""Tokens -> Audio: the layer-aware unit vocoder, the weight-free inversion of spectral units, and whole stores."""

from vocable.vocoders.designs import design
from vocable.vocoders.folder import resynthesize
from vocable.vocoders.inversion import SpectralInverter, UnitInverter
from vocable.vocoders.style import Style
from vocable.vocoders.units import UnitVocoder

__all__ = ["SpectralInverter", "Style", "UnitInverter", "UnitVocoder", "design", "resynthesize"]
