"""Well-known set-ups by name: what each is, what it costs in bits, what must be fetched for it and on which terms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from vocable import builtin
from vocable.errors import InputError

_CARD = "see model card"
_HUBERT, _HUBERT_BASE = "Hsu et al. 2021, arXiv:2106.07447", "facebook/hubert-base-ls960"
_MHUBERT = "Lee et al. 2022, arXiv:2112.08352; Zanon Boito et al. 2024, arXiv:2406.06371"
_ENCODEC = "Défossez et al. 2022, arXiv:2210.13438"
_DAC = "Kumar et al. 2023, arXiv:2306.06546"
_LEARNED_FROM = "recordings under CC0, CC BY 4.0 and BSD-like licences, and a teacher under MIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A set-up of the literature.

    name: what commands call it. what: one line.
    kind: "built-in", "weight-free" and "codec" make tokens as they are; the codebooks of "features+kmeans" are trained
        by the user.
    sample_rate: Hz of the audio it works on. hop_length: samples between two frames.
    codebooks: sizes of the K codebooks, all that there are; fewer are taken with `tokens.take`.
    download: the hub id to fetch, None if nothing is.
    licence: of the weights, as their authors state it. reference: where the set-up is described.
    learned_from: what a built-in model was trained on, and under which licences that is.
    layers, clusters: what `vocable train kmeans --preset` needs; only for "features+kmeans".
    """

    name: str
    what: str
    kind: Literal["built-in", "weight-free", "features+kmeans", "codec"]
    sample_rate: int
    hop_length: int
    codebooks: tuple[int, ...]
    reference: str
    download: str | None = None
    licence: str = "none needed"
    learned_from: str | None = None
    layers: tuple[int, ...] | None = None
    clusters: int | None = None

    @property
    def features(self) -> str | None:
        """The model whose layers are clustered; None if there is nothing to train."""
        return self.download if self.kind == "features+kmeans" else None

    @property
    def frame_rate(self) -> float:
        """Frames per second (Hz)."""
        return self.sample_rate / self.hop_length

    @property
    def bitrate(self) -> float:
        """Bits per second of the raw codes of all codebooks."""
        return self.frame_rate * sum(math.log2(size) for size in self.codebooks)

    @property
    def command(self) -> str:
        """The command line that uses it."""
        if self.kind == "features+kmeans":
            return f"vocable train kmeans speech/ --preset {self.name} --out units/"
        return f"vocable tokenize speech/ --tokenizer {self.name} --out tokens/"


def presets() -> tuple[Preset, ...]:
    """All of them: those in the package, those without weights, then SSL models with k-means, then codecs."""
    return _BUILT_IN + _WEIGHT_FREE + _UNITS + _CODECS


def find(name: str) -> Preset:
    """The preset of that name. InputError if there is none."""
    by_name = {preset.name: preset for preset in presets()}
    if name not in by_name:
        begun = [known for known in by_name if name and known.startswith(name)]
        close = begun or get_close_matches(name, by_name, n=1)
        hint = f"did you mean {' or '.join(close)}?" if close else "`vocable presets` lists them"
        raise InputError(f"expected the name of a preset, got {name!r}", hint=hint)
    return by_name[name]


def _free(name: str, hop_length: int, codebooks: tuple[int, ...], what: str, reference: str) -> Preset:
    return Preset(
        name=name,
        what=what,
        kind="weight-free",
        sample_rate=16000,
        hop_length=hop_length,
        codebooks=codebooks,
        reference=reference,
    )


def _units(
    name: str, model: str, layers: tuple[int, ...], clusters: int, licence: str, what: str, reference: str
) -> Preset:
    return Preset(
        name=name,
        what=what,
        kind="features+kmeans",
        sample_rate=16000,
        hop_length=320,
        codebooks=(clusters,) * len(layers),
        reference=reference,
        download=model,
        licence=licence,
        layers=layers,
        clusters=clusters,
    )


def _codec(
    name: str, model: str, clock: tuple[int, int], codebooks: tuple[int, ...], licence: str, what: str, reference: str
) -> Preset:
    return Preset(
        name=name,
        what=what,
        kind="codec",
        sample_rate=clock[0],
        hop_length=clock[1],
        codebooks=codebooks,
        reference=reference,
        download=model,
        licence=licence,
    )


