"""The learned vocoder of units: any subset of its layers to a waveform, hours in bounded memory; and its artifact."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from vocable import artifacts
from vocable.artifacts import Artifact
from vocable.clock import FrameGrid, resampled_length
from vocable.errors import ArtifactError, InputError, SpecError
from vocable.nets.generators import render
from vocable.nets.threads import one_thread_each
from vocable.nets.unit_decoder import UnitDecoder
from vocable.types import Audio, Tokens, TokenSpec
from vocable.vocoders.designs import PITCH, layers_of
from vocable.vocoders.durations import NO_DURATIONS, Durations, durations_layer, without_durations

if TYPE_CHECKING:
    from vocable.vocoders.streaming import UnitStream

Precision = Literal["fp32", "bf16"]

KIND = "vocoder"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_FRAMES = 4096  # whose layers are weighed at a time
_STRETCH_SECONDS = 10.0  # decoded at a time; no result depends on it beyond rounding


class UnitVocoder:
    """Tokens -> Audio at `sample_rate`: all layers of a tokenizer, or any of them (`tokens.take(["L6"])`).

    Layers that are not there have weight exactly 0. On a CPU every recording runs alone and on one core, so its samples
    depend on nothing else; memory does not grow with its length.

    decoder: the trained network. spec: the contract of the tokens that it was trained on. sample_rate: Hz of the sound.
    speakers: names of the voices it has learned; without a name (`speaking`) their mean speaks.
    evidence: how the training went; changes nothing. precision: of the generator's products, "fp32" or "bf16".
    InputError if the parts do not fit one another.
    """

    channels = 1

    def __init__(
        self,
        decoder: UnitDecoder,
        spec: TokenSpec,
        sample_rate: int,
        *,
        speakers: Sequence[str] = (),
        evidence: Mapping[str, Any] | None = None,
        precision: Precision = "fp32",
        device: str = "cpu",
    ) -> None:
        config = decoder.config()
        decodes = (config["sizes"], config["layers"], config["speakers"])
        layers = [list(members) for members in layers_of(spec).values()]
        if decodes != ([book.size for book in spec.codebooks], layers, len(speakers)):
            raise InputError("expected a decoder, a spec and speakers of one training, got parts of several")
        self.decoder = decoder.folded().to(device)
        self.generator = self.decoder.generator.prepared(PRECISIONS[precision])
        self.spec = spec
        self.sample_rate = sample_rate
        self.speakers = tuple(speakers)
        self.evidence = dict(evidence or {})
        self.precision = precision
        self.device = torch.device(device)
        self.grid = FrameGrid(spec.sample_rate, spec.hop_length, sample_rate, decoder.hop_length)
        self.layers = tuple(layers_of(spec))
        self.voice: Tensor | None = None
        self.durations: Durations | None = None
        self._fingerprint = self._artifact().fingerprint

    @property
    def fingerprint(self) -> str:
        """What sound of this vocoder, and of no other, is signed with; a chosen voice and a precision belong to it."""
        signed = self._fingerprint if self.precision == "fp32" else f"{self._fingerprint}/{self.precision}"
        return signed if self.voice is None else f"{signed}/{artifacts.hash_tensors({'voice': self.voice})}"

    @property
    def latency(self) -> float:
        """Seconds by which sound lags behind its codes when they come one by one (`stream`)."""
        return (self.generator.future + 1) * self.grid.hop_length / self.sample_rate

    def decode(self, tokens: Tokens) -> Audio:
        """Audio [B, 1, N] as long as the audio that the tokens stand for. SpecError for tokens that `require` refuses.

        InputError for codes that no codebook has.
        """
        self.require(tokens.spec)
        counts = tokens.samples.tolist()

        def one(row: int) -> Tensor:
            return torch.cat([torch.zeros(0), *self.decode_blocks(tokens.utterance(row), counts[row], tokens.spec)])

        with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
            return Audio.of(list(pool.map(one, range(len(tokens)))), self.sample_rate)

    def decode_blocks(self, codes: Tensor, samples: int, spec: TokenSpec | None = None) -> Iterator[Tensor]:
        """Blocks [n] of the waveform of codes [K, T] that stand for `samples` samples at the tokens' rate.

        Together they are what `decode` gives. spec: what the codes are; without one they are all codebooks.
        SpecError for codes that `require` refuses, InputError for codes that no codebook has.
        """
        spec = spec or self.spec
        self.require(spec)
        if not samples:
            return
        if codes.shape != (spec.num_codebooks, spec.num_frames(samples)):
            raise InputError(
                f"expected codes of {spec.num_codebooks} codebooks and {samples} samples, got {codes.shape}"
            )
        source = Source(self, codes, spec)
        length = self.num_samples(samples)
        stretch = max(1, round(_STRETCH_SECONDS * self.sample_rate / self.grid.hop_length))
        with torch.no_grad():
            for block in render(self.generator, source.frames, self.num_frames(codes.shape[1], length), stretch):
                yield block[: max(0, length)].cpu()
                length -= len(block)

    def num_samples(self, samples: int) -> int:
        """Samples at `sample_rate` of `samples` at the tokens' rate."""
        if self.sample_rate == self.spec.sample_rate or not samples:
            return samples
        return resampled_length(samples, self.spec.sample_rate, self.sample_rate)

    def num_frames(self, token_frames: int, samples: int) -> int:
        """Frames of the generator for so many frames of codes that stand for `samples` at `sample_rate`.

        All that the codes fill, so that sound is a function of the codes, and its length only cuts it off.
        """
        return max(self.grid.within(token_frames), self.grid.num_frames(samples))

    def require(self, spec: TokenSpec) -> None:
        """SpecError unless tokens of this spec are of the tokenizer it was trained for, with whole layers of it."""
        self.spec.require(spec)
        came, books = set(spec.labels), {n: {self.spec.labels[k] for k in m} for n, m in layers_of(self.spec).items()}
        partly = [labels for labels in books.values() if labels & came and not labels <= came]
        if partly:
            raise SpecError(
                f"expected a layer's codebooks together ({', '.join(sorted(partly[0]))}), got {', '.join(spec.labels)}"
            )
        if not any(labels <= came for labels in books.values()):
            raise SpecError(f"expected one of the layers {', '.join(books)}, got {', '.join(spec.labels)}")
        if self.decoder.pitch is not None and PITCH not in came:
            raise SpecError(
                f"expected the codebook {PITCH} besides the layers, got {', '.join(spec.labels)}",
                hint="keep it with tokens.take([...])",
            )

    def layer_weights(self, tokens: Tokens) -> Tensor:
        """Weights of the layers in the mixture, [B, L, T] in the order of `layers`; those of a frame sum to 1.

        Zeros for layers that the tokens do not have, and beyond the end of an utterance.
        SpecError for tokens that `require` refuses.
        """
        self.require(tokens.spec)
        weights = torch.zeros(len(tokens), len(self.layers), tokens.codes.shape[-1])
        with torch.no_grad():
            for row, count in enumerate(tokens.lengths.tolist()):
                source = Source(self, tokens.utterance(row), tokens.spec)
                for first in range(0, count, _FRAMES):
                    codes = source.codes[None, :, first : min(count, first + _FRAMES)].to(self.device)
                    found, _ = self.decoder.attend(codes, source.present)
                    weights[row, :, first : first + codes.shape[-1]] = found[0].cpu()
        return weights

    def speaking(self, voice: str | Tensor | None) -> UnitVocoder:
        """The same vocoder with the voice of a speaker it has learned, or with a voice [dim] that was fitted.

        None for the mean of all voices. InputError if it has not learned that speaker, or any.
        """
        other = copy.copy(self)
        other.voice = self._voice_of(voice).detach().to(self.device) if voice is not None else None
        return other

    def lasting(self, durations: Durations) -> UnitVocoder:
        """The same vocoder with durations for units that come without (`lengthen`); saved with it.

        InputError if it has no such layer, one of several codebooks, or needs pitch.
        """
        durations_layer(self.spec, durations.layer)
        other = copy.copy(self)
        other.durations = durations
        other.evidence = self.evidence | {"durations": dict(durations.evidence)}
        other._fingerprint = other._artifact().fingerprint
        return other

    def lengthen(self, units: Tensor) -> Tokens:
        """Tokens of one layer, `durations.layer`, from its units [U] without repetitions, their durations predicted.

        InputError for units that the layer does not have, or a vocoder that has learned no durations.
        """
        if self.durations is None:
            raise InputError("expected a vocoder that has learned durations, got one without", hint=NO_DURATIONS)
        layer = layers_of(self.spec)[self.durations.layer]
        return Tokens.of([self.durations.lengthen(units)[None]], self.spec.take(layer))

    def stream(self, layers: Sequence[str] | None = None) -> UnitStream:
        """A decoder of codes that come piece by piece; see `UnitStream`. layers: those that will come, None for all."""
        from vocable.vocoders.streaming import UnitStream

        return UnitStream(self, layers)

    def save_pretrained(self, path: str | os.PathLike[str], *, half: bool = False, overwrite: bool = False) -> None:
        """Writes config.json and model.safetensors. OutputError if they are there and `overwrite` is not given.

        half: weights in 16 bits. Rounded, they make another vocoder: what is loaded has another fingerprint.
        """
        artifacts.save(self._artifact(), path, half=half, overwrite=overwrite)

    @classmethod
    def from_pretrained(
        cls,
        place: str | os.PathLike[str],
        *,
        revision: str | None = None,
        precision: Precision = "fp32",
        device: str = "cpu",
    ) -> UnitVocoder:
        """Reads a folder, a built-in model or a hub id. ArtifactError if it is missing, damaged, or no vocoder."""
        artifact = artifacts.load(place, KIND, revision=revision)
        config = artifact.config
        try:
            with torch.device("meta"):  # random weights would take longer than all the rest
                decoder = UnitDecoder(config["decoder"] | {"centroids": None})  # what is saved is folded
            decoder.load_state_dict(without_durations(artifact.tensors), assign=True)
            spec, rate = TokenSpec.from_dict(config["spec"]), int(config["sample_rate"])
            extra = {"speakers": config["speakers"], "evidence": artifact.evidence}
            vocoder = cls(decoder, spec, rate, precision=precision, device=device, **extra)
            durations = Durations.of_artifact(artifact)
            return vocoder if durations is None else vocoder.lasting(durations)
        except (KeyError, TypeError, RuntimeError, InputError) as problem:
            reason = str(problem).splitlines()[0]
            raise ArtifactError(f"{place} lacks a part of a vocoder: {reason}", hint="update vocable") from problem

    def _voice_of(self, voice: str | Tensor) -> Tensor:
        if isinstance(voice, Tensor):
            if voice.shape != (self.generator.dim,) or not self.speakers:
                raise InputError(f"expected a voice [{self.generator.dim}] of a vocoder that has learned voices")
            return voice
        if voice not in self.speakers:
            some = ", ".join(self.speakers[:8]) + (", ..." if len(self.speakers) > 8 else "")
            raise InputError(
                f"expected a speaker that the vocoder has learned, got {voice!r}",
                hint=f"it knows {some}" if self.speakers else "train one with `vocable train vocoder --speakers FIELD`",
            )
        return self.decoder.voices[self.speakers.index(voice)]

    def _artifact(self) -> Artifact:
        config = {
            "decoder": self.decoder.config(),
            "spec": self.spec.to_dict(),
            "sample_rate": self.sample_rate,
            "speakers": list(self.speakers),
        }
        tensors = {name: tensor.detach().cpu() for name, tensor in self.decoder.state_dict().items()}
        if self.durations is not None:
            config, tensors = config | {"durations": self.durations.config()}, tensors | self.durations.tensors()
        return Artifact(KIND, config, tensors, evidence=self.evidence)


