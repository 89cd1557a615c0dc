"""Recipes carried out: the tokenizer of a preset, the inverter of spectral units, the demo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vocable import audio
from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.files import inside, new_directory
from vocable.metrics.reconstruction import stoi
from vocable.metrics.report import Clip, write_page
from vocable.metrics.summary import summarize
from vocable.quantizers import RandomProjection, ScalarBins
from vocable.recipes import Preset, find, presets
from vocable.store import Entry, TokenStore
from vocable.tokenizers import MFCC, JoinedTokenizer, LogMel, UnitTokenizer, tokenize, train_kmeans
from vocable.tokenizers.stacked import SPEECH_MEAN, SPEECH_STD, StackedMel
from vocable.vocoders import UnitInverter, resynthesize

if TYPE_CHECKING:
    from vocable.tokenizers.codec import NeuralCodec

__all__ = [
    "SAMPLES",
    "WEIGHT_FREE",
    "Preset",
    "best_rq",
    "checkpoint",
    "demo",
    "dmel",
    "find",
    "inverter",
    "presets",
    "tokenizer",
]

SAMPLES = Path(__file__).parent / "samples" / "samples.jsonl"
_DEMO_CLUSTERS = 500


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
    if found is None or found.kind == "weight-free":
        return None
    if found.kind == "features+kmeans":
        raise InputError(f"expected a tokenizer, got {name}, whose codebooks are yet to be trained", hint=found.command)
    return found.download


def tokenizer(name: str) -> UnitTokenizer | NeuralCodec:
    """The tokenizer of a preset that needs no training; the weights of a codec are fetched.

    InputError if there is no such preset or if it has to be trained, ArtifactError if its weights cannot be had.
    """
    find(name)
    model = checkpoint(name)
    if model is None:
        return WEIGHT_FREE[name]()
    from vocable.tokenizers.codec import NeuralCodec

    return NeuralCodec.from_pretrained(model)


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


def demo(out: Path, *, overwrite: bool = False, say: Callable[[str], None] = lambda text: None) -> Path:
    """The main job on the bundled speech: units/, tokens/, wavs/ and index.html in `out`. Returns the page's path."""
    corpus = Corpus.of(SAMPLES)
    with new_directory(out, overwrite=overwrite) as folder:
        say(f"training {_DEMO_CLUSTERS} units on {len(corpus)} clips of speech")
        units = train_kmeans(corpus, LogMel(), _DEMO_CLUSTERS)
        units.save_pretrained(folder / "units")
        say("tokenizing")
        run = tokenize(corpus, units, folder / "tokens")
        say("resynthesizing")
        store = TokenStore.open(folder / "tokens")
        resynthesize(store, inverter(units), folder / "wavs")
        say("writing the page")
        clips = [_clip(entry, store, folder) for entry in sorted(store, key=lambda entry: entry.id)]
        held = summarize(store)
        facts = {
            "features": "log-mel, no weights",
            "codebook": f"{_DEMO_CLUSTERS} units",
            "frame rate": f"{store.spec.frame_rate:g} Hz",
            "bitrate": f"{store.spec.bitrate:,.0f} bit/s",
            **{f"use of {label}": use for label, use in held.use().items()},
            "audio": f"{held.recordings} clips, {held.seconds:.0f} s",
            "tokenized at": f"{run.rate:,.0f} x real time",
            "fingerprint": units.fingerprint[:12],
        }
        write_page(folder / "index.html", title="vocable demo", facts=facts, clips=clips, commands=_COMMANDS)
    return out / "index.html"


_COMMANDS = (
    f"vocable train kmeans samples.jsonl --features logmel --clusters {_DEMO_CLUSTERS} --out units/",
    "vocable tokenize samples.jsonl --tokenizer units/ --out tokens/",
    "vocable resynthesize tokens/ --out wavs/",
)


def _clip(entry: Entry, store: TokenStore, folder: Path) -> Clip:
    original = audio.read(entry.path)
    resynthesis = audio.read(inside(folder / "wavs", entry.id, ".wav"))
    scores = stoi(original, resynthesis)
    return Clip(
        id=entry.id,
        text=str(entry.fields.get("text", "")),
        speaker=str(entry.fields.get("speaker", "")),
        original=original,
        resynthesis=resynthesis,
        tokens=entry.tokens(store.spec),
        scores={"STOI": None if scores.failed else scores.mean},
    )
