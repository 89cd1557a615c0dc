"""Tokenizing a corpus into a store: stop it where you like, run it again, and it ends as if nothing had happened."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vocable.clock import Windows
from vocable.corpus import Corpus, Facts, Failure, Piece, Utterance, batches
from vocable.errors import VocableError
from vocable.progress import Progress, Watcher, unwatched
from vocable.store import Entry, TokenStore
from vocable.tokenizers.training import batch_samples
from vocable.types import TokenSpec


class WindowTokenizer(Protocol):
    """A tokenizer that takes a recording window by window."""

    @property
    def spec(self) -> TokenSpec: ...
    @property
    def windows(self) -> Windows: ...
    @property
    def channels(self) -> int:
        """Channels of the sound that it works on."""

    def encode_windows(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Codes [K, T] of each waveform, [N] or [C, N], every one taken as a whole."""

    def save_pretrained(self, path: Path) -> None: ...


def tokenize(
    corpus: Corpus,
    tokenizer: WindowTokenizer,
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    workers: int = 0,
    batch_seconds: float | None = None,
    shard_seconds: float = 20.0,
    watcher: Watcher = unwatched,
) -> Progress:
    """Writes the tokens of every recording that the store at `out` does not hold yet.

    A shard is committed every `shard_seconds` of wall time, so that is the most a kill can cost. A recording that
    cannot be read is noted in failures.jsonl with the reason, and tried again on the next run. `workers` processes
    decode; the model sees `batch_seconds` of audio at a time, by default 160 for each thread. No result depends on
    either.
    SpecError if the store holds tokens of another tokenizer and is not to be overwritten, StoreError if it is damaged.
    """
    store = TokenStore.create(out, tokenizer.spec, overwrite=overwrite)
    if not store.tokenizer_path.exists():
        tokenizer.save_pretrained(store.tokenizer_path)
    done = set(store.ids())
    store.settle_failures(done)
    todo = corpus.without(done)
    progress = Progress(len(corpus), skipped=len(corpus) - len(todo))
    run = _Run(store, tokenizer, progress, shard_seconds)
    try:
        spec, channels = tokenizer.spec, tokenizer.channels
        pieces = run.sound(todo.pieces(spec.sample_rate, tokenizer.windows, channels=channels, workers=workers))
        limit = batch_samples(batch_seconds, spec.sample_rate)
        for batch in batches(pieces, max_samples=limit, multiple=torch.get_num_threads()):
            run.encode(batch)
            watcher(progress)
    except (KeyboardInterrupt, VocableError):
        run.flush()
        raise
    run.flush()
    store.settle_failures(run.finished)
    watcher(progress)
    return progress


class _Run:
    """Utterances under way: codes of their windows until the last is there, then entries until the next shard."""

    def __init__(self, store: TokenStore, tokenizer: WindowTokenizer, progress: Progress, shard_seconds: float) -> None:
        self.store, self.tokenizer, self.progress, self.shard_seconds = store, tokenizer, progress, shard_seconds
        self.finished: set[str] = set()
        self._parts: dict[str, dict[int, np.ndarray]] = {}
        self._facts: dict[str, tuple[int, Facts]] = {}
        self._failed: set[str] = set()
        self._entries: list[Entry] = []
        self._flushed = time.monotonic()

    def sound(self, items: Iterator[Piece | Failure]) -> Iterator[Piece]:
        """The pieces; failures are noted on the way."""
        for item in items:
            if isinstance(item, Piece):
                yield item
                continue
            self.store.note_failure(item)
            self.progress.failed += 1
            self._failed.add(item.id)
            self._parts.pop(item.id, None)

    def encode(self, batch: list[Piece]) -> None:
        """Tokens of a batch of windows, and whatever that completes."""
        codes = self.tokenizer.encode_windows([torch.from_numpy(piece.samples.T) for piece in batch])
        for piece, part in zip(batch, codes, strict=True):
            if piece.utterance.id in self._failed:
                continue
            parts = self._parts.setdefault(piece.utterance.id, {})
            parts[piece.index] = part[:, piece.skip : piece.skip + piece.frames].numpy()
            if piece.facts is not None:
                self._facts[piece.utterance.id] = piece.index + 1, piece.facts
            self._complete(piece.utterance)
        if time.monotonic() - self._flushed > self.shard_seconds:
            self.flush()

    def flush(self) -> None:
        """Commits a shard of the entries that are complete."""
        self.store.append(sorted(self._entries, key=lambda entry: entry.id))
        self.finished.update(entry.id for entry in self._entries)
        self._entries = []
        self._flushed = time.monotonic()

    def _complete(self, utterance: Utterance) -> None:
        count, facts = self._facts.get(utterance.id, (None, None))
        if facts is None or len(self._parts[utterance.id]) != count:
            return
        del self._facts[utterance.id]
        parts = self._parts.pop(utterance.id)
        self._entries.append(
            Entry(
                id=utterance.id,
                codes=np.concatenate([parts[index] for index in range(len(parts))], axis=1),
                samples=facts.samples,
                path=str(utterance.path),
                source_samples=facts.source_samples,
                source_rate=facts.source_rate,
                checksum=facts.checksum,
                fields=utterance.fields,
            )
        )
        self.progress.done += 1
        self.progress.audio_seconds += facts.source_samples / facts.source_rate
