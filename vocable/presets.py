"""Named recipes as plain functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vocable import audio
from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.files import inside, new_directory
from vocable.metrics.reconstruction import stoi
from vocable.metrics.report import Clip, write_page
from vocable.metrics.summary import summarize
from vocable.store import Entry, TokenStore
from vocable.tokenizers import MFCC, LogMel, UnitTokenizer, tokenize, train_kmeans
from vocable.vocoders import UnitInverter, resynthesize

SAMPLES = Path(__file__).parent / "samples" / "samples.jsonl"
_DEMO_CLUSTERS = 500


def inverter(units: UnitTokenizer) -> UnitInverter:
    """The weight-free vocoder of units that were fitted on spectral features. InputError for any others."""
    if not isinstance(units.extractor, MFCC | LogMel):
        raise InputError(
            f"expected units of mfcc or logmel features, got units of {', '.join(units.extractor.layers)}",
            hint="only spectral features can be inverted without a learned vocoder",
        )
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
