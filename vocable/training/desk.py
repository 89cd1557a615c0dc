"""Where a corpus becomes what is trained on: its tokens, its sound, and both side by side, in a folder of work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vocable.corpus import Corpus, Failure
from vocable.distributed import Processes, meet
from vocable.errors import SpecError
from vocable.files import is_vacant, legible
from vocable.store import TokenStore
from vocable.tokenizers.folder import WindowTokenizer, tokenize
from vocable.tokenizers.gathering import Reading
from vocable.training.audio_cache import AudioCache, read_sound
from vocable.training.clips import ClipCache
from vocable.training.work import TOKENS


@dataclass(frozen=True)
class Desk:
    """How a corpus is prepared: by which tokenizer, at which rate (Hz), cropped on which grid (samples).

    processes: those that train together, of which the first writes. reading: how the corpus is read, and who hears of
    recordings that cannot be used. on_cache hears of the cache of sound before it is filled.
    """

    tokenizer: WindowTokenizer
    sample_rate: int
    hop_length: int
    processes: Processes
    reading: Reading
    on_cache: Callable[[AudioCache], None]

    def clips(self, corpus: Corpus, work: Path, tokens: TokenStore | None) -> ClipCache:
        """The clips of a corpus in `work`; what is missing there is made, but for `tokens` that are there already.

        SpecError if tokens, these or those in `work`, are not the tokenizer's.
        """
        if tokens is not None:
            self._require(tokens)
        cache, failures = read_sound(
            corpus, work / "audio", self.sample_rate, self.reading, self.processes, self.on_cache
        )
        store = self._tokenized(corpus, work / TOKENS) if tokens is None else tokens
        clips = ClipCache.create(work / "clips", cache, store, self.hop_length, reduce=self.processes)
        for failure in _left_out(corpus, clips, [*store.failures(), *failures]):
            self.reading.on_failure(failure)
        return clips

    def _tokenized(self, corpus: Corpus, path: Path) -> TokenStore:
        """The tokens at `path`, all that can be made; of several processes the first makes them."""
        if self.processes.rank == 0:
            if not is_vacant(path):
                self._require(TokenStore.open(path))
            reading = self.reading
            tokenize(
                corpus,
                self.tokenizer,
                path,
                workers=reading.workers,
                batch_seconds=reading.batch_seconds,
                watcher=reading.watcher,
            )
        meet(self.processes)
        return TokenStore.open(path)

    def _require(self, store: TokenStore) -> None:
        ours, theirs = self.tokenizer.spec, store.spec
        if ours != theirs:
            raise SpecError(
                f"{store.path} holds tokens of tokenizer {theirs.source[:12]}, not of {ours.source[:12]}",
                hint="name the tokenizer that made them, or another folder",
            )


def _left_out(corpus: Corpus, clips: ClipCache, failures: list[Failure]) -> list[Failure]:
    """Recordings of the corpus that are not among the clips, and why."""
    there, known = {clip.id for clip in clips.clips}, {failure.id: failure for failure in failures}
    reason = "it has no tokens, or they are of another file"
    missing = (utterance for utterance in corpus if utterance.id not in there)
    return [known.get(u.id) or Failure(u.id, legible(str(u.path)), reason) for u in missing]
