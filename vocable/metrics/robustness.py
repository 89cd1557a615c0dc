"""Whether the units of speech stay what they are where its sound changes and its content does not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from vocable import audio
from vocable.corpus import Corpus, Failure, Utterance
from vocable.errors import AudioError, InputError
from vocable.metrics.augment import STANDARD, Augmentation
from vocable.metrics.runs import deduplicated
from vocable.nets.threads import one_thread_each
from vocable.progress import Progress, Watcher, unwatched
from vocable.types import Audio, Tokenizer, Tokens


def edit_distance(reference: Iterable[object], other: Sequence[object] | np.ndarray) -> int:
    """Insertions, deletions and substitutions that lead from one sequence to the other: codes, letters or words.

    (Levenshtein 1966.)
    """
    other = other if isinstance(other, np.ndarray) else np.array(list(other), dtype=object)
    row = places = np.arange(len(other) + 1)
    for index, code in enumerate(reference, 1):
        changed = np.minimum(row[1:] + 1, row[:-1] + (other != code))
        # an insertion costs 1 a place, so the cheapest chain of them is a running minimum of cost - place
        row = np.minimum.accumulate(np.concatenate([[index], changed]) - places) + places
    return int(row[-1])


def unit_edit_distance(reference: np.ndarray, other: np.ndarray) -> float:
    """Edit distance of two code sequences [T], [T'] without repetitions over the number of the reference's units.

    0 for equal units, without an upper bound (Gat et al. 2023, "Augmentation Invariant Discrete Representation for
    Generative Spoken Language Modeling"). InputError if the reference is empty.
    """
    if not len(reference):
        raise InputError("expected a reference with at least one code, got none")
    units = deduplicated(reference)
    return edit_distance(units, deduplicated(other)) / len(units)


@dataclass(frozen=True)
class RobustnessRow:
    """One codebook under one augmentation: the unit edit distance, its mean and standard error over recordings."""

    augmentation: str
    label: str
    distance: float
    standard_error: float


@dataclass(frozen=True)
class Robustness:
    """A row for each augmentation and codebook, the recordings that were judged, and those that could not be."""

    rows: tuple[RobustnessRow, ...]
    recordings: int
    failures: tuple[Failure, ...]


def robustness(
    tokenizer: Tokenizer,
    corpus: Corpus,
    augmentations: Sequence[Augmentation] = STANDARD,
    *,
    seed: int = 0,
    watcher: Watcher = unwatched,
) -> Robustness:
    """Unit edit distance between the units of recordings and of the same recordings augmented, as they come.

    Recordings are held whole, mono, at the tokenizer's rate, which is where they are augmented; each thread takes
    one. What is random depends on `seed` and the recording's id alone. The standard error is NaN for one recording.
    InputError if no recording can be read, or two augmentations share a name.
    """
    names = [augmentation.name for augmentation in augmentations]
    if len(set(names)) != len(names):
        raise InputError(f"expected augmentations with distinct names, got {', '.join(names)}")
    progress, tables, failures = Progress(len(corpus)), [], []
    for result in _judged(tokenizer, corpus, augmentations, seed):
        if isinstance(result, Failure):
            failures.append(result)
        else:
            tables.append(result)
        progress.done, progress.failed = len(tables), len(failures)
        watcher(progress)
    if not tables:
        raise InputError("no recording could be read" + (f": {failures[0].reason}" if failures else ""))
    labels = tokenizer.spec.labels
    rows = [
        RobustnessRow(name, label, *_mean([table[index, k] for table in tables]))
        for index, name in enumerate(names)
        for k, label in enumerate(labels)
    ]
    return Robustness(tuple(rows), len(tables), tuple(failures))


def _judged(
    tokenizer: Tokenizer, corpus: Corpus, augmentations: Sequence[Augmentation], seed: int
) -> Iterator[np.ndarray | Failure]:
    """For each recording its distances [augmentations, K], or why there are none."""

    def judge(utterance: Utterance) -> np.ndarray | Failure:
        try:
            sound = audio.read(utterance.path, tokenizer.spec.sample_rate)
            return _distances(tokenizer, sound, augmentations, _seed(seed, utterance.id))
        except (AudioError, OSError) as problem:
            return Failure(utterance.id, str(utterance.path), str(problem))

    with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
        yield from pool.map(judge, corpus)


def _distances(tokenizer: Tokenizer, sound: Audio, augmentations: Sequence[Augmentation], seed: int) -> np.ndarray:
    reference = _streams(tokenizer.encode(sound))
    changed = [_streams(tokenizer.encode(augmentation.apply(sound, seed))) for augmentation in augmentations]
    return np.array([[unit_edit_distance(*pair) for pair in zip(reference, other, strict=True)] for other in changed])


def _streams(tokens: Tokens) -> list[np.ndarray]:
    """Codes [T] of each codebook of a batch of one, one every stride."""
    codes = tokens.utterance(0).numpy()
    return [row[:: book.stride] for row, book in zip(codes, tokens.spec.codebooks, strict=True)]


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(sha256(f"{seed} {name}".encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
