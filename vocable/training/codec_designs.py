"""Codecs to train: manners of known ones, each in three sizes, as plain values."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, cast, get_args

from vocable.errors import InputError
from vocable.quantizers.trainable import Design as Quantizer
from vocable.training.crops import Crops
from vocable.training.regime import Regime
from vocable.training.vocoder import PRESETS
from vocable.vocoders.designs import GeneratorName, Size

DISTILLED = 20.0
"""Weight of a distillation whose gradient is then as long as that of the waveform, which has length 1."""

_FRAMES_PER_SECOND = 100  # of a generator, about
_LABELS = {
    "vq": "vq",
    "simvq": "vq",
    "rvq": "rvq",
    "grouped-rvq": "rvq",
    "masked-rvq": "rvq",
    "fsq": "fsq",
    "residual-fsq": "fsq",
    "lfq": "lfq",
}


@dataclass(frozen=True, slots=True)
class CodecDesign:
    """What to train.

    sample_rate: Hz. strides: of the encoder; their product is the hop. kernel, dilations: of its residual units.
    activation: "elu" or "snake". causal: whether it streams. quantizer: its kind and sizes, `latent` dimensions.
    channels: of the encoder's first convolution, doubled at each stride.
    generator: its kind, and `dim`, `depth` and `width` of the iSTFT generator, or `widest` channels of HiFi-GAN.
    commitment: weight of the quantizer's loss; the gradient of the waveform's losses has length 1.
    distilled: weight of the distillation, if there is a teacher. taught: share of the crops of a step that it hears.
    blocks: of an encoder that sees spectra, 0 for one of convolutions over samples. Its `channels` are those of the
        blocks, `kernel` theirs, and of strides only the product counts; an iSTFT generator then has its blocks, of the
        same kernel, at the codec's frame rate, too.
    InputError for a quantizer of which a codec cannot decode the first few codebooks, or that is unknown, and for a
    share out of range.
    """

    sample_rate: int
    strides: tuple[int, ...]
    kernel: int
    dilations: tuple[int, ...]
    activation: str
    causal: bool
    quantizer: Quantizer
    channels: int
    generator: GeneratorName
    dim: int
    depth: int
    width: int
    widest: int
    commitment: float = 10.0
    distilled: float = 0.0
    taught: float = 1.0
    blocks: int = 0

    def __post_init__(self) -> None:
        kind = self.quantizer.kind
        if kind not in _LABELS or (kind == "lfq" and self.quantizer.num_codebooks > 1):
            known = ", ".join(_LABELS)
            raise InputError(f"expected a quantizer among {known}, lfq of one codebook, got {kind}")
        if self.generator not in get_args(GeneratorName):
            raise InputError(f"expected a generator among istft, hifigan, got {self.generator!r}")
        if not 0 < self.taught <= 1:
            raise InputError(f"expected a share of the crops to be taught, got {self.taught}")

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.strides)

    @property
    def label(self) -> str:
        """Of the codebooks, without their number."""
        return _LABELS[self.quantizer.kind]

    def encoder(self, latent: int) -> dict[str, Any]:
        """The configuration of its `SpectralEncoder` or `CodecEncoder`."""
        shared = {"channels": self.channels, "kernel": self.kernel, "dim": latent, "causal": self.causal}
        if self.blocks:
            hop = self._step()
            spectra = {"hop_length": self.hop_length, "subframes": self.hop_length // hop, "fft_size": 4 * hop}
            return {"kind": "spectral", **spectra, **shared, "width": 3 * self.channels, "depth": self.blocks}
        units = {"dilations": list(self.dilations), "activation": self.activation}
        return {"strides": list(self.strides), **units, **shared}

    def decoder(self, latent: int) -> dict[str, Any]:
        """The configuration of its `CodecDecoder`, whose generator has some 100 frames, or spectra, a second."""
        hop = self._step()
        settings: dict[str, Any] = {"kind": self.generator, "dim": self.dim, "hop_length": hop, "causal": self.causal}
        if self.generator == "istft":
            settings |= {"depth": self.depth, "width": self.width, "fft_size": 4 * hop}
        else:
            settings |= {"channels": self.widest}
        subframes = self.hop_length // hop
        if self.generator == "istft" and self.blocks:
            settings |= {"hop_length": self.hop_length, "subframes": subframes, "kernel": self.kernel}
            subframes = 1
        return {"dim": latent, "subframes": subframes, "generator": settings}

    def _step(self) -> int:
        """Samples between frames of a generator, or between spectra: a divisor of the hop."""
        wished = self.sample_rate / _FRAMES_PER_SECOND
        divisors = [hop for hop in range(2, self.hop_length + 1) if self.hop_length % hop == 0]
        return min(divisors, key=lambda hop: max(hop / wished, wished / hop))

    def config(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "quantizer": self.quantizer.config()}


_SCALES: dict[Size, dict[str, int]] = {
    "tiny": {"channels": 8, "dim": 192, "depth": 4, "width": 576, "widest": 64},
    "small": {"channels": 24, "dim": 384, "depth": 8, "width": 1152, "widest": 256},
    "base": {"channels": 48, "dim": 512, "depth": 8, "width": 1536, "widest": 512},
}
_SEANET: dict[str, Any] = {"kernel": 3, "dilations": (1,), "activation": "elu"}
_DAC: dict[str, Any] = {"kernel": 7, "dilations": (1, 3, 9), "activation": "snake"}
_50_HZ: dict[str, Any] = {"sample_rate": 16000, "strides": (2, 4, 5, 8)}
_25_HZ: dict[str, Any] = {"sample_rate": 16000, "strides": (2, 4, 8, 10)}
_75_HZ: dict[str, Any] = {"sample_rate": 24000, "strides": (2, 4, 5, 8)}
_RVQ = Quantizer("rvq", size=1024, num_codebooks=8, latent=128)
_MANNERS: dict[str, dict[str, Any]] = {
    "plain": {**_50_HZ, **_SEANET, "causal": False, "quantizer": replace(_RVQ, latent=64)},
    "encodec": {**_75_HZ, **_SEANET, "causal": True, "quantizer": _RVQ},
    "dac": {**_50_HZ, **_DAC, "causal": False, "quantizer": replace(_RVQ, num_codebooks=12, latent=32)},
    "wavtokenizer": {**_75_HZ, **_SEANET, "causal": False, "quantizer": Quantizer("vq", size=4096, latent=64)},
    "taae": {**_25_HZ, **_SEANET, "dilations": (1, 3), "causal": False, "quantizer": Quantizer("fsq", levels=(6,) * 6)},
    "speechtokenizer": {**_50_HZ, **_SEANET, "causal": False, "quantizer": _RVQ, "distilled": DISTILLED},
    "spectral": {
        **_50_HZ,
        **_SEANET,
        "kernel": 5,
        "causal": False,
        "quantizer": replace(_RVQ, latent=64),
        "commitment": 0.3,  # latents of one length need less, and learn faster with less
        "taught": 0.25,
    },
}
_SPECTRAL_SCALES: dict[Size, dict[str, int]] = {
    "tiny": {"channels": 128, "blocks": 3},
    "small": {"channels": 256, "blocks": 4, "dim": 320, "depth": 5, "width": 960},
    "base": {"channels": 384, "blocks": 8},
}
_ON_PROCESSORS = Regime(None, 40.0, learning_rate=1.5e-3, warm_up=100, discriminators="none", check_every=2000)
_SPECTRAL_PLANS: dict[Size, tuple[Regime, Crops]] = {
    "tiny": (replace(_ON_PROCESSORS, minutes=5.0, learning_rate=4e-3, report_every=10, check_every=500), Crops(4, 0.5)),
    "small": (_ON_PROCESSORS, Crops(4, 1.0)),
    "base": PRESETS["base"],
}
NAMES = (*_SCALES, *(name for manner in _MANNERS for name in (manner, *(f"{manner}-{scale}" for scale in _SCALES))))
"""What `codec_design` knows."""


def codec_design(
    name: str,
    *,
    sample_rate: int | None = None,
    causal: bool | None = None,
    quantizer: str | None = None,
    codebooks: int | None = None,
    size: int | None = None,
    levels: tuple[int, ...] | None = None,
    generator: GeneratorName = "istft",
) -> CodecDesign:
    """The design of a name such as "encodec-tiny", changed as told.

    A manner alone is its "small" size, a size alone one of the manner "plain": RVQ at 50 Hz, not causal. What manners
    take from their models is the clock, the quantizer, causality and the residual units of the encoder:
    EnCodec (Défossez et al. 2022) without its LSTM; DAC (Kumar et al. 2023), of whose factorized codes one projection
    for all codebooks is left; WavTokenizer (Ji et al. 2024), one codebook; TAAE (Parker et al. 2024), FSQ at 25 Hz,
    with convolutions for transformers; SpeechTokenizer (Zhang et al. 2024), distilled into the first codebook.
    "spectral" is the one for processors: its encoder sees spectra, and nothing in it runs at a rate above the codec's.

    quantizer, codebooks, size, levels: see `vocable.quantizers.trainable.Design`; several of FSQ are residual.
    InputError for an unknown name, and for numbers that do not go together.
    """
    manner, scale = _parsed(name)
    values = {**_MANNERS[manner], **_SCALES[scale], "generator": generator}
    values |= _SPECTRAL_SCALES[scale] if manner == "spectral" else {}
    values["quantizer"] = _changed(values["quantizer"], quantizer, codebooks, size, levels)
    values |= {} if causal is None else {"causal": causal}
    values |= {} if sample_rate is None else {"sample_rate": sample_rate}
    return CodecDesign(**values)


def plan_of(name: str) -> tuple[Regime, Crops]:
    """How a design of this name is trained if nothing else is asked for. InputError for an unknown name."""
    manner, scale = _parsed(name)
    return _SPECTRAL_PLANS[scale] if manner == "spectral" else PRESETS[scale]


def scale_of(name: str) -> Size:
    """The size that a name of `codec_design` stands for. InputError for an unknown name."""
    return _parsed(name)[1]


def _parsed(name: str) -> tuple[str, Size]:
    if name not in NAMES:
        raise InputError(f"expected a design among {', '.join(NAMES)}, got {name!r}")
    manner, _, scale = f"plain-{name}".rpartition("-") if name in _SCALES else name.partition("-")
    return manner, cast(Size, scale or "small")


def _changed(
    quantizer: Quantizer, kind: str | None, codebooks: int | None, size: int | None, levels: tuple[int, ...] | None
) -> Quantizer:
    kind = kind or quantizer.kind
    alone = kind in {"vq", "simvq", "lfq"}
    if alone and codebooks not in {None, 1}:
        raise InputError(
            f"expected one codebook of {kind}, got {codebooks}", hint="several refine one another: use rvq"
        )
    count = 1 if alone or (kind == "fsq" and codebooks is None) else codebooks or quantizer.num_codebooks
    return replace(
        quantizer,
        kind="residual-fsq" if kind == "fsq" and count > 1 else kind,
        num_codebooks=count,
        size=size or quantizer.size,
        levels=levels or quantizer.levels,
    )
