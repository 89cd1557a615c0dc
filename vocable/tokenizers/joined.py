"""Several unit tokenizers of one clock as one: their codebooks side by side; and its artifact."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from vocable import artifacts
from vocable.artifacts import Artifact
from vocable.audio import conform
from vocable.clock import Windows
from vocable.errors import ArtifactError, InputError
from vocable.nets.state import below
from vocable.quantizers import PitchBins
from vocable.tokenizers import units
from vocable.tokenizers.pitch import PitchExtractor
from vocable.tokenizers.units import UnitTokenizer, encode_long
from vocable.types import Audio, Codebook, Quantizer, Tokens, TokenSpec

KIND = "joined"
_NAME = re.compile(r"[\w-]+")


class JoinedTokenizer:
    """Audio -> the codes of several unit tokenizers, one below the other -> Tokens; `tokens.take` selects among them.

    Every window of a recording goes through all of them. Its windows are common: the shortest of the parts', with the
    largest context of any, so a part that looks at all it is given (attention) may give a long recording other codes
    here than by itself.

    parts: one or more, of equal sample rate, hop length and window; in a mapping each with a name. The name stands for
        the layer where a part has one ("short" or "short.0" for "logmel" or "logmel.0"), else before it ("hubert-L6").
        Without names labels stay as they are. A label "f0" is what consumers know as pitch.
    windows: how long recordings are cut, None for the common windows.
    InputError if the clocks differ or two parts have a layer of the same name.
    """

    channels = 1

    def __init__(
        self, parts: Sequence[UnitTokenizer] | Mapping[str, UnitTokenizer], *, windows: Windows | None = None
    ) -> None:
        self.parts = tuple(parts.values() if isinstance(parts, Mapping) else parts)
        self.names: tuple[str | None, ...] = tuple(parts) if isinstance(parts, Mapping) else (None,) * len(parts)
        _check_parts(self.parts, self.names)
        self.windows = windows or _common_windows(self.parts)
        books = [_renamed(part, name) for name, part in zip(self.names, self.parts, strict=True)]
        _check_layers(books)
        first = self.parts[0].spec
        source = self.artifact().fingerprint
        self.spec = TokenSpec(first.sample_rate, first.hop_length, tuple(chain(*books)), source, first.window)

    @property
    def fingerprint(self) -> str:
        """What the tokens of this tokenizer, and of no other, are signed with."""
        return self.spec.source

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        """The quantizers of all layers of all parts, in order."""
        return tuple(quantizer for part in self.parts for quantizer in part.quantizers)

    @property
    def evidence(self) -> dict[str, Any]:
        """How each part was fitted."""
        return {"parts": [part.evidence for part in self.parts]}

    def encode(self, audio: Audio) -> Tokens:
        """Tokens of audio at any rate, with any channels. AudioError for an empty utterance, NaN or infinity."""
        mono = conform(audio, self.spec.sample_rate)
        codes = [encode_long(mono.waveform(i)[0], self.windows, self.encode_windows) for i in range(len(mono))]
        return Tokens.of(codes, self.spec, mono.lengths.tolist())

    def encode_windows(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Codes [K, T] of each mono waveform [N] at the tokenizer's rate, every one taken as a whole."""
        rows = zip(*(part.encode_windows(waveforms) for part in self.parts), strict=True)
        return [torch.cat(codes) for codes in rows]

    def save_pretrained(self, path: str | os.PathLike[str], *, bundle: bool = False, overwrite: bool = False) -> None:
        """Writes config.json and model.safetensors; `bundle` puts the extractors' weights inside as well."""
        artifacts.save(self.artifact(bundle=bundle), path, overwrite=overwrite)

    @classmethod
    def from_pretrained(
        cls, place: str | os.PathLike[str], *, revision: str | None = None, device: str = "cpu"
    ) -> JoinedTokenizer:
        """Reads a folder or a hub id. ArtifactError if it, or what a part refers to, is missing or altered."""
        artifact = artifacts.load(place, KIND, revision=revision)
        try:
            names, windows = artifact.config["names"], Windows(**artifact.config["windows"])
            saved = [_part(artifact, index) for index in range(len(names))]
            parts = [UnitTokenizer.from_artifact(part, str(place), device=device) for part in saved]
            return cls(parts if None in names else dict(zip(names, parts, strict=True)), windows=windows)
        except (KeyError, IndexError, TypeError, InputError) as problem:
            raise ArtifactError(f"{place} lacks a part of a joined tokenizer: {problem}") from problem

    def artifact(self, *, bundle: bool = False) -> Artifact:
        """What `save_pretrained` writes: the artifacts of the parts in one, their tensors under "0.", "1.", ..."""
        saved = [part.artifact(bundle=bundle) for part in self.parts]
        config = {
            "names": list(self.names),
            "windows": asdict(self.windows),
            "parts": [part.config for part in saved],
        }
        tensors = {f"{i}.{name}": tensor for i, part in enumerate(saved) for name, tensor in part.tensors.items()}
        extra = {f"{i}.{name}": tensor for i, part in enumerate(saved) for name, tensor in part.extra.items()}
        return Artifact(KIND, config, tensors, extra, {"parts": [part.origin for part in saved]}, self.evidence)


