"""One self-contained HTML page on which to hear the original and the resynthesis, and to see the tokens between them.

All that comes from data travels as escaped JSON, and the page's script puts it on screen as text, never as markup.
"""

from __future__ import annotations

import hashlib
import html
import io
import json
import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import soundfile
import torch
from torch import Tensor

from vocable.errors import InputError, OutputError
from vocable.metrics.reconstruction import mel_spectrogram
from vocable.metrics.tokens import frame_centres
from vocable.types import Audio, Codebook, Tokens

WINDOW, HOP, BANDS = 0.032, 0.0125, 80  # of the spectrograms: fine enough for a page that is 1,200 pixels wide
RANGE = 70.0  # dB that the colours span, below the loudest point of the two
QUIET = -60.0  # dB: what is never louder stays dark


@dataclass(frozen=True, eq=False)
class Clip:
    """One utterance of the page: original and resynthesis (B=1, mono, any rates), tokens (B=1), and scores by name.

    A score of None, or NaN, is one that failed, and is shown as such. layers: weights [T], 0 to 1, of each layer in the
    mixture that the resynthesis was made of. Raises InputError where the audio is empty, not mono, not finite, or holds
    several utterances, or where weights have another length than the tokens.
    """

    id: str
    text: str
    speaker: str
    original: Audio
    resynthesis: Audio
    tokens: Tokens
    scores: Mapping[str, float | None]
    layers: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, audio in (("original", self.original), ("resynthesis", self.resynthesis)):
            if audio.samples.shape[:2] != (1, 1) or not int(audio.lengths[0]):
                raise InputError(
                    f"expected one mono {name} for clip {self.id!r}, got shape {list(audio.samples.shape)}"
                )
            if not bool(audio.waveform(0).isfinite().all()):
                raise InputError(f"expected finite samples in the {name} of clip {self.id!r}")
        if len(self.tokens) != 1:
            raise InputError(f"expected the tokens of one utterance for clip {self.id!r}, got {len(self.tokens)}")
        lengths = {tuple(weights.shape) for weights in self.layers.values()}
        if not lengths <= {(int(self.tokens.lengths[0]),)}:
            raise InputError(f"expected a weight for each frame of clip {self.id!r}, got shapes {sorted(lengths)}")


def write_page(
    path: Path,
    *,
    title: str,
    facts: Mapping[str, str],
    clips: Sequence[Clip],
    commands: Sequence[str] = (),
    layers: Mapping[str, float] | None = None,
    links: Mapping[str, str] | None = None,
) -> None:
    """Writes the page; it appears whole or not at all, and opens from disk without a network.

    facts: label -> value, the grid at the top; commands: what made the page, shown at its end; layers: mean weight of
    each layer, 0 to 1, where a vocoder mixes several; links: label -> address of another page, relative to this one.
    Raises OutputError if `path` cannot be written.
    """
    save_page(path, render_page(title=title, facts=facts, clips=clips, commands=commands, layers=layers, links=links))


def save_page(path: Path, content: str) -> None:
    """Writes a page, whole or not at all. Raises OutputError if `path` cannot be written."""
    partial = path.with_name(f".{uuid4().hex}.partial")
    try:
        try:
            partial.write_text(content, encoding="utf-8", newline="\n")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as problem:
        raise OutputError(f"cannot write {path}: {problem.strerror or problem}") from problem


def render_page(
    *,
    title: str,
    facts: Mapping[str, str],
    clips: Sequence[Clip],
    commands: Sequence[str] = (),
    layers: Mapping[str, float] | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """The text of the page (see `write_page`)."""
    data = {
        "title": title,
        "facts": list(facts.items()),
        "clips": [_clip(clip) for clip in clips],
        "commands": list(commands),
        "layers": list((layers or {}).items()),
        "links": list((links or {}).items()),
    }
    return fill(template("page.html"), {"TITLE": escape(title), "DATA": as_json(data)})


def template(name: str) -> str:
    """The text of a page of this package, with {{NAMES}} of what is to stand there."""
    return files("vocable.metrics").joinpath(name).read_text(encoding="utf-8")


def fill(page: str, fields: Mapping[str, str]) -> str:
    """A template with its fields, markup by then. Only its own style and script may run, named by their hashes."""
    known = {**fields, "POLICY": _policy(page)}
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda match: known[match[1]], page)


