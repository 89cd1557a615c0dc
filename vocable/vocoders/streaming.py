"""Sound while codes are still coming: the samples that `decode` would give, a fixed number of frames later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.vocoders.designs import codebooks_of

if TYPE_CHECKING:
    from vocable.vocoders.units import UnitVocoder


class UnitStream:
    """Codes in pieces -> samples in pieces; joined, they are those of the whole to 1e-5 of the peak.

    A frame of samples comes as soon as the frames that it looks at are there, `vocoder.latency` seconds after its own
    codes; the last ones come from `finish`. Only the codes that later frames look back at are held. What a causal
    vocoder has given may be longer than the recording, by less than a frame of codes: cut it off.

    vocoder: with the voice it is to speak with. layers: those whose codes will come, in the order of the vocoder's
    codebooks; None for all. InputError if it has no such layer.
    """

    def __init__(self, vocoder: UnitVocoder, layers: Sequence[str] | None = None) -> None:
        self.spec = vocoder.spec.take(codebooks_of(vocoder.spec, vocoder.layers if layers is None else layers))
        self._vocoder = vocoder
        self._codes = torch.zeros(self.spec.num_codebooks, 0, dtype=torch.int64)
        self._dropped = 0  # frames of codes that are no longer held
        self._done = 0  # frames of the generator that were given
        self._finished = False

    def push(self, codes: Tensor) -> Tensor:
        """Samples [n] that codes [K, T], the next T frames, complete; maybe none. InputError if K differs."""
        if codes.ndim != 2 or len(codes) != self.spec.num_codebooks:
            raise InputError(f"expected codes [{self.spec.num_codebooks}, T], got {list(codes.shape)}")
        if self._finished:
            raise InputError("expected no more codes after the last ones", hint="begin a new stream")
        self._codes = torch.cat([self._codes, codes.long()], dim=1)
        return self._render(self._vocoder.grid.within(self._dropped + self._codes.shape[1]), final=False)

    def finish(self, samples: int | None = None) -> Tensor:
        """The remaining samples [n]. samples: that all codes stand for, at the tokens' rate; None for whole frames."""
        total = self._dropped + self._codes.shape[1]
        count = self._vocoder.spec.num_samples(total) if samples is None else samples
        if count and self._vocoder.spec.num_frames(count) != total:
            raise InputError(f"{count} samples do not make {total} frames")
        length = self._vocoder.num_samples(count) if total else 0
        begun = self._done * self._vocoder.grid.hop_length
        rest = self._render(self._vocoder.num_frames(total, length), final=True)
        self._finished = True
        return rest[: max(0, length - begun)]

    @torch.no_grad()
    def _render(self, known: int, *, final: bool) -> Tensor:
        from vocable.vocoders.units import Source

        generator, hop = self._vocoder.generator, self._vocoder.grid.hop_length
        stop = known if final else known - generator.future
        if stop <= self._done:
            return torch.zeros(0)
        first = max(0, self._done - generator.past)
        source = Source(self._vocoder, self._codes, self.spec, dropped=self._dropped)
        waveform: Tensor = generator(source.frames(first, known))[0].cpu()
        fresh = waveform[(self._done - first) * hop : (stop - first) * hop]
        self._done = stop
        self._forget(max(0, stop - generator.past))
        return fresh

    def _forget(self, first: int) -> None:
        """Lets go of the codes before the generator's frame `first`."""
        indices, _ = self._vocoder.grid.sources(first, first + 1)
        keep = min(int(indices[0]), self._dropped + self._codes.shape[1] - 1)
        self._codes = self._codes[:, max(0, keep - self._dropped) :]
        self._dropped = max(self._dropped, keep)
