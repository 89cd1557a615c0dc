"""What the trainer asks of a codec in training: batches of crops, their rendition, and a judgement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor, nn

from vocable import audio
from vocable.clock import resampled_length
from vocable.files import inside
from vocable.tokenizers.codec import NeuralCodec
from vocable.training.adversarial import Rendition
from vocable.training.audio_cache import AudioCache, Recording
from vocable.training.codec_network import CodecNetwork, Teacher
from vocable.training.crops import Crops, Lottery, random_numbers
from vocable.training.prefetch import Batch
from vocable.training.vocoder_task import Judge, no_figures
from vocable.training.work import LATEST, ORIGINALS
from vocable.types import Audio, Tokens

_JUDGED_SECONDS = 20.0  # of each recording at most
_HEARD = 4  # recordings whose resyntheses are written
_FIRST = 4  # latents for each entry of a codebook that it begins with
_LEAST = 1024


class CodecTask:
    """A `CodecNetwork` learns to give crops back.

    training: recordings of `cache` to learn from. judged: a cache and its recordings to judge by.
    teacher: whose features the first codebook is to tell; None for nobody's.
    samples: a folder for originals and resyntheses, the latter in its folder "latest" (see `Diary`).
    InputError if there is less sound than one crop.
    """

    def __init__(
        self,
        network: CodecNetwork,
        cache: AudioCache,
        training: Sequence[Recording],
        judged: tuple[AudioCache, Sequence[Recording]],
        *,
        crops: Crops,
        teacher: Teacher | None = None,
        seed: int = 0,
        judge: Judge = no_figures,
        samples: Path | None = None,
    ) -> None:
        self._network, self._cache, self._training, self._judged = network, cache, tuple(training), judged
        self._crops, self._teacher, self._seed, self._judge, self._samples = crops, teacher, seed, judge, samples
        self._hop = network.design.hop_length
        self._frames = crops.frames(cache.sample_rate, self._hop)
        self._lottery = Lottery([-(-recording.samples // self._hop) for recording in self._training], self._frames)

    @property
    def network(self) -> nn.Module:
        """The codec in training."""
        return self._network

    @property
    def sample_rate(self) -> int:
        """Hz of the sound."""
        return self._cache.sample_rate

    def batch(self, step: int, *, rank: int, world: int) -> Batch:
        """The crops of a step in one process: real [B, N]; with a teacher, heard [b, M], the first at its rate."""
        random = random_numbers(self._seed, step, rank)
        real = np.stack([self._crop(random) for _ in range(self._crops.batch)])
        batch = {"real": torch.from_numpy(real)}
        if self._teacher is None:
            return batch
        count = max(1, round(self._network.design.taught * len(real)))
        return batch | {"heard": torch.from_numpy(self._heard(real[:count], self._teacher))}

    def render(self, batch: Batch) -> Rendition:
        """What the codec makes of crops, the losses of its quantizer, and of what it did not tell."""
        taught = self._teacher.features(batch["heard"], self._frames) if self._teacher else None
        fake, losses = self._network(batch["real"], taught)
        return Rendition(batch["real"], fake, losses)

    def begin(self) -> None:
        """Starts the quantizer from latents of crops of the first steps, enough for its largest codebook."""
        wanted = max(_LEAST, _FIRST * self._network.design.quantizer.size)
        count = math.ceil(wanted / (self._crops.batch * self._frames))
        device = next(self._network.parameters()).device
        self._network.begin([self.batch(step, rank=0, world=1)["real"].to(device) for step in range(count)])

    def judge(self) -> dict[str, float]:
        """Figures of the recordings to judge by, through the codec as it would be saved, 20 s of each.

        usage: share of the entries that their codes use, or could use in so many frames; the mean over codebooks.
        """
        cache, recordings = self._judged
        if not recordings:
            return {}
        device = next(self._network.parameters()).device
        codec = NeuralCodec(*self._network.freeze(), device=str(device))
        limit = round(_JUDGED_SECONDS * cache.sample_rate)
        waves = [torch.from_numpy(cache.crop(r, 0, min(limit, r.samples))) for r in recordings]
        real = Audio.of(waves, cache.sample_rate)
        tokens = codec.encode(real)
        fake = codec.decode(tokens)
        if self._samples is not None:
            for index, recording in enumerate(recordings[:_HEARD]):
                self._write(recording.id, real.waveform(index), fake.waveform(index))
        return {**self._judge(real, fake), "usage": _usage(tokens)}

    def _crop(self, random: np.random.Generator) -> np.ndarray:
        index, first = self._lottery.draw(random)
        return self._cache.crop(self._training[index], first * self._hop, self._frames * self._hop)

    def _heard(self, real: np.ndarray, teacher: Teacher) -> np.ndarray:
        rate, wanted = self._cache.sample_rate, teacher.extractor.sample_rate
        if rate == wanted:
            return real
        due = resampled_length(real.shape[1], rate, wanted)
        # channels are resampled each on its own: crops stand for them
        heard = soxr.resample(real.T, rate, wanted)[:due].T
        return np.pad(heard, [(0, 0), (0, due - heard.shape[1])])

    def _write(self, name: str, real: Tensor, fake: Tensor) -> None:
        for folder, wave in ((ORIGINALS, real), (LATEST, fake)):
            path = inside((self._samples or Path()) / folder, name, ".wav")
            audio.write(path, Audio.of([wave.cpu()], self.sample_rate))


def _usage(tokens: Tokens) -> float:
    codes = torch.cat([tokens.utterance(row) for row in range(len(tokens))], dim=1)
    books = zip(codes, tokens.spec.codebooks, strict=True)
    shares = [len(row.unique()) / min(book.size, len(row)) for row, book in books]
    return sum(shares) / len(shares)
