"""What a probe looks at: the codes of a store, or the frames that its tokenizer's extractor gives."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.progress import Progress
from vocable.store import Entry, TokenStore
from vocable.tokenizers.gathering import Reading, extract_corpus
from vocable.types import FeatureExtractor, TokenSpec
from vocable.vocoders.designs import PITCH, layers_of

DEFAULT_MEMORY = 4 << 30


@dataclass(frozen=True, slots=True)
class Layer:
    """Columns of the frames that belong together. sizes: of the codebook in each column; empty for numbers."""

    name: str
    columns: tuple[int, ...]
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Item:
    """One recording: frames [T, W], codes or numbers, and what the manifest said of it."""

    id: str
    frames: Tensor
    fields: Mapping[str, Any]


@dataclass(frozen=True, eq=False, slots=True)
class Material:
    """Recordings as one system sees them, by id. frame_rate in Hz; bitrate in bit/s, None for numbers."""

    name: str
    layers: tuple[Layer, ...]
    items: Mapping[str, Item]
    frame_rate: float
    bitrate: float | None = None

    @property
    def num_bytes(self) -> int:
        """Of all frames."""
        return sum(item.frames.nbytes for item in self.items.values())

    @classmethod
    def of_stores(cls, *paths: str | os.PathLike[str], name: str = "") -> Material:
        """The codes of one store, or of several that one tokenizer made.

        Codebooks of one layer count as that layer, "f0" as one of its own. SpecError if the stores are of different
        tokenizers; InputError if they hold no recording, or one of them twice.
        """
        stores = [TokenStore.open(path) for path in paths]
        spec, items = stores[0].spec, dict[str, Item]()
        for store in stores:
            spec.require(store.spec)
            for entry in store:
                if entry.id in items:
                    raise InputError(f"two stores hold the recording {entry.id!r}", hint="train and test must not meet")
                if entry.codes.shape[1]:
                    items[entry.id] = Item(entry.id, _codes(entry), entry.fields)
        if not items:
            raise InputError(f"{Path(paths[0])} holds no tokens", hint="tokenize some audio into it first")
        return cls(name or Path(paths[0]).name, code_layers(spec), items, spec.frame_rate, spec.bitrate)

    @classmethod
    def of_corpus(
        cls,
        corpus: Corpus,
        extractors: Sequence[FeatureExtractor],
        like: Material,
        *,
        ids: Collection[str],
        name: str = "",
        memory: int = DEFAULT_MEMORY,
        reading: Reading | None = None,
    ) -> Material:
        """The frames that extractors of one clock give for the recordings `ids` of `like`, found in a corpus by id.

        They are held in memory. InputError if a recording is not in the corpus or cannot be read, or if all take more
        than `memory` bytes.
        """
        missing = sorted(set(ids) - {utterance.id for utterance in corpus})
        if missing:
            raise InputError(
                f"expected the {len(ids)} recordings of the tokens in the corpus, {len(missing)} are not: {missing[0]}",
                hint="give the manifest or the folder that was tokenized",
            )
        wanted = Corpus(utterance for utterance in corpus if utterance.id in ids)
        width = sum(len(extractor.layers) * extractor.dim for extractor in extractors)
        needed = 4 * width * sum(len(like.items[name].frames) for name in ids)
        if needed > memory:
            raise InputError(
                f"these frames take {needed / 2**30:.1f} GiB, more than the {memory / 2**30:.1f} allowed",
                hint="allow more --memory, or probe fewer recordings or layers",
            )
        parts = [_extract(wanted, extractor, reading or Reading()) for extractor in extractors]
        items = {
            key: Item(key, torch.cat([part[key] for part in parts], dim=1), like.items[key].fields)
            for key in sorted(ids)
        }
        return cls(name or "features", frame_layers(extractors), items, like.frame_rate)


def code_layers(spec: TokenSpec) -> tuple[Layer, ...]:
    """The layers of a token stream with their codebooks; pitch, which is no layer to a vocoder, is one to a probe."""
    known = {} if spec.labels == (PITCH,) else layers_of(spec)
    if PITCH in spec.labels:
        known = {**known, PITCH: (spec.labels.index(PITCH),)}
    sizes = [book.size for book in spec.codebooks]
    return tuple(Layer(name, columns, tuple(sizes[k] for k in columns)) for name, columns in known.items())


def frame_layers(extractors: Sequence[FeatureExtractor]) -> tuple[Layer, ...]:
    """The layers of extractors side by side, each with as many columns as it has dimensions.

    Where several extractors have layers of one name, all are numbered.
    """
    layers: list[Layer] = []
    names = Counter(name for extractor in extractors for name in extractor.layers)
    start = 0
    for index, extractor in enumerate(extractors):
        for name in extractor.layers:
            distinct = name if names[name] == 1 else f"{name} ({index})"
            layers.append(Layer(distinct, tuple(range(start, start + extractor.dim))))
            start += extractor.dim
    return tuple(layers)


def _codes(entry: Entry) -> Int[Tensor, "t k"]:
    return torch.from_numpy(entry.codes.astype("int32").T.copy())


def _extract(corpus: Corpus, extractor: FeatureExtractor, reading: Reading) -> dict[str, Float[Tensor, "t w"]]:
    """The frames of every recording, its layers side by side. InputError if one cannot be read."""
    windows: dict[str, dict[int, Tensor]] = {}
    progress = Progress(len(corpus))
    for piece, frames in extract_corpus(corpus, extractor, progress, reading):
        windows.setdefault(piece.utterance.id, {})[piece.index] = frames.transpose(0, 1).flatten(1)
    if progress.failed:
        raise InputError(f"{progress.failed} of {len(corpus)} recordings cannot be read any more")
    return {name: torch.cat([parts[index] for index in sorted(parts)]) for name, parts in windows.items()}
