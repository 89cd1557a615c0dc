"""Which ids can come at a place of a stream, so that whatever is drawn among them can be turned back into codes.

A stream is a grid of ids (a row for each codebook, durations, delays) that is laid out as one sequence. The grammar
knows the row and column of each place, and so where an id is known by the beginning of a recording that is continued.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vocable.errors import InputError
from vocable.tokenizers.streams import BPE, CoarseFirst, Delay, Flatten, Offset, Row, Special, TokenStream


@dataclass(frozen=True)
class Bounds:
    """How many frames there may be at the end, and which are known. known: what `Grammar.known` gives, or None.

    Frames are columns of the grid without its delays; where runs are sent once, runs.
    """

    least: int = 1
    most: int | None = None
    known: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.least < 0 or (self.most is not None and self.most < max(1, self.least)):
            raise InputError(f"expected as many frames at most as at least, got {self.least} and {self.most}")

    @property
    def limit(self) -> float:
        """The most, or infinity."""
        return math.inf if self.most is None else self.most


class Walk(ABC):
    """One sequence as it grows, from behind bos on."""

    @abstractmethod
    def allowed(self) -> np.ndarray:
        """Which ids may come next, bool [V]; one at least, until eos came."""

    @abstractmethod
    def push(self, id: int) -> None:
        """Takes the next id, which is allowed."""

    @abstractmethod
    def given(self) -> int | None:
        """The next id where it is known."""


@dataclass(frozen=True)
class Grammar:
    """The grammar of a stream with bos and eos.

    InputError for streams that have none: codebooks one after the other without ids of their own or with delays, and
    pairs of delayed ids.
    """

    stream: TokenStream

    def __post_init__(self) -> None:
        kinds = [type(step) for step in self.stream.transforms]
        behind = kinds[kinds.index(Delay) + 1 : self._place] if Delay in kinds else []
        overlap = any(row.first < before.end for before, row in zip(self.rows[:-1], self.rows[1:], strict=True))
        if CoarseFirst in kinds and (Delay in kinds or overlap):
            raise InputError(
                "expected codebooks with ids of their own and without delays to go one after the other",
                hint="make the stream with --layout delay or interleave",
            )
        if (BPE in kinds and (Delay in kinds or CoarseFirst in kinds)) or set(behind) - {Offset}:
            raise InputError("expected runs before delays, and BPE of what has none", hint="put Delay() last")

    @cached_property
    def _place(self) -> int:
        """Where the layout is among the transforms."""
        return [isinstance(step, Flatten | CoarseFirst) for step in self.stream.transforms].index(True)

    @cached_property
    def grid(self) -> TokenStream:
        """The stream before its layout: ids [K, T]."""
        return TokenStream(self.stream.spec, self.stream.transforms[: self._place])

    @property
    def rows(self) -> tuple[Row, ...]:
        """Those of the grid."""
        return self.grid.form.rows

    @cached_property
    def delays(self) -> tuple[int, ...]:
        """Of each row, in columns; () where there is no delay."""
        found = [step for step in self.grid.transforms if isinstance(step, Delay)]
        return (found[0].delays or tuple(range(len(self.rows)))) if found else ()

    @cached_property
    def shift(self) -> int:
        """By how much special ids move the others up."""
        names = [step.name for step in self.stream.transforms]
        before = TokenStream(self.stream.spec, self.stream.transforms[: names.index(Special.name)])
        return max(0, len(self.stream.special) - before.form.rows[0].first)

    @cached_property
    def tokens(self) -> BPE | None:
        """The pairs that were merged, if any were."""
        return next((step for step in self.stream.transforms if isinstance(step, BPE)), None)

    def known(self, codes: np.ndarray) -> np.ndarray:
        """What is known of a sequence that begins with codes [K, T], for `Bounds`."""
        return self.grid.forward(codes) if self.tokens is None else self.stream.forward(codes)[None, 1:-1]

    def mask(self, first: int, end: int) -> np.ndarray:
        """Ids first..end-1 of the grid, as bool [V] of the stream."""
        mask = np.zeros(self.stream.vocabulary, bool)
        mask[first + self.shift : end + self.shift] = True
        return mask

    @cached_property
    def ids(self) -> list[np.ndarray]:
        """What each row may hold, [V]; of delayed ones without the id for what is not there."""
        return [self.mask(row.first, row.end - bool(self.delays)) for row in self.rows]

    @cached_property
    def end(self) -> np.ndarray:
        """Nothing but eos, [V]."""
        return self.only(self.stream.special["eos"])

    def only(self, id: int) -> np.ndarray:
        """One id, [V]."""
        mask = np.zeros(self.stream.vocabulary, bool)
        mask[id] = True
        return mask

    @cached_property
    def merged(self) -> _Tokens:
        """What tokens stand for, where pairs were merged."""
        if self.tokens is None:
            raise InputError("expected a stream with BPE, got one without")
        return _Tokens.of(self, self.tokens)

    def walk(self, bounds: Bounds) -> Walk:
        """The places behind bos."""
        if self.tokens is not None:
            return _Merged(self, bounds)
        if isinstance(self.stream.transforms[self._place], CoarseFirst):
            return _Ordered(self, bounds)
        return _Delayed(self, bounds) if self.delays else _Flat(self, bounds)


@dataclass
class _Grid(Walk):
    """Places that have a row and a column."""

    grammar: Grammar
    bounds: Bounds
    row: int = 0
    column: int = 0
    ended: bool = False

    def __post_init__(self) -> None:
        self.strides = [row.stride for row in self.grammar.rows]

    def given(self) -> int | None:
        known = self.bounds.known
        if known is None or self.ended or self.column >= self.reach(known):
            return None
        return int(known[self.row, self.column]) + self.grammar.shift

    def reach(self, known: np.ndarray) -> int:
        """Columns of the row that are known."""
        return int(known.shape[1])


class _Flat(_Grid):
    """Frame by frame; a code that lasts a stride comes once."""

    def allowed(self) -> np.ndarray:
        whole = self.row == self._first()
        if self.ended or (whole and self.column >= self.bounds.limit):
            return self.grammar.end
        here = self.grammar.ids[self.row]
        return here | self.grammar.end if whole and self.column >= self.bounds.least else here

    def push(self, id: int) -> None:
        if self.grammar.end[id]:
            self.ended = True
            return
        self.row += 1
        while self.row < len(self.strides) and self.column % self.strides[self.row]:
            self.row += 1
        if self.row == len(self.strides):
            self.column += 1
            self.row = self._first()

    def _first(self) -> int:
        """The first row with a code in this frame: there is one with a code in every frame."""
        return next(row for row, stride in enumerate(self.strides) if self.column % stride == 0)


class _Delayed(_Grid):
    """Frame by frame, rows late. That one of the least delayed rows has no code says how many frames there are."""

    frames: int | None = None

    def reach(self, known: np.ndarray) -> int:
        delays = self.grammar.delays
        return int(known.shape[1]) - max(delays) + delays[self.row]

    def allowed(self) -> np.ndarray:
        delays = self.grammar.delays
        if self.ended or (self.frames is not None and self.column >= self.frames + max(delays)):
            return self.grammar.end
        frame = self.column - delays[self.row]
        if frame < 0 or (self.frames is not None and frame >= self.frames):
            return self._nothing()
        here = self.grammar.ids[self.row]
        if self.frames is not None or self.row != delays.index(min(delays)):
            return here
        # without a row that is later than others, the sequence is over where this one is
        stop = self._nothing() if max(delays) > min(delays) else self.grammar.end
        if frame >= self.bounds.limit:
            return stop
        return here | stop if frame >= self.bounds.least else here

    def _nothing(self) -> np.ndarray:
        return self.grammar.only(self._none)

    @property
    def _none(self) -> int:
        return int(self.grammar.rows[self.row].end) - 1 + self.grammar.shift

    def push(self, id: int) -> None:
        frame = self.column - self.grammar.delays[self.row]
        if self.grammar.end[id]:
            self.ended = True
        elif frame >= 0 and self.frames is None and id == self._none:
            self.frames = frame
        self.row = (self.row + 1) % len(self.strides)
        self.column += self.row == 0


class _Ordered(_Grid):
    """Codebook by codebook. `column` counts codes, which last a stride; each narrows how many frames there may be.

    The first codebook that is not as long as it may be ends where the ids of the next begin.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.low, self.high = max(1, self.bounds.least), self.bounds.limit

    def given(self) -> int | None:
        known = self.bounds.known
        if known is None or self.ended:
            return None
        codes = known[self.row, :: self.strides[self.row]]
        return int(codes[self.column]) + self.grammar.shift if self.column < len(codes) else None

    def allowed(self) -> np.ndarray:
        if self.ended:
            return self.grammar.end
        stride, mask = self.strides[self.row], np.zeros(self.grammar.stream.vocabulary, bool)
        if self.high > self.column * stride:
            mask = mask | self.grammar.ids[self.row]
        if self._whole():
            mask = mask | self._next()
        return mask

    def _whole(self) -> bool:
        """Whether so many codes of this row stand for a number of frames that is still possible."""
        stride = self.strides[self.row]
        return max(self.low, (self.column - 1) * stride + 1) <= min(self.high, self.column * stride)

    def _next(self) -> np.ndarray:
        last = self.row + 1 == len(self.strides)
        known = self.bounds.known
        if last or known is None:
            return self.grammar.end if last else self.grammar.ids[self.row + 1]
        return self.grammar.only(int(known[self.row + 1, 0]) + self.grammar.shift)

    def push(self, id: int) -> None:
        if not self.grammar.ids[self.row][id]:
            stride = self.strides[self.row]
            self.low = max(self.low, (self.column - 1) * stride + 1)
            self.high = min(self.high, self.column * stride)
            self.row, self.column = self.row + 1, 0
        self.ended = bool(self.grammar.end[id])
        self.column += not self.ended


