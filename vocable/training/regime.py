"""How a network is trained to make waveforms: its budget, its losses and its pace."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vocable.errors import InputError

_FREE = ("steps", "minutes", "learning_rate", "clip", "report_every", "check_every", "compile")


@dataclass(frozen=True, slots=True)
class Weights:
    """Shares of each loss in the gradient at the waveform; only their ratios matter."""

    mel: float = 2.0
    stft: float = 1.0
    adversarial: float = 1.0
    features: float = 2.0

    def __post_init__(self) -> None:
        if min(self.mel, self.stft, self.adversarial, self.features) < 0 or not self.mel + self.stft > 0:
            raise InputError(f"expected weights of losses that are not negative, got {asdict(self)}")


@dataclass(frozen=True, slots=True)
class Regime:
    """How to train, for so many `steps` or `minutes`, whichever ends first.

    learning_rate: of AdamW (Loshchilov & Hutter 2019) with betas .8 and .99, for generator and discriminators; it rises
        over the first `warm_up` steps and falls to zero along a cosine of the share of the budget that is used.
    discriminators: "full", "small" for processors, or "none"; they join when the share `adversarial_from` is used.
    weights: of the losses that are balanced against one another at the waveform.
    ema: by which averaged weights keep their past in a step; sooner they average over fewer steps.
    clip: gradients longer than so many times their running average are shortened to that.
    report_every, check_every: steps between reports, and between validations, which are reported as well.
    precision: "auto" is bfloat16 (autocast) on CUDA and float32 elsewhere; "bf16" pays on processors that have it, too.
    compile: the network's forward goes through torch.compile.
    """

    steps: int | None = 100_000
    minutes: float | None = None
    learning_rate: float = 5e-4
    warm_up: int = 200
    discriminators: Literal["none", "small", "full"] = "full"
    adversarial_from: float = 0.05
    weights: Weights = field(default_factory=Weights)
    ema: float = 0.999
    clip: float = 3.0
    report_every: int = 50
    check_every: int = 1000
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        numbers = (self.learning_rate, self.warm_up, self.clip, self.report_every, self.check_every)
        budgets = [budget for budget in (self.steps, self.minutes) if budget is not None]
        if not budgets or not all(number > 0 and math.isfinite(number) for number in (*numbers, *budgets)):
            raise InputError(f"expected positive numbers, and steps or minutes, in the regime, got {asdict(self)}")
        if not (0 <= self.ema < 1 and 0 <= self.adversarial_from <= 1):
            raise InputError(f"expected shares in ema and adversarial_from, got {self.ema} and {self.adversarial_from}")
        if self.discriminators not in {"none", "small", "full"}:
            raise InputError(f"expected none, small or full discriminators, got {self.discriminators!r}")
        if self.precision not in {"auto", "fp32", "bf16"}:
            raise InputError(f"expected auto, fp32 or bf16 as precision, got {self.precision!r}")

    def rate(self, step: int, share: float) -> float:
        """The learning rate of a step that begins when this share of the budget is used."""
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up) * (1 + math.cos(math.pi * min(share, 1.0))) / 2

    def identity(self) -> dict[str, Any]:
        """What one training has to keep when it goes on after an interruption; budget and pace may change."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE}
