"""Sequences drawn from a language model, id by id among those that can come, and continuations of recordings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any

import numpy as np
import torch

from vocable.errors import InputError
from vocable.language.grammar import Bounds, Grammar, Walk
from vocable.language.model import LanguageModel
from vocable.store import Entry, TokenStore

_BATCH = 16
_LOOKS = 32  # ids between two looks at how many frames there are
_MEASURED = 50  # recordings by which it is known how many frames become one


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next id is drawn.

    temperature: logits are divided by it; 0 takes the likeliest. top_k: of so many likeliest ids; 0 of all.
    InputError if one is negative.
    """

    temperature: float = 0.9
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < 100 or self.top_k < 0:
            raise InputError(f"expected a temperature and a top-k that are not negative, got {self}")

    def draw(self, logits: np.ndarray, allowed: np.ndarray, chance: float) -> int:
        """An id among the allowed, by logits [V] and a number in 0..1."""
        scores = np.where(allowed, logits.astype(np.float64), -np.inf)
        if self.temperature == 0:
            return int(scores.argmax())
        if 0 < self.top_k < int(allowed.sum()):
            scores[scores < np.partition(scores, -self.top_k)[-self.top_k]] = -np.inf
        shares = np.exp((scores - scores.max()) / self.temperature).cumsum()
        # the last id of all has the share 1: the first that reaches the number is one that can come
        return int(np.searchsorted(shares, chance * shares[-1], side="right"))


@dataclass(frozen=True, eq=False)
class Wish:
    """A sequence to draw. name: decides its random numbers, with the seed. frames: where it is whole (at least)."""

    name: str
    bounds: Bounds
    frames: int


class _Growing:
    """A wish as it grows."""

    def __init__(self, model: LanguageModel, grammar: Grammar, wish: Wish, seed: int) -> None:
        self._stream, self._wish = model.stream, wish
        self.walk: Walk = grammar.walk(wish.bounds)
        self.ids = [model.stream.special["bos"]]
        self.done = False
        digest = sha256(f"{seed} {wish.name}".encode("utf-8", "surrogatepass")).digest()
        self.random = np.random.default_rng(int.from_bytes(digest[:16]))

    def push(self, id: int) -> None:
        """Takes an id; what is done only keeps its place in the batch."""
        self.ids.append(id)
        if self.done:
            return
        self.walk.push(id)
        self.done = id == self._stream.special["eos"] or self._long_enough()

    def _long_enough(self) -> bool:
        # where runs or pairs became one, ids do not say how long they last
        measured = self._stream.form.measured and len(self.ids) % _LOOKS == 0
        return measured and self._stream.inverse_prefix(np.array(self.ids)).shape[1] >= self._wish.frames


@torch.inference_mode()
def sample(model: LanguageModel, wishes: Sequence[Wish], sampling: Sampling) -> list[np.ndarray]:
    """Ids (int64) of each wish, bos first; all of them are drawn side by side.

    They depend on the wishes, the sampling and, as rounding does, on what else is in the batch. Of more ids than the
    model's context, the last half of a context is seen, and more as others follow.
    InputError for a stream that has no grammar.
    """
    grammar = Grammar(model.stream)
    rows = [_Growing(model, grammar, wish, sampling.seed) for wish in wishes]
    reader = _Reader(model)
    while not all(row.done for row in rows):
        given = [None if row.done else row.walk.given() for row in rows]
        if all(row.done or id is not None for row, id in zip(rows, given, strict=True)):
            logits = None  # nothing to draw: what is known is read later, at once
        else:
            logits = reader.logits([row.ids for row in rows])
        for index, (row, known) in enumerate(zip(rows, given, strict=True)):
            if known is None and not row.done and logits is not None:
                row.push(sampling.draw(logits[index], row.walk.allowed(), row.random.random()))
            else:
                row.push(known or 0)
    return [_trimmed(row.ids, model.stream.special["eos"]) for row in rows]


def _trimmed(ids: list[int], eos: int) -> np.ndarray:
    """Up to the end, if it came."""
    return np.array(ids[: ids.index(eos) + 1] if eos in ids else ids, np.int64)


