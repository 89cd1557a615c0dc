"""One door to all tokenizers: saved units, alone or joined, saved codecs, and codecs as their makers publish them."""

from __future__ import annotations

from typing import Any

from vocable.errors import ArtifactError, InputError
from vocable.tokenizers import codec, joined, units
from vocable.tokenizers.checkpoint import Checkpoint
from vocable.tokenizers.codec import NeuralCodec
from vocable.tokenizers.joined import JoinedTokenizer
from vocable.tokenizers.units import UnitTokenizer


def load(
    place: str, *, codebooks: int | None = None, revision: str | None = None, device: str = "cpu"
) -> UnitTokenizer | JoinedTokenizer | NeuralCodec:
    """The tokenizer in a local directory or of a hub id, whoever wrote it there.

    codebooks: of a codec as its makers publish it, keep the coarsest so many; None for all.
    ArtifactError if it is missing or damaged. InputError for a model that gives features, which are no tokens yet.
    """
    checkpoint = Checkpoint.open(place, revision=revision)
    config = checkpoint.config
    if codebooks is not None and not codec.is_codec(config):
        raise InputError(f"expected a published codec to choose codebooks of, got {_kind(config)} in {place}")
    if config.get("kind") == units.KIND:
        return UnitTokenizer.from_pretrained(place, revision=checkpoint.revision, device=device)
    if config.get("kind") == joined.KIND:
        return JoinedTokenizer.from_pretrained(place, revision=checkpoint.revision, device=device)
    if config.get("kind") == codec.KIND:
        return NeuralCodec.from_saved(checkpoint.folder, device=device)
    if codec.is_codec(config):
        return NeuralCodec.from_pretrained(place, revision=checkpoint.revision, device=device, num_codebooks=codebooks)
    if _kind(config) is None:
        raise ArtifactError(f"{place} holds neither a tokenizer nor a model: its config.json has no model_type")
    if config.get("kind"):
        raise InputError(
            f"expected units or a codec, got a {_kind(config)} in {place}",
            hint=f"a vocoder turns tokens into sound: `vocable resynthesize TOKENS --vocoder {place}`",
        )
    raise InputError(
        f"expected units or a codec, got {_kind(config)} in {place}",
        hint=f"a model gives features: learn units with `vocable train kmeans CORPUS --features {place}`",
    )


def is_model(place: str, *, revision: str | None = None) -> bool:
    """Whether a directory or hub id holds a published model of features, rather than something that makes tokens."""
    config = Checkpoint.open(place, revision=revision).config
    return "model_type" in config and "kind" not in config and not codec.is_codec(config)


def _kind(config: dict[str, Any]) -> str | None:
    return config.get("kind") or config.get("model_type")
