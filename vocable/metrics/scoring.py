"""Metrics of many pairs of files: in processes, resumable, with an interval around every mean."""

from __future__ import annotations

import json
import math
import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from vocable.audio import checksum, read
from vocable.errors import AudioError, InputError, VocableError
from vocable.metrics import alignment
from vocable.metrics.catalogue import metrics_named
from vocable.metrics.metric import Metric
from vocable.metrics.reconstruction import Scores
from vocable.progress import Progress, Watcher, unwatched
from vocable.types import Audio

SLACK = 0.05  # seconds by which lengths may differ: codecs fill their last frame
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean of `count` scores and its 95 % interval, NaN where not defined; `failed` items have no share in it."""

    mean: float
    low: float
    high: float
    count: int
    failed: int


@dataclass(frozen=True, eq=False, slots=True)
class PairScores:
    """Scores of one metric in the order of `ids`."""

    ids: tuple[str, ...]
    scores: Scores

    @property
    def failures(self) -> dict[str, str]:
        """Id -> why there is no score."""
        return {self.ids[index]: why for index, why in self.scores.failures.items()}


def summarize_scores(scores: Scores, *, seed: int = 0) -> Summary:
    """The mean and its percentile bootstrap (Efron 1979) over 2,000 seeded resamples of the items.

    Items with weights are resampled with them: a rate is errors over words in every resample. No interval for fewer
    than two items, nor where a score is infinite.
    """
    kept, weights = (part.numpy() for part in scores.scored)
    low = high = math.nan
    if len(kept) > 1 and np.isfinite(kept).all():
        random = np.random.default_rng(seed)
        draws = (random.integers(len(kept), size=len(kept)) for _ in range(_RESAMPLES))
        means = sorted(float((kept[draw] * weights[draw]).sum() / weights[draw].sum()) for draw in draws)
        low, high = means[round(0.025 * _RESAMPLES)], means[round(0.975 * _RESAMPLES) - 1]
    return Summary(scores.mean, low, high, scores.count, scores.failed)


def score_pairs(
    pairs: Iterable[tuple[str, Path, Path]],
    names: Iterable[str],
    *,
    texts: Mapping[str, str] | None = None,
    workers: int = 0,
    cache: Path | None = None,
    max_shift: float = 0.0,
    watcher: Watcher = unwatched,
) -> dict[str, PairScores]:
    """Scores of (id, original, resynthesis) under each named metric or judge, the same for any `workers`.

    Both files are mixed to mono and compared at the original's rate. Lengths that differ by at most 0.05 s are cut to
    the shorter; a larger difference fails, and so does a file that cannot be read.

    texts: what is said, by id, for judges that compare with it; an item without one fails there.
    workers: processes; 0 for this one. A script that asks for some guards its main program, as multiprocessing says.
    cache: a file of scores, kept by the checksums of both files, the metric and its version; a run that broke off goes
        on where it was. Files that cannot be read are not kept.
    max_shift: seconds within which a constant delay is looked for and taken away (see `alignment`); 0 leaves it.
    InputError if a metric is unknown or two pairs have one id, MissingDependencyError if a metric's library is missing,
    ArtifactError if the folder of a judge cannot be read.
    """
    metrics = metrics_named(names)
    for metric in metrics:
        metric.require()
    said = texts or {}
    tasks = [_Task(*pair, said.get(pair[0], ""), tuple(metric.name for metric in metrics), max_shift) for pair in pairs]
    ids = tuple(task.id for task in tasks)
    if len(set(ids)) != len(ids):
        raise InputError("expected an id of its own for each pair")
    kept, progress = _Kept(cache, metrics), Progress(len(tasks))
    known = [kept.of(task) for task in tasks]
    open_tasks = [task.without(row) for task, row in zip(tasks, known, strict=True)]
    rows = dict(zip(ids, known, strict=True))
    progress.skipped = sum(not task.names for task in open_tasks)
    for task, found in _carried_out([task for task in open_tasks if task.names], workers):
        kept.add(task, found)
        rows[task.id].update(found.verdicts)
        progress.done += 1
        progress.audio_seconds += found.seconds
        watcher(progress)
    return {metric.name: PairScores(ids, _scores([rows[key][metric.name] for key in ids])) for metric in metrics}


@dataclass(frozen=True, slots=True)
class _Verdict:
    """A score and what it counts in a mean, or why there is none."""

    value: float
    why: str = ""
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    id: str
    reference: Path
    estimate: Path
    text: str
    names: tuple[str, ...]
    max_shift: float

    def without(self, known: Mapping[str, _Verdict]) -> _Task:
        return replace(self, names=tuple(name for name in self.names if name not in known))


@dataclass(frozen=True, slots=True)
class _Found:
    """What a task came to; `readable` is whether there was audio to judge."""

    verdicts: dict[str, _Verdict]
    seconds: float
    readable: bool = True


class _Kept:
    """Scores on disk: a JSON line [key, score, why] or [key, score, why, weight] each.

    The last of equal keys is valid; a broken line is none.
    """

    def __init__(self, path: Path | None, metrics: Sequence[Metric]) -> None:
        self._path = path
        self._metrics = {metric.name: metric for metric in metrics}
        self._identities = {metric.name: metric.identity for metric in metrics} if path is not None else {}
        self._sums: dict[Path, str] = {}
        self._verdicts = dict(_lines(path)) if path is not None and path.exists() else {}

    def of(self, task: _Task) -> dict[str, _Verdict]:
        """What is known of a task."""
        keys = {name: self._key(task, name) for name in task.names} if self._path else {}
        return {name: self._verdicts[key] for name, key in keys.items() if key in self._verdicts}

    def add(self, task: _Task, found: _Found) -> None:
        """Appends the scores, unless a file could not be read."""
        if self._path is None or not found.readable:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps([self._key(task, name), *_plain(verdict)]) for name, verdict in found.verdicts.items()]
        with self._path.open("a", encoding="utf-8") as file:
            # what a killed run left unfinished must not swallow the next line
            file.write("\n" + "\n".join(lines) + "\n")

    def _key(self, task: _Task, name: str) -> str:
        sums = " ".join(self._checksum(path) for path in (task.reference, task.estimate))
        said = f" {sha256(task.text.encode()).hexdigest()[:16]}" if self._metrics[name].against_text else ""
        shift = f"{task.max_shift:g}/{alignment.VERSION}" if task.max_shift else "0"
        return f"{sums} {self._identities[name]} {shift}{said}"

    def _checksum(self, path: Path) -> str:
        if path not in self._sums:
            try:
                self._sums[path] = checksum(path)
            except OSError:
                self._sums[path] = "unreadable"
        return self._sums[path]


def _lines(path: Path) -> Iterator[tuple[str, _Verdict]]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            key, value, why, *weight = json.loads(line)
            yield str(key), _Verdict(float(value), str(why), *map(float, weight))
        except (ValueError, TypeError):
            continue


def _plain(verdict: _Verdict) -> list[float | str]:
    return [verdict.value, verdict.why, *([] if verdict.weight is None else [verdict.weight])]


def _carried_out(tasks: Sequence[_Task], workers: int) -> Iterator[tuple[_Task, _Found]]:
    if not workers or not tasks:
        yield from ((task, _judge(task)) for task in tasks)
        return
    # not forked: the threads that torch has started here would be missing there
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(min(workers, len(tasks)), context, _start) as pool:
            # one process for all resyntheses of an original in a row: judges remember what they heard in it
            groups = [tuple(group) for _, group in groupby(tasks, key=lambda task: task.reference)]
            for group, found in zip(groups, pool.map(_judge_all, groups), strict=True):
                yield from zip(group, found, strict=True)
    except BrokenProcessPool as problem:
        hint = "run it again with a cache: what was scored is kept"
        raise VocableError("a scoring process ended unexpectedly", hint=hint) from problem


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    torch.set_num_threads(1)


def _judge_all(tasks: Sequence[_Task]) -> list[_Found]:
    return [_judge(task) for task in tasks]


def _judge(task: _Task) -> _Found:
    try:
        reference, estimate = _read(task)
    except (AudioError, OSError) as problem:
        return _Found(dict.fromkeys(task.names, _Verdict(math.nan, str(problem))), 0.0, readable=False)
    verdicts = {metric.name: _verdict(metric, reference, estimate, task.text) for metric in metrics_named(task.names)}
    return _Found(verdicts, float(reference.seconds))


def _verdict(metric: Metric, reference: Audio, estimate: Audio, text: str) -> _Verdict:
    judge = metric.against_text
    scores = judge([text], estimate) if judge else metric.function(reference, estimate)
    why = scores.failures.get(0, "")
    return _Verdict(float(scores.values[0]), why, None if why or scores.weights is None else float(scores.weights[0]))


def _read(task: _Task) -> tuple[Audio, Audio]:
    reference = read(task.reference)
    rate = reference.sample_rate
    estimate = read(task.estimate, rate)
    lengths = [int(audio.lengths[0]) for audio in (reference, estimate)]
    if abs(lengths[0] - lengths[1]) > (SLACK + task.max_shift) * rate:
        return reference, estimate
    if task.max_shift:
        return reference, alignment.aligned(reference, estimate, task.max_shift)
    short = min(lengths)
    return Audio.of([reference.waveform(0)[:, :short]], rate), Audio.of([estimate.waveform(0)[:, :short]], rate)


def _scores(verdicts: Sequence[_Verdict]) -> Scores:
    values = torch.tensor([verdict.value for verdict in verdicts], dtype=torch.float64)
    failures = {index: verdict.why for index, verdict in enumerate(verdicts) if verdict.why}
    if all(verdict.weight is None for verdict in verdicts):
        return Scores(values, failures)
    weights = [math.nan if verdict.weight is None else verdict.weight for verdict in verdicts]
    return Scores(values, failures, torch.tensor(weights, dtype=torch.float64))
