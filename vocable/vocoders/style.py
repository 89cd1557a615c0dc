"""How tokens are to sound: another voice, another pitch, another speed, other durations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocable.artifacts import hash_tensors
from vocable.clock import resampled_length
from vocable.errors import InputError
from vocable.quantizers.pitch_bins import PitchBins
from vocable.store import Entry
from vocable.types import TokenSpec
from vocable.vocoders.designs import PITCH
from vocable.vocoders.durations import Durations
from vocable.vocoders.folder import BlockVocoder
from vocable.vocoders.units import UnitVocoder


@dataclass(frozen=True, eq=False)
class Style:
    """What to change when a store is resynthesized: by default nothing, and recordings keep their own speaker's voice.

    voice: the name of a speaker that the vocoder has learned, or a voice [dim] that was fitted (`fit_voice`).
    semitones: by how much the pitch is raised, of tokens that hold it (codebook "f0").
    speed: how many times as fast; the pitch stays.
    durations: a vocoder's (`vocoder.durations`); tokens of its layer alone then lose their own and get predicted ones.
    InputError if the speed is not positive, or a number not finite.
    """

    voice: str | Tensor | None = None
    semitones: float = 0.0
    speed: float = 1.0
    durations: Durations | None = None

    def __post_init__(self) -> None:
        if not 0 < self.speed < math.inf:
            raise InputError(f"expected a speed above 0, got {self.speed}")
        if not math.isfinite(self.semitones):
            raise InputError(f"expected a finite number of semitones, got {self.semitones}")

    def config(self) -> dict[str, Any]:
        """Plain values that tell one style from another."""
        voice = hash_tensors({"voice": self.voice}) if isinstance(self.voice, Tensor) else self.voice
        durations = self.durations.fingerprint if self.durations else None
        return {"voice": voice, "semitones": self.semitones, "speed": self.speed, "durations": durations}

    def require(self, vocoder: BlockVocoder, spec: TokenSpec) -> None:
        """InputError if the vocoder or the tokens do not allow it; SpecError for durations of another layer."""
        if self.voice is not None:
            _learned(vocoder).speaking(self.voice)
        if self.semitones and PITCH not in spec.labels:
            raise InputError(
                f"expected tokens with pitch (codebook {PITCH}) to shift it, got {', '.join(spec.labels)}",
                hint="make a tokenizer that has it with `vocable join UNITS --pitch`, and train a vocoder for it",
            )
        if self.semitones and spec.codebooks[spec.labels.index(PITCH)].size != PitchBins().size:
            size = spec.codebooks[spec.labels.index(PITCH)].size
            raise InputError(f"expected {PitchBins().size} bins of pitch to shift it, got {size}")
        if self.durations is not None:
            self.durations.require(spec)

    def vocoder(self, entry: Entry, vocoder: BlockVocoder) -> BlockVocoder:
        """The vocoder with the voice for this recording: the chosen one, or its own speaker's where that is known."""
        if self.voice is not None:
            return _learned(vocoder).speaking(self.voice)
        return own_voice(entry, vocoder) if isinstance(vocoder, UnitVocoder) else vocoder

    def entry(self, entry: Entry, spec: TokenSpec) -> Entry:
        """The recording's tokens in this style."""
        if not entry.samples:
            return entry
        if self.durations is not None:
            entry = _lasting(entry, self.durations, spec)
        if self.semitones:
            entry = replace(entry, codes=_raised(entry.codes, spec.labels.index(PITCH), self.semitones))
        return entry if self.speed == 1.0 else _faster(entry, self.speed, spec)


def own_voice(entry: Entry, vocoder: UnitVocoder) -> UnitVocoder:
    """The vocoder with the voice of the recording's own speaker where it has learned it, else as it is."""
    speaker = entry.fields.get(vocoder.evidence.get("speakers") or "speaker")
    known = speaker is not None and str(speaker) in vocoder.speakers
    return vocoder.speaking(str(speaker)) if known else vocoder


def _lasting(entry: Entry, durations: Durations, spec: TokenSpec) -> Entry:
    codes = durations.renewed(torch.from_numpy(entry.codes[0].astype(np.int64)))[None].numpy()
    samples = spec.num_samples(codes.shape[1])
    source = resampled_length(samples, spec.sample_rate, entry.source_rate) if entry.source_rate else 0
    return replace(entry, codes=codes, samples=samples, source_samples=source)


def _raised(codes: np.ndarray, index: int, semitones: float) -> np.ndarray:
    raised = codes.copy()
    raised[index] = PitchBins().shifted(torch.from_numpy(codes[index].astype(np.int64)), semitones).numpy()
    return raised


def _faster(entry: Entry, speed: float, spec: TokenSpec) -> Entry:
    """Each frame is the one that was at the same share of the recording."""
    samples = max(1, round(entry.samples / speed))
    middles = (np.arange(spec.num_frames(samples)) + 0.5) * speed
    codes = entry.codes[:, middles.astype(np.int64).clip(0, entry.codes.shape[1] - 1)]
    source = max(1, round(entry.source_samples / speed)) if entry.source_samples else 0
    return replace(entry, codes=codes, samples=samples, source_samples=source)


def _learned(vocoder: BlockVocoder) -> UnitVocoder:
    if not isinstance(vocoder, UnitVocoder):
        raise InputError(
            "expected a vocoder that has learned voices, got one without",
            hint="name one with --vocoder; `vocable train vocoder --speakers FIELD` trains one",
        )
    return vocoder
