"""What the trainer asks of a unit vocoder in training: batches of crops, their rendition, and a judgement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vocable import audio
from vocable.files import inside
from vocable.nets.threads import one_thread_each
from vocable.nets.unit_decoder import UnitDecoder
from vocable.training.adversarial import Rendition
from vocable.training.clips import ClipCache
from vocable.training.crops import Crops, Lottery, random_numbers
from vocable.training.prefetch import Batch
from vocable.training.work import LATEST, ORIGINALS
from vocable.types import Audio
from vocable.vocoders.units import UnitVocoder

Judge = Callable[[Audio, Audio], Mapping[str, float]]
"""Recordings and their resyntheses, of equal lengths -> figures by name, such as "mel" and "stoi"."""

_JUDGED_SECONDS = 20.0  # of each recording at most
_HEARD = 4  # recordings whose resyntheses are written


def no_figures(real: Audio, fake: Audio) -> dict[str, float]:
    """Judges nothing."""
    return {}


@dataclass(frozen=True)
class Selection:
    """Some recordings of a cache, by number, and for each recording of the cache whose voice it is, -1 if unknown."""

    clips: ClipCache
    numbers: Sequence[int]
    voices: Sequence[int]


class VocoderTask:
    """A `UnitDecoder` learns to turn the codes of crops into their sound.

    training: recordings to learn from. judged: recordings to judge by, maybe none.
    layer_dropout: half of the crops show random layers, one to all of them, every number as often, as in Mousavi et
        al. 2024; the other half all layers, which is how most will decode, so that it does not pay for the rest.
    speakers: names of the voices.
    samples: a folder for originals and resyntheses, the latter in its folder "latest" (see `Diary`).
    InputError if there is less sound than one crop.
    """

    def __init__(
        self,
        decoder: UnitDecoder,
        training: Selection,
        judged: Selection,
        *,
        crops: Crops,
        layer_dropout: bool = True,
        speakers: Sequence[str] = (),
        seed: int = 0,
        judge: Judge = no_figures,
        samples: Path | None = None,
    ) -> None:
        self._decoder, self._training, self._judged = decoder, training, judged
        self._crops, self._dropout, self._seed = crops, layer_dropout and len(decoder.layers) > 1, seed
        self._speakers, self._judge, self._samples = tuple(speakers), judge, samples
        clips = training.clips
        self._frames = crops.frames(clips.audio.sample_rate, clips.grid.hop_length)
        self._lottery = Lottery([clips.num_frames(index) for index in training.numbers], self._frames)

    @property
    def network(self) -> nn.Module:
        """The decoder."""
        return self._decoder

    @property
    def sample_rate(self) -> int:
        """Hz of the sound."""
        return self._training.clips.audio.sample_rate

    def batch(self, step: int, *, rank: int, world: int) -> Batch:
        """The crops of a step in one process: codes [B, K, T], phase [B, T], present [B, L], speaker [B], real [B, N].

        `length` [B] tells how many of the samples are the recording's; zeros follow.
        """
        random = random_numbers(self._seed, step, rank)
        rows = [self._row(random) for _ in range(self._crops.batch)]
        codes, phase, real, speaker, length = (np.stack(column) for column in zip(*rows, strict=True))
        batch = {"codes": codes, "phase": phase, "real": real, "speaker": speaker, "length": length}
        return {name: torch.from_numpy(values) for name, values in batch.items()} | {"present": self._present(random)}

    def render(self, batch: Batch) -> Rendition:
        """What the decoder makes of the codes. Beyond the end of a recording there is silence, whatever it makes."""
        speaker = batch["speaker"] if self._speakers else None
        fake = self._decoder(batch["codes"], batch["phase"], batch["present"], speaker)
        within = torch.arange(fake.shape[-1], device=fake.device) < batch["length"][:, None]
        return Rendition(batch["real"], fake * within, {})

    def judge(self) -> dict[str, float]:
        """Figures of the recordings to judge by, decoded from all layers as a finished vocoder would, 20 s of each."""
        clips, numbers = self._judged.clips, self._judged.numbers
        if not numbers:
            return {}
        device = str(next(self._decoder.parameters()).device)
        vocoder = UnitVocoder(self._decoder, clips.spec, self.sample_rate, speakers=self._speakers, device=device)
        with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
            pairs = list(pool.map(lambda index: self._resynthesis(vocoder, index), numbers))
        if self._samples is not None:
            for index, (real, fake) in list(zip(numbers, pairs, strict=True))[:_HEARD]:
                self._write(clips.clips[index].id, real, fake)
        reals, fakes = (Audio.of(waves, self.sample_rate) for waves in zip(*pairs, strict=True))
        return dict(self._judge(reals, fakes))

    def _row(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
        drawn, first = self._lottery.draw(random)
        clips, index = self._training.clips, self._training.numbers[drawn]
        codes, phase, real = clips.crop(index, first, self._frames)
        length = clips.clips[index].recording.samples - first * clips.grid.hop_length
        return codes, phase, real, self._training.voices[index], length

    def _present(self, random: np.random.Generator) -> Tensor:
        everything = torch.ones(self._crops.batch, len(self._decoder.layers), dtype=torch.bool)
        if not self._dropout:
            return everything
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        some = self._decoder.random_presence(self._crops.batch, generator)
        return torch.where(torch.rand(self._crops.batch, 1, generator=generator) < 0.5, everything, some)

    def _resynthesis(self, vocoder: UnitVocoder, index: int) -> tuple[Tensor, Tensor]:
        """The beginning of a recording, and what its codes sound like."""
        clips, voice = self._judged.clips, self._judged.voices[index]
        clip, limit = clips.clips[index], round(_JUDGED_SECONDS * self.sample_rate)
        voiced = vocoder.speaking(self._speakers[voice]) if voice >= 0 else vocoder
        blocks: list[Tensor] = []
        for block in voiced.decode_blocks(torch.from_numpy(clips.codes(index)), clip.samples):
            blocks.append(block)
            if sum(map(len, blocks)) >= limit:
                break
        fake = torch.cat(blocks)[:limit]
        return torch.from_numpy(clips.audio.crop(clip.recording, 0, len(fake))), fake

    def _write(self, name: str, real: Tensor, fake: Tensor) -> None:
        for folder, wave in ((ORIGINALS, real), (LATEST, fake)):
            path = inside((self._samples or Path()) / folder, name, ".wav")
            audio.write(path, Audio.of([wave.float()], self.sample_rate))
