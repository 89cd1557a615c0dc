"""Resynthesis of a store into sound files, one recording at a time, in bounded memory; stopped runs go on."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vocable.audio import resample_blocks, write_blocks
from vocable.clock import resampled_length
from vocable.errors import OutputError
from vocable.files import inside, is_vacant, write_atomic
from vocable.nets.threads import one_thread_each
from vocable.progress import Progress, Watcher, unwatched
from vocable.store import Entry, TokenStore
from vocable.types import TokenSpec
from vocable.vocoders.designs import codebooks_of

_HEAD = "_resynthesis.json"


class EntryStyle(Protocol):
    """How recordings are to sound; `vocable.vocoders.Style` is one."""

    def config(self) -> dict[str, Any]: ...
    def require(self, vocoder: BlockVocoder, spec: TokenSpec) -> None: ...
    def entry(self, entry: Entry, spec: TokenSpec) -> Entry: ...
    def vocoder(self, entry: Entry, vocoder: BlockVocoder) -> BlockVocoder: ...


class BlockVocoder(Protocol):
    """A vocoder that gives its output piece by piece."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def fingerprint(self) -> str:
        """What sound of this vocoder, and of no other, is signed with."""

    def require(self, spec: TokenSpec) -> None:
        """SpecError unless it can decode tokens of this spec."""

    def decode_blocks(self, codes: Tensor, samples: int, spec: TokenSpec) -> Iterator[Tensor]:
        """Blocks of the waveform of codes [K, T], [n] or [n, C]; together they have exactly `samples` samples."""


def resynthesize(
    store: TokenStore,
    vocoder: BlockVocoder,
    out: str | os.PathLike[str],
    *,
    sample_rate: int | None = None,
    suffix: str = ".wav",
    layers: Sequence[str] | None = None,
    style: EntryStyle | None = None,
    overwrite: bool = False,
    watcher: Watcher = unwatched,
) -> Progress:
    """Writes a sound file for every utterance of the store, named after its id, as long as the recording was.

    The rate is that of the recording, so that lengths agree to the sample, unless `sample_rate` (Hz) is given; tokens
    that came from no recording get the vocoder's. Files that are there from an earlier run with the same tokens and
    options are kept. layers: those of the tokens to decode, None for all. style: what to change, see `Style`. Each
    style and each choice of layers wants a folder of its own.

    SpecError if the vocoder does not cover the store's tokens, OutputError if `out` holds others. InputError if the
    vocoder or the tokens do not allow the style.
    """
    which = list(range(store.spec.num_codebooks)) if layers is None else codebooks_of(store.spec, layers)
    spec = store.spec.take(which)
    vocoder.require(spec)
    folder = Path(out)
    settings: dict[str, object] = {"vocoder": vocoder.fingerprint, "sample_rate": sample_rate, "suffix": suffix}
    if style is not None:
        style.require(vocoder, spec)
    settings |= {"codebooks": list(spec.labels), "style": style.config() if style else None}
    _claim(folder, settings, overwrite)
    progress = Progress(len(store))
    stopped = Event()

    def write(entry: Entry, path: Path) -> float:
        """Decodes and writes one recording; returns its seconds."""
        chosen = vocoder
        entry = replace(entry, codes=entry.codes[which])
        if style is not None:
            entry, chosen = style.entry(entry, spec), style.vocoder(entry, vocoder)
        rate, length = _target(entry, spec.sample_rate, sample_rate or entry.source_rate or vocoder.sample_rate)
        blocks = _decoded(chosen, entry, spec, stopped)
        resampled = resample_blocks(blocks, vocoder.sample_rate, rate, length=length)
        write_blocks(path, resampled, rate, vocoder.channels)
        return length / rate

    def settle(written: Future[float]) -> None:
        progress.audio_seconds += written.result()
        progress.done += 1
        watcher(progress)

    # a recording a thread: the operations of one are too short to share
    with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
        under_way: deque[Future[float]] = deque()
        try:
            for entry in store:
                path = inside(folder, entry.id, suffix)
                if path.exists() and not overwrite:
                    progress.skipped += 1
                    continue
                under_way.append(pool.submit(write, entry, path))
                if len(under_way) > 2 * threads:
                    settle(under_way.popleft())
            while under_way:
                settle(under_way.popleft())
        finally:
            stopped.set()
    watcher(progress)
    return progress


def _decoded(vocoder: BlockVocoder, entry: Entry, spec: TokenSpec, stopped: Event) -> Iterator[np.ndarray]:
    for block in vocoder.decode_blocks(torch.from_numpy(entry.codes.astype(np.int64)), entry.samples, spec):
        if stopped.is_set():
            raise CancelledError
        yield block.numpy()


def _target(entry: Entry, token_rate: int, rate: int) -> tuple[int, int]:
    """The rate to write at, and how many samples."""
    if rate == entry.source_rate:
        return rate, entry.source_samples
    if rate == token_rate:
        return rate, entry.samples
    if entry.source_rate:
        return rate, resampled_length(entry.source_samples, entry.source_rate, rate)
    return rate, resampled_length(entry.samples, token_rate, rate)


def _claim(folder: Path, settings: dict[str, object], overwrite: bool) -> None:
    """Marks the folder as holding resyntheses of this kind, or checks that it does."""
    head = folder / _HEAD
    data = json.dumps(settings, sort_keys=True).encode()
    if head.exists() and (overwrite or head.read_bytes() == data):
        write_atomic(head, data)
        return
    if not is_vacant(folder):
        raise OutputError(
            f"{folder} holds something else than this resynthesis",
            hint="name another --out" if not head.exists() else "name another --out, or replace it with --overwrite",
        )
    write_atomic(head, data)