_BUILT_IN = (
    Preset(
        name=builtin.UNITS,
        what="units of three layers of a small speech encoder; vocable-vocoder makes sound of them",
        kind="built-in",
        sample_rate=16000,
        hop_length=320,
        codebooks=(500,) * 3,
        reference=_HUBERT,
        licence="CC BY 4.0",
        learned_from=_LEARNED_FROM,
    ),
    Preset(
        name=builtin.CODEC,
        what="a small codec of speech, of which any first few codebooks decode",
        kind="built-in",
        sample_rate=16000,
        hop_length=320,
        codebooks=(1024,) * 8,
        reference="Zeghidour et al. 2021, arXiv:2107.03312; Siuzdak 2023, arXiv:2306.00814",
        licence="CC BY 4.0",
        learned_from=_LEARNED_FROM,
    ),
)

_WEIGHT_FREE = (
    _free(
        "dmel",
        400,
        (16,) * 80,
        "the power in each of 80 mel bands in 16 steps, 40 times a second",
        "Bai et al. 2024, arXiv:2407.15835",
    ),
    _free(
        "best-rq",
        640,
        (8192,),
        "four log-mel frames at a time, projected onto the nearest of 8192 random directions",
        "Chiu et al. 2022, arXiv:2202.01855",
    ),
)

_UNITS = (
    _units(
        "hubert-base-l6-k100",
        _HUBERT_BASE,
        (6,),
        100,
        "Apache-2.0",
        "units of generative spoken language models",
        "Lakhotia et al. 2021, arXiv:2102.01192",
    ),
    _units(
        "hubert-base-l6-k500", _HUBERT_BASE, (6,), 500, "Apache-2.0", "as HuBERT's targets in its second round", _HUBERT
    ),
    _units("hubert-base-l9-k500", _HUBERT_BASE, (9,), 500, "Apache-2.0", "as the targets of HuBERT large", _HUBERT),
    _units(
        "mhubert-l11-k1000",
        "utter-project/mHuBERT-147",
        (11,),
        1000,
        "CC BY-NC-SA 4.0",
        "multilingual: layer and size as in textless speech translation, on mHuBERT-147",
        _MHUBERT,
    ),
    _units(
        "wavlm-large-k1000",
        "microsoft/wavlm-large",
        (3, 7, 12, 18, 23),
        1000,
        _CARD,
        "five layers, from sound to meaning",
        "Mousavi et al. 2024, arXiv:2406.10735",
    ),
)

_CODECS = (
    _codec("encodec-24khz", "facebook/encodec_24khz", (24000, 320), (1024,) * 32, _CARD, "EnCodec, causal", _ENCODEC),
    _codec(
        "encodec-48khz", "facebook/encodec_48khz", (48000, 320), (1024,) * 16, "MIT", "EnCodec for stereo", _ENCODEC
    ),
    _codec("dac-16khz", "descript/dac_16khz", (16000, 320), (1024,) * 12, "MIT", "Descript audio codec", _DAC),
    _codec("dac-24khz", "descript/dac_24khz", (24000, 320), (1024,) * 32, "MIT", "Descript audio codec", _DAC),
    _codec("dac-44khz", "descript/dac_44khz", (44100, 512), (1024,) * 9, "MIT", "Descript audio codec", _DAC),
    _codec(
        "mimi",
        "kyutai/mimi",
        (24000, 1920),
        (2048,) * 32,
        "CC BY 4.0",
        "the codec of Moshi, causal; Moshi itself uses the first 8 codebooks",
        "Défossez et al. 2024, arXiv:2410.00037",
    ),
    _codec(
        "xcodec",
        "hf-audio/xcodec-hubert-librispeech",
        (16000, 320),
        (1024,) * 8,
        _CARD,
        "X-Codec: sound and HuBERT's features in the same codebooks",
        "Ye et al. 2024, arXiv:2408.17175",
    ),
    _codec(
        "xcodec2",
        "HKUSTAudio/xcodec2-hf",
        (16000, 320),
        (65536,),
        "CC BY-NC 4.0",
        "X-Codec 2: one codebook by finite scalar quantization",
        "Ye et al. 2025, arXiv:2502.04128",
    ),
    _codec(
        "neucodec",
        "neuphonic/neucodec",
        (16000, 320),
        (65536,),
        "Apache-2.0",
        "NeuCodec: like X-Codec 2, but decodes to 24 kHz",
        "arXiv:2509.09550",
    ),
)
