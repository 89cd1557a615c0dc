"""Language models over token streams: trained, judged in bits per second of audio, and continued."""

from vocable.language.model import LanguageDesign, LanguageModel
from vocable.language.training import MODELS, stream_for, train_lm

__all__ = ["MODELS", "LanguageDesign", "LanguageModel", "stream_for", "train_lm"]
