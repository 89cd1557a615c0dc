"""Audio -> Tokens: extractors of features, and tokenizers made of an extractor and its codebooks."""

from vocable.tokenizers.extractors import build
from vocable.tokenizers.folder import tokenize
from vocable.tokenizers.spectral import MFCC, LogMel
from vocable.tokenizers.ssl import SSLExtractor
from vocable.tokenizers.training import train_kmeans
from vocable.tokenizers.units import UnitTokenizer

__all__ = ["MFCC", "LogMel", "SSLExtractor", "UnitTokenizer", "build", "tokenize", "train_kmeans"]
