"""The voice of somebody the vocoder has never heard: the vector that makes it sound most like a recording."""

from __future__ import annotations

import torch
from torch import Tensor

from vocable.audio import conform
from vocable.errors import InputError
from vocable.nets.losses import SpectralLoss
from vocable.nets.threads import one_thread_each
from vocable.types import Audio, Tokens
from vocable.vocoders.units import Source, UnitVocoder

_CROP_SECONDS = 1.0
_BATCH = 4
_LEAST_SECONDS = 0.5


def fit_voice(vocoder: UnitVocoder, tokens: Tokens, audio: Audio, *, steps: int = 100, seed: int = 0) -> Tensor:
    """A voice [dim] for `vocoder.speaking`, found by gradients: the network stays as it is, only the vector learns.

    The voice is a mixture of those learned, so that little audio is enough: the weights of the mixture are what is
    fitted, to lower the spectral distance between the recordings and what their own tokens sound like. Starts from
    equal weights, their mean. A few seconds of audio are best.

    tokens: of the recordings in `audio`, by the tokenizer that the vocoder was trained for.
    InputError for a vocoder without voices, or less than half a second of audio. SpecError as for `decode`.
    """
    if not vocoder.speakers:
        raise InputError(
            "expected a vocoder that has learned voices, got one without",
            hint="train one with `vocable train vocoder --speakers FIELD`",
        )
    vocoder.require(tokens.spec)
    if len(tokens) != len(audio):
        raise InputError(f"expected tokens of every recording, got {len(tokens)} of {len(audio)}")
    audio = conform(audio, vocoder.sample_rate)
    if float(audio.seconds.sum()) < _LEAST_SECONDS:
        raise InputError(f"expected half a second of the voice or more, got {float(audio.seconds.sum()):.2f} s")
    generator = torch.Generator().manual_seed(seed)
    loss = SpectralLoss(vocoder.sample_rate).to(vocoder.device)
    table = vocoder.decoder.voices.detach()
    mixture = torch.zeros(len(table), device=vocoder.device, requires_grad=True)
    optimizer = torch.optim.Adam([mixture], lr=0.3)
    crops = _Crops(vocoder, tokens, audio)
    with one_thread_each():  # sums over threads would make it another voice on another machine
        for _ in range(steps):
            real, fake = crops.draw(mixture.softmax(0) @ table, generator)
            optimizer.zero_grad()
            loss(real, fake).mel.backward()
            optimizer.step()
    return (mixture.softmax(0) @ table).detach()


class _Crops:
    """Pieces of the recordings, and how their tokens sound with a voice."""

    def __init__(self, vocoder: UnitVocoder, tokens: Tokens, audio: Audio) -> None:
        self._vocoder, hop = vocoder, vocoder.grid.hop_length
        frames = [n // hop for n in audio.lengths.tolist()]
        self._crop = min(round(_CROP_SECONDS * vocoder.sample_rate / hop), max(frames))
        rows = [row for row, n in enumerate(frames) if n >= self._crop]  # a short one beside long ones is left out
        self._sources = [Source(vocoder, tokens.utterance(row), tokens.spec) for row in rows]
        self._waves = [audio.waveform(row)[0] for row in rows]
        self._frames = [frames[row] for row in rows]

    def draw(self, voice: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        hop, real, frames = self._vocoder.grid.hop_length, [], []
        shares = torch.tensor(self._frames, dtype=torch.float64)
        for row in torch.multinomial(shares, _BATCH, replacement=True, generator=generator).tolist():
            first = int(torch.randint(self._frames[row] - self._crop + 1, (1,), generator=generator))
            real.append(self._waves[row][first * hop : (first + self._crop) * hop])
            frames.append(self._sources[row].frames(first, first + self._crop, voice))
        waveforms = self._vocoder.decoder.generator(torch.cat(frames))
        return torch.stack(real).to(waveforms), waveforms
