"""What units of spectra still know of words, voices and text, beside the spectra themselves.

    OMP_NUM_THREADS=1 python -m benchmarks.probes ../shared/audio --work /tmp/probes --out benchmarks/results/probes.md

The folder holds digits.jsonl (digit, speaker, split), keywords.jsonl (keyword, split), train.jsonl and dev.jsonl
(corpus, speaker, text).
Tables are kept in the work folder as they come: stopped, the same command goes on; with all there, it only writes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path

import torch

from benchmarks.measure import commit, machine
from vocable import audio
from vocable.corpus import Corpus, Utterance
from vocable.files import inside, write_atomic
from vocable.probes import (
    Classification,
    Epoch,
    Material,
    Recipe,
    Split,
    Task,
    Transcription,
    Verification,
    bounds,
    probe,
    split_by_field,
    split_by_hash,
)
from vocable.store import TokenStore
from vocable.tokenizers import JoinedTokenizer, UnitTokenizer, build, tokenize, train_kmeans
from vocable.types import Audio

SPECTRA = tuple((name, size) for name in ("mfcc", "logmel") for size in (50, 200, 1000))
BOTH = ("mfcc+logmel", 200)
MANY_VOICES = "librispeech"  # the corpora of many speakers are called so
PIECE = 4.0  # seconds, of recordings of the one voice each
VOICES = "voices.jsonl"


@dataclass(frozen=True)
class Study:
    """One table: its corpus, which of it, the units, the probe, and what a reader should know."""

    name: str
    title: str
    manifest: str
    task: Task
    recipe: Recipe
    split: Callable[[Material], Split]
    units: tuple[tuple[str, int], ...] = SPECTRA
    keep: dict[str, str] = field(default_factory=dict)
    note: str = ""


def _field(material: Material) -> Split:
    return split_by_field(material.items, "split")


def _random(material: Material) -> Split:
    return split_by_hash(material.items)


DIGITS = partial(Study, manifest="digits.jsonl", split=_field)
STUDIES = (
    DIGITS("digit", "Digits", task=Classification("digit"), recipe=Recipe(), units=(*SPECTRA, BOTH)),
    DIGITS("speaker", "Voices", task=Classification("speaker"), recipe=Recipe(), units=(*SPECTRA, BOTH)),
    Study(
        "text",
        "Text of one voice",
        "train.jsonl",
        Transcription("text"),
        Recipe("bilstm", seeds=1, epochs=40, batch=16),
        _random,
        units=(("logmel", 200),),
        keep={"corpus": "kathleen"},
        note="kathleen reads some prompts twice, so a sentence of the test may have been heard in training as another "
        "take.",
    ),
    DIGITS("digit-bilstm", "Digits, with a BiLSTM", task=Classification("digit"), recipe=Recipe("bilstm", epochs=20)),
    Study(
        "keyword",
        "Wake words",
        "keywords.jsonl",
        Classification("keyword"),
        Recipe(epochs=20, seeds=1),
        _field,
        note="Nobody says who spoke: a voice of the test may have been heard in training.",
    ),
    DIGITS(
        "verify",
        "Is it the same voice? Six that are known",
        task=Verification("speaker"),
        recipe=Recipe(epochs=20, seeds=1),
    ),
    Study(
        "verify-unseen",
        "Is it the same voice? Eighteen never heard",
        VOICES,
        Verification("speaker"),
        Recipe(epochs=20, seeds=1),
        _field,
        note=f"Trained to tell the speakers of train.jsonl, by pieces of {PIECE:g} s of the one recording there is of "
        "each; tested on whole recordings of dev.jsonl, ten of each of five speakers and one of each of thirteen.",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="units, tokens and tables are kept here")
    parser.add_argument("--only", nargs="*", help="names of tables to make; the others are taken as they are")
    parser.add_argument("--frames", type=int, default=100_000, help="of the training part, to fit units on")
    parser.add_argument("--out", type=Path, help="write the tables here")
    options = parser.parse_args()
    tables = options.work / "tables"
    tables.mkdir(parents=True, exist_ok=True)
    for study in STUDIES:
        if (options.only is None or study.name in options.only) and not (tables / f"{study.name}.md").exists():
            run(study, options.folder, options.work, options.frames)
    if options.out:
        options.out.write_text(page(tables, options.frames))


def run(study: Study, folder: Path, work: Path, frames: int) -> None:
    """Makes the units and tokens that are not there yet, and the table."""
    everything = Corpus.of(voices(folder, work) if study.manifest == VOICES else folder / study.manifest)
    corpus = Corpus(u for u in everything if all(u.fields.get(name) == value for name, value in study.keep.items()))
    place = work / Path(study.manifest).stem
    stores = [store(corpus, place, name, size, frames) for name, size in study.units]
    materials = [Material.of_stores(path) for path in stores]
    split = study.task.goal(materials[0].items, study.split(materials[0])).split
    materials += bounds(dict(zip(stores, materials, strict=True)), corpus, {*split.train, *split.test})
    curve: list[Epoch] = []
    report = probe(materials, study.task, split, study.recipe, on_epoch=curve.append)
    note = f"{study.note} " if study.note else ""
    made = f"{note}{date.today()}, commit {commit()}."
    table = f"## {study.title}\n\n{report.markdown()}\n{courses(curve)}\n\n{made}\n"
    (work / "tables" / f"{study.name}.json").write_text(report.to_json())
    (work / "tables" / f"{study.name}.md").write_text(table)
    print(table, flush=True)


def store(corpus: Corpus, place: Path, name: str, size: int, frames: int) -> Path:
    """Tokens of a corpus by units that were fitted on its training part, or by several of these side by side."""
    path = place / f"{name}-{size}"
    if path.exists() and len(TokenStore.open(path)) == len(corpus):
        return path
    train = Corpus(u for u in corpus if u.fields.get("split", "train") == "train")
    parts = name.split("+")
    tokenizer: UnitTokenizer | JoinedTokenizer
    if len(parts) > 1:
        made = [store(corpus, place, part, size, frames) for part in parts]
        tokenizer = JoinedTokenizer([UnitTokenizer.from_pretrained(TokenStore.open(p).tokenizer_path) for p in made])
    else:
        tokenizer = train_kmeans(train, build(name), size, sample_frames=frames, workers=1)
    tokenize(corpus, tokenizer, path, workers=1, overwrite=True)
    print(f"{path}: {len(corpus)} recordings", flush=True)
    return path


def voices(folder: Path, work: Path) -> Path:
    """The manifest of the corpora of many speakers: pieces of recordings to train on, whole ones to be tested on."""
    manifest = work / VOICES
    if manifest.exists():
        return manifest
    lines = []
    for utterance in Corpus.of(folder / "train.jsonl"):
        if utterance.fields["corpus"].startswith(MANY_VOICES):
            for path in _pieces(utterance, work / "pieces"):
                told = {"speaker": utterance.fields["speaker"], "split": "train"}
                lines.append({"id": f"train/{path.stem}", "path": str(path), **told})
    for utterance in Corpus.of(folder / "dev.jsonl"):
        if utterance.fields["corpus"].startswith(MANY_VOICES):
            told = {"speaker": utterance.fields["speaker"], "split": "test"}
            lines.append({"id": utterance.id, "path": str(utterance.path.resolve()), **told})
    write_atomic(manifest, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return manifest


def _pieces(utterance: Utterance, folder: Path) -> list[Path]:
    sound = audio.read(utterance.path)
    parts = sound.waveform(0).split(round(PIECE * sound.sample_rate), dim=1)
    whole = [part for part in parts if part.shape[1] >= PIECE * sound.sample_rate / 2]
    paths = [inside(folder, f"{utterance.id}-{index}", ".flac") for index in range(len(whole))]
    for path, part in zip(paths, whole, strict=True):
        audio.write(path.resolve(), Audio.of([part], sound.sample_rate))
    return [path.resolve() for path in paths]


def courses(curve: list[Epoch]) -> str:
    """How many epochs each system took, and how the loss of its first seed fell."""
    rows = []
    for system in dict.fromkeys(epoch.system for epoch in curve):
        epochs = [epoch for epoch in curve if epoch.system == system]
        first = [epoch.held for epoch in epochs if epoch.seed == epochs[0].seed]
        mean = len(epochs) / len({epoch.seed for epoch in epochs})
        rows.append(f"- {system}: {mean:.0f} epochs, held-out loss {first[0]:.3g} to {min(first):.3g}")
    return "\n".join(rows)


def page(tables: Path, frames: int) -> str:
    """The tables that are there, in their order."""
    found = [tables / f"{study.name}.md" for study in STUDIES]
    head = (
        "# What units still know\n\n"
        f"{machine()}; under each table when, and at which commit.\n\n"
        f"K-means units of 10 ms frames, fitted on {frames:,} frames of the training part (for text, of all of it); "
        "`continuous` is the same probe on the frames themselves, each dimension scaled: what tokens lose, except that "
        "with a linear head many units say more than mean and deviation of frames. The digits are read by the same six "
        "voices in training and test. Made by `python -m benchmarks.probes`.\n\n"
    )
    return head + "\n".join(path.read_text() for path in found if path.exists())


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
