"""What units of spectra still know of words, voices and text, beside the spectra themselves.

    OMP_NUM_THREADS=1 python -m benchmarks.probes ../shared/audio --work /tmp/probes --out benchmarks/results/probes.md

The folder holds digits.jsonl (digit, speaker, split), keywords.jsonl (keyword, split) and train.jsonl (speaker, text).
Tables are kept in the work folder as they come: stopped, the same command goes on; with all there, it only writes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path

import torch

from benchmarks.measure import commit, machine
from vocable.corpus import Corpus
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

SPECTRA = tuple((name, size) for name in ("mfcc", "logmel") for size in (50, 200, 1000))
BOTH = ("mfcc+logmel", 200)


@dataclass(frozen=True)
class Study:
    """One table: its corpus, which of it, the units, and the probe."""

    name: str
    title: str
    manifest: str
    task: Task
    recipe: Recipe
    split: Callable[[Material], Split]
    units: tuple[tuple[str, int], ...] = SPECTRA
    keep: dict[str, str] = field(default_factory=dict)


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
    ),
    DIGITS("digit-bilstm", "Digits, with a BiLSTM", task=Classification("digit"), recipe=Recipe("bilstm", epochs=20)),
    Study(
        "keyword",
        "Wake words",
        "keywords.jsonl",
        Classification("keyword"),
        Recipe(epochs=30),
        _field,
        units=(("mfcc", 200), ("logmel", 200)),
    ),
    DIGITS(
        "verify",
        "Is it the same voice?",
        task=Verification("speaker"),
        recipe=Recipe(),
        units=(("mfcc", 200), ("logmel", 200)),
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
    everything = Corpus.of(folder / study.manifest)
    corpus = Corpus(u for u in everything if all(u.fields.get(name) == value for name, value in study.keep.items()))
    place = work / Path(study.manifest).stem
    stores = [store(corpus, place, name, size, frames) for name, size in study.units]
    materials = [Material.of_stores(path) for path in stores]
    split = study.task.goal(materials[0].items, study.split(materials[0])).split
    materials += bounds(dict(zip(stores, materials, strict=True)), corpus, {*split.train, *split.test})
    curve: list[Epoch] = []
    report = probe(materials, study.task, split, study.recipe, on_epoch=curve.append)
    table = f"## {study.title}\n\n{report.markdown()}\n{courses(curve)}\n"
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
        f"{date.today()}, commit {commit()}, {machine()}.\n\n"
        f"K-means units of 10 ms frames, fitted on {frames:,} frames of the training part (for text, of all of it); "
        "`continuous` is the same probe on the frames themselves, each dimension scaled: what tokens lose, except that "
        "with a linear head many units say more than mean and deviation of frames. The digits are read by the same six "
        "voices in training and test. Made by `python -m benchmarks.probes`.\n\n"
    )
    return head + "\n".join(path.read_text() for path in found if path.exists())


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
