"""How judges listen: at 16 kHz, to a waveform at a time, of which the original is judged once for all resyntheses."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from vocable.audio import resample
from vocable.errors import ArtifactError, MissingDependencyError
from vocable.types import Audio

RATE = 16000  # Hz
T = TypeVar("T")


class Remembered(Generic[T]):
    """A function of a waveform [n] (float32, 16 kHz, -1..1), its last answers kept by content within the process."""

    def __init__(self, judge: Callable[[np.ndarray], T], capacity: int = 4096) -> None:
        self._judge, self._capacity = judge, capacity
        self._known: OrderedDict[bytes, T] = OrderedDict()

    def __call__(self, wave: Tensor, sample_rate: int) -> T:
        """The answer for a waveform [N] at any rate; what lies beyond full scale is cut off, as in a 16-bit file."""
        heard = resample(Audio.of([wave.float()], sample_rate), RATE).samples[0, 0].clamp(-1, 1).contiguous().numpy()
        key = sha256(heard.tobytes()).digest()
        if key not in self._known:
            self._known[key] = self._judge(heard)
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


def stretches(wave: np.ndarray, seconds: float) -> list[np.ndarray]:
    """The waveform [n] in equal parts of at most so many seconds."""
    return np.array_split(wave, max(1, math.ceil(len(wave) / (seconds * RATE))))


def packaged(package: str, file: str, *, install: str) -> Path:
    """A file within an installed package, of which nothing is run. MissingDependencyError if it is not there."""
    spec = find_spec(package)
    path = Path(spec.origin).parent / file if spec is not None and spec.origin is not None else None
    if path is None or not path.is_file():
        raise MissingDependencyError(f"expected {file} in the package {package}, which is not installed", hint=install)
    return path


def packaged_weights(path: Path, checksum: str) -> dict[str, Any]:
    """Tensors and plain values that torch saved in a file of this SHA-256. ArtifactError if it is another."""
    found = sha256(path.read_bytes()).hexdigest()
    if found != checksum:
        raise ArtifactError(f"expected the weights {checksum[:12]}, got {found[:12]} in {path}")
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def slaney_mel(wave: np.ndarray, window: int, bands: int) -> Tensor:
    """Mel power [T, bands] of a waveform at 16 kHz, a frame every 10 ms, T = 1 + n // 160, as librosa has it.

    A periodic Hann window of `window` samples around sample 160 t, zeros beyond the ends; triangles up to 8 kHz on
    Slaney's scale, each of area 1.
    """
    samples, taper = torch.from_numpy(wave), torch.hann_window(window)
    spectrum = torch.stft(samples, window, 160, window=taper, center=True, pad_mode="constant", return_complex=True)
    return (slaney_triangles(window, bands).T.float() @ spectrum.abs().square()).T


@lru_cache(maxsize=4)
def slaney_triangles(window: int, bands: int) -> Tensor:
    """The triangles [bins, bands]. Where they are finer than the bins some are empty, which a judge has learnt."""
    step = math.log(6.4) / 27
    mels = torch.linspace(0, 15 + math.log(RATE / 2000) / step, bands + 2, dtype=torch.float64)
    edges = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * step))
    bins = torch.arange(window // 2 + 1, dtype=torch.float64)[:, None] * (RATE / window)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0) * (2 / (edges[2:] - edges[:-2]))
