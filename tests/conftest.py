"""What the tests share: the real audio if there is any, clips of synthetic sound, quiet threads."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# from here on the shapes in signatures of the tensor world are checked at every call; these two check what users gave
_NETS = (Path(__file__).parents[1] / "vocable" / "nets").glob("*.py")
_SHAPED = [f"vocable.nets.{path.stem}" for path in _NETS if path.stem not in {"__init__", "encoder", "ssl_config"}]
install_import_hook([*_SHAPED, "vocable.quantizers"], "beartype.beartype")

settings.register_profile("vocable", deadline=None, max_examples=25)
settings.load_profile("vocable")
torch.set_num_threads(int(os.environ.get("VOCABLE_TEST_THREADS", "1")))  # tests run side by side


# a shell has what it starts in the background ignore interrupts; tests send some to themselves
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_audio() -> Path:
    """A folder of real recordings with manifests, named by VOCABLE_AUDIO or lying beside the repository."""
    folder = Path(os.environ.get("VOCABLE_AUDIO", Path(__file__).parents[2] / "shared" / "audio"))
    if not (folder / "dev.jsonl").is_file():
        pytest.skip("no real audio at hand (VOCABLE_AUDIO)")
    return folder


def sing(seconds: float, sample_rate: int = 16000, seed: int = 0) -> np.ndarray:
    """Something like a voice [n]: harmonics of a wandering pitch under a wandering envelope, and noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(max(1, round(seconds * sample_rate))) / sample_rate
    pitch = 110 * 2 ** (rng.uniform(0, 1) + 0.3 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    voice = sum(np.sin(k * phase) * (1 + np.sin(2 * np.pi * rng.uniform(1, 4) * time + k)) / k for k in range(1, 12))
    noise = 0.3 * rng.standard_normal(len(time))
    return (0.1 * (voice + noise)).astype(np.float32)


@pytest.fixture
def speech_folder(tmp_path: Path) -> Path:
    """Eight short recordings of several rates, formats and channel counts, in two folders."""
    folder = tmp_path / "speech"
    kinds = [("wav", 16000, 1), ("flac", 16000, 1), ("wav", 8000, 1), ("flac", 44100, 2)] * 2
    for index, (suffix, rate, channels) in enumerate(kinds):
        path = folder / f"speaker{index % 2}" / f"clip{index}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = sing(0.4 + 0.23 * index, rate, seed=index)
        soundfile.write(path, np.stack([wave] * channels, axis=1), rate)
    return folder
