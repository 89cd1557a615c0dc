"""The whole of an evaluation: tokens, sounds, scores, figures, and the pages that show them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from vocable.audio import info, num_samples
from vocable.corpus import Corpus, Utterance
from vocable.errors import AudioError, InputError, OutputError
from vocable.evaluation.facts import machine, versions
from vocable.evaluation.making import Stage, Workshop, quiet, resynthesizing, tokenizing
from vocable.evaluation.results import NAME, Column, Evaluation, Item, Judged, System, TokenFigures
from vocable.evaluation.scores import Sounds, score_systems
from vocable.evaluation.systems import ORIGINAL, SoundSystem, TokenSystem, require_distinct
from vocable.evaluation.tables import markdown
from vocable.files import is_vacant, write_atomic
from vocable.metrics.catalogue import METRICS, Metric, metrics_named

_SCORES, _TABLES = "scores.jsonl", "evaluation.md"


def default_metrics() -> tuple[list[str], dict[str, str]]:
    """The metrics that are taken unless others are named, and those that cannot be: name -> what to install.

    All but the judges, as far as their libraries are installed.
    """
    missing = {
        name: metric.install or f"pip install 'vocable[{metric.needs}]'"
        for name, metric in METRICS.items()
        if not metric.installed
    }
    return [name for name in METRICS if name not in missing], missing


def sample(corpus: Corpus, count: int | None, *, seed: int = 0) -> Corpus:
    """So many recordings, chosen by a hash of seed and id, in their order; a larger number has all of a smaller one.

    None is all of them.
    """

    def rank(utterance: Utterance) -> bytes:
        return sha256(f"{seed} {utterance.id}".encode("utf-8", "surrogatepass")).digest()

    kept = {utterance.id for utterance in sorted(corpus, key=rank)[:count]}
    return Corpus(utterance for utterance in corpus if utterance.id in kept)


def evaluate(
    corpus: Corpus,
    systems: Sequence[TokenSystem | SoundSystem],
    out: str | os.PathLike[str],
    *,
    metrics: Iterable[str] | None = None,
    max_shift: float = 0.0,
    workers: int = 0,
    batch_seconds: float | None = None,
    overwrite: bool = False,
    facts: Mapping[str, str] | None = None,
    commands: Sequence[str] = (),
    stage: Stage = quiet,
) -> Evaluation:
    """Compares systems on a corpus: makes their tokens and sounds, judges these, and writes it all into `out`.

        out/
          tokens/NAME/      a store for each tokenizer
          sounds/NAME/      what each system makes of the recordings, in FLAC, at their own rate and length
          scores.jsonl      every score, by checksums and metric
          speeds.jsonl      how long each stage took
          evaluation.json   see `vocable.evaluation.results`
          evaluation.md     tables
          index.html        a page on which to hear and compare them

    What is there from an earlier run with the same systems is kept, so a run that broke off goes on. The recordings
    themselves are the first system. Whatever fails is counted, with the reason.

    metrics: names in `vocable.metrics.catalogue`; None for `default_metrics`. max_shift: see `score_pairs`.
    workers: processes that decode and judge, 0 for none; a script that asks for some guards its main program.
    batch_seconds: see `tokenize`. overwrite: make the tokens and sounds of these systems anew.
    facts: to be shown beside those of corpus and machine. commands: to be shown as how it was made.

    InputError if a metric is unknown, systems share a name, a folder of sounds is empty or no recording can be read;
    SpecError if a vocoder does not fit its tokenizer, or tokens of another are there under its name; OutputError if
    `out` is something else, or holds sounds of another vocoder; MissingDependencyError if a metric's library is.
    """
    defaults, missing = default_metrics()
    chosen = metrics_named(defaults if metrics is None else metrics)
    for metric in chosen:
        metric.require()
    ours, theirs = _sorted_out(systems)
    utterances, items, left_out = _readable(corpus)
    sounds = {system.name: _outside(system, utterances) for system in theirs}
    shop = Workshop(_claimed(Path(out)), utterances, workers, batch_seconds, stage)
    if overwrite:
        shop.clear(ours)
    sounds |= shop.make(ours)
    with stage("score") as watcher:
        scores = score_systems(
            utterances,
            {ORIGINAL: Sounds(None)} | {system.name: sounds[system.name] for system in systems},
            [metric.name for metric in chosen],
            workers=workers,
            cache=shop.folder / _SCORES,
            max_shift=max_shift,
            watcher=watcher,
        )
    with stage("token figures"):
        figures = shop.figures(ours)
    found = [System(ORIGINAL, "original", None, None, "", {}, None, scores[ORIGINAL])]
    for system in systems:
        told = scores[system.name]
        if isinstance(system, TokenSystem):
            found.append(_of_tokens(system, shop, sounds[system.name], *figures[system.name], told))
        else:
            found.append(_of_sounds(system, shop, sounds[system.name], told))
    evaluation = Evaluation(
        title=_title(systems, items),
        items=tuple(items),
        metrics=tuple(_judged(metric) for metric in chosen),
        systems=tuple(found),
        facts=_facts(items, chosen, missing if metrics is None else {}, max_shift, workers) | dict(facts or {}),
        commands=tuple(commands),
        left_out=left_out,
    )
    _write(evaluation, shop.folder, stage)
    return evaluation


def _sorted_out(systems: Sequence[TokenSystem | SoundSystem]) -> tuple[list[TokenSystem], list[SoundSystem]]:
    """Those that are made here and those that are there already, once it is sure that they can be compared."""
    require_distinct(systems)
    ours = [system for system in systems if isinstance(system, TokenSystem)]
    for system in ours:
        system.require()
    return ours, [system for system in systems if isinstance(system, SoundSystem)]


def _readable(corpus: Corpus) -> tuple[list[Utterance], list[Item], dict[str, str]]:
    """The recordings that are sound files, as they are and as items, and why the others are left out."""
    utterances, items, left_out = [], [], {}
    for utterance in corpus:
        try:
            rate = info(utterance.path).sample_rate
            seconds = num_samples(utterance.path, rate) / rate
        except (AudioError, OSError) as problem:
            left_out[utterance.id] = " ".join(str(problem).split())
            continue
        text, speaker = (str(utterance.fields.get(name) or "") for name in ("text", "speaker"))
        utterances.append(utterance)
        items.append(Item(utterance.id, str(utterance.path), seconds, text, speaker))
    if not items:
        why = next(iter(left_out.values()), "there is none")
        raise InputError(f"no recording of {len(left_out)} could be read: {why}")
    return utterances, items, left_out


def _outside(system: SoundSystem, utterances: Sequence[Utterance]) -> Sounds:
    ids = [utterance.id for utterance in utterances]
    suffix, found = system.find(ids)
    return Sounds(system.folder, suffix, {name: "no sound file" for name in ids if name not in found})


def _claimed(folder: Path) -> Path:
    """The folder of an evaluation, new or gone on with. OutputError if it is anything else."""
    if not is_vacant(folder) and not any((folder / name).is_file() for name in (_SCORES, NAME)):
        raise OutputError(f"{folder} is there already and is no evaluation", hint="name another --out")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _SCORES).touch()
    return folder


def _of_tokens(
    system: TokenSystem,
    shop: Workshop,
    sounds: Sounds,
    figures: TokenFigures | None,
    left_out: Mapping[str, str],
    scores: Mapping[str, Column],
) -> System:
    own = "the codec itself" if system.vocoder.fingerprint == system.spec.source else "inversion"
    facts = {
        "tokenizer": system.spec.source[:12],
        "vocoder": system.vocoder_name or own,
        "frame rate": f"{system.spec.frame_rate:g} Hz",
        "tokenized at": shop.speeds.of(tokenizing(system)),
        "resynthesized at": shop.speeds.of(resynthesizing(system)),
        **{f"no {name}": why for name, why in left_out.items()},
    }
    return System(
        name=system.name,
        kind="tokens",
        bitrate=system.spec.bitrate,
        sounds=_relative(shop.sounds(system), shop.folder),
        suffix=sounds.suffix,
        facts=facts,
        tokens=figures,
        scores=scores,
        store=_relative(shop.tokens(system), shop.folder),
    )


def _of_sounds(system: SoundSystem, shop: Workshop, sounds: Sounds, scores: Mapping[str, Column]) -> System:
    facts = {"sounds": str(system.folder)}
    folder = _relative(system.folder, shop.folder)
    return System(system.name, "sounds", system.bitrate, folder, sounds.suffix, facts, None, scores)


def _relative(path: Path, folder: Path) -> str:
    # resolved, because .. after a link leads elsewhere
    return os.path.relpath(path.resolve(), folder.resolve())


def _judged(metric: Metric) -> Judged:
    return Judged(metric.name, metric.what, metric.unit, metric.higher_is_better, metric.identity)


def _title(systems: Sequence[TokenSystem | SoundSystem], items: Sequence[Item]) -> str:
    names = [system.name for system in systems]
    told = ", ".join(names) if len(names) <= 3 else f"{len(names)} systems"
    return f"{told} on {_recordings(items)}"


def _facts(
    items: Sequence[Item], metrics: Sequence[Metric], missing: Mapping[str, str], max_shift: float, workers: int
) -> dict[str, str]:
    minutes = sum(item.seconds for item in items) / 60
    facts = {"audio": f"{_recordings(items)}, {minutes:,.1f} minutes"}
    if missing:
        facts["metrics not installed"] = ", ".join(f"{name} ({how})" for name, how in missing.items())
    facts["delays"] = f"constant ones up to {max_shift:g} s are taken away" if max_shift else "left as they are"
    facts["machine"] = f"{machine()}, {workers or 'no'} worker processes"
    facts["versions"] = versions({metric.library for metric in metrics if metric.library})
    return facts


def _recordings(items: Sequence[Item]) -> str:
    return f"{len(items):,} recording" + ("" if len(items) == 1 else "s")


def _write(evaluation: Evaluation, folder: Path, stage: Stage) -> None:
    from vocable.evaluation.page import write_evaluation_page

    evaluation.save(folder)
    write_atomic(folder / _TABLES, markdown(evaluation).encode())
    with stage("page") as watcher:
        write_evaluation_page(evaluation, folder, watcher=watcher)
