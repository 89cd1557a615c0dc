"""Speech recognizers by name: two with weights in a package, and checkpoints of transformers in a local folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vocable.errors import ArtifactError, InputError, MissingDependencyError
from vocable.metrics.checkpoints import architecture, loaded, network_of
from vocable.metrics.listening import RATE, stretches

Listener = Callable[[np.ndarray], str]
"""From a waveform [n] (float32, 16 kHz) to what is said in it, as the recognizer spells it."""

_WHISPER_SECONDS = _CTC_SECONDS = 30.0
_SHORTEST = 0.1  # seconds; what is shorter is heard with silence behind it


@dataclass(frozen=True, slots=True)
class Recognizer:
    """A recognizer that can be opened. library, needs, weights: as a `Metric` has them."""

    name: str
    opened: Callable[[], Listener]
    library: str
    needs: str | None = None
    weights: Path | None = None


def recognizer(name: str) -> Recognizer:
    """The recognizer of a name, or of a folder with config.json.

    InputError if it is neither, ArtifactError if no recognizer of speech is in the folder.
    """
    if name in _PACKAGED:
        return _PACKAGED[name]
    folder = Path(name).expanduser()
    if not name or not folder.is_dir():
        raise InputError(
            f"expected a speech recognizer, got {name!r}",
            hint=f"{', '.join(_PACKAGED)}, or the folder of a transformers checkpoint (CTC or Whisper)",
        )
    kind = _kind(folder)
    return Recognizer(name, lambda: _OPENED[kind](folder), "transformers", weights=folder)


def _kind(folder: Path) -> str:
    found = architecture(folder)
    kind = next((end for end in _OPENED if found.endswith(end)), None)
    if kind is None:
        raise ArtifactError(
            f"expected a speech recognizer in {folder}, got {found}",
            hint="one whose architecture ends in ForCTC, or WhisperForConditionalGeneration",
        )
    return kind


def _pocketsphinx() -> Listener:
    try:
        from pocketsphinx import Decoder
    except ImportError as problem:
        raise MissingDependencyError(
            "expected the package pocketsphinx, which is not installed", hint="pip install 'vocable[judges]'"
        ) from problem
    decoder = Decoder(samprate=float(RATE), cmn="batch", loglevel="FATAL")

    def listen(wave: np.ndarray) -> str:
        decoder.reinit_feat()  # what it heard before must not matter
        decoder.start_utt()
        decoder.process_raw((_long_enough(wave) * 32767).round().astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return str(found.hypstr) if found is not None else ""

    return listen


def _moonshine() -> Listener:
    try:
        from moonshine_voice import ModelArch, Transcriber, get_model_path
    except ImportError as problem:
        raise MissingDependencyError(
            "expected the package moonshine-voice, which is not installed", hint="pip install 'vocable[moonshine]'"
        ) from problem
    transcriber = Transcriber(str(get_model_path("tiny-en")), ModelArch.TINY)

    def listen(wave: np.ndarray) -> str:
        found = transcriber.transcribe_without_streaming(_long_enough(wave).tolist(), RATE)
        return " ".join(line.text for line in found.lines)

    return listen


def _ctc(folder: Path) -> Listener:
    from transformers import AutoFeatureExtractor, AutoModelForCTC, Wav2Vec2CTCTokenizer

    extractor = loaded(AutoFeatureExtractor, folder)
    tokenizer = loaded(Wav2Vec2CTCTokenizer, folder)
    network = network_of(AutoModelForCTC, folder)

    def heard(part: np.ndarray) -> str:
        inputs = extractor(_long_enough(part), sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode():
            logits = network(**inputs).logits
        return str(tokenizer.decode(logits[0].argmax(-1).tolist(), skip_special_tokens=True))

    return lambda wave: " ".join(map(heard, stretches(wave, _CTC_SECONDS)))


def _whisper(folder: Path) -> Listener:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    processor = loaded(WhisperProcessor, folder)
    network = network_of(WhisperForConditionalGeneration, folder)

    def heard(part: np.ndarray) -> str:
        inputs = processor(_long_enough(part), sampling_rate=RATE, return_tensors="pt", return_attention_mask=True)
        with torch.inference_mode():
            codes = network.generate(**inputs, do_sample=False, num_beams=1)
        return str(processor.batch_decode(codes, skip_special_tokens=True)[0])

    return lambda wave: " ".join(map(heard, stretches(wave, _WHISPER_SECONDS)))


def _long_enough(wave: np.ndarray) -> np.ndarray:
    return np.pad(wave, (0, max(0, round(_SHORTEST * RATE) - len(wave))))


_OPENED: dict[str, Callable[[Path], Listener]] = {"ForCTC": _ctc, "WhisperForConditionalGeneration": _whisper}
_PACKAGED = {
    "pocketsphinx": Recognizer("pocketsphinx", _pocketsphinx, "pocketsphinx", "judges"),
    "moonshine": Recognizer("moonshine", _moonshine, "moonshine-voice", "moonshine"),
}
