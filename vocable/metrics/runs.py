"""Runs of equal codes: how long they last, and how many tokens are left where each is sent once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch

from vocable.errors import InputError
from vocable.metrics.tokens import code_counts, dead_entries, entropy, normalized_entropy, perplexity, usage
from vocable.store import TokenStore
from vocable.types import TokenSpec


def run_lengths(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The units of codes [T] without repetitions, [R], and how many times each was repeated, [R] (int64).

    InputError unless the codes have one axis.
    """
    if codes.ndim != 1:
        raise InputError(f"expected codes [T] of one codebook, got shape {list(codes.shape)}")
    starts = np.flatnonzero(np.diff(codes, prepend=codes[:1] + 1))
    return codes[starts], np.diff(starts, append=len(codes))


def deduplicated(codes: np.ndarray) -> np.ndarray:
    """The units [R] of codes [T], each run of equal codes once."""
    return run_lengths(codes)[0]


@dataclass(frozen=True, eq=False)
class Streams:
    """All codes of a store: for each codebook a list of arrays [T], one a recording, one code every stride.

    Recordings are in the order of the hashes of their ids, which has nothing to do with what they hold: every second
    of them is a fair half.
    """

    spec: TokenSpec
    seconds: float
    codes: tuple[list[np.ndarray], ...]


def read_streams(store: TokenStore) -> Streams:
    """Reads every entry of the store once. InputError if it holds no sound."""
    entries = sorted(store, key=lambda entry: sha256(entry.id.encode("utf-8", "surrogatepass")).digest())
    seconds = sum(entry.samples for entry in entries) / store.spec.sample_rate
    if not seconds:
        raise InputError(f"expected a store with recordings, got none in {store.path}")
    rows = [[entry.codes[k, :: book.stride] for entry in entries] for k, book in enumerate(store.spec.codebooks)]
    return Streams(store.spec, seconds, tuple(rows))


@dataclass(frozen=True)
class CodebookUse:
    """How one codebook is used.

    tokens_per_second: of the raw codes. deduplicated_per_second: where each run of equal codes is one token.
    mean_run: codes in a run, at least 1. run_histogram: element n - 1 is the number of runs of n codes.
    usage: share of the entries that occur. dead: number of those that do not.
    entropy: bits. normalized_entropy: of log2(size), 0..1. perplexity: 1..size.
    """

    label: str
    size: int
    tokens_per_second: float
    deduplicated_per_second: float
    mean_run: float
    run_histogram: tuple[int, ...]
    usage: float
    dead: int
    entropy: float
    normalized_entropy: float
    perplexity: float


def codebook_use(store: TokenStore) -> list[CodebookUse]:
    """A row for each codebook of a store. InputError if it holds no sound."""
    streams = read_streams(store)
    books = zip(streams.spec.codebooks, streams.codes, strict=True)
    return [_use(book.label, book.size, codes, streams.seconds) for book, codes in books]


def _use(label: str, size: int, recordings: Sequence[np.ndarray], seconds: float) -> CodebookUse:
    lengths = np.concatenate([run_lengths(codes)[1] for codes in recordings])
    counts = code_counts(torch.from_numpy(np.concatenate(recordings).astype(np.int64)), size)
    tokens = int(lengths.sum())
    return CodebookUse(
        label=label,
        size=size,
        tokens_per_second=tokens / seconds,
        deduplicated_per_second=len(lengths) / seconds,
        mean_run=tokens / len(lengths),
        run_histogram=tuple(np.bincount(lengths)[1:].tolist()),
        usage=usage(counts),
        dead=len(dead_entries(counts)),
        entropy=entropy(counts),
        normalized_entropy=normalized_entropy(counts),
        perplexity=perplexity(counts),
    )