def escape(text: str) -> str:
    """Text as markup, in ASCII, whatever characters it is made of."""
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _policy(page: str) -> str:
    def source(tag: str) -> str:
        body = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = hashlib.sha256((body[1] if body else "").encode()).digest()
        return f"{tag}-src 'sha256-{b64encode(digest).decode()}'"

    rest = "media-src blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; {source('style')}; {source('script')}; {rest}"


def as_json(data: Any) -> str:
    """Data as it may stand in a script element of a page. ValueError for NaN and infinities."""
    # inside a script element only `<` could end it; `>` and `&` are escaped for readers less careful than a browser
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _clip(clip: Clip) -> dict[str, Any]:
    top = max(clip.original.sample_rate, clip.resynthesis.sample_rate) / 2
    levels = [_levels(audio, top) for audio in (clip.original, clip.resynthesis)]
    peak = max(QUIET, *(float(level.max()) for level in levels))
    return {
        "id": clip.id,
        "text": clip.text,
        "speaker": clip.speaker,
        "top": top,
        "original": _sound(clip.original, levels[0], peak),
        "resynthesis": _sound(clip.resynthesis, levels[1], peak),
        "ribbons": _ribbons(clip.tokens),
        "layers": _weights(clip),
        "scores": [(name, _number(value)) for name, value in clip.scores.items()],
    }


def _sound(audio: Audio, levels: Tensor, peak: float) -> dict[str, Any]:
    pixels = ((levels - peak + RANGE) * (255 / RANGE)).clamp(0, 255).round().to(torch.uint8)
    return {
        "rate": audio.sample_rate,
        "seconds": float(audio.seconds[0]),
        "flac": _flac(audio),
        "frames": pixels.shape[1],
        "hop": round(HOP * audio.sample_rate) / audio.sample_rate,
        "pixels": b64encode(pixels.numpy().tobytes()).decode(),
    }


def _flac(audio: Audio) -> str:
    stream = io.BytesIO()
    wave = audio.waveform(0)[0].detach().cpu().float().clamp(-1, 1).numpy()
    soundfile.write(stream, wave, audio.sample_rate, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return b64encode(stream.getvalue()).decode()


def _levels(audio: Audio, top: float) -> Tensor:
    """Log-mel levels [BANDS, frames] in dB below full scale."""
    wave = audio.waveform(0)[0].detach().cpu().float()
    mel = mel_spectrogram(wave, audio.sample_rate, window=WINDOW, hop=HOP, bands=BANDS, top=top)
    return 20 * mel.clamp(min=1e-7).log10()


def _clock(tokens: Tokens) -> dict[str, float]:
    """Seconds: where the first frame begins, and how long each is drawn."""
    step = tokens.spec.hop_length / tokens.spec.sample_rate
    return {"start": float(frame_centres(tokens.spec, 1)[0]) - step / 2, "step": step}


def _weights(clip: Clip) -> dict[str, Any] | None:
    """Weights of the layers as bytes, one layer after the other, 255 for 1."""
    if not clip.layers:
        return None
    rows = torch.stack([weights.detach().cpu().float() for weights in clip.layers.values()])
    pixels = (rows * 255).clamp(0, 255).round().to(torch.uint8)
    packed = b64encode(pixels.numpy().tobytes()).decode()
    return {"labels": list(clip.layers), "frames": pixels.shape[1], "pixels": packed, **_clock(clip.tokens)}


def _ribbons(tokens: Tokens) -> list[dict[str, Any]]:
    """Per codebook the runs of equal codes as a flat list (code, frames, code, frames ...) and the clock to draw by."""

    def ribbon(book: Codebook, codes: Tensor) -> dict[str, Any]:
        values, counts = torch.unique_consecutive(codes, return_counts=True)
        runs = list(chain.from_iterable(zip(values.tolist(), counts.tolist(), strict=True)))
        return {"label": book.label, "size": book.size, "runs": runs, **_clock(tokens)}

    return [ribbon(book, codes) for book, codes in zip(tokens.spec.codebooks, tokens.utterance(0), strict=True)]


def _number(value: float | None) -> float | str | None:
    # JSON has no infinities, and JavaScript reads them from text
    if value is None or math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
