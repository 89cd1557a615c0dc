"""What of a store is exported: the ids that a token stream makes of each recording, and durations that it forgets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vocable.errors import InputError
from vocable.store import Entry
from vocable.tokenizers.streams import CoarseFirst, Collapse, Delay, Flatten, Offset, TokenStream, Transform
from vocable.types import TokenSpec

LAYOUTS: dict[str, tuple[type[Transform], ...]] = {
    "interleave": (Offset, Flatten),
    "delay": (Delay, Offset, Flatten),
    "coarse-first": (Offset, CoarseFirst),
}


def stream_of(
    spec: TokenSpec, *, codebooks: Iterable[int | str] | None = None, dedup: bool = False, layout: str | None = None
) -> TokenStream:
    """The stream of some codebooks of a spec, all by default.

    dedup: each run of equal frames once. layout: one of `LAYOUTS`, which makes one sequence of all codebooks in one
    vocabulary; None leaves them beside each other. InputError if there is no such codebook or layout.
    """
    if layout is not None and layout not in LAYOUTS:
        raise InputError(f"expected a layout among {', '.join(LAYOUTS)}, got {layout!r}")
    steps = [step() for step in ((Collapse,) if dedup else ()) + (LAYOUTS[layout] if layout else ())]
    return TokenStream(spec if codebooks is None else spec.take(codebooks), tuple(steps))


@dataclass(frozen=True, eq=False)
class Row:
    """One recording of an export.

    ids: [N] where the content is flat, else a row for each codebook [K, T] (int64). durations: [T], how many frames
    each column of a stream that collapses them lasted; None of other streams. entry: all else that the store says.
    """

    entry: Entry
    ids: np.ndarray
    durations: np.ndarray | None

    @property
    def id(self) -> str:
        return self.entry.id


@dataclass(frozen=True)
class Content:
    """A stream of what a store of spec `whole` holds. SpecError if the store does not hold what the stream is of."""

    whole: TokenSpec
    stream: TokenStream

    def __post_init__(self) -> None:
        self.places  # noqa: B018 - a store of other tokens is told of here

    @cached_property
    def places(self) -> list[int]:
        """Where the codebooks of the stream are in the store."""
        return self.stream.rows(self.whole)

    @property
    def spec(self) -> TokenSpec:
        """Of the codes that the ids are made of."""
        return self.stream.spec

    @property
    def labels(self) -> tuple[str, ...]:
        """What the rows of ids are called; one, `tokens`, where all is one sequence."""
        return ("tokens",) if self.stream.flat else tuple(row.label for row in self.stream.form.rows)

    @property
    def is_flat(self) -> bool:
        """Whether a recording is one sequence."""
        return self.stream.flat or len(self.stream.form.rows) == 1

    @property
    def vocabulary(self) -> int:
        """All ids are in 0..vocabulary-1."""
        return self.stream.vocabulary

    @property
    def has_durations(self) -> bool:
        """Whether the stream forgets how long frames lasted, so that it is kept beside it."""
        return any(isinstance(step, Collapse) for step in self.stream.transforms[:1])

    def require_flat(self, kind: str) -> None:
        """InputError unless a recording is one sequence."""
        if not self.is_flat:
            raise InputError(
                f"expected one sequence a recording for {kind}, got {len(self.labels)} codebooks",
                hint=f"choose one with --codebooks {self.labels[0]}, or make one of all with --flatten interleave",
            )

    def row(self, entry: Entry) -> Row:
        """What is exported of an entry."""
        codes = entry.codes[self.places]
        ids = self.stream.forward(codes)
        durations = None
        if self.has_durations:
            starts = np.flatnonzero(np.r_[codes.shape[1] > 0, (codes[:, 1:] != codes[:, :-1]).any(axis=0)])
            durations = np.diff(starts, append=codes.shape[1])
        return Row(entry, ids[0] if ids.ndim == 2 and self.is_flat else ids, durations)
