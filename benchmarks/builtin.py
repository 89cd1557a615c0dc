"""The figures of the built-in models: what the units say, how vocoder and codec sound, how fast all of them are.

    python -m benchmarks.builtin ../shared/audio --work /tmp/builtin --out benchmarks/results/builtin.md

The folder holds train.jsonl and dev.jsonl (corpus, language, text, phones) and digits.jsonl (digit, speaker, split).
Other models are named, or their folders, with --units, --vocoder and --codec. What is made is kept in --work: tokens,
sounds and scores, a page to listen to under vocoder-*/ and codec-*/, and a table of each part. --only makes some of
these anew; --out gets all that are there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import torch

from benchmarks.measure import commit, machine
from benchmarks.outside import MAX_SHIFT, opus, originals, rates, table
from benchmarks.vocoder import turns
from vocable import audio
from vocable.corpus import Corpus, Utterance
from vocable.errors import InputError
from vocable.evaluation import Evaluation, SoundSystem, TokenSystem, evaluate
from vocable.evaluation.results import TokenFigures
from vocable.evaluation.systems import Part
from vocable.evaluation.token_figures import token_figures
from vocable.files import write_atomic
from vocable.metrics.runs import codebook_use
from vocable.metrics.tokens import phone_tables, pnmi
from vocable.probes import Classification, Material, Recipe, probe, split_by_field
from vocable.store import TokenStore
from vocable.tokenizers import MFCC, NeuralCodec, UnitTokenizer, load, tokenize, train_kmeans
from vocable.tokenizers.folder import WindowTokenizer
from vocable.types import Audio, Tokens
from vocable.vocoders import UnitVocoder, resynthesize
from vocable.vocoders.designs import codebooks_of, layers_of

CLUSTERS, FRAMES = (100, 500), 200_000  # of the mfcc units beside, and what they are learnt from
ASKED = ("digit", "speaker")
CODEBOOKS = (1, 2, 4, 6, 8)
OPUS = (6000, 9000, 12000)
SOUND = ("pesq_wb", "stoi", "estoi", "mel", "si_sdr")
TIMED, ROUNDS = 16, 3  # recordings side by side, and how often
LOADING = """
import json, sys, time
def now():
    return time.perf_counter(), time.process_time()
times = [now()]
from vocable import UnitVocoder, load
opened = UnitVocoder.from_pretrained if sys.argv[1] == "vocoder" else load
times.append(now())
for _ in range(2):
    opened(sys.argv[2])
    times.append(now())
