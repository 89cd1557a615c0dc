"""What an encoder learns from: log-mel spectra of a corpus and the codes of the same frames, side by side on disk."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from vocable.clock import Window, Windows
from vocable.distributed import Processes, meet
from vocable.errors import ArtifactError
from vocable.files import is_vacant, new_directory
from vocable.nets.foreign_features import KaldiMel
from vocable.nets.threads import one_thread_each
from vocable.training.audio_cache import read_head, write_head
from vocable.training.clips import ClipCache

_KIND, _FORMAT = "frames", 1
_STRETCHES, _MEL, _CODES = "stretches.jsonl", "mel.f16", "codes.i32"
_STRETCH_SECONDS = 30
_ALONE = Processes()


class Stretch(NamedTuple):
    """A recording, or 30 s of a long one: its id, and its frames [first, first + frames) in the cache."""

    id: str
    first: int
    frames: int


class FrameCache:
    """Frames of all recordings that have sound and codes, in a folder; open it by create.

        head.json        what it holds, under a checksum
        stretches.jsonl  [id, first, frames] of each stretch, in the order of ids
        mel.f16          two rows of `bands` values for each frame, little-endian, nothing else
        codes.i32        the codes [frames, K] of each frame, little-endian, nothing else

    Spectra are those of the encoder's own features for the stretch. An encoder's frame has the codes of the target
    frame that holds its middle, where frame t of either clock lasts from t to t + 1 hops (`clock.FrameGrid`); the last
    codes are repeated where the target has fewer frames. Reading is safe from any number of threads.
    """

    def __init__(self, path: Path) -> None:
        head = read_head(path, _KIND, _FORMAT)
        lines = (path / _STRETCHES).read_bytes() if (path / _STRETCHES).is_file() else b""
        if sha256(lines).hexdigest() != head["stretches"]:
            raise ArtifactError(f"{path / _STRETCHES} is damaged", hint="remove it, or name another folder")
        self.path, self.identity = path, str(head["state"])
        self.stretches = tuple(Stretch(*json.loads(line)) for line in lines.splitlines())
        frames = sum(stretch.frames for stretch in self.stretches)
        self._mel: np.ndarray = np.memmap(path / _MEL, "<f2", "r", shape=(2 * frames, head["bands"])).view(np.ndarray)
        self._codes: np.ndarray = np.memmap(path / _CODES, "<i4", "r", shape=(frames, head["books"])).view(np.ndarray)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        clips: ClipCache,
        *,
        bands: int,
        window: int,
        processes: Processes = _ALONE,
    ) -> Self:
        """The frames of clips at `path`: made, or made anew if the clips are others now.

        clips: their grid is that of the encoder's frames. bands: of the spectra. window: samples that a frame sees.
        Of several processes the first makes it, on a disk that all share. ArtifactError if something else is at `path`.
        """
        folder, hop = Path(path), clips.grid.hop_length
        sound = [clip.recording.checksum for clip in clips.clips]
        state = sha256(json.dumps([clips.identity, sound, bands, window, hop]).encode()).hexdigest()
        if processes.rank == 0 and (is_vacant(folder) or read_head(folder, _KIND, _FORMAT)["state"] != state):
            longest = _STRETCH_SECONDS * clips.audio.sample_rate // hop
            _write(folder, clips, state, bands, Windows(longest, 0, hop, window))
        meet(processes)
        return cls(folder)

    def crop(self, number: int, first: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Frames [first, first + frames) of a stretch: spectra [2 frames, bands] in 16 bits, codes [frames, K].

        Beyond its end spectra are zero and codes -1.
        """
        stretch = self.stretches[number]
        start, kept = stretch.first + first, min(frames, stretch.frames - first)
        mel = np.zeros((2 * frames, self._mel.shape[1]), np.float16)
        codes = np.full((frames, self._codes.shape[1]), -1, np.int64)
        mel[: 2 * kept] = self._mel[2 * start : 2 * (start + kept)]
        codes[:kept] = self._codes[start : start + kept]
        return mel, codes


def _write(path: Path, clips: ClipCache, state: str, bands: int, windows: Windows) -> None:
    mel, places, total = KaldiMel(bands, clips.audio.sample_rate), [], 0
    with new_directory(path, overwrite=True) as folder:
        with (folder / _MEL).open("wb") as spectra, (folder / _CODES).open("wb") as codes:
            for index, window, rows in _spectra(clips, mel, windows):
                spectra.write(rows.tobytes())
                first = window.start // windows.hop_length
                codes.write(_codes(clips, index, first, window.frames).astype("<i4").tobytes())
                places.append(Stretch(clips.clips[index].id, total, window.frames))
                total += window.frames
            for file in (spectra, codes):
                file.flush()
                os.fsync(file.fileno())
        lines = b"".join(json.dumps(place).encode() + b"\n" for place in places)
        (folder / _STRETCHES).write_bytes(lines)
        head: dict[str, Any] = {"kind": _KIND, "format": _FORMAT, "state": state, "bands": bands}
        books = clips.spec.num_codebooks
        write_head(folder, {**head, "books": books, "stretches": sha256(lines).hexdigest()})


def _spectra(clips: ClipCache, mel: KaldiMel, windows: Windows) -> Iterator[tuple[int, Window, np.ndarray]]:
    """The spectra of every stretch, in order; each thread makes those of one."""

    def made(index: int, window: Window) -> tuple[int, Window, np.ndarray]:
        recording = clips.clips[index].recording
        samples = clips.audio.crop(recording, window.start, max(window.stop - window.start, windows.window))
        rows = mel(torch.from_numpy(samples)[None])[0, : 2 * window.frames]
        return index, window, rows.numpy().astype("<f2")

    with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
        pending: deque[Any] = deque()
        for index, clip in enumerate(clips.clips):
            for window in windows.cut(clip.recording.samples):
                pending.append(pool.submit(made, index, window))
                if len(pending) > 4 * threads:
                    yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _codes(clips: ClipCache, index: int, first: int, frames: int) -> np.ndarray:
    """Codes [frames, K] of frames of a recording."""
    places, _ = clips.grid.sources(first, first + frames)
    return clips.codes(index)[:, np.minimum(places, clips.clips[index].frames - 1)].T
