"""What a language model learns from: the ids of a store, packed and mapped into memory, some recordings held out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from vocable.distributed import Processes
from vocable.errors import InputError
from vocable.exports.packed import PackedSink, PackedTokens
from vocable.exports.rows import Content, Row
from vocable.files import remove
from vocable.progress import Progress, Watcher, unwatched
from vocable.store import TokenStore
from vocable.tokenizers.streams import TokenStream

_TRAINING, _HELD = "training", "held-out"
_HEAD = "pack.json"  # written last: what has it is whole


@dataclass(frozen=True, eq=False)
class Pack:
    """Packed ids of some recordings, and for how many seconds of audio they stand."""

    packed: PackedTokens
    seconds: float

    @classmethod
    def open(cls, folder: Path) -> Pack:
        """StoreError if it is missing or damaged."""
        packed = PackedTokens.open(folder)
        return cls(packed, sum(samples for _, samples in packed.utterances()) / packed.spec.sample_rate)

    @property
    def ids(self) -> np.ndarray:
        """All of them, [N], recording after recording."""
        return self.packed.tokens

    @property
    def rate(self) -> float:
        """Ids per second of audio."""
        return len(self.ids) / self.seconds

    def recordings(self) -> Iterator[np.ndarray]:
        """The ids [n] of each recording."""
        return (self.packed[index] for index in range(len(self.packed)))


@dataclass(frozen=True, eq=False)
class Packs:
    """What is learned from and what is held out. identity: of the recordings, the stream and the share, as a hash."""

    training: Pack
    held: Pack
    identity: str


def pack(
    store: TokenStore,
    stream: TokenStream,
    work: Path,
    *,
    held_out: float = 0.05,
    processes: Processes | None = None,
    watcher: Watcher = unwatched,
) -> Packs:
    """Packs the ids of a store in a folder of `work`, or opens what an earlier run packed there.

    held_out: share of the recordings that is judged by, those whose ids have the lowest hashes, one at least: the
    choice of `vocable train bpe`, so that its merges know nothing of them either.

    InputError if the store has fewer than two recordings. SpecError if its tokens are not those of the stream.
    """
    if not 0 < held_out < 1:
        raise InputError(f"expected a share of recordings to hold out between 0 and 1, got {held_out}")
    processes = processes or Processes()
    facts = [[shard.name for shard in store.shards()], store.spec.to_dict(), stream.config(), held_out]
    identity = sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    folder = work / f"packed-{identity[:16]}"
    if processes.rank == 0 and not all((folder / part / _HEAD).is_file() for part in (_TRAINING, _HELD)):
        _write(store, stream, folder, held_out, watcher)
    processes.meet()
    return Packs(Pack.open(folder / _TRAINING), Pack.open(folder / _HELD), identity)


def _write(store: TokenStore, stream: TokenStream, folder: Path, share: float, watcher: Watcher) -> None:
    content, order = Content(store.spec, stream), sorted(store.ids(), key=_hash)
    if len(order) < 2:
        raise InputError(
            f"expected a store of two recordings or more, one to judge by, got {len(order)} in {store.path}",
            hint="tokenize more audio",
        )
    apart = set(order[: min(math.ceil(share * len(order)), len(order) - 1)])
    remove(folder)
    sinks = {part: PackedSink(folder, part, content, {}) for part in (_TRAINING, _HELD)}
    progress = Progress(len(order))
    try:
        for entry, ids in stream.read(store):
            sinks[_HELD if entry.id in apart else _TRAINING].add(Row(entry, ids, None))
            progress.done += 1
            progress.audio_seconds += entry.samples / store.spec.sample_rate
            watcher(progress)
        for sink in sinks.values():
            sink.finish()
    finally:
        for sink in sinks.values():
            sink.close()


def _hash(name: str) -> bytes:
    return sha256(name.encode("utf-8", "surrogatepass")).digest()