@dataclass
class _Merged(Walk):
    """Tokens of several units. A token may come if each of its units may, one after the other."""

    grammar: Grammar
    bounds: Bounds
    units: int = 0
    place: int = 0
    ended: bool = False

    def given(self) -> int | None:
        known = self.bounds.known
        return int(known[0, self.place]) if known is not None and self.place < known.shape[1] else None

    def allowed(self) -> np.ndarray:
        if self.ended:
            return self.grammar.end
        merged = self.grammar.merged
        phase = self.units % len(merged.whole)
        here: np.ndarray = merged.masks[phase]
        return here | self.grammar.end if self.units and merged.whole[phase] else here

    def push(self, id: int) -> None:
        self.ended = bool(self.grammar.end[id])
        self.units += 0 if self.ended else int(self.grammar.merged.lengths[id])
        self.place += 1


@dataclass(frozen=True, eq=False)
class _Tokens:
    """Of every id [V]: units in it; whether it may come [P, V] at each of the P places after which rows repeat.

    whole: at which of these places a frame begins, [P].
    """

    lengths: np.ndarray
    masks: np.ndarray
    whole: list[bool]

    @classmethod
    def of(cls, grammar: Grammar, tokens: BPE) -> _Tokens:
        strides = [row.stride for row in grammar.rows]
        columns = range(math.lcm(*strides))
        places = [(column, row) for column in columns for row, stride in enumerate(strides) if column % stride == 0]
        cycle = [grammar.rows[row] for _, row in places]
        lengths = np.zeros(grammar.stream.vocabulary, np.int64)
        masks = np.zeros((len(cycle), len(lengths)), bool)
        for token in range(tokens.vocabulary):
            units = tokens.inverse(np.array([token]), grammar.grid.form).tolist()
            lengths[token + grammar.shift] = len(units)
            for phase in range(len(cycle)):
                rows = (cycle[(phase + index) % len(cycle)] for index in range(len(units)))
                fits = all(row.first <= unit < row.end for unit, row in zip(units, rows, strict=True))
                masks[phase, token + grammar.shift] = fits
        whole = [not index or places[index - 1][0] < column for index, (column, _) in enumerate(places)]
        return cls(lengths, masks, whole)
