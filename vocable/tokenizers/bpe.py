"""Byte-pair encoding of units (Sennrich et al. 2016): the merges, and the tokenizer.json that others read.

Each unit is a character of Unicode's supplementary private use areas, chr(0xF0000 + unit), a sequence is one word,
and Hugging Face's `tokenizers` does the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vocable.errors import InputError
from vocable.tokenizers.streams_forms import Form, Transform, require_whole

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FIRST_CHARACTER = 0xF0000
_MOST_UNITS = 0x110000 - FIRST_CHARACTER
LONGEST_TOKEN = 256  # units; of what repeats, merges would double for ever
_WORD = 512  # units of a word in training, whose cost grows with the words' length


def characters(units: np.ndarray) -> str:
    """One character for each unit."""
    return (units + FIRST_CHARACTER).astype("<u4").tobytes().decode("utf-32-le")


def _units(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.int64) - FIRST_CHARACTER


@dataclass(frozen=True)
class BPE(Transform):
    """Pairs of ids that occur together become one, again and again.

    size: units 0..size-1, which keep their ids. merges: pairs of ids in the order in which they are applied; each new
    run of units has the next id. Tokens are runs of at most 256 units.
    """

    size: int
    merges: tuple[tuple[int, int], ...] = field(repr=False)

    name: ClassVar[str] = "bpe"

    def __post_init__(self) -> None:
        require_whole("the units of BPE", self.size, 1, _MOST_UNITS)
        self._tokens  # noqa: B018 - merges of what is not there are told of here

    @cached_property
    def _tokens(self) -> dict[str, int]:
        """Token, as characters -> id, in the order of ids."""
        words = [*characters(np.arange(self.size))]
        tokens = {word: id for id, word in enumerate(words)}
        for pair in self.merges:
            if not (isinstance(pair, tuple) and len(pair) == 2 and all(type(id) is int for id in pair)):
                raise InputError(f"expected merges of two ids, got {pair!r}")
            if not 0 <= min(pair) <= max(pair) < len(words):
                raise InputError(f"a merge of {list(pair)} where there are {len(words)} tokens")
            word = words[pair[0]] + words[pair[1]]
            if len(word) > LONGEST_TOKEN:
                raise InputError(f"a token stands for at most {LONGEST_TOKEN} units, a merge makes {len(word)}")
            if word not in tokens:
                tokens[word] = len(words)
                words.append(word)
        return tokens

    @property
    def vocabulary(self) -> int:
        """Units and merged tokens."""
        return len(self._tokens)

    @cached_property
    def _model(self) -> Any:
        from tokenizers.models import BPE as Model

        words = list(self._tokens)
        return Model(self._tokens, [(words[left], words[right]) for left, right in self.merges])

    @cached_property
    def _spelled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The units of all tokens in one array, where each begins, and how many it has."""
        lengths = np.array([len(word) for word in self._tokens])
        return _units("".join(self._tokens)), np.cumsum(lengths) - lengths, lengths

    def form(self, given: Form) -> Form:
        given.require_flat("BPE")
        row = given.rows[0]
        if given.special:
            raise InputError("BPE expects no special ids before it", hint="put Special() after it")
        if row.first or row.size != self.size:
            raise InputError(f"expected a sequence of ids 0..{self.size - 1}, got {row.first}..{row.end - 1}")
        return replace(given, rows=(replace(row, label="the tokens", size=self.vocabulary),), measured=True)

    def forward(self, ids: np.ndarray, given: Form) -> np.ndarray:
        return np.array([token.id for token in self._model.tokenize(characters(ids))], np.int64)

    def inverse(self, ids: np.ndarray, given: Form) -> np.ndarray:
        units, starts, lengths = self._spelled
        counts = lengths[ids]
        ends = np.cumsum(counts)
        # counts up by one within a token, and begins each where its units lie
        places = np.arange(int(counts.sum())) + np.repeat(starts[ids] - (ends - counts), counts)
        found: np.ndarray = units[places]
        return found

    def tokenizer(self, special: Sequence[str] = ()) -> Tokenizer:
        """The same for `tokenizers` and transformers: text of characters to ids, after the special ones, and back.

        special: names, of which "bos" and "eos" are put around a text, as `Special` puts them around a sequence.
        """
        from tokenizers import Tokenizer, decoders
        from tokenizers.models import BPE as Model
        from tokenizers.processors import TemplateProcessing

        words = list(self._tokens)
        names = [spelled(name) for name in special]
        vocabulary = {word: id for id, word in enumerate([*names, *words])}
        made = Tokenizer(Model(vocabulary, [(words[left], words[right]) for left, right in self.merges]))
        made.add_special_tokens(names)
        made.decoder = decoders.Fuse()
        around = [spelled(name) for name in ("bos", "eos") if name in special]
        if around:
            parts = [*around[: "bos" in special], "$A", *around["bos" in special :]]
            made.post_processor = TemplateProcessing(
                single=" ".join(parts), special_tokens=[(name, vocabulary[name]) for name in around]
            )
        return made


def spelled(name: str) -> str:
    """How a special id is written in a text."""
    return f"<{name}>"


def learn_merges(sequences: Iterable[np.ndarray], size: int, vocabulary: int) -> BPE:
    """Learns merges of units 0..size-1 until there are `vocabulary` tokens, or no pair is left that comes twice.

    sequences: units [N]; they are cut into words of 512, over whose ends nothing is merged.
    InputError if there are more units than characters, or no fewer than the tokens asked for.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import BPE as Model
    from tokenizers.trainers import BpeTrainer

    require_whole("the units of BPE", size, 1, _MOST_UNITS)
    if vocabulary <= size:
        raise InputError(f"expected a vocabulary larger than the {size} units, got {vocabulary}")
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        initial_alphabet=[*characters(np.arange(size))],
        limit_alphabet=size,
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    learned = Tokenizer(Model())
    words = (row[start : start + _WORD] for row in sequences for start in range(0, len(row), _WORD))
    learned.train_from_iterator(map(characters, words), trainer)
    model = json.loads(learned.to_str())["model"]
    # the alphabet comes first and in order, so that ids are those of the units
    pairs = [(model["vocab"][left], model["vocab"][right]) for left, right in model["merges"]]
    return BPE(size, tuple(pairs))
