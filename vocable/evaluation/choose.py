"""Which features, which layer, how many units? A sweep over all of them on one corpus, and a recommendation."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from vocable.corpus import Corpus, Failure
from vocable.errors import InputError, OutputError
from vocable.evaluation import choose_advice as advice
from vocable.evaluation.choose_candidates import Candidate, grid
from vocable.evaluation.choose_frames import StoredFrames
from vocable.evaluation.choose_page import write_choice_page
from vocable.evaluation.choose_results import Choice, Row, pick, shown
from vocable.evaluation.choose_scores import Phones, Question, ask
from vocable.evaluation.choose_sweep import Source, Sweep, digest
from vocable.files import inside, is_vacant, write_atomic
from vocable.probes import Recipe, Split, Task, split_by_field, split_by_hash
from vocable.probes.bodies import HEADS
from vocable.probes.material import Item
from vocable.tokenizers.feature_cache import CachePrecision, FeatureCache
from vocable.tokenizers.gathering import Reading
from vocable.tokenizers.training import DEFAULT_MEMORY
from vocable.types import FeatureExtractor

CLUSTERS = (50, 100, 200, 500, 1000)
FIGURES, PAGE = "choice.json", "choice.html"
_WORK = "work"
_PROBING = 300  # units whose fit takes about as long as a probe: only what is left of the time is guessed from it


@dataclass(frozen=True)
class Step:
    """A row is there, `number` of `total`; its score as text; whether it was `kept` from before; seconds left."""

    row: Row
    shown: str
    number: int
    total: int
    kept: bool
    seconds_left: float | None


def choose(
    corpus: Corpus,
    features: Mapping[str, FeatureExtractor],
    task: Task | Phones,
    out: str | os.PathLike[str],
    *,
    clusters: Sequence[int] = CLUSTERS,
    quantizers: Sequence[str] = ("kmeans",),
    split: str | None = None,
    budget: float | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    sample_frames: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    precision: CachePrecision = "fp32",
    device: str = "cpu",
    reading: Reading | None = None,
    sources: Sequence[str] = (),
    command: str = "",
    on_step: Callable[[Step], None] = lambda step: None,
) -> Choice:
    """Judges every layer of the features under every quantizer and size, and recommends one.

    Codebooks are fitted on the training part alone. A label or a text is judged by a probe on the tokens (see
    `vocable.probes`), and the features themselves beside them as the bound. Phones are judged without a probe, by
    1 - H(phone | codes) / H(phone) in the test with probabilities counted in the training (see `surprises`).

    features: extractors by the name that `vocable.tokenizers.build` knows them by; each reads the audio once.
    quantizers: "kmeans", "product:2", "residual:4" ... each with codebooks of as many entries as `clusters` says.
    split: field of the manifest that says "train" or "test"; without it a fifth of the recordings, drawn by `seed`, is
        the test. budget: bit/s that a candidate may cost. recipe: of the probes.
    sample_frames: of the training that codebooks are fitted on, by default what fits into 1 GiB with its copy.
    cache: where frames are kept, by default in `out`. precision: of these; in "fp16" they take half the space, and a
        few codes differ from those of the tokenizer that is saved.
    sources, command: what the corpus was called and what was typed, for the commands in the result.

    `out` gets units/ (the tokenizer), choice.json, choice.html, train.jsonl (what codebooks were fitted on) and work/:
    fits, scores and frames, from which the next run goes on whatever it asks. Delete work/ if the audio changed.
    InputError if a field is missing or does not allow the task, a codebook has more entries than there are frames, or
    there is no candidate. OutputError if `out` holds something else.
    """
    folder, began = Path(out), time.monotonic()
    candidates, left_out = grid(features, quantizers, clusters, budget=budget)
    said = {utterance.id: Item(utterance.id, torch.empty(0), utterance.fields) for utterance in corpus}
    parts, recipe = _parts(said, split, seed), recipe or Recipe(head=HEADS.get(task.kind, "linear"), seed=seed)
    question = ask(task, said, parts, recipe, device=device)
    _require_own(folder)
    failures: list[Failure] = []
    used = {*question.split.train, *question.split.test}
    wanted = Corpus(utterance for utterance in corpus if utterance.id in used)
    stored = partial(
        _source,
        corpus=wanted,
        folder=folder / _WORK / "frames" if cache is None else Path(cache),
        precision=precision,
        sample_frames=sample_frames,
        reading=_noting(reading or Reading(), failures),
    )
    known = {name: stored(short, features[name]) for name, short in _short(list(features)).items()}
    readable = set.intersection(*(set(source.frames.places) for source in known.values()))
    if readable != used:
        question = ask(task, {name: said[name] for name in readable}, parts.keep(readable), recipe, device=device)
    _require_enough(candidates, known, question.split.train)
    sweep = Sweep(folder / _WORK, known, question, said, seed=seed, device=device)
    rows, bounds = _run(sweep, candidates, on_step)
    choice = _concluded(sweep, task, rows, bounds)
    winner = candidates[choice.chosen]
    source, learnt_from = known[winner.features], question.split.train
    tokenizer = advice.units(winner, source, sweep.fit(winner), learnt_from, seed=seed)
    choice = replace(
        choice,
        left_out=tuple(left_out),
        failures=tuple(f"{failure.path}: {failure.reason}" for failure in failures),
        commands=advice.commands(winner, source, folder, sources, seed=seed, again=command),
        facts=_facts(question, source, recipe, time.monotonic() - began) | {"units": tokenizer.fingerprint[:12]},
    )
    tokenizer.save_pretrained(folder / advice.UNITS, overwrite=True)
    advice.write_manifest(folder / advice.MANIFEST, wanted, learnt_from)
    write_atomic(folder / FIGURES, choice.to_json().encode())
    write_choice_page(folder / PAGE, choice)
    return choice


def _concluded(sweep: Sweep, task: Task | Phones, rows: Sequence[Row], bounds: Sequence[Row]) -> Choice:
    """The choice that the rows lead to."""
    question = sweep.question
    best, chosen, good = pick(rows, higher_is_better=question.higher_is_better)
    return Choice(
        task=task.kind,
        label=task.label,
        measure=question.measure,
        higher_is_better=question.higher_is_better,
        baseline=question.baseline,
        split=question.split.rule,
        train=len(question.split.train),
        test=len(question.split.test),
        rows=tuple(replace(row, as_good=as_good) for row, as_good in zip(rows, good, strict=True)),
        bounds=tuple(bounds),
        best=best,
        chosen=chosen,
        rule=advice.rule(question),
        unknown=advice.unknown(rows, bounds, best, chosen, question),
    )


def _parts(said: Mapping[str, Item], field: str | None, seed: int) -> Split:
    if field is None:
        return split_by_hash(said, seed=seed)
    if not any(item.fields.get(field) in ("train", "test") for item in said.values()):
        raise InputError(
            f'no recording has "train" or "test" in a field {field!r}',
            hint="name the field that does, or leave --split out for a test drawn at random",
        )
    return split_by_field(said, field)


def _require_own(folder: Path) -> None:
    if not is_vacant(folder) and not (folder / _WORK).is_dir():
        raise OutputError(f"{folder} is there already, and holds no earlier choice", hint="name another --out")


def _noting(reading: Reading, failures: list[Failure]) -> Reading:
    """The same reading, where failures are noted, each recording once, before they are told."""

    def heard(failure: Failure) -> None:
        if failure.id not in {known.id for known in failures}:
            failures.append(failure)
            reading.on_failure(failure)

    return replace(reading, on_failure=heard)


def _short(names: Sequence[str]) -> dict[str, str]:
    """What features are called in a table: the last part of a path or a hub id, where that tells them apart."""
    last = [name.rstrip("/").rsplit("/", 1)[-1] for name in names]
    return {name: part if last.count(part) == 1 else name for name, part in zip(names, last, strict=True)}


def _source(
    name: str,
    extractor: FeatureExtractor,
    *,
    corpus: Corpus,
    folder: Path,
    precision: CachePrecision,
    sample_frames: int | None,
    reading: Reading,
) -> Source:
    """The features of a corpus, extracted as far as they are not there yet."""
    files = sorted((utterance.id, str(utterance.path.resolve())) for utterance in corpus)
    origin = digest([extractor.config(), precision, files])
    path = inside(folder, f"{name.replace('/', '-')}-{origin[:12]}", "")
    cache = FeatureCache.create(path, corpus, extractor, precision=precision)
    cache.fill(corpus, extractor, reading=reading)
    capacity = sample_frames or max(1, DEFAULT_MEMORY // (2 * 4 * extractor.dim))
    return Source(name, extractor, StoredFrames(cache), capacity, origin)


def _require_enough(candidates: Sequence[Candidate], sources: Mapping[str, Source], train: Sequence[str]) -> None:
    for name, source in sources.items():
        frames = min(source.frames.count(train), source.sample_frames)
        largest = max((one.size for one in candidates if one.features == name), default=0)
        if frames < largest:
            raise InputError(
                f"expected at least {largest} frames of {source.name} for {largest} clusters, got {frames}",
                hint="use more audio, ask for fewer --clusters, or allow more --sample-frames",
            )


def _run(sweep: Sweep, candidates: Sequence[Candidate], on_step: Callable[[Step], None]) -> tuple[list[Row], list[Row]]:
    """The rows of the candidates in their order, and after them those of the features."""
    layers = list(dict.fromkeys((one.features, one.layer) for one in candidates))
    layers = layers if sweep.question.takes_numbers else []
    weights = [one.units + _PROBING for one in candidates] + [_PROBING] * len(layers)
    every: list[Candidate | tuple[str, str]] = [*candidates, *layers]
    rows: list[Row] = []
    spent, weighed = 0.0, 0
    for number, what in enumerate(every, 1):
        began = time.monotonic()
        row, kept = sweep.row(what) if isinstance(what, Candidate) else sweep.bound(*what)
        rows.append(row)
        if not kept:
            spent, weighed = spent + time.monotonic() - began, weighed + weights[number - 1]
        left = spent / weighed * sum(weights[number:]) if weighed else None
        on_step(Step(row, shown(row.score, sweep.question.measure), number, len(weights), kept, left))
    return rows[: len(candidates)], rows[len(candidates) :]


def _facts(question: Question, source: Source, recipe: Recipe, seconds: float) -> dict[str, str]:
    minutes = [source.frames.count(ids) / source.frame_rate / 60 for ids in (question.split.train, question.split.test)]
    facts = {
        "to learn from": f"{len(question.split.train):,} recordings, {minutes[0]:,.1f} min",
        "to judge on": f"{len(question.split.test):,} recordings, {minutes[1]:,.1f} min",
        "split": question.split.rule,
    }
    if question.takes_numbers:
        facts["probe"] = f"{recipe.head} head, {recipe.seeds} seed{'s' * (recipe.seeds > 1)}"
    return {**facts, "frames to fit on": f"{source.sample_frames:,} at most", "this run": f"{seconds:,.0f} s"}
