"""vocable: discrete audio tokens. Audio becomes tokens, tokens become audio.

Names are imported when they are first used, so that `import vocable` costs nothing and does not load torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

# oneDNN in torch 2.13 makes noise of bfloat16 convolutions of 8 or 16 channels on Intel's matrix units (AMX), and reads
# this when it is first used; whoever knows that none are there may set it to AVX512_CORE_AMX and be quicker
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")

_HOMES = {
    "vocable.types": ("Audio", "Codebook", "Features", "TokenSpec", "Tokens"),
    "vocable.audio": ("read", "write"),
    "vocable.corpus": ("Corpus", "Utterance"),
    "vocable.store": ("TokenStore",),
    "vocable.quantizers": ("KMeans", "fit_kmeans"),
    "vocable.tokenizers": (
        "MFCC",
        "JoinedTokenizer",
        "LatentExtractor",
        "LogMel",
        "NeuralCodec",
        "PitchExtractor",
        "SSLExtractor",
        "StackedMel",
        "UnitTokenizer",
        "load",
        "tokenize",
        "train_kmeans",
    ),
    "vocable.vocoders": ("Style", "UnitInverter", "UnitVocoder", "resynthesize"),
    "vocable.training": ("train_vocoder",),
    "vocable.errors": ("VocableError",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if TYPE_CHECKING:
    from vocable.audio import read, write
    from vocable.corpus import Corpus, Utterance
    from vocable.errors import VocableError
    from vocable.quantizers import KMeans, fit_kmeans
    from vocable.store import TokenStore
    from vocable.tokenizers import (
        MFCC,
        JoinedTokenizer,
        LatentExtractor,
        LogMel,
        NeuralCodec,
        PitchExtractor,
        SSLExtractor,
        StackedMel,
        UnitTokenizer,
        load,
        tokenize,
        train_kmeans,
    )
    from vocable.training import train_vocoder
    from vocable.types import Audio, Codebook, Features, Tokens, TokenSpec
    from vocable.vocoders import Style, UnitInverter, UnitVocoder, resynthesize

__all__ = [
    "MFCC",
    "Audio",
    "Codebook",
    "Corpus",
    "Features",
    "JoinedTokenizer",
    "KMeans",
    "LatentExtractor",
    "LogMel",
    "NeuralCodec",
    "PitchExtractor",
    "SSLExtractor",
    "StackedMel",
    "Style",
    "TokenSpec",
    "TokenStore",
    "Tokens",
    "UnitInverter",
    "UnitTokenizer",
    "UnitVocoder",
    "Utterance",
    "VocableError",
    "__version__",
    "fit_kmeans",
    "load",
    "read",
    "resynthesize",
    "tokenize",
    "train_kmeans",
    "train_vocoder",
    "write",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'vocable' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return list(__all__)