class _Reader:
    """The network with what it remembers of the ids before."""

    def __init__(self, model: LanguageModel) -> None:
        self._model, self._cache, self._first, self._read = model, None, 0, 0
        self._network: Any = model.network

    def logits(self, rows: list[list[int]]) -> np.ndarray:
        """Of the next id of each row [B, V]; all rows have the same length, and only ever grow."""
        length, context = len(rows[0]), self._model.context
        if length - self._first > context:
            self._cache, self._first = None, length - max(1, context // 2)
            self._read = self._first
        fresh = torch.tensor([row[self._read : length] for row in rows], device=self._model.device)
        found = self._network(input_ids=fresh, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache, self._read = found.past_key_values, length
        logits: np.ndarray = found.logits[:, -1].float().cpu().numpy()
        return logits


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of `continuations`.

    seconds: of audio that are drawn. prompt: seconds that each recording gives, 0 for sequences out of nothing.
    count: recordings, or sequences. InputError if a number is not positive, or the prompt negative.
    """

    seconds: float = 5.0
    prompt: float = 3.0
    count: int = 8

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.prompt >= 0 and self.count >= 1):
            raise InputError(f"expected seconds to draw, and a prompt that is not negative, got {self}")


def continuations(
    model: LanguageModel, store: TokenStore, request: Request, sampling: Sampling
) -> Iterator[tuple[Entry, int]]:
    """Entries of the stream's spec with what was drawn behind their beginnings, and how many frames were given.

    The first recordings of the store are continued, or none is. A model that says the end makes shorter ones; of
    streams that are not exact every run is one frame, which is counted as the recordings have it on average.

    InputError for an empty store, and for streams that have no grammar. SpecError if the store holds other tokens.
    """
    rows, spec = model.stream.rows(store.spec), model.stream.spec
    grammar, frames = Grammar(model.stream), _frames(model, store, request.seconds)
    given = [(entry.id, entry.codes[rows]) for entry in islice(store, request.count)] if request.prompt else []
    if request.prompt and not given:
        raise InputError(f"expected a store with recordings to continue, got none in {store.path}")
    limit = max(1, round(request.prompt * spec.frame_rate))
    prompts = [(name, codes[:, :limit]) for name, codes in given]
    if not request.prompt:
        prompts = [(f"sample-{number:04}", np.zeros((len(rows), 0), np.int64)) for number in range(request.count)]
    for first in range(0, len(prompts), _BATCH):
        group = prompts[first : first + _BATCH]
        wishes = [_wish(grammar, name, codes, frames) for name, codes in group]
        for wish, (name, _), ids in zip(wishes, group, sample(model, wishes, sampling), strict=True):
            codes = model.stream.inverse_prefix(ids)[:, : wish.frames]
            if codes.shape[1]:
                samples = spec.num_samples(codes.shape[1])
                yield Entry(name, codes, samples), wish.frames - frames


def _wish(grammar: Grammar, name: str, codes: np.ndarray, frames: int) -> Wish:
    """Frames behind the codes of a beginning."""
    if not codes.shape[1]:
        return Wish(name, Bounds(1, frames), frames)
    stream, known = grammar.stream, grammar.known(codes)
    columns = known.shape[1] - max(grammar.delays, default=0)
    lasting = codes.shape[1] if stream.exact else stream.inverse(stream.forward(codes)).shape[1]
    return Wish(name, Bounds(columns + 1, columns + frames, known), lasting + frames)


def _frames(model: LanguageModel, store: TokenStore, seconds: float) -> int:
    """How many frames of what the stream's inverse gives are so many seconds."""
    wanted = seconds * model.stream.spec.frame_rate
    if not model.stream.exact:
        pairs = [(entry.codes.shape[1], ids) for entry, ids in islice(model.stream.read(store), _MEASURED)]
        whole = sum(count for count, _ in pairs)
        wanted *= sum(model.stream.inverse(ids).shape[1] for _, ids in pairs) / whole if whole else 1
    return max(1, round(wanted))