print(json.dumps([end - begin for pair in zip(times, times[1:]) for begin, end in zip(*pair)]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--units", default="vocable-units", help="name or folder of the units")
    parser.add_argument("--vocoder", default="vocable-vocoder", help="name or folder of their vocoder")
    parser.add_argument("--codec", default="vocable-codec", help="name or folder of the codec")
    parser.add_argument("--layer", help="the one layer for probes and vocoder  [default: that with the highest PNMI]")
    parser.add_argument("--judge", default="moonshine", help="a recognizer, or the folder of one")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="make these parts anew, not all")
    parser.add_argument("--limit", type=int, help="so many recordings for each part, to try it")
    parser.add_argument("--seeds", type=int, default=1, help="of each probe")
    parser.add_argument("--work", type=Path, default=Path("builtin.work"))
    parser.add_argument("--workers", type=int, default=2, help="processes that judge")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write all tables here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tables = options.work / "tables"
    for name in options.only or PARTS:
        began = time.monotonic()
        lines = list(PARTS[name](options))
        lines += ["", f"{date.today()}, commit {commit()}; made in {time.monotonic() - began:,.0f} s."]
        text = "\n".join(lines) + "\n"
        write_atomic(tables / f"{name}.md", text.encode())
        print(text, flush=True)
    if options.out:
        write_atomic(options.out, page(tables).encode())


# What is measured, and on what


def manifest(options: argparse.Namespace, name: str, keep: Callable[[Utterance], bool] = lambda _: True) -> Corpus:
    """The recordings of a manifest that are kept; of these at most --limit, spread evenly."""
    kept = [utterance for utterance in Corpus.of(options.folder / name) if keep(utterance)]
    return few(kept, options.limit)


def few(utterances: Sequence[Utterance], count: int | None) -> Corpus:
    """So many of them, spread evenly; None for all."""
    count = min(count or len(utterances), len(utterances))
    return Corpus(utterances[index * len(utterances) // count] for index in range(count))


def speaks_english(utterance: Utterance) -> bool:
    return utterance.fields.get("language") == "en"


def tokens(options: argparse.Namespace, name: str, tokenizer: WindowTokenizer, source: str) -> Path:
    """The store of a manifest's tokens, where what is missing is added."""
    place: Path = options.work / "tokens" / f"{name}-{tokenizer.spec.source[:12]}-{Path(source).stem}"
    tokenize(manifest(options, source), tokenizer, place, workers=1)
    return place


def part(place: Path, corpus: Iterable[Utterance]) -> Part:
    """What a store holds of a corpus."""
    store = TokenStore.open(place)
    return Part(store, range(store.spec.num_codebooks), {utterance.id for utterance in corpus})


def mfcc_units(options: argparse.Namespace) -> dict[str, UnitTokenizer]:
    """Units of spectra, learnt from train.jsonl once."""
    found = {}
    for size in CLUSTERS:
        place = options.work / f"mfcc-{size}"
        if not place.exists():
            corpus = Corpus.of(options.folder / "train.jsonl")
            train_kmeans(corpus, MFCC(), size, sample_frames=FRAMES, workers=1).save_pretrained(place)
        found[place.name] = UnitTokenizer.from_pretrained(place)
    return found


def one_layer(options: argparse.Namespace, store: TokenStore) -> str:
    """The layer that was asked for, or the one with the codebook that says most of phones."""
    if options.layer:
        return str(options.layer)
    told = [pnmi(counts) for counts in phone_tables(store)]
    return max((max(told[k] for k in members), name) for name, members in layers_of(store.spec).items())[1]


def speeds(runs: Sequence[Callable[[], object]], seconds: float) -> Iterator[str]:
    """Times real time of each run over so many seconds of audio: by the wall, and by what its threads worked."""
    for speed in turns([(run, seconds) for run in runs], ROUNDS):
        yield f"{speed.wall:,.0f} x real time ({speed.processor:,.0f} x per second of a processor)"


def timed(options: argparse.Namespace, what: str) -> str:
    return f"{what}; {TIMED} recordings at once at most, {options.threads} threads, in memory, median of {ROUNDS}."


def sound(utterances: Iterable[Utterance], rate: int) -> Audio:
    """The first few recordings of the corpus, in one batch."""
    chosen = few(list(utterances), TIMED)
    return Audio.of([audio.conform(audio.read(one.path), rate).waveform(0) for one in chosen], rate)


# The parts


def units(options: argparse.Namespace) -> Iterator[str]:
    """What codes say of phones, how they are used, what they cost."""
    ours, corpus = load(options.units), manifest(options, "dev.jsonl")
    spoken = [utterance for utterance in corpus if utterance.fields.get("phones")]
    yield "## Units: phones, use, cost"
    yield ""
    heads = ["units", "Hz", "codebook", "entries", "PNMI", "phone purity", "use, phones", "use, all"]
    yield f"| {' | '.join([*heads, 'raw', 'entropy', 'once', 'timed'])} |"
    yield "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for name, tokenizer in ({Path(options.units).name: ours} | mfcc_units(options)).items():
        store = part(tokens(options, name, tokenizer, "dev.jsonl"), corpus)
        figures, left_out = token_figures(store)
        if figures is None:
            raise InputError(f"no figures of {name}: {left_out}")
        spoken_use = {use.label: use.usage for use in codebook_use(part(store.path, spoken))}
        yield from (f"| {name} | {figures.frame_rate:g} | {row}" for row in _books(figures, spoken_use))
    yield ""
    yield f"PNMI and purity of the frames of {len(spoken)} recordings with time-aligned phones; use: share of the"
    yield f"entries that occur in these, and in all {len(corpus)} of dev. bit/s of all: raw; at the entropy of single"
    yield "codes; every run of equal codes once, log2(entries) bits each; the same with the lengths of runs at their"
    yield f"entropy. mfcc: 13 coefficients with deltas, learnt from {FRAMES:,} frames of train.jsonl."
    yield ""
    heard = sound(corpus, ours.spec.sample_rate)
    (fast,) = speeds([partial(ours.encode, heard)], float(heard.seconds.sum()))
    yield timed(options, f"Units {ours.spec.source[:12]}, encoding: {fast}")


def _books(figures: TokenFigures, spoken_use: dict[str, float]) -> Iterator[str]:
    """Cells of each codebook, and what all of them cost."""
    for use, rate in zip(figures.use, figures.rates, strict=False):
        phones = figures.phones.get(use.label)
        told = f"{phones.pnmi:.3f} | {phones.phone_purity:.3f}" if phones else "- | -"
        shares = f"{spoken_use[use.label]:.1%} | {use.usage:.1%}"
        cost = f"{rate.raw:,.0f} | {rate.entropy0:,.0f} | {rate.units:,.0f} | {rate.timed_units:,.0f}"
        yield f"{use.label} | {use.size:,} | {told} | {shares} | {cost} |"
    if len(figures.use) > 1:
        total = figures.rates[-1]
        cost = f"{total.raw:,.0f} | {total.entropy0:,.0f} | {total.units:,.0f} | {total.timed_units:,.0f}"
        yield f"all | | | | | | {cost} |"


def probes(options: argparse.Namespace) -> Iterator[str]:
    """Which digit it is, and whose voice, from one layer's units alone."""
    ours, name = load(options.units), Path(options.units).name
    layer = one_layer(options, part(tokens(options, name, ours, "dev.jsonl"), manifest(options, "dev.jsonl")))
    materials = [_layer_alone(Material.of_stores(tokens(options, name, ours, "digits.jsonl")), name, layer, ours)]
    for other, tokenizer in mfcc_units(options).items():
        materials.append(Material.of_stores(tokens(options, other, tokenizer, "digits.jsonl"), name=other))
    ids = {utterance.id for utterance in manifest(options, "digits.jsonl")}
    split = split_by_field(materials[0].items, "split").keep(ids)
    yield "## Units: what they still know"
    for label in ASKED:
        report = probe(materials, Classification(label), split, Recipe(seeds=options.seeds))
        yield from ("", f"### {label.capitalize()}", "", report.markdown().strip())
    yield ""
    yield "The first row is chance: always the same answer. Voices of the test were all heard in training."


def _layer_alone(whole: Material, name: str, layer: str, tokenizer: WindowTokenizer) -> Material:
    kept = tuple(one for one in whole.layers if one.name == layer)
    rate = tokenizer.spec.take(codebooks_of(tokenizer.spec, [layer])).bitrate
    return replace(whole, name=f"{name}, {layer}", layers=kept, bitrate=rate)


def vocoder(options: argparse.Namespace) -> Iterator[str]:
    """Resynthesis by all layers and by one, as a recognizer hears it."""
    ours, decoder = load(options.units), UnitVocoder.from_pretrained(options.vocoder)
    name, spec = Path(options.units).name, ours.spec
    place, english = tokens(options, name, ours, "dev.jsonl"), manifest(options, "dev.jsonl", speaks_english)
    tokenize(english, ours, place, workers=1)  # with --limit, others than those of all languages
    layer, store = one_layer(options, part(place, manifest(options, "dev.jsonl"))), part(place, english)
    out = options.work / f"vocoder-{decoder.fingerprint[:12]}"
    systems: list[TokenSystem | SoundSystem] = [TokenSystem(name, ours, decoder, Path(options.vocoder).name)]
    if len(layers_of(spec)) > 1:
        alone = options.work / f"{out.name}-{layer}"
        resynthesize(store, decoder, alone, suffix=".flac", layers=[layer])
        systems.append(SoundSystem(f"{layer} alone", alone, spec.take(codebooks_of(spec, [layer])).bitrate))
    metrics = [f"dwer:{options.judge}", f"wer:{options.judge}", "stoi", "estoi"]
    found = evaluate(english, systems, out, metrics=metrics, workers=options.workers)
    with_text = sum(bool(item.text) for item in found.items)
    yield "## Units to sound"
    yield ""
    yield from table(found, metrics)
    yield ""
    yield f"{spoken_of(found)} in English, by `vocable evaluate` with {options.workers} processes. dwer: words heard"
    yield f"otherwise than in the original; wer: against the text, which {with_text} recordings have and without which"
    yield "one fails: that of the originals is the judge's own. Means with 95 % bootstrap intervals over recordings."
    yield ""
    batch, seconds = _some_tokens(store)
    (fast,) = speeds([partial(decoder.decode, batch)], seconds)
    yield timed(options, f"Vocoder {decoder.fingerprint[:12]}, decoding all layers: {fast}")


def _some_tokens(store: TokenStore) -> tuple[Tokens, float]:
    """Codes of the first few recordings in one batch, and the seconds that they stand for."""
    entries = [entry for entry, _ in zip(store, range(TIMED), strict=False)]
    samples = [entry.samples for entry in entries]
    codes = [entry.tokens(store.spec).codes[0] for entry in entries]
    return Tokens.of(codes, store.spec, samples), sum(samples) / store.spec.sample_rate


def codec(options: argparse.Namespace) -> Iterator[str]:
    """The codec at several rates, beside Opus."""
    ours = load(options.codec)
    if not isinstance(ours, NeuralCodec):
        raise InputError(f"expected a codec, got the units {options.codec}")
    work, out = (options.work / "beside").resolve(), options.work / f"codec-{ours.fingerprint[:12]}"
    recordings = few(list(originals(options.folder, work, everything=False)), options.limit)
    known = shutil.which("opusenc") and shutil.which("opusdec")
    rivals = [opus(recordings, work / f"opus-{rate}", rate) for rate in OPUS] if known else []
    systems: list[TokenSystem | SoundSystem] = [*TokenSystem(Path(options.codec).name, ours, ours).at(CODEBOOKS)]
    systems += [SoundSystem(one.name, one.folder, one.bitrate) for one in rivals]
    found = evaluate(recordings, systems, out, metrics=SOUND, max_shift=MAX_SHIFT, workers=options.workers)
    yield "## Codec"
    yield ""
    yield from table(found, SOUND)
    yield ""
    yield f"{spoken_of(found)}, every fourth of LibriSpeech in dev, the first 15 s at 16 kHz, by `vocable evaluate`; a"
    yield f"constant delay of at most {MAX_SHIFT:g} s is taken away from all. Means with 95 % bootstrap intervals."
    if rivals:
        yield from ("", *rates(rivals))
    yield ""
    heard = sound(recordings, ours.sample_rate)
    written, seconds = ours.encode(heard), float(heard.seconds.sum())
    encoded, decoded = speeds([partial(ours.encode, heard), partial(ours.decode, written)], seconds)
    yield timed(options, f"Codec {ours.fingerprint[:12]}, all codebooks. Encoding: {encoded}; decoding: {decoded}")


def spoken_of(found: Evaluation) -> str:
    seconds = sum(item.seconds for item in found.items)
    return f"{len(found.items)} recordings, {seconds / 60:.1f} minutes"


def loading(options: argparse.Namespace) -> Iterator[str]:
    """How long fresh processes take until a model is there."""
    yield "## Loading"
    yield ""
    yield "| model | imports | loading | loading again | the whole process |"
    yield "|---|---:|---:|---:|---:|"
    for kind in ("units", "vocoder", "codec"):
        place = getattr(options, kind)
        runs = [_loaded(kind, place) for _ in range(ROUNDS)]
        *steps, whole = (statistics.median(column) for column in zip(*runs, strict=True))
        cells = [f"{wall:.2f} s ({own:.2f})" for wall, own in zip(steps[::2], steps[1::2], strict=True)]
        yield f"| {Path(place).name} | {' | '.join([*cells, f'{whole:.2f} s'])} |"
    yield ""
    yield f"Median of {ROUNDS} fresh processes; in brackets seconds of processors. Imports are of `vocable.load` and of"
    yield "torch. The first loading imports what the model needs besides; the second in the same process has all of it."


def _loaded(kind: str, place: str) -> list[float]:
    """Seconds of imports and two loadings, by the wall and of processors each, and of the whole process."""
    began = time.perf_counter()
    told = subprocess.run([sys.executable, "-c", LOADING, kind, place], check=True, stdout=subprocess.PIPE, text=True)
    return [*json.loads(told.stdout), time.perf_counter() - began]


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[str]]] = {
    "units": units,
    "probes": probes,
    "vocoder": vocoder,
    "codec": codec,
    "load": loading,
}


def page(tables: Path) -> str:
    """The tables that are there, in their order."""
    found = [path.read_text() for name in PARTS if (path := tables / f"{name}.md").exists()]
    head = f"# Built-in models\n\n{machine()}; under each part when, and at which commit.\n\n"
    return head + "\n".join(found) + "\nMade by `python -m benchmarks.builtin ../shared/audio`.\n"


if __name__ == "__main__":
    main()
