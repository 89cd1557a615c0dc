"""Units: an extractor and a quantizer for each of its layers make a tokenizer; and its artifact."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from vocable import artifacts
from vocable.artifacts import Artifact
from vocable.audio import conform
from vocable.clock import Windows
from vocable.errors import ArtifactError, InputError
from vocable.nets.threads import one_thread_each
from vocable.quantizers import KMeans, quantizer_config, quantizer_from, quantizer_tensors
from vocable.tokenizers import extractors
from vocable.types import Audio, Codebook, FeatureExtractor, Quantizer, Tokens, TokenSpec

KIND = "units"
_WINDOW_SECONDS = 30.0
_WINDOWS_AT_ONCE = 4  # of one recording in memory; no result depends on it


class UnitTokenizer:
    """Audio -> features of L layers -> codes by each layer's quantizer -> Tokens.

    A quantizer with one codebook gives it the name of its layer, "L6"; one with several numbers them, "L6.0", "L6.1".
    Recordings longer than 30 s are cut into windows with context on the frame grid. The cut is part of the fingerprint,
    so the tokens are a function of the recording alone and memory is bounded whatever its length.
    """

    channels = 1

    def __init__(
        self,
        extractor: FeatureExtractor,
        quantizers: Sequence[Quantizer],
        *,
        windows: Windows | None = None,
        evidence: dict[str, Any] | None = None,
    ) -> None:
        if len(quantizers) != len(extractor.layers):
            raise InputError(f"expected a quantizer for each of {len(extractor.layers)} layers, got {len(quantizers)}")
        for layer, quantizer in zip(extractor.layers, quantizers, strict=True):
            if quantizer.dim != extractor.dim:
                raise InputError(f"expected a quantizer of dimension {extractor.dim} for {layer}, got {quantizer.dim}")
        self.extractor = extractor
        self.quantizers = tuple(quantizers)
        self.windows = windows or default_windows(extractor)
        self.evidence = evidence or {}
        self.spec = TokenSpec(
            extractor.sample_rate,
            extractor.hop_length,
            tuple(book for layer, quantizer in self._by_layer() for book in _codebooks(layer, quantizer)),
            self.artifact().fingerprint,
            extractor.window,
        )

    @property
    def fingerprint(self) -> str:
        """What the tokens of this tokenizer, and of no other, are signed with."""
        return self.spec.source

    @property
    def parts(self) -> tuple[UnitTokenizer, ...]:
        """Itself alone, as `JoinedTokenizer.parts` are several."""
        return (self,)

    def encode(self, audio: Audio) -> Tokens:
        """Tokens of audio at any rate, with any channels. AudioError for an empty utterance, NaN or infinity."""
        mono = conform(audio, self.spec.sample_rate)
        codes = [encode_long(mono.waveform(i)[0], self.windows, self.encode_windows) for i in range(len(mono))]
        return Tokens.of(codes, self.spec, mono.lengths.tolist())

    def encode_windows(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Codes [K, T] of each mono waveform [N] at the tokenizer's rate, every one taken as a whole."""
        features = self.extractor.extract(Audio.of(waveforms, self.spec.sample_rate))
        utterances = [features.utterance(index) for index in range(len(features))]
        with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self._quantize, utterances))

    def save_pretrained(
        self, path: str | os.PathLike[str], *, bundle: bool = False, half: bool = False, overwrite: bool = False
    ) -> None:
        """Writes config.json and model.safetensors; `bundle` puts the extractor's weights inside as well.

        half: numbers in 16 bits. Rounded, they make other units: what is loaded has another fingerprint.
        """
        artifacts.save(self.artifact(bundle=bundle), path, half=half, overwrite=overwrite)

    @classmethod
    def from_pretrained(
        cls, place: str | os.PathLike[str], *, revision: str | None = None, device: str = "cpu"
    ) -> UnitTokenizer:
        """Reads a folder, a built-in model or a hub id.

        ArtifactError if it, or the extractor it refers to, is missing or altered.
        """
        return cls.from_artifact(artifacts.load(place, KIND, revision=revision), str(place), device=device)

    @classmethod
    def from_artifact(cls, artifact: Artifact, place: str, *, device: str = "cpu") -> UnitTokenizer:
        """The tokenizer that `artifact()` described; errors name `place`. ArtifactError if a part of it is missing."""
        config = artifact.config
        try:
            extractor = extractors.rebuild(config["extractor"], artifact.origin, artifact.extra, device=device)
            tensors = {name: tensor.to(device) for name, tensor in artifact.tensors.items()}
            quantizers = [
                quantizer_from(settings, tensors, f"codebooks.{layer}")
                for layer, settings in zip(config["layers"], config["quantizers"], strict=False)
            ]
            windows = Windows(**config["windows"])
        except (KeyError, TypeError) as problem:
            raise ArtifactError(f"{place} lacks a part of a unit tokenizer: {problem}") from problem
        return cls(extractor, quantizers, windows=windows, evidence=artifact.evidence)

    def artifact(self, *, bundle: bool = False) -> Artifact:
        """What `save_pretrained` writes."""
        config = {
            "extractor": self.extractor.config(),
            "layers": list(self.extractor.layers),
            "quantizers": [quantizer_config(quantizer) for quantizer in self.quantizers],
            "windows": asdict(self.windows),
        }
        tensors: dict[str, Tensor] = {}
        for layer, quantizer in self._by_layer():
            tensors |= quantizer_tensors(quantizer, f"codebooks.{layer}")
        extra = extractors.weights(self.extractor) if bundle else {}
        return Artifact(KIND, config, tensors, extra, extractors.origin(self.extractor), self.evidence)

    def _quantize(self, frames: Tensor) -> Tensor:
        codes = [_encoded(quantizer, layer) for quantizer, layer in zip(self.quantizers, frames, strict=True)]
        return torch.cat(codes, dim=-1).T

    def _by_layer(self) -> Iterator[tuple[str, Quantizer]]:
        return zip(self.extractor.layers, self.quantizers, strict=True)


