"""Learning to make sound: one adversarial trainer, and what unit vocoders and codecs give it to learn from."""

from vocable.training.vocoder import train_vocoder

__all__ = ["train_vocoder"]
