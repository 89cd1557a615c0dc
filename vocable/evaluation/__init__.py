"""Systems compared on a corpus: what they cost, how they sound, what their tokens are worth; and which to choose."""

from __future__ import annotations

from vocable.evaluation.results import Evaluation
from vocable.evaluation.run import evaluate
from vocable.evaluation.systems import SoundSystem, TokenSystem

__all__ = ["Evaluation", "SoundSystem", "TokenSystem", "evaluate"]