def encode_long(
    waveform: Tensor, windows: Windows, encode_windows: Callable[[Sequence[Tensor]], list[Tensor]]
) -> Tensor:
    """Codes [K, T] of a waveform [N] of any length: those of its windows, without their context, end to end."""
    cuts, codes = list(windows.cut(len(waveform))), []
    for start in range(0, len(cuts), _WINDOWS_AT_ONCE):
        group = cuts[start : start + _WINDOWS_AT_ONCE]
        parts = encode_windows([waveform[window.start : window.stop] for window in group])
        codes += [part[:, w.skip : w.skip + w.frames] for part, w in zip(parts, group, strict=True)]
    return torch.cat(codes, dim=1)


def default_windows(extractor: FeatureExtractor) -> Windows:
    """30 s of new frames at a time with the context that the extractor asks for, or fewer if it cannot take so many.

    InputError if it cannot take even one frame with its context.
    """
    frames = round(_WINDOW_SECONDS * extractor.sample_rate / extractor.hop_length)
    if extractor.longest is not None:
        frames = min(frames, extractor.longest - 2 * extractor.context)
    if frames < 1:
        raise InputError(f"{extractor.longest} frames at once leave no room between {extractor.context} of context")
    return Windows(frames, extractor.context, extractor.hop_length, extractor.window)


def _codebooks(layer: str, quantizer: Quantizer) -> Iterator[Codebook]:
    sizes = quantizer.codebook_sizes
    for index, size in enumerate(sizes):
        yield Codebook(size, layer if len(sizes) == 1 else f"{layer}.{index}")


def _encoded(quantizer: Quantizer, frames: Tensor) -> Tensor:
    """Codes [T, K] on the CPU, whichever devices the frames and the codebook are on."""
    return quantizer.encode(frames.to(quantizer.centroids.device) if isinstance(quantizer, KMeans) else frames).cpu()
