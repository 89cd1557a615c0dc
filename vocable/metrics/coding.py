"""What the tokens of a store cost in bits per second: as they are, without repetitions, entropy-coded, after BPE."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from vocable.errors import InputError
from vocable.metrics.ngram import NGram
from vocable.metrics.runs import Streams, deduplicated, read_streams, run_lengths
from vocable.store import TokenStore

_SURROGATES = 0xD800, 0xE000  # code points that are no characters


def empirical_bits(sequences: Sequence[np.ndarray], order: int) -> float:
    """Bits of all codes under the model that fits them best, which is not sent: n H(X) or n H(X | the one before).

    The limit that a coder of this order can reach on these very codes, optimistic where they are few. With order 1 the
    first code of a recording follows a context of its own. sequences: codes [T] of each recording.
    InputError for orders beyond 0 and 1, where what is counted would mostly be how little data there is.
    """
    if order not in (0, 1):
        raise InputError(f"expected order 0 or 1, got {order}")
    codes = np.concatenate([np.zeros(0, np.int64), *(row.astype(np.int64) for row in sequences)])
    size = int(codes.max(initial=0)) + 1
    contexts = [np.r_[size, row[:-1].astype(np.int64)] for row in sequences if len(row)]
    context = np.concatenate([np.zeros(0, np.int64), *contexts]) if order else np.zeros_like(codes)
    keys, counts = np.unique(context * size + codes, return_counts=True)
    totals = np.bincount(np.repeat(keys // size, counts))
    return math.fsum(counts * np.log2(totals[keys // size] / counts))


def held_out_bits(sequences: Sequence[np.ndarray], size: int, order: int) -> float:
    """Bits of all codes, each half of the recordings coded by a model of the other half: what a coder would pay.

    The model is the `NGram` of `order` + 1 codes (order 0: no context). The halves are every second recording.
    InputError if there are fewer than two.
    """
    halves = _halves(sequences)
    return sum(NGram(known, size, order + 1).bits(coded) for known, coded in (halves, halves[::-1]))


def _halves(sequences: Sequence[np.ndarray]) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
    if len(sequences) < 2:
        raise InputError(f"expected at least two recordings, of which one half codes the other, got {len(sequences)}")
    return sequences[::2], sequences[1::2]


@dataclass(frozen=True)
class Rates:
    """Bits per second of one codebook, or of all of them.

    raw: log2(size) bits a code. entropy0, entropy1: `empirical_bits` without context, and given the code before.
    held_out0, held_out1, language_model: `held_out_bits` of order 0, 1, and as many as were asked for.
    units: log2(size) bits for each run of equal codes. timed_units: the same and the lengths of the runs, at their
    empirical entropy. held_out_units, held_out_timed_units: both entropy-coded, `held_out_bits` of the order of the
    language model for units and 0 for lengths, whose longest is known.
    """

    label: str
    raw: float
    entropy0: float
    entropy1: float
    held_out0: float
    held_out1: float
    language_model: float
    units: float
    timed_units: float
    held_out_units: float
    held_out_timed_units: float


def bitrates(store: TokenStore, *, order: int = 4) -> list[Rates]:
    """A row for each codebook of a store, and one for "all", which codes them side by side: their sum.

    order: codes before each that the language model looks at. InputError if there are fewer than two recordings.
    """
    streams = read_streams(store)
    books = zip(streams.spec.codebooks, streams.codes, strict=True)
    rows = [_rates(book.label, book.size, codes, streams.seconds, order) for book, codes in books]
    names = [part.name for part in fields(Rates) if part.name != "label"]
    return [*rows, Rates("all", **{name: math.fsum(getattr(row, name) for row in rows) for name in names})]


def _rates(label: str, size: int, codes: Sequence[np.ndarray], seconds: float, order: int) -> Rates:
    units = [deduplicated(row) for row in codes]
    lengths = [run_lengths(row)[1] for row in codes]
    longest = max(int(row.max(initial=0)) for row in lengths)
    plain = math.log2(size) * sum(map(len, units))
    coded = held_out_bits(units, size, order)
    bits = {
        "raw": math.log2(size) * sum(map(len, codes)),
        "entropy0": empirical_bits(codes, 0),
        "entropy1": empirical_bits(codes, 1),
        "held_out0": held_out_bits(codes, size, 0),
        "held_out1": held_out_bits(codes, size, 1),
        "language_model": held_out_bits(codes, size, order),
        "units": plain,
        "timed_units": plain + empirical_bits(lengths, 0),
        "held_out_units": coded,
        "held_out_timed_units": coded + held_out_bits(lengths, longest + 1, 0),
    }
    return Rates(label, **{name: value / seconds for name, value in bits.items()})


@dataclass(frozen=True)
class PairEncoding:
    """Units after byte-pair encoding, on recordings that its merges were not learned from.

    vocabulary: entries that are there, the units themselves included, at most as many as asked for.
    bits_per_second: log2(vocabulary) bits a token.
    """

    label: str
    vocabulary: int
    tokens_per_second: float
    bits_per_second: float


def pair_encodings(store: TokenStore, vocabulary: int) -> list[PairEncoding]:
    """A row for each codebook: units without repetitions, then byte-pair encoding (Sennrich et al. 2016).

    Each half of the recordings is encoded with the merges of the other. A vocabulary no larger than a codebook leaves
    its units as they are. InputError if there are fewer than two recordings.
    """
    streams = read_streams(store)
    return [_pair_encoding(streams, index, vocabulary) for index in range(streams.spec.num_codebooks)]


def _pair_encoding(streams: Streams, index: int, vocabulary: int) -> PairEncoding:
    book = streams.spec.codebooks[index]
    halves = _halves([deduplicated(row) for row in streams.codes[index]])
    tokens, bits, entries = 0, 0.0, 0
    for known, coded in (halves, halves[::-1]):
        count, learned = learn_pairs(known, book.size, vocabulary)
        part = sum(map(count, coded))
        tokens, bits, entries = tokens + part, bits + part * math.log2(learned), max(entries, learned)
    return PairEncoding(book.label, entries, tokens / streams.seconds, bits / streams.seconds)


def learn_pairs(sequences: Sequence[np.ndarray], size: int, vocabulary: int) -> tuple[Callable[[np.ndarray], int], int]:
    """Learns byte-pair merges of codes in 0..size-1: what counts the tokens of codes [T], and the entries there are."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    alphabet = [_character(code) for code in range(size)]
    model = Tokenizer(BPE())
    trainer = BpeTrainer(vocab_size=max(vocabulary, size), initial_alphabet=alphabet, show_progress=False)
    model.train_from_iterator(["".join(alphabet[code] for code in row.tolist()) for row in sequences], trainer)

    def count(codes: np.ndarray) -> int:
        return len(model.encode("".join(alphabet[code] for code in codes.tolist())).ids)

    return count, model.get_vocab_size()


def _character(code: int) -> str:
    first, after = _SURROGATES
    point = 0x100 + code
    return chr(point if point < first else point + after - first)
