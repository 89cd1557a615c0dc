"""What a long training tells those who watch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Best:
    """The validation with the lowest "mel" so far."""

    step: int
    mel: float


@dataclass(frozen=True, slots=True)
class Report:
    """Where a training stands; losses and times are those since the last report.

    step: so many are done. share: of the budget that is used, 0..1. minutes: used, by all runs of this training.
    speed: seconds of audio trained on per second, over all processes. computing: the share of a step's time that the
    model takes; the rest is waiting for data, and from .8 on data does not starve it.
    losses: means, unweighted. figures: of the validation, empty where there was none.
    """

    step: int
    share: float
    minutes: float
    speed: float
    computing: float
    losses: Mapping[str, float]
    figures: Mapping[str, float]
    best: Best | None


@dataclass
class Ledger:
    """Sums since the last report, as plain values: of losses, of times and audio in seconds."""

    losses: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    audio: float = 0.0
    waiting: float = 0.0
    computing: float = 0.0

    def add(self, losses: Mapping[str, float], audio: float, waiting: float, computing: float) -> None:
        """Takes a step in."""
        for name, loss in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + loss
            self.counts[name] = self.counts.get(name, 0) + 1
        self.audio += audio
        self.waiting += waiting
        self.computing += computing

    def means(self) -> dict[str, float]:
        """Of each loss over the steps that had it."""
        return {name: total / self.counts[name] for name, total in self.losses.items()}

    @property
    def seconds(self) -> float:
        return self.waiting + self.computing
