"""Whether it is still the same voice: the cosine between embeddings of the original's speaker and the resynthesis's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vocable.errors import ArtifactError, InputError
from vocable.metrics.checkpoints import architecture, loaded, network_of
from vocable.metrics.listening import RATE, packaged, packaged_weights, slaney_mel, stretches
from vocable.metrics.reconstruction import NotScored, Scores, require_sound, score_each
from vocable.types import Audio

Embed = Callable[[Tensor, int], Tensor]
"""From a waveform [N] and its rate to an embedding [D] of its speaker."""

GE2E_INSTALL = "pip install --no-deps resemblyzer==0.1.4"
_GE2E_WEIGHTS = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"  # resemblyzer 0.1.4
_GE2E_FRAMES, _GE2E_STEP = 160, 77  # a stretch of 1.6 s, 1.3 of them a second
_XVECTOR_SECONDS = 30.0


def similarity(reference: Audio, estimate: Audio, embed: Embed) -> Scores:
    """Cosine of the two embeddings, at most 1, 1 for equal audio, higher is better; a delay hardly matters.

    Fails where either signal is silent or too short for the network.
    """
    return score_each(reference, estimate, lambda x, y, rate: _cosine(x, y, rate, embed))


def _cosine(x: Tensor, y: Tensor, sample_rate: int, embed: Embed) -> float:
    require_sound(x, y)
    one, other = (nn.functional.normalize(embed(wave, sample_rate).double(), dim=0) for wave in (x, y))
    return min(1.0, float(one.dot(other)))  # not beyond by rounding


class GE2E(nn.Module):
    """Mel power [B, 160, 40] to unit vectors [B, 256] (Wan et al. 2018, "Generalized End-to-End Loss")."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mel: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mel)
        return nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=-1)

    def embed(self, wave: np.ndarray) -> Tensor:
        """The mean [256] over stretches of a waveform [n], as resemblyzer makes them, silences included.

        Quiet sound is brought to -30 dB of full scale first.
        """
        louder = max(1.0, 10**-1.5 / max(float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))), 1e-9))
        starts = ge2e_starts(len(wave))
        reach = (starts[-1] + _GE2E_FRAMES) * 160
        mel = slaney_mel(np.pad(wave * np.float32(louder), (0, max(0, reach - len(wave)))), 400, 40)
        with torch.inference_mode():
            found: Tensor = self(torch.stack([mel[start : start + _GE2E_FRAMES] for start in starts])).mean(dim=0)
        return found


def ge2e_starts(samples: int) -> list[int]:
    """First frames of the stretches: the last is left out unless three quarters of it are there."""
    frames = -(-(samples + 1) // 160)
    starts = list(range(0, max(1, frames - _GE2E_FRAMES + _GE2E_STEP + 1), _GE2E_STEP))
    covered = (samples - starts[-1] * 160) / (_GE2E_FRAMES * 160)
    return starts[:-1] if covered < 0.75 and len(starts) > 1 else starts


def ge2e() -> Callable[[np.ndarray], Tensor]:
    """GE2E with the weights in the package resemblyzer. MissingDependencyError without it."""
    path = packaged("resemblyzer", "pretrained.pt", install=GE2E_INSTALL)
    state = packaged_weights(path, _GE2E_WEIGHTS)["model_state"]
    network = GE2E()
    network.load_state_dict({name: value for name, value in state.items() if not name.startswith("similarity_")})
    return network.eval().embed


def require_xvector(folder: Path) -> None:
    """ArtifactError unless the folder holds a network that embeds speakers, InputError if there is no such folder."""
    if not folder.is_dir():
        raise InputError(
            f"expected a network that embeds speakers, got {str(folder)!r}",
            hint="ge2e, or the folder of a transformers checkpoint whose architecture ends in ForXVector",
        )
    if not architecture(folder).endswith("ForXVector"):
        raise ArtifactError(f"expected a network that ends in ForXVector in {folder}, got {architecture(folder)}")


def xvector(folder: Path) -> Callable[[np.ndarray], Tensor]:
    """A checkpoint of transformers that ends in ForXVector (Snyder et al. 2018), such as WavLMForXVector."""
    from transformers import AutoModelForAudioXVector, Wav2Vec2FeatureExtractor

    extractor = loaded(Wav2Vec2FeatureExtractor, folder)
    network = network_of(AutoModelForAudioXVector, folder)

    def embed(wave: np.ndarray) -> Tensor:
        return torch.stack([_embedded(part, extractor, network) for part in stretches(wave, _XVECTOR_SECONDS)]).mean(0)

    return embed


def _embedded(part: np.ndarray, extractor: Any, network: Any) -> Tensor:
    config = network.config
    reach = sum((kernel - 1) * step for kernel, step in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True))
    frames = int(network._get_feat_extract_output_lengths(torch.tensor(len(part))))
    if frames < reach + 2:  # two are the fewest that have a deviation
        raise NotScored(f"{len(part) / RATE:.2g} s, too short for a voice")
    inputs = extractor(part, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        found: Tensor = network(**inputs).embeddings[0]
    return nn.functional.normalize(found, dim=0)
