"""How often tokenizers that should give the same codes do give them, on audio of the user's own.

Precision, batching and device change the last bits of features; a frame between two centroids then changes its code.
How many do is a property of the audio and of the codebook, so it is measured, never promised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vocable.corpus import Corpus, Failure, Piece, batches
from vocable.errors import InputError
from vocable.tokenizers.folder import WindowTokenizer

_BATCH_SECONDS = 160.0


@dataclass(frozen=True)
class Agreement:
    """Equal codes [K] of so many frames, codebook by codebook."""

    labels: tuple[str, ...]
    equal: Tensor
    frames: int

    @property
    def share(self) -> dict[str, float]:
        """Share of equal codes for each codebook, 0..1."""
        return {label: equal / self.frames for label, equal in zip(self.labels, self.equal.tolist(), strict=True)}


def agreement(
    corpus: Corpus, reference: WindowTokenizer, others: Mapping[str, WindowTokenizer], *, workers: int = 0
) -> dict[str, Agreement]:
    """Codes of each of `others` against those of `reference`, on every frame of the corpus that can be read.

    The reference sees every window alone, the others see batches of windows of like length, as in tokenizing a folder.
    InputError if a tokenizer has other codebooks or another clock than the reference, or if no recording can be read.
    """
    spec = reference.spec
    for name, other in others.items():
        clock = other.spec.sample_rate, other.spec.hop_length, other.spec.window, other.spec.codebooks
        if clock != (spec.sample_rate, spec.hop_length, spec.window, spec.codebooks):
            raise InputError(f"expected {name} to have the codebooks and the clock of the reference")
    equal = {name: torch.zeros(spec.num_codebooks, dtype=torch.int64) for name in others}
    frames = 0
    pieces = corpus.pieces(spec.sample_rate, reference.windows, channels=reference.channels, workers=workers)
    for batch in batches(_readable(pieces), max_samples=round(_BATCH_SECONDS * spec.sample_rate)):
        waves = [torch.from_numpy(piece.samples.T) for piece in batch]
        expected = [codes for wave in waves for codes in reference.encode_windows([wave])]
        frames += sum(piece.frames for piece in batch)
        for name, other in others.items():
            for piece, found, codes in zip(batch, other.encode_windows(waves), expected, strict=True):
                kept = slice(piece.skip, piece.skip + piece.frames)
                equal[name] += (found[:, kept] == codes[:, kept]).sum(dim=1)
    if not frames:
        raise InputError("no recording could be read")
    return {name: Agreement(spec.labels, count, frames) for name, count in equal.items()}


def _readable(items: Iterable[Piece | Failure]) -> Iterable[Piece]:
    return (item for item in items if isinstance(item, Piece))
