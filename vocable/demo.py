"""The demo: units learned on bundled speech, without weights; then the built-in models beside them, and beside Opus."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from vocable import audio, builtin
from vocable.corpus import Corpus
from vocable.errors import ArtifactError
from vocable.evaluation import Evaluation, SoundSystem, TokenSystem, evaluate
from vocable.files import inside, new_directory
from vocable.metrics.catalogue import METRICS
from vocable.metrics.reconstruction import stoi
from vocable.metrics.report import Clip, write_page
from vocable.metrics.summary import summarize
from vocable.presets import SAMPLES, inverter
from vocable.store import Entry, TokenStore
from vocable.tokenizers import LogMel, NeuralCodec, UnitTokenizer, load, tokenize, train_kmeans
from vocable.vocoders import UnitVocoder, resynthesize

_CLUSTERS = 500
_JUDGES = ("stoi", "pesq_wb", "mel")
_OPUS = 6000  # bit/s, the least that it takes
_COMPARISON = "comparison"


def demo(out: Path, *, overwrite: bool = False, say: Callable[[str], None] = lambda text: None) -> Path:
    """The main job on the bundled speech: units/, tokens/, wavs/ and index.html in `out`. Returns the page's path.

    Where the built-in models are installed, comparison/ has them beside these units, on a clip of each voice, and its
    page, to which the first one leads.
    """
    corpus, compared = Corpus.of(SAMPLES), builtin.installed()
    with new_directory(out, overwrite=overwrite) as folder:
        say(f"training {_CLUSTERS} units on {len(corpus)} clips of speech")
        units = train_kmeans(corpus, LogMel(), _CLUSTERS)
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
            "codebook": f"{_CLUSTERS} units",
            "frame rate": f"{store.spec.frame_rate:g} Hz",
            "bitrate": f"{store.spec.bitrate:,.0f} bit/s",
            **{f"use of {label}": use for label, use in held.use().items()},
            "audio": f"{held.recordings} clips, {held.seconds:.0f} s",
            "tokenized at": f"{run.rate:,.0f} x real time",
            "fingerprint": units.fingerprint[:12],
        }
        write_page(
            folder / "index.html",
            title="vocable demo",
            facts=facts,
            clips=clips,
            commands=_COMMANDS,
            links={"Beside the built-in models": f"{_COMPARISON}/index.html"} if compared else {},
        )
    if compared:
        say("comparing with the built-in models")
        voices = {utterance.fields.get("speaker"): utterance for utterance in reversed(list(corpus))}
        compare(Corpus(reversed(voices.values())), units, out / _COMPARISON, say=say)
    return out / "index.html"


def compare(
    corpus: Corpus, units: UnitTokenizer, out: Path, *, say: Callable[[str], None] = lambda text: None
) -> Evaluation:
    """Spectral units by inversion, the built-in units by their vocoder, the built-in codec at half and at all of its
    codebooks, and Opus if `opusenc` is installed, evaluated into `out`.

    ArtifactError if the built-in models are not there, or damaged.
    """
    codec = load(builtin.CODEC)
    if not isinstance(codec, NeuralCodec):
        raise ArtifactError(f"expected a codec by the name {builtin.CODEC}, got other tokens")
    count = codec.spec.num_codebooks
    systems: list[TokenSystem | SoundSystem] = [
        TokenSystem("log-mel", units, inverter(units)),
        TokenSystem(builtin.UNITS, load(builtin.UNITS), UnitVocoder.from_pretrained(builtin.VOCODER), builtin.VOCODER),
        *TokenSystem(builtin.CODEC, codec, codec).at([count // 2, count]),
    ]
    if opus := _opus(corpus, out.with_name(f"{out.name}-opus"), say):
        systems.append(opus)
    judges = [name for name in _JUDGES if METRICS[name].installed]
    command = (
        f"vocable evaluate samples.jsonl --tokenizer log-mel=units/ --tokenizer {builtin.UNITS} "
        f"--vocoder {builtin.VOCODER} --tokenizer {builtin.CODEC} --codebooks {count // 2},{count} --out {_COMPARISON}/"
    )
    facts = {"log-mel": "units learned on this very speech"}
    return evaluate(corpus, systems, out, metrics=judges, facts=facts, commands=[command])


def _opus(corpus: Corpus, folder: Path, say: Callable[[str], None]) -> SoundSystem | None:
    """What Opus makes of the recordings at its lowest rate, if its tool is here and takes them."""
    tool = shutil.which("opusenc")
    if tool is None:
        say("opusenc is not installed: comparing without Opus")
        return None
    told = [tool, "--quiet", "--speech", "--hard-cbr", "--bitrate", f"{_OPUS / 1000:g}"]
    for utterance in corpus:
        coded = inside(folder, utterance.id, ".opus")
        coded.parent.mkdir(parents=True, exist_ok=True)
        if subprocess.run(
            [*told, utterance.path.resolve(), coded.resolve()], capture_output=True, check=False
        ).returncode:
            say(f"opusenc does not take {utterance.path}: comparing without Opus")
            return None
    return SoundSystem(f"opus @ {_OPUS}", folder, _OPUS)


_COMMANDS = (
    f"vocable train kmeans samples.jsonl --features logmel --clusters {_CLUSTERS} --out units/",
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
