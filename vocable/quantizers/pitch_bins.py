"""Pitch in bins of a fraction of a semitone, one of them for no pitch; nothing is learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers.rows import code_rows, vector_rows


class PitchBins:
    """One codebook over [..., 2]: pitch in octaves above 1 Hz, log2(f0 / Hz), and voicing, voiced from 1/2 on.

    Code 0 is unvoiced. Code c >= 1 is a pitch of (c - 1) / b to c / b octaves above `low`, b the bins per octave; what
    lies outside falls into the first or the last bin. The defaults are quarter semitones (25 cents) from 50 to 800 Hz.
    Pitch as discrete units beside those of content: Polyak et al. 2021, "Speech Resynthesis from Discrete Disentangled
    Self-Supervised Representations", whose units are learned.

    low: Hz. octaves: covered from there. bins_per_octave: a multiple of 12 divides semitones evenly.
    InputError if one of them is not positive.
    """

    dim = 2

    def __init__(self, *, low: float = 50.0, octaves: int = 4, bins_per_octave: int = 48) -> None:
        if not 0 < low < math.inf or octaves < 1 or bins_per_octave < 1:
            raise InputError(f"expected positive low, octaves and bins_per_octave, got {low, octaves, bins_per_octave}")
        self.low, self.octaves, self.bins_per_octave = float(low), octaves, bins_per_octave

    @property
    def size(self) -> int:
        """Entries of the codebook: the bins, and one for unvoiced."""
        return 1 + self.octaves * self.bins_per_octave

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.size,)

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Int[Tensor, "*batch 1"]:
        """Codes [..., 1] of vectors [..., 2]. InputError for another shape, or if a value is not finite."""
        octaves, voicing = vector_rows(vectors, self.dim).double().unbind(1)
        bins = ((octaves - math.log2(self.low)) * self.bins_per_octave).floor() + 1
        codes = torch.where(voicing >= 0.5, bins.clamp(1, self.size - 1), 0.0)
        return codes.long().view(*vectors.shape[:-1], 1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Float[Tensor, "*batch 2"]:
        """Centres of bins and voicing 0 or 1 [..., 2] as float32; (0, 0) where unvoiced. InputError for other codes."""
        rows = code_rows(codes, self.codebook_sizes)[:, 0]
        octaves = math.log2(self.low) + (rows.double() - 0.5) / self.bins_per_octave
        voiced = rows > 0
        decoded = torch.stack([torch.where(voiced, octaves, 0.0), voiced.double()], dim=1).float()
        return decoded.view(*codes.shape[:-1], 2)

    def shifted(self, codes: Tensor, semitones: float | int) -> Int[Tensor, "*batch"]:
        """The codes [...] of a pitch so much higher, rounded to whole bins; clipped at the ends, unvoiced as it is.

        InputError for codes out of range, or semitones that are not finite.
        """
        if not math.isfinite(semitones):
            raise InputError(f"expected a finite number of semitones, got {semitones}")
        rows = code_rows(codes[..., None], self.codebook_sizes)[:, 0]
        moved = (rows + round(semitones * self.bins_per_octave / 12)).clamp(1, self.size - 1)
        return torch.where(rows > 0, moved, 0).view(codes.shape)

    def config(self) -> dict[str, Any]:
        """Plain values that say which quantizer this is; `from_config` is the inverse."""
        settings = {"low": self.low, "octaves": self.octaves, "bins_per_octave": self.bins_per_octave}
        return {"kind": "pitch-bins", **settings}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PitchBins:
        """The quantizer that `config` described."""
        return cls(low=config["low"], octaves=config["octaves"], bins_per_octave=config["bins_per_octave"])
