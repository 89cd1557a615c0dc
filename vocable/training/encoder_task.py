"""What an encoder sees in a step of training: crops of spectra, warped, with spans hidden; and how it is judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vocable.errors import InputError
from vocable.nets.masked_prediction import MaskedPrediction, Prediction, standardized
from vocable.nets.vocal_tract import warped
from vocable.training.crops import Crops, Lottery, random_numbers
from vocable.training.encoder_frames import FrameCache
from vocable.training.prefetch import Batch

_JUDGED_SEED = 2**31  # no step has this number
_JUDGED_SECONDS = 20.0
_JUDGED_BATCH = 16


@dataclass(frozen=True, slots=True)
class Masking:
    """Which frames are hidden, and what for.

    start: chance of each frame to begin a hidden span. span: its length in frames. HuBERT's are .08 and 10, which hide
        some 55 % of all frames.
    seen: weight of the loss at frames that are not hidden, beside 1 where they are. HuBERT's is 0; so small a network
        learns nothing of hidden frames either before it tells the seen ones: after 300 steps of 32 s with units of mfcc
        both losses stood at 6.0 nats of 6.2 with weight 0, and at 5.2 (hidden) and 2.8 (seen) with weight 1.
    warp: frequencies are multiplied by up to so much, or divided, another factor for each crop; 1 leaves them.
    """

    start: float = 0.08
    span: int = 10
    seen: float = 1.0
    warp: float = 1.2

    def __post_init__(self) -> None:
        if not (0 < self.start < 1 and self.span >= 1 and self.seen >= 0 and 1 <= self.warp <= 1.6):
            raise InputError(f"expected spans of at least 1 frame and a warp of 1 to 1.6, got {self}")

    def draw(self, random: np.random.Generator, crops: int, frames: int) -> np.ndarray:
        """Which frames [crops, frames] are hidden; spans overlap, and may begin before the crop."""
        starts = random.random((crops, frames + self.span - 1)) < self.start
        sums = np.cumsum(np.pad(starts, [(0, 0), (1, 0)]), axis=1)
        return np.asarray(sums[:, self.span :] > sums[:, : -self.span])

    def factors(self, random: np.random.Generator, crops: int) -> np.ndarray:
        """A factor of frequency for each crop, [crops] float32, the logarithm uniform."""
        bound = math.log(self.warp)
        return np.exp(random.uniform(-bound, bound, crops)).astype(np.float32)


class EncoderTask:
    """A network learns to tell the codes of masked frames.

    training, held: stretches of the cache to learn from, and to judge by. InputError if they hold less than a crop.
    """

    def __init__(
        self,
        network: MaskedPrediction,
        cache: FrameCache,
        training: Sequence[int],
        held: Sequence[int],
        *,
        crops: Crops,
        masking: Masking,
        seed: int = 0,
    ) -> None:
        self.network, self.masking = network, masking
        self._cache, self._training, self._held, self._seed = cache, tuple(training), tuple(held), seed
        self._batch, self._frames = crops.batch, crops.frames(network.sample_rate, network.hop_length)
        self._lottery = Lottery([cache.stretches[number].frames for number in self._training], self._frames)

    @property
    def seconds(self) -> float:
        """Of audio in a step of one process."""
        return self._batch * self._frames * self.network.hop_length / self.network.sample_rate

    def batch(self, step: int, *, rank: int, world: int) -> Batch:
        """The crops of a step in one process, a function of the arguments: mel [B, 2 T, M] float16, codes [B, T, K],
        masked [B, T] and factors [B].
        """
        random = random_numbers(self._seed, step, rank)
        places = [self._lottery.draw(random) for _ in range(self._batch)]
        crops = [self._cache.crop(self._training[index], first, self._frames) for index, first in places]
        batch = self._joined(crops, random)
        return batch | {"factors": torch.from_numpy(self.masking.factors(random, self._batch))}

    def predict(self, batch: Batch) -> Prediction:
        """What the network says of a batch, on the network's device."""
        mel, codes = batch["mel"].float(), batch["codes"]
        with torch.autocast(
            mel.device.type, enabled=False
        ):  # features keep the precision that the extractor gives them
            if "factors" in batch and self.masking.warp > 1:
                mel = warped(mel, batch["factors"])
            mel = standardized(mel, 2 * (codes[..., 0] >= 0).sum(1))
        prediction: Prediction = self.network(mel, codes, batch["masked"])
        return prediction

    def loss(self, prediction: Prediction) -> torch.Tensor:
        """What is minimized, in nats."""
        return prediction.loss + self.masking.seen * prediction.seen_loss

    def judge(self) -> dict[str, float]:
        """Loss and accuracies on the stretches held out, 20 s of each, whole and as they were recorded: always the same
        frames are hidden.
        """
        device = next(self.network.parameters()).device
        limit = round(_JUDGED_SECONDS * self.network.sample_rate / self.network.hop_length)
        random, found = random_numbers(self._seed, _JUDGED_SEED, 0), []
        for first in range(0, len(self._held), _JUDGED_BATCH):
            chosen = self._held[first : first + _JUDGED_BATCH]
            longest = min(limit, max(self._cache.stretches[number].frames for number in chosen))
            batch = self._joined([self._cache.crop(number, 0, longest) for number in chosen], random)
            weight = float((batch["masked"] & (batch["codes"][..., 0] >= 0)).sum())
            found.append((weight, self.predict({name: tensor.to(device) for name, tensor in batch.items()})))
        return _means(found)

    def _joined(self, crops: Sequence[tuple[np.ndarray, np.ndarray]], random: np.random.Generator) -> Batch:
        mel, codes = (torch.from_numpy(np.stack(parts)) for parts in zip(*crops, strict=True))
        masked = self.masking.draw(random, len(crops), codes.shape[1])
        return {"mel": mel, "codes": codes, "masked": torch.from_numpy(masked)}


def figures(prediction: Prediction) -> dict[str, torch.Tensor]:
    """A prediction by names for people."""
    return {
        "loss": prediction.loss,
        "accuracy": prediction.accuracy,
        "seen loss": prediction.seen_loss,
        "seen accuracy": prediction.seen_accuracy,
    }


def _means(found: Sequence[tuple[float, Prediction]]) -> dict[str, float]:
    total = sum(weight for weight, _ in found)
    if not total:
        return {}
    parts = [(weight / total, figures(prediction)) for weight, prediction in found]
    return {name: sum(share * float(values[name]) for share, values in parts) for name in parts[0][1]}
