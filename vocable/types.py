"""The values that flow: Audio -> Features -> Tokens -> Audio, and the contract that travels with the tokens.

Axes, one letter one meaning everywhere:
B utterance, C channel, N sample, L layer, T frame, D feature, K codebook, V entry of a codebook.

All values are immutable triples of a padded tensor, the lengths that say what is real in it, and a clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from vocable.clock import num_frames
from vocable.errors import InputError, SpecError


@dataclass(frozen=True, slots=True)
class Codebook:
    """One stream of codes: `size` entries V, a `label` ("L6", "rvq0"), one new code every `stride` frames."""

    size: int
    label: str
    stride: int = 1

    def __post_init__(self) -> None:
        if self.size < 1 or self.stride < 1:
            raise InputError(f"a codebook needs size >= 1 and stride >= 1, got size {self.size}, stride {self.stride}")


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """What a token stream is: its clock, its codebooks, and the tokenizer that made it.

    sample_rate: Hz of the audio the tokenizer works on.
    hop_length: samples between two frames.
    codebooks: the K streams, in order.
    source: fingerprint of the tokenizer; codes of another fingerprint mean something else.
    window: samples that a frame needs before it exists: 1 where every started hop is a frame (spectral features,
        codecs), the receptive field of the convolutional front end where there is no hidden padding (400 for HuBERT).
    """

    sample_rate: int
    hop_length: int
    codebooks: tuple[Codebook, ...]
    source: str
    window: int = 1

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or self.hop_length < 1 or self.window < 1:
            raise InputError("sample_rate, hop_length and window of a TokenSpec must be positive")
        labels = [book.label for book in self.codebooks]
        if not labels or len(set(labels)) != len(labels):
            raise InputError(f"a TokenSpec needs codebooks with distinct labels, got {labels}")

    @property
    def num_codebooks(self) -> int:
        return len(self.codebooks)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(book.label for book in self.codebooks)

    @property
    def frame_rate(self) -> float:
        """Frames per second (Hz)."""
        return self.sample_rate / self.hop_length

    @property
    def bitrate(self) -> float:
        """Bits per second of the raw codes: sum over codebooks of log2(size) x frames per second / stride."""
        return sum(math.log2(book.size) * self.frame_rate / book.stride for book in self.codebooks)

    def num_frames(self, num_samples: int) -> int:
        """Frames T of an utterance of N >= 1 samples; a clip shorter than one frame is padded to one."""
        return num_frames(num_samples, self.hop_length, self.window)

    def num_samples(self, num_frames: int) -> int:
        """Samples that T frames stand for when nobody knows better (tokens that came from no recording)."""
        return max(0, (num_frames - 1) * self.hop_length + max(self.window, self.hop_length)) if num_frames else 0

    def take(self, which: Iterable[int | str]) -> TokenSpec:
        """The spec of a subset of the codebooks, by index or by label, in the order given."""
        return replace(self, codebooks=tuple(self.codebooks[i] for i in self.indices(which)))

    def indices(self, which: Iterable[int | str]) -> list[int]:
        """Positions of codebooks named by index or by label. InputError if one is not there."""
        found = []
        for name in which:
            index = self.labels.index(name) if isinstance(name, str) and name in self.labels else name
            if not isinstance(index, int) or not 0 <= index < self.num_codebooks:
                raise InputError(f"no codebook {name!r} among {', '.join(self.labels)}")
            found.append(index)
        return found

    def covers(self, other: TokenSpec) -> bool:
        """Whether a consumer of this spec understands the other: same maker and clock, no unknown codebook."""
        clock = (self.source, self.sample_rate, self.hop_length, self.window)
        theirs = (other.source, other.sample_rate, other.hop_length, other.window)
        return clock == theirs and set(other.codebooks) <= set(self.codebooks)

    def require(self, other: TokenSpec) -> None:
        """SpecError, in one sentence that says what to do, unless this spec covers the other."""
        if self.covers(other):
            return
        if self.source != other.source:
            raise SpecError(
                f"expected tokens of tokenizer {self.source[:12]}, got tokens of {other.source[:12]}",
                hint="use the tokenizer that made the tokens, or tokenize the audio again with this one",
            )
        raise SpecError(
            f"expected codebooks among {self._description()}, got {other._description()}",
            hint="keep the known ones with tokens.take([...])",
        )

    def _description(self) -> str:
        books = ", ".join(f"{book.label} ({book.size})" for book in self.codebooks)
        return f"{books} at {self.frame_rate:g} frames/s of {self.sample_rate} Hz"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TokenSpec:
        """The spec that `to_dict` described. InputError if a field is missing or unknown."""
        try:
            books = tuple(Codebook(**book) for book in values["codebooks"])
            return cls(**{**values, "codebooks": books})
        except (KeyError, TypeError) as problem:
            raise InputError(f"expected the fields of a TokenSpec, got {values!r} ({problem})") from problem


def _check_batch(name: str, tensor: Tensor, lengths: Tensor, rank: int) -> None:
    if tensor.ndim != rank:
        raise InputError(f"{name} must have {rank} axes, got shape {list(tensor.shape)}")
    if lengths.shape != tensor.shape[:1] or lengths.dtype != torch.int64:
        came = f"{lengths.dtype} {list(lengths.shape)}"
        raise InputError(f"lengths of {name} must be int64 [B={tensor.shape[0]}], got {came}")
    if lengths.numel() and (int(lengths.min()) < 0 or int(lengths.max()) > tensor.shape[-1 if rank == 3 else -2]):
        raise InputError(f"lengths of {name} must lie within its time axis, got {lengths.tolist()}")


@dataclass(frozen=True, eq=False, slots=True)
class Audio:
    """Waveforms: samples [B, C, N] (float, nominal range -1..1), lengths [B] in samples, sample_rate in Hz."""

    samples: Tensor
    lengths: Tensor
    sample_rate: int

    def __post_init__(self) -> None:
        _check_batch("samples", self.samples, self.lengths, 3)

    @classmethod
    def of(cls, waveforms: Sequence[Tensor], sample_rate: int) -> Audio:
        """A zero-padded batch of waveforms, each [N] or [C, N], all with the same number of channels."""
        shaped = [wave if wave.ndim == 2 else wave[None] for wave in waveforms]
        if len({wave.shape[0] for wave in shaped}) != 1:
            raise InputError("a batch of audio needs one channel count, and at least one waveform")
        lengths = torch.tensor([wave.shape[-1] for wave in shaped])
        samples = shaped[0].new_zeros(len(shaped), shaped[0].shape[0], int(lengths.max()))
        for row, wave in zip(samples, shaped, strict=True):
            row[:, : wave.shape[-1]] = wave
        return cls(samples, lengths, sample_rate)

    def __len__(self) -> int:
        return self.samples.shape[0]

    def waveform(self, index: int) -> Tensor:
        """One utterance without its padding, [C, N]."""
        return self.samples[index, :, : int(self.lengths[index])]

    def require_mono(self, sample_rate: int) -> None:
        """InputError unless this is what an extractor works on: one channel at its rate."""
        channels = self.samples.shape[1]
        if self.sample_rate != sample_rate or channels != 1:
            raise InputError(
                f"expected mono audio at {sample_rate} Hz, got {channels} channels at {self.sample_rate} Hz",
                hint="mix and resample it first, as tokenizers do",
            )

    @property
    def seconds(self) -> Tensor:
        """Durations [B] in seconds."""
        return self.lengths / self.sample_rate


@dataclass(frozen=True, eq=False, slots=True)
class Features:
    """Frames [B, L, T, D] of L layers, lengths [B] in frames, hop_length in samples of sample_rate (Hz)."""

    frames: Tensor
    lengths: Tensor
    hop_length: int
    sample_rate: int

    def __post_init__(self) -> None:
        _check_batch("frames", self.frames, self.lengths, 4)

    def __len__(self) -> int:
        return self.frames.shape[0]

    def utterance(self, index: int) -> Tensor:
        """One utterance without its padding, [L, T, D]."""
        return self.frames[index, :, : int(self.lengths[index])]


@dataclass(frozen=True, eq=False, slots=True)
class Tokens:
    """Codes [B, K, T] (int64), lengths [B] in frames, the spec, and the samples [B] of audio that they stand for.

    `samples`, counted at spec.sample_rate, makes decoding exact. Codes beyond an utterance's length mean nothing.
    """

    codes: Tensor
    lengths: Tensor
    spec: TokenSpec
    samples: Tensor

    def __post_init__(self) -> None:
        _check_batch("codes", self.codes, self.lengths, 3)
        if self.codes.dtype != torch.int64:
            raise InputError(f"codes must be int64, got {self.codes.dtype}")
        if self.codes.shape[1] != self.spec.num_codebooks:
            raise InputError(f"codes hold {self.codes.shape[1]} codebooks, their spec {self.spec.num_codebooks}")
        if self.samples.shape != self.lengths.shape or self.samples.dtype != torch.int64:
            came = f"{self.samples.dtype} {list(self.samples.shape)}"
            raise InputError(f"samples must be int64 [B={len(self.lengths)}], got {came}")
        for n, frames in zip(self.samples.tolist(), self.lengths.tolist(), strict=True):
            if (self.spec.num_frames(n) if n else 0) != frames:
                raise InputError(f"{n} samples make {self.spec.num_frames(n) if n else 0} frames, not {frames}")

    @classmethod
    def of(cls, codes: Sequence[Tensor], spec: TokenSpec, samples: Sequence[int] | None = None) -> Tokens:
        """A padded batch of code sequences, each [K, T].

        Where `samples` is not known (tokens that came from no recording), it is `spec.num_samples(T)`.
        """
        lengths = torch.tensor([row.shape[-1] for row in codes], dtype=torch.int64)
        padded = torch.zeros(len(codes), spec.num_codebooks, max(lengths.tolist(), default=0), dtype=torch.int64)
        for target, row in zip(padded, codes, strict=True):
            if row.ndim != 2 or row.shape[0] != spec.num_codebooks:
                raise InputError(f"expected codes [K={spec.num_codebooks}, T], got {list(row.shape)}")
            target[:, : row.shape[-1]] = row
        counts = [spec.num_samples(n) for n in lengths.tolist()] if samples is None else list(samples)
        return cls(padded, lengths, spec, torch.tensor(counts, dtype=torch.int64))

    def __len__(self) -> int:
        return self.codes.shape[0]

    def utterance(self, index: int) -> Tensor:
        """Codes of one utterance without padding, [K, T]."""
        return self.codes[index, :, : int(self.lengths[index])]

    def take(self, which: Iterable[int | str]) -> Tokens:
        """The same tokens with a subset of the codebooks: the lower bitrate, or the fewer layers."""
        indices = self.spec.indices(which)
        return Tokens(self.codes[:, indices], self.lengths, self.spec.take(indices), self.samples)


@runtime_checkable
class FeatureExtractor(Protocol):
    """Audio -> Features. The frames of an utterance depend on its own samples alone."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def hop_length(self) -> int: ...
    @property
    def window(self) -> int:
        """Samples that a frame needs before it exists (see TokenSpec)."""

    @property
    def context(self) -> int:
        """Frames on either side that a frame may look at when long audio is cut into windows."""

    @property
    def longest(self) -> int | None:
        """Frames that one utterance may have at most, context included; None without a bound."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Labels of the L layers, in the order of the feature axis."""

    @property
    def dim(self) -> int: ...

    def extract(self, audio: Audio) -> Features:
        """Features of mono audio at `sample_rate`."""

    def config(self) -> dict[str, Any]:
        """Plain JSON values that decide every output, for artifacts and fingerprints; no places, no paths."""


@runtime_checkable
class Quantizer(Protocol):
    """Vectors [..., D] <-> codes [..., K]; knows nothing of time or audio."""

    @property
    def dim(self) -> int: ...
    @property
    def codebook_sizes(self) -> tuple[int, ...]: ...

    def encode(self, vectors: Tensor) -> Tensor:
        """Codes [..., K]; each is a function of its own vector alone."""

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors of codes [..., K]; where codebooks refine one another, of the first k alone too, else InputError."""


@runtime_checkable
class Tokenizer(Protocol):
    """Audio (any rate, any channels) -> Tokens."""

    @property
    def spec(self) -> TokenSpec: ...

    def encode(self, audio: Audio) -> Tokens: ...


@runtime_checkable
class Vocoder(Protocol):
    """Tokens -> Audio at `sample_rate`, as many samples as the tokens stand for."""

    @property
    def sample_rate(self) -> int: ...

    def decode(self, tokens: Tokens) -> Audio: ...


@runtime_checkable
class Codec(Tokenizer, Vocoder, Protocol):
    """A tokenizer that is its own vocoder."""