def pitch_units(clock: TokenSpec) -> UnitTokenizer:
    """Pitch as one codebook "f0" on the clock of a spec: 0 where unvoiced, else quarter semitones from 50 Hz on.

    MissingDependencyError if the estimator is not installed.
    """
    extractor = PitchExtractor(sample_rate=clock.sample_rate, hop_length=clock.hop_length, window=clock.window)
    extractor.detector  # noqa: B018  what is missing is said now, not after a corpus was read
    return UnitTokenizer(extractor, [PitchBins()])


def _check_parts(parts: Sequence[UnitTokenizer], names: Sequence[str | None]) -> None:
    if not parts:
        raise InputError("expected at least one unit tokenizer to join, got none")
    for part in parts:
        if not isinstance(part, UnitTokenizer):
            raise InputError(f"expected unit tokenizers to join, got {type(part).__name__}")
    clocks = {(part.spec.sample_rate, part.spec.hop_length, part.spec.window) for part in parts}
    if len(clocks) > 1:
        described = ", ".join(f"{rate} Hz / {hop} / {window}" for rate, hop, window in sorted(clocks))
        raise InputError(
            f"expected one clock (sample rate / hop length / window), got {described}",
            hint="only units whose frames stand for the same samples can be joined",
        )
    for name in names:
        if name is not None and not _NAME.fullmatch(name):
            raise InputError(f"expected names of letters, digits, - and _, got {name!r}")


def _check_layers(books: Sequence[Sequence[Codebook]]) -> None:
    """InputError if two parts have a layer of the same name: that of a label up to its first dot."""
    counts = Counter(chain(*({book.label.split(".")[0] for book in part} for part in books)))
    twice = [layer for layer, count in counts.items() if count > 1]
    if twice:
        raise InputError(
            f"expected parts with distinct layers, got {twice[0]} in {counts[twice[0]]} of them",
            hint='name the parts: JoinedTokenizer({"short": a, "long": b}), or `vocable join a/ b/ --names short,long`',
        )


def _renamed(part: UnitTokenizer, name: str | None) -> list[Codebook]:
    layers = part.extractor.layers
    if name is None:
        return list(part.spec.codebooks)
    # what follows the layer in a label, ".0", numbers its codebooks
    labels = [name + label[len(layers[0]) :] if len(layers) == 1 else f"{name}-{label}" for label in part.spec.labels]
    return [replace(book, label=label) for book, label in zip(part.spec.codebooks, labels, strict=True)]


def _common_windows(parts: Sequence[UnitTokenizer]) -> Windows:
    context = max(part.windows.context for part in parts)
    frames = min(part.windows.frames for part in parts)
    limits = [part.extractor.longest - 2 * context for part in parts if part.extractor.longest is not None]
    frames = min([frames, *limits])
    if frames < 1:
        raise InputError(f"{context} frames of context on either side leave no room for a frame in the shortest part")
    return replace(parts[0].windows, frames=frames, context=context)


def _part(artifact: Artifact, index: int) -> Artifact:
    return Artifact(
        units.KIND,
        artifact.config["parts"][index],
        below(f"{index}.", artifact.tensors),
        below(f"{index}.", artifact.extra),
        artifact.origin["parts"][index],
        artifact.evidence["parts"][index],
    )
