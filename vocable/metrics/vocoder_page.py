"""The page on a vocoder and a store of tokens: what it makes of them, and which layers it listens to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from vocable.audio import AudioStream, resample
from vocable.corpus import Failure
from vocable.errors import AudioError, InputError
from vocable.metrics.reconstruction import mel_distance, stoi
from vocable.metrics.report import Clip, write_page
from vocable.progress import Progress, Watcher, unwatched
from vocable.store import Entry, TokenStore
from vocable.types import Audio, Tokens, TokenSpec
from vocable.vocoders.style import own_voice
from vocable.vocoders.units import UnitVocoder

_LONGEST = 20  # seconds of a clip: what is longer is cut


def write_vocoder_page(
    path: Path,
    store: TokenStore,
    vocoder: UnitVocoder,
    *,
    title: str,
    clips: int = 8,
    commands: Sequence[str] = (),
    watcher: Watcher = unwatched,
) -> list[Failure]:
    """Writes the page: original and resynthesis of `clips` recordings, and the weights of the layers.

    The means are over all frames of the store; the clips are evenly spaced in the order of ids, each in its speaker's
    voice where the vocoder has learned it, and no longer than 20 s. Returns the clips whose original cannot be read,
    which are left out. SpecError if the vocoder does not cover the store's tokens, OutputError if `path` cannot be
    written. InputError for an empty store.
    """
    vocoder.require(store.spec)
    ids = sorted(store.ids())
    if not ids:
        raise InputError(f"expected a store with recordings, got none in {store.path}")
    wanted = {ids[index * len(ids) // clips] for index in range(clips)}
    means, shown, failures = _Means(vocoder), [], []
    progress = Progress(len(ids))
    for entry in store:
        means.add(entry, store.spec)
        if entry.id in wanted:
            try:
                shown.append(_clip(entry, store.spec, vocoder))
            except (AudioError, OSError) as problem:
                failures.append(Failure(entry.id, entry.path, str(problem)))
        progress.done += 1
        progress.audio_seconds += entry.samples / store.spec.sample_rate
        watcher(progress)
    shown.sort(key=lambda clip: clip.id)
    facts = _facts(store, vocoder, means)
    write_page(path, title=title, facts=facts, clips=shown, commands=commands, layers=means.layers())
    return failures


class _Means:
    """The mean weight of each layer over all frames that were added."""

    def __init__(self, vocoder: UnitVocoder) -> None:
        self._vocoder = vocoder
        self._sums = torch.zeros(len(vocoder.layers), dtype=torch.float64)
        self.frames = 0

    def add(self, entry: Entry, spec: TokenSpec) -> None:
        """The frames of one recording."""
        self._sums += self._vocoder.layer_weights(entry.tokens(spec))[0].double().sum(1)
        self.frames += entry.codes.shape[1]

    def layers(self) -> dict[str, float]:
        """Name -> mean weight; without the layers that the tokens do not have."""
        means = (self._sums / max(1, self.frames)).tolist()
        return {name: mean for name, mean in zip(self._vocoder.layers, means, strict=True) if mean}


def _clip(entry: Entry, spec: TokenSpec, vocoder: UnitVocoder) -> Clip:
    tokens = _beginning(entry, spec)
    original = _original(entry.path)
    resynthesis = own_voice(entry, vocoder).decode(tokens)
    weights = vocoder.layer_weights(tokens)[0]
    return Clip(
        id=entry.id,
        text=str(entry.fields.get("text", "")),
        speaker=str(entry.fields.get("speaker", "")),
        original=original,
        resynthesis=resynthesis,
        tokens=tokens,
        scores=_scores(original, resynthesis),
        layers={name: row for name, row in zip(vocoder.layers, weights, strict=True) if bool(row.any())},
    )


def _beginning(entry: Entry, spec: TokenSpec) -> Tokens:
    """At most so many seconds of the tokens as a clip may have."""
    samples = min(entry.samples, _LONGEST * spec.sample_rate)
    codes = entry.codes[:, : spec.num_frames(samples)].astype(np.int64)
    return Tokens.of([torch.from_numpy(codes)], spec, [samples])


def _original(path: str) -> Audio:
    """The recording, at most so many seconds of it."""
    if not path:
        raise AudioError("tokens that came from no recording have no original to compare with")
    stream = AudioStream(path)
    most, blocks = _LONGEST * stream.sample_rate, []
    for block in stream:
        blocks.append(block)
        if sum(map(len, blocks)) >= most:
            break
    return Audio.of([torch.from_numpy(np.concatenate(blocks)[:most])], stream.sample_rate)


def _scores(original: Audio, resynthesis: Audio) -> dict[str, float | None]:
    """Of the two at the vocoder's rate, as far as both go."""
    pair = [resample(original, resynthesis.sample_rate).waveform(0), resynthesis.waveform(0)]
    length = min(wave.shape[-1] for wave in pair)
    real, fake = (Audio.of([wave[:, :length]], resynthesis.sample_rate) for wave in pair)
    judged = {"STOI": stoi(real, fake), "mel distance": mel_distance(real, fake)}
    return {name: None if scores.failed else scores.mean for name, scores in judged.items()}


def _facts(store: TokenStore, vocoder: UnitVocoder, means: _Means) -> Mapping[str, str]:
    return {
        "vocoder": vocoder.fingerprint[:12],
        "tokenizer": store.spec.source[:12],
        "layers": ", ".join(means.layers()),
        "frame rate": f"{store.spec.frame_rate:g} Hz",
        "bitrate": f"{store.spec.bitrate:,.0f} bit/s",
        "sound": f"{vocoder.sample_rate / 1000:g} kHz",
        "frames": f"{means.frames:,}",
    }
