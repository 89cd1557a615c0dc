"""One pass over a token store: how much it holds, and how its codebooks are used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vocable.metrics.tokens import code_counts, entropy, usage
from vocable.store import TokenStore
from vocable.types import TokenSpec


@dataclass(frozen=True)
class StoreSummary:
    """Totals of a store. counts: a histogram [V] for each codebook."""

    spec: TokenSpec
    recordings: int
    samples: int
    frames: int
    counts: tuple[Tensor, ...]

    @property
    def seconds(self) -> float:
        """Seconds of audio that the tokens stand for."""
        return self.samples / self.spec.sample_rate

    def use(self) -> dict[str, str]:
        """For each codebook, in words: the share of entries used, and the entropy of the codes."""
        return {
            book.label: f"usage {usage(counts):.1%}, entropy {entropy(counts):.2f} bits"
            for book, counts in zip(self.spec.codebooks, self.counts, strict=True)
        }


def summarize(store: TokenStore) -> StoreSummary:
    """Reads every entry of the store once."""
    counts = tuple(torch.zeros(book.size, dtype=torch.int64) for book in store.spec.codebooks)
    recordings = samples = frames = 0
    for entry in store:
        recordings += 1
        samples += entry.samples
        frames += entry.codes.shape[1]
        codes = entry.tokens(store.spec).codes[0]
        for total, row in zip(counts, codes, strict=True):
            total.add_(code_counts(row, len(total)))
    return StoreSummary(store.spec, recordings, samples, frames, counts)
