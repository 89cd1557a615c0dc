"""Runs every family of models and codecs on a tiny checkpoint, and writes what held into docs/models.md.

python -m scripts.models_table
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor

from tests.nets import test_codec_nets as codec_oracle
from tests.nets import test_foreign_nets as foreign_oracle
from tests.nets import test_ssl_families as native_oracle
from tests.tiny_codecs import write_tiny_codec
from tests.tiny_foreign import upstream_model, write_tiny_foreign
from tests.tiny_models import write_tiny_model
from vocable.errors import InputError
from vocable.nets.codec_families import measure
from vocable.testing import LawBrokenError, check_codec, check_extractor, check_stream, noise
from vocable.tokenizers import LatentExtractor, NeuralCodec, SSLExtractor
from vocable.types import Audio

DOCUMENT = Path(__file__).parents[1] / "docs" / "models.md"
_START, _END = "<!-- table -->", "<!-- end of table -->"
_RATE = 16000


class Row(NamedTuple):
    family: str
    examples: str
    same_bits: str
    streaming: str
    parity: str


NATIVE = {
    "HuBERT base": ("hubert", False, "hubert-base-ls960, mHuBERT, DistilHuBERT, ContentVec"),
    "HuBERT large, xlarge": ("hubert", True, "hubert-large-ll60k, hubert-xlarge-ll60k"),
    "wav2vec 2.0 base": ("wav2vec2", False, "wav2vec2-base"),
    "wav2vec 2.0 large": ("wav2vec2", True, "wav2vec2-large-lv60, XLS-R"),
    "WavLM base": ("wavlm", False, "wavlm-base-plus"),
    "WavLM large": ("wavlm", True, "wavlm-large"),
    "UniSpeech": ("unispeech", True, "unispeech-large-1500h-cv"),
    "UniSpeech-SAT": ("unispeech-sat", False, "unispeech-sat-base-plus"),
    "data2vec-audio": ("data2vec-audio", False, "data2vec-audio-base"),
}
FOREIGN = {
    "SEW": ("sew", "sew-tiny-100k"),
    "SEW-D": ("sew-d", "sew-d-tiny-100k"),
    "wav2vec2-Conformer, relative": ("conformer-relative", "wav2vec2-conformer-rel-pos-large"),
    "wav2vec2-Conformer, rotary": ("conformer-rotary", "wav2vec2-conformer-rope-large"),
    "w2v-BERT 2.0": ("w2v-bert", "w2v-bert-2.0"),
    "Whisper's encoder": ("whisper", "whisper-tiny ... whisper-large-v3"),
}
CODECS = {
    "EnCodec 24 kHz": ("encodec-24k", "encodec_24khz"),
    "EnCodec 48 kHz": ("encodec-48k", "encodec_48khz"),
    "DAC 16, 24 kHz": ("dac-16k", "dac_16khz, dac_24khz"),
    "DAC 44.1 kHz": ("dac-44k", "dac_44khz"),
    "Mimi": ("mimi", "mimi"),
    "X-Codec": ("xcodec", "xcodec-hubert-librispeech"),
    "X-Codec 2": ("xcodec2", "xcodec2"),
    "NeuCodec": ("neucodec", "neucodec"),
}


def rows(work: Path) -> Iterator[Row]:
    for name, (family, large, examples) in NATIVE.items():
        folder = write_tiny_model(work / name, family, large=large)
        wave = noise(0.7, _RATE, 3)
        heard = (wave - wave.mean()) / wave.std(correction=0) if large else wave
        theirs = torch.stack(native_oracle.upstream(folder, heard)[0])
        yield ssl_row(name, examples, folder, wave, theirs, "transformers, own forward")
    for name, (variant, examples) in FOREIGN.items():
        folder, wave = write_tiny_foreign(work / name, variant), noise(0.7, _RATE, 3)
        heard = (wave - wave.mean()) / wave.std(correction=0) if variant in WAVEFORM else wave
        theirs = torch.stack(foreign_oracle.upstream(upstream_model(variant), variant, heard))
        yield ssl_row(f"{name} †", examples, folder, wave, theirs, "transformers")
    for name, (variant, examples) in CODECS.items():
        yield codec_row(name, variant, examples, str(write_tiny_codec(work / name, variant)))


WAVEFORM = {"sew", "sew-d", "conformer-relative", "conformer-rotary"}


def ssl_row(name: str, examples: str, folder: Path, wave: Tensor, theirs: Tensor, against: str) -> Row:
    extractor = SSLExtractor.from_pretrained(str(folder))
    ours = extractor.extract(Audio.of([wave], _RATE)).utterance(0)
    distance = max(float((a - b).norm() / b.norm()) for a, b in zip(ours, theirs[:, : ours.shape[1]], strict=True))
    parity = f"{against}, {len(ours)} layers: {'1e-5' if distance < 1e-5 else f'{distance:.0e}'}"
    return Row(name, examples, f"features {held(check_extractor, extractor)}", "no", parity)


def codec_row(name: str, variant: str, examples: str, folder: str) -> Row:
    codec, latents = NeuralCodec.from_pretrained(folder), LatentExtractor.from_pretrained(folder)
    try:
        with codec.streaming():
            streams = held(check_stream, codec)
    except InputError:
        streams = "no"
    wave = codec_oracle.samples(codec.net, 23)
    codes, sound = codec_oracle.upstream(variant, wave)
    tokens = codec.encode(Audio(wave, torch.tensor([wave.shape[-1]]), codec.sample_rate))
    equal = float((tokens.codes[:, : codes.shape[1]] == codes).float().mean())
    ours = codec.net.decode(codes)
    if codec.net.levels:  # transformers keeps the level as a float, vocable as a code
        ours = ours * measure(wave)[:, None, None]
    shared = min(ours.shape[-1], sound.shape[-1])  # transformers' DAC gives a few samples less
    distance = float((ours[..., :shared] - sound[..., :shared]).abs().max() / sound.abs().max())
    parity = f"transformers: {equal:.0%} of codes, samples {'1e-5' if distance < 1e-5 else f'{distance:.0e}'}"
    bits = f"codes, samples {held(check_codec, codec)}; latents {held(check_extractor, latents)}"
    return Row(name, examples, bits, streams, parity)


def held(check: Callable[[Any], None], component: object) -> str:
    """Whether a check passed."""
    try:
        check(component)
    except LawBrokenError as problem:
        return f"no: {problem}"
    return "yes"


def table(work: Path) -> str:
    lines = ["| family | for example | same bits | streaming | parity |", "|---|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows(work)])


def document(text: str, made: str) -> str:
    """The document with the table in its place."""
    return re.sub(f"{_START}.*{_END}", lambda _: f"{_START}\n{made}\n{_END}", text, flags=re.DOTALL)


def main() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as work:
        DOCUMENT.write_text(document(DOCUMENT.read_text(), table(Path(work))))


if __name__ == "__main__":
    main()
