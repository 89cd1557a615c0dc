"""What is compared: tokenizers with what makes sound of their tokens, and sounds that other programs made."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vocable.audio import SUFFIXES
from vocable.errors import InputError, SpecError, StoreError
from vocable.files import inside
from vocable.store import Entry, TokenStore
from vocable.tokenizers.codec import SCALE
from vocable.tokenizers.folder import WindowTokenizer
from vocable.types import TokenSpec
from vocable.vocoders.folder import BlockVocoder

ORIGINAL = "original"


@dataclass(frozen=True, eq=False)
class TokenSystem:
    """A tokenizer and the vocoder of its tokens.

    tokenizer_name: short; systems that share it share one store of tokens. vocoder_name: empty where tokens are decoded
    by the codec that made them, or inverted. codebooks: decode the first so many only; None for all.
    """

    tokenizer_name: str
    tokenizer: WindowTokenizer
    vocoder: BlockVocoder
    vocoder_name: str = ""
    codebooks: int | None = None

    @property
    def name(self) -> str:
        """As in "units", "units + vocoder" or "codec @ 4"."""
        vocoder = f" + {self.vocoder_name}" if self.vocoder_name else ""
        return self.tokenizer_name + vocoder + (f" @ {self.codebooks}" if self.codebooks else "")

    @property
    def kept(self) -> list[int]:
        """Indices of the codebooks that are decoded. InputError if there are not so many."""
        labels = self.tokenizer.spec.labels
        # the level of a window refines nothing: it goes with any number of codebooks
        ladder = [index for index, label in enumerate(labels) if label != SCALE]
        if self.codebooks is not None and not 1 <= self.codebooks <= len(ladder):
            raise InputError(f"expected 1 to {len(ladder)} codebooks of {self.tokenizer_name}, got {self.codebooks}")
        return sorted({*ladder[: self.codebooks], *(i for i, label in enumerate(labels) if label == SCALE)})

    @property
    def spec(self) -> TokenSpec:
        """The contract of the tokens that are decoded."""
        return self.tokenizer.spec.take(self.kept)

    def require(self) -> None:
        """SpecError if the vocoder does not take these tokens, InputError if there are not so many codebooks."""
        self.vocoder.require(self.spec)

    def at(self, counts: Iterable[int]) -> list[TokenSystem]:
        """The same with the first so many codebooks, for each count that can be decoded; itself if none can.

        One codebook is all there is of a tokenizer that has one, whatever is counted.
        """
        cut = [replace(self, codebooks=count) for count in dict.fromkeys(counts)]
        return [system for system in cut if len(self.kept) > 1 and system._decodes()] or [self]

    def _decodes(self) -> bool:
        try:
            self.require()
        except (SpecError, InputError):
            return False
        return True


@dataclass(frozen=True)
class SoundSystem:
    """A folder of sounds that another program made of the recordings, each named after its id (`files.inside`).

    bitrate: bit/s that it spent, None where that is unknown.
    """

    name: str
    folder: Path
    bitrate: float | None = None

    def find(self, ids: Sequence[str]) -> tuple[str, set[str]]:
        """The suffix of the files, and the ids that there is one for. Of several suffixes the one that finds most.

        InputError if there is no such folder, or nothing in it.
        """
        if not self.folder.is_dir():
            raise InputError(f"expected a folder of sounds for {self.name}, got {self.folder}, which is none")
        names = (name for _, _, files in os.walk(self.folder) for name in files)
        suffixes = sorted({suffix for name in names if (suffix := Path(name).suffix).lower() in SUFFIXES})
        found = {suffix: {key for key in ids if inside(self.folder, key, suffix).is_file()} for suffix in suffixes}
        best = max(found, key=lambda suffix: len(found[suffix]), default="")
        if not best or not found[best]:
            raise InputError(
                f"no sound of {self.name} in {self.folder} is named after a recording",
                hint=f"expected files such as {inside(self.folder, ids[0], best or '.wav')}" if ids else "",
            )
        return best, found[best]


class Part(TokenStore):
    """Some codebooks and some recordings of a store, read as if they were all of it; nothing can be added."""

    def __init__(self, whole: TokenStore, codebooks: Sequence[int], ids: Collection[str]) -> None:
        super().__init__(whole.path, whole.spec.take(codebooks))
        self._whole, self._codebooks, self._ids = whole, list(codebooks), frozenset(ids)

    def ids(self) -> list[str]:
        """The ids of the recordings, each once."""
        return [name for name in self._whole.ids() if name in self._ids]

    def __iter__(self) -> Iterator[Entry]:
        for entry in self._whole:
            if entry.id in self._ids:
                yield replace(entry, codes=entry.codes[self._codebooks])

    def append(self, entries: Iterable[Entry]) -> None:
        """StoreError: it is there to be read."""
        raise StoreError(f"expected a whole store to add to, got a part of {self.path}")


def require_distinct(systems: Sequence[TokenSystem | SoundSystem]) -> None:
    """InputError unless there is a system, each has a name of its own, and equal tokenizer names mean one tokenizer."""
    if not systems:
        raise InputError("expected at least one system to evaluate", hint="name one with --tokenizer or --sounds")
    for name, count in Counter([ORIGINAL, *(system.name for system in systems)]).items():
        if count > 1:
            hint = "name them apart: --tokenizer NAME=DIR, --vocoder NAME=DIR, --sounds NAME=DIR"
            raise InputError(f"expected systems with distinct names, got {name!r} for {count}", hint=hint)
    makers: dict[str, TokenSpec] = {}
    for system in systems:
        if isinstance(system, TokenSystem):
            spec = system.tokenizer.spec
            if makers.setdefault(system.tokenizer_name, spec) != spec:
                hint = "name them apart: --tokenizer NAME=DIR"
                raise InputError(f"expected one tokenizer called {system.tokenizer_name!r}, got two", hint=hint)
