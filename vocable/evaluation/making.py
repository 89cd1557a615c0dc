"""Tokens and sounds of the systems that are compared, in the folder of their evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from vocable.audio import checksum
from vocable.corpus import Corpus, Utterance
from vocable.errors import InputError
from vocable.evaluation.facts import Speeds
from vocable.evaluation.results import TokenFigures
from vocable.evaluation.scores import Sounds
from vocable.evaluation.systems import Part, TokenSystem
from vocable.evaluation.token_figures import first_codebooks, token_figures
from vocable.files import inside, remove
from vocable.progress import Watcher, unwatched
from vocable.store import TokenStore
from vocable.tokenizers.folder import tokenize
from vocable.vocoders.folder import resynthesize

SUFFIX = ".flac"

Stage = Callable[[str], AbstractContextManager[Watcher]]
"""What is being done now -> who watches how it goes."""


def quiet(what: str) -> AbstractContextManager[Watcher]:
    """Nobody looks."""
    return nullcontext(unwatched)


@dataclass(frozen=True, eq=False)
class Workshop:
    """Where tokens and sounds are made: tokens/NAME for each tokenizer, sounds/NAME for each system, and how fast.

    What an earlier run has made is kept. workers, batch_seconds: see `tokenize`.
    """

    folder: Path
    utterances: Sequence[Utterance]
    workers: int = 0
    batch_seconds: float | None = None
    stage: Stage = quiet

    @property
    def speeds(self) -> Speeds:
        """How fast each stage was."""
        return Speeds(self.folder / "speeds.jsonl")

    def tokens(self, system: TokenSystem) -> Path:
        """The store of a tokenizer."""
        return inside(self.folder / "tokens", system.tokenizer_name, "")

    def sounds(self, system: TokenSystem) -> Path:
        """The sound files of a system."""
        return inside(self.folder / "sounds", system.name, "")

    def clear(self, systems: Iterable[TokenSystem]) -> None:
        """Removes the tokens and sounds of these systems."""
        for system in systems:
            remove(self.tokens(system))
            remove(self.sounds(system))

    def make(self, systems: Sequence[TokenSystem]) -> dict[str, Sounds]:
        """What is missing of the tokens and sounds of these systems: by name, where the sounds are.

        InputError if a recording is not the one that was tokenized; other errors as of `tokenize` and `resynthesize`.
        """
        sums = {utterance.id: _checksum(utterance.path) for utterance in self.utterances} if systems else {}
        for system in {system.tokenizer_name: system for system in systems}.values():
            self._tokenize(system)
            self._require_same(system, sums)
        return {system.name: self._resynthesize(system) for system in systems}

    def figures(self, systems: Sequence[TokenSystem]) -> dict[str, tuple[TokenFigures | None, dict[str, str]]]:
        """By name: the figures of the tokens of each system, and which there are not, and why."""
        longest: dict[str, TokenSystem] = {}
        for system in systems:
            other = longest.setdefault(system.tokenizer_name, system)
            longest[system.tokenizer_name] = max(other, system, key=lambda one: len(one.kept))
        # of each tokenizer once, with as many codebooks as any system decodes: those of fewer are the first of these
        known = {name: token_figures(self._part(system)) for name, system in longest.items()}
        found = {}
        for system in systems:
            figures, left_out = known[system.tokenizer_name]
            found[system.name] = (first_codebooks(figures, system.spec.labels) if figures else None, left_out)
        return found

    def _tokenize(self, system: TokenSystem) -> None:
        with self.stage(f"tokenize {system.tokenizer_name}") as watcher:
            run = tokenize(
                Corpus(self.utterances),
                system.tokenizer,
                self.tokens(system),
                workers=self.workers,
                batch_seconds=self.batch_seconds,
                watcher=watcher,
            )
        self.speeds.note(tokenizing(system), run)

    def _resynthesize(self, system: TokenSystem) -> Sounds:
        part, folder = self._part(system), self.sounds(system)
        with self.stage(f"resynthesize {system.name}") as watcher:
            run = resynthesize(part, system.vocoder, folder, suffix=SUFFIX, watcher=watcher)
        self.speeds.note(resynthesizing(system), run)
        why, there = {failure.id: failure.reason for failure in part.failures()}, set(part.ids())
        names = [utterance.id for utterance in self.utterances if utterance.id not in there]
        return Sounds(folder, SUFFIX, {name: f"not tokenized: {why.get(name, 'no reason known')}" for name in names})

    def _part(self, system: TokenSystem) -> Part:
        ids = {utterance.id for utterance in self.utterances}
        return Part(TokenStore.open(self.tokens(system)), system.kept, ids)

    def _require_same(self, system: TokenSystem, sums: dict[str, str]) -> None:
        changed = [entry for entry in self._part(system) if entry.checksum != sums[entry.id]]
        if changed:
            raise InputError(
                f"{len(changed)} of the recordings are not those that were tokenized, {changed[0].path} among them",
                hint="make tokens and sounds anew with --overwrite, or name another --out",
            )


def tokenizing(system: TokenSystem) -> str:
    """The name under which the speed of a tokenizer is kept."""
    return f"tokenize {system.tokenizer_name} {system.spec.source}"


def resynthesizing(system: TokenSystem) -> str:
    """The name under which the speed of a vocoder is kept."""
    return f"resynthesize {system.name} {system.vocoder.fingerprint}"


def _checksum(path: Path) -> str:
    try:
        return checksum(path)
    except OSError:
        return ""  # gone since it was listed: it fails where it is read