class Source:
    """The codes [k, T] of one recording as the frames that the generator asks for, wherever it asks.

    dropped: how many frames of codes came before these.
    """

    def __init__(self, vocoder: UnitVocoder, codes: Tensor, spec: TokenSpec, *, dropped: int = 0) -> None:
        self._vocoder, whole = vocoder, vocoder.spec
        self._dropped = dropped
        self.codes = torch.zeros(whole.num_codebooks, codes.shape[-1], dtype=torch.int64)
        for label, row in zip(spec.labels, codes, strict=True):
            index = whole.labels.index(label)
            size = whole.codebooks[index].size
            if row.numel() and not 0 <= int(row.min()) <= int(row.max()) < size:
                raise InputError(f"expected codes from 0 to {size - 1} in {label}, got others")
            self.codes[index] = row
        here = [all(whole.labels[k] in spec.labels for k in members) for members in vocoder.decoder.layers]
        self.present = torch.tensor([here], device=vocoder.device)

    def frames(self, first: int, stop: int, voice: Tensor | None = None) -> Tensor:
        """What the generator is given for its frames first..stop - 1, [1, dim, n].

        voice: [dim], None for the vocoder's.
        """
        vocoder = self._vocoder
        indices, phase = vocoder.grid.sources(first, stop)
        places = torch.from_numpy(indices - self._dropped).clamp_max(self.codes.shape[-1] - 1)
        codes = self.codes[:, places]
        within = torch.from_numpy(phase)[None].to(vocoder.device)
        voice = vocoder.voice if voice is None else voice
        spoken = None if voice is None else voice[None]
        return vocoder.decoder.frames(codes[None].to(vocoder.device), within, self.present, spoken)
