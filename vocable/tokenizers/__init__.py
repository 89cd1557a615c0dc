"""Audio -> Tokens: extractors of features, tokenizers made of an extractor and its codebooks, and codecs."""

from vocable.tokenizers.codec import NeuralCodec
from vocable.tokenizers.extractors import build
from vocable.tokenizers.folder import tokenize
from vocable.tokenizers.joined import JoinedTokenizer
from vocable.tokenizers.latents import LatentExtractor
from vocable.tokenizers.pitch import PitchExtractor
from vocable.tokenizers.pretrained import is_model, load
from vocable.tokenizers.spectral import MFCC, LogMel
from vocable.tokenizers.ssl import SSLExtractor
from vocable.tokenizers.stacked import StackedMel
from vocable.tokenizers.training import train_kmeans
from vocable.tokenizers.units import UnitTokenizer

__all__ = [
    "MFCC",
    "JoinedTokenizer",
    "LatentExtractor",
    "LogMel",
    "NeuralCodec",
    "PitchExtractor",
    "SSLExtractor",
    "StackedMel",
    "UnitTokenizer",
    "build",
    "is_model",
    "load",
    "tokenize",
    "train_kmeans",
]
