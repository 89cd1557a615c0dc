"""Known sizes of unit vocoders, from seconds of training to days."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from vocable.errors import InputError
from vocable.nets.unit_decoder import unit_decoder_config
from vocable.types import TokenSpec

Size = Literal["tiny", "small", "base"]
GeneratorName = Literal["istft", "hifigan"]

PITCH = "f0"
"""The label of a codebook that is pitch: no layer to choose, but a condition."""

_NUMBERED = re.compile(r"(?<=.)\.\d+$|^(rvq|fsq|vq)\d+$")
_FRAMES_PER_SECOND = 100  # of a generator, about: what speech needs, and few enough to be fast


@dataclass(frozen=True, slots=True)
class _Scale:
    dim: int
    depth: int
    width: int
    channels: int  # of HiFi-GAN; 512 is its V1, 128 its V2


_SCALES: dict[str, _Scale] = {
    "tiny": _Scale(dim=192, depth=6, width=576, channels=64),
    "small": _Scale(dim=384, depth=8, width=1152, channels=256),
    "base": _Scale(dim=512, depth=8, width=1536, channels=512),
}


def layers_of(spec: TokenSpec) -> dict[str, tuple[int, ...]]:
    """The layers of a token stream by name, each with its codebooks: "L6.0" and "L6.1" are L6, "rvq3" is rvq.

    Pitch is no layer. InputError if there is no other codebook.
    """
    found: dict[str, list[int]] = {}
    for index, label in enumerate(spec.labels):
        if label != PITCH:
            found.setdefault(_NUMBERED.sub(r"\1", label), []).append(index)
    if not found:
        raise InputError(f"expected tokens with a layer, got only {', '.join(spec.labels)}")
    return {name: tuple(members) for name, members in found.items()}


def codebooks_of(spec: TokenSpec, layers: Sequence[str]) -> list[int]:
    """The codebooks of some layers, and pitch where there is one, in their order. InputError for an unknown layer."""
    known = layers_of(spec)
    unknown = [name for name in layers if name not in known]
    if unknown or not layers:
        raise InputError(f"expected layers among {', '.join(known)}, got {', '.join(unknown) or 'none'}")
    chosen = {index for name in layers for index in known[name]}
    return [index for index, label in enumerate(spec.labels) if index in chosen or label == PITCH]


def design(
    size: Size,
    spec: TokenSpec,
    sample_rate: int,
    *,
    generator: GeneratorName = "istft",
    speakers: int = 0,
    centroids: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The configuration of a `UnitDecoder` for these tokens.

    sample_rate: Hz of the sound. speakers: how many voices it learns. centroids: width of the centroids that each
    codebook's embedding starts from, 0 for none. InputError for an unknown size or generator.
    """
    if size not in _SCALES or generator not in get_args(GeneratorName):
        raise InputError(f"expected one of {', '.join(_SCALES)} and of istft, hifigan, got {size!r} and {generator!r}")
    scale, hop = _SCALES[size], generator_hop(spec, sample_rate)
    settings: dict[str, Any] = {"kind": generator, "dim": scale.dim, "hop_length": hop}
    if generator == "istft":
        settings |= {"depth": scale.depth, "width": scale.width, "kernel": 7, "fft_size": 4 * hop}
    else:
        settings |= {"channels": scale.channels}
    pitch = spec.labels.index(PITCH) if PITCH in spec.labels else None
    sizes = [book.size for book in spec.codebooks]
    layers = list(layers_of(spec).values())
    return unit_decoder_config(sizes, layers, settings, pitch=pitch, speakers=speakers, centroids=centroids)


def generator_hop(spec: TokenSpec, sample_rate: int) -> int:
    """Samples per frame of the generator: about 10 ms, and a whole number to each frame of tokens where that can be."""
    wished, (token, rest) = sample_rate / _FRAMES_PER_SECOND, divmod(spec.hop_length * sample_rate, spec.sample_rate)
    if rest:
        return round(wished)
    divisors = [hop for hop in range(1, token + 1) if token % hop == 0]
    return min(divisors, key=lambda hop: max(hop / wished, wished / hop))
