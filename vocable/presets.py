"""Recipes carried out: the tokenizer of a preset, the vocoder of built-in units, the inverter of spectral ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vocable import artifacts, builtin
from vocable.errors import InputError
from vocable.quantizers import RandomProjection, ScalarBins
from vocable.recipes import Preset, find, presets
from vocable.tokenizers import MFCC, JoinedTokenizer, LogMel, UnitTokenizer, load
from vocable.tokenizers.stacked import SPEECH_MEAN, SPEECH_STD, StackedMel
from vocable.types import TokenSpec
from vocable.vocoders import UnitInverter

if TYPE_CHECKING:
    from vocable.tokenizers.codec import NeuralCodec

__all__ = [
    "SAMPLES",
    "WEIGHT_FREE",
    "Preset",
    "best_rq",
    "checkpoint",
    "dmel",
    "find",
    "inverter",
    "presets",
    "tokenizer",
    "vocoder_of",
]

SAMPLES = Path(__file__).parent / "samples" / "samples.jsonl"


def dmel() -> UnitTokenizer:
    """dMel: 80 log-mel bands at 40 Hz in 16 bins each (Bai et al. 2024); decode it with `inverter`.

    The bins reach from the features' floor, -18.42, to -2: of the bundled speech, whose peaks lie at -3 dB of full
    scale, no band has more than -2.5, and no sine more than -1.4.
    """
    mel = LogMel(hop_length=400, window_seconds=0.05)
    return UnitTokenizer(mel, [ScalarBins(mel.dim, low=-18.42, high=-2.0)])


def best_rq(seed: int = 0) -> UnitTokenizer:
    """BEST-RQ's codes: one of 8192 for four log-mel frames, 25 Hz, by random projection (Chiu et al. 2022).

    Bands are normalised with constants, those of the bundled speech, so that a code depends on nothing far from it.
    """
    mel = StackedMel(mean=SPEECH_MEAN, std=SPEECH_STD)
    return UnitTokenizer(mel, [RandomProjection(mel.dim, seed=seed)])


WEIGHT_FREE: dict[str, Callable[[], UnitTokenizer]] = {"dmel": dmel, "best-rq": best_rq}
"""What is built at once, by the name of its preset."""


def checkpoint(name: str) -> str | None:
    """The hub id behind a codec's preset, None for any other name. InputError for units that are yet to be trained."""
    found = {preset.name: preset for preset in presets()}.get(name)
    if found is None or found.kind in ("built-in", "weight-free"):
        return None
    if found.kind == "features+kmeans":
        raise InputError(f"expected a tokenizer, got {name}, whose codebooks are yet to be trained", hint=found.command)
    return found.download


def tokenizer(name: str) -> UnitTokenizer | JoinedTokenizer | NeuralCodec:
    """The tokenizer of a preset that needs no training; the weights of a codec are fetched.

    InputError if there is no such preset or if it has to be trained, ArtifactError if its weights cannot be had.
    """
    if find(name).kind == "built-in":
        return load(name)
    model = checkpoint(name)
    if model is None:
        return WEIGHT_FREE[name]()
    from vocable.tokenizers.codec import NeuralCodec

    return NeuralCodec.from_pretrained(model)


def vocoder_of(spec: TokenSpec, *, models: Path = builtin.MODELS) -> str | None:
    """The name of the built-in vocoder if tokens of this spec are those of the built-in units, else None.

    models: where built-in models lie. ArtifactError if the built-in units are there, but damaged.
    """
    if not builtin.installed(models):
        return None
    return builtin.VOCODER if spec.source == artifacts.read_fingerprint(models / builtin.UNITS) else None


def inverter(units: UnitTokenizer | JoinedTokenizer) -> UnitInverter:
    """The weight-free vocoder of units of spectral features. InputError for any others."""
    if isinstance(units, JoinedTokenizer):
        raise InputError(
            f"expected units of mfcc or logmel features, got joined ones of {', '.join(units.spec.labels)}",
            hint="train a vocoder for them with `vocable train vocoder`",
        )
    if not isinstance(units.extractor, MFCC | LogMel):
        raise InputError(
            f"expected units of mfcc or logmel features, got units of {', '.join(units.extractor.layers)}",
            hint="only spectral features can be inverted without a learned vocoder",
        )
    if isinstance(units.quantizers[0], RandomProjection):
        raise InputError("random projections keep too little of a spectrum to make sound of it")
    return UnitInverter(units.extractor, units.quantizers[0], units.spec)
