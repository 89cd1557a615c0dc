"""Unit BPE from a token store: which recordings it is learned from, what it gains, and the folder it is saved in.

The folder holds tokenizer.json and tokenizer_config.json for `tokenizers` and transformers, and stream.json for
`TokenStream.load`: codebooks, runs, merges, and what was gained.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from vocable.errors import InputError
from vocable.files import new_directory
from vocable.progress import Progress, Watcher, unwatched
from vocable.store import Entry, TokenStore
from vocable.tokenizers.bpe import BPE, learn_merges, spelled
from vocable.tokenizers.streams import (
    STREAM,
    Collapse,
    Flatten,
    Offset,
    Special,
    TokenStream,
    Transform,
)

SPECIAL = ("pad", "bos", "eos")
MOST_UNITS = 10_000_000  # learned from, in about 1 GB of memory


def unit_stream(store: TokenStore, codebooks: Sequence[str] | None = None, *, runs_once: bool = True) -> TokenStream:
    """The units of a store in one sequence, frame by frame where there are several codebooks, with ids of their own.

    codebooks: labels; None for all. runs_once: a run of equal frames is one. InputError for unknown labels.
    """
    spec = store.spec if codebooks is None else store.spec.take(codebooks)
    steps: list[Transform] = [Collapse()] if runs_once else []
    return TokenStream(spec, (*steps, Offset(), Flatten()))


@dataclass(frozen=True)
class Cost:
    """What a stream costs on recordings: ids per second, at log2(vocabulary) bits each, and entropy-coded.

    entropy_coded: bits per second when each id is coded by how frequent it was in the recordings that merges were
    learned from (counts plus 1/2, Krichevsky and Trofimov 1981), without context.
    """

    name: str
    vocabulary: int
    tokens_per_second: float
    bits_per_second: float
    entropy_coded: float


@dataclass(frozen=True)
class Gain:
    """The costs of codes as they are, of the units that merges were learned of, and of tokens.

    recordings, seconds: of the recordings they are counted on. held_out: whether none was learned from.
    """

    held_out: bool
    recordings: int
    seconds: float
    costs: tuple[Cost, ...]


def train_bpe(
    store: TokenStore,
    stream: TokenStream,
    vocabulary: int,
    *,
    held_out: float = 0.05,
    most_units: int = MOST_UNITS,
    watcher: Watcher = unwatched,
) -> tuple[TokenStream, list[Gain]]:
    """Learns merges of a stream's units: the stream with them, and what they gain, on recordings held out too.

    held_out: share of the recordings that are only measured on, 0..1, chosen by the hash of their ids; at least one
    where it is not 0 and there are two. most_units: learned from; of more, a uniform choice of recordings is.
    InputError if the store holds no sound, or the vocabulary is no larger than the stream's.
    """
    if not 0 <= held_out < 1:
        raise InputError(f"expected a share of recordings to hold out in 0..1, got {held_out}")
    lengths = {entry.id: ids.size for entry, ids in stream.read(store)}
    if not sum(lengths.values()):
        raise InputError(f"expected a store with recordings, got none in {store.path}")
    order = sorted(lengths, key=_hash)
    apart = min(math.ceil(held_out * len(order)), len(order) - 1)
    learning = _within(order[apart:], lengths, most_units)
    progress = Progress(total=2 * len(order))
    units = _watched(stream.read(store), store, progress, watcher)
    merges = learn_merges((ids for entry, ids in units if entry.id in learning), stream.vocabulary, vocabulary)
    made = stream | merges
    entries = (entry for entry, _ in _watched(((entry, None) for entry in store), store, progress, watcher))
    return made, _gains(store, entries, (_raw(stream), stream, made), set(order[:apart]))


def _hash(name: str) -> bytes:
    return sha256(name.encode("utf-8", "surrogatepass")).digest()


def _within(order: list[str], lengths: dict[str, int], most: int) -> set[str]:
    """The first recordings of so many units; one at least."""
    totals = np.cumsum([lengths[name] for name in order])
    return set(order[: max(1, int(np.searchsorted(totals, most, side="right")))])


def _raw(stream: TokenStream) -> TokenStream:
    return TokenStream(stream.spec, (Offset(), Flatten()))


def _watched(
    entries: Iterator[tuple[Entry, Any]], store: TokenStore, progress: Progress, watcher: Watcher
) -> Iterator[tuple[Entry, Any]]:
    for entry, ids in entries:
        yield entry, ids
        progress.done += 1
        progress.audio_seconds += entry.samples / store.spec.sample_rate
        watcher(progress)


def _gains(
    store: TokenStore, entries: Iterator[Entry], streams: tuple[TokenStream, ...], apart: set[str]
) -> list[Gain]:
    """What streams cost, counted recording by recording: on those learned from, and on those held out if there are."""
    rows = streams[0].rows(store.spec)
    counts = [[np.zeros(stream.vocabulary, np.int64) for stream in streams] for _ in range(2)]
    recordings, samples = [0, 0], [0, 0]
    for entry in entries:
        part = int(entry.id in apart)
        recordings[part] += 1
        samples[part] += entry.samples
        for total, stream in zip(counts[part], streams, strict=True):
            np.add(total, np.bincount(stream.forward(entry.codes[rows]), minlength=len(total)), out=total)
    gains = []
    for part in (0, 1):
        if samples[part]:
            seconds = samples[part] / store.spec.sample_rate
            pairs = zip(("codes", "units", "BPE"), counts[part], counts[0], strict=True)
            costs = tuple(_cost(name, found, known, seconds) for name, found, known in pairs)
            gains.append(Gain(bool(part), recordings[part], seconds, costs))
    return gains


def _cost(name: str, found: np.ndarray, known: np.ndarray, seconds: float) -> Cost:
    tokens = int(found.sum()) / seconds
    likely = (known + 0.5) / (known.sum() + 0.5 * len(known))
    coded = -float(found @ np.log2(likely)) / seconds
    return Cost(name, len(found), tokens, tokens * math.log2(len(found)), coded)


def save_bpe(
    stream: TokenStream,
    path: str | os.PathLike[str],
    *,
    special: Sequence[str] = SPECIAL,
    evidence: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> TokenStream:
    """Writes the folder, whole or not at all, and gives the stream in it: the one given, and its special ids.

    special: names of ids before all others; none for (). OutputError if something is there and `overwrite` is not
    given. InputError unless the stream ends in BPE.
    """
    merges = stream.transforms[-1] if stream.transforms else None
    if not isinstance(merges, BPE):
        raise InputError("expected a stream that ends in BPE", hint="make one with `train_bpe`")
    whole = stream | Special(tuple(special)) if special else stream
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **{f"{name}_token": spelled(name) for name in ("pad", "bos", "eos", "sep", "mask") if name in special},
    }
    with new_directory(Path(path), overwrite=overwrite) as folder:
        merges.tokenizer(special).save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
        whole.save(folder / STREAM, evidence=evidence)
    return whole
