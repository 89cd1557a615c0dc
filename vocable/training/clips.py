"""What a unit vocoder is trained on: the sound of a corpus and its tokens, side by side on disk, cropped anywhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np

from vocable.clock import FrameGrid
from vocable.distributed import meet
from vocable.errors import ArtifactError, InputError
from vocable.files import is_vacant, new_directory
from vocable.quantizers.reduce import ALONE, Reducer
from vocable.store import Entry, TokenStore
from vocable.training.audio_cache import AudioCache, Recording, read_head, write_head
from vocable.types import TokenSpec

_KIND, _FORMAT = "codes", 1
_INDEX, _CODES = "clips.jsonl", "codes.bin"


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording: its sound, and its code frames [first, first + frames).

    samples: of sound that the codes stand for, at the tokens' rate; `recording` counts them at the cache's.
    """

    recording: Recording
    first: int
    frames: int
    samples: int

    @property
    def id(self) -> str:
        return self.recording.id


class ClipCache:
    """The recordings of an audio cache that a token store has tokens of, in a folder; open it by create.

        head.json    what it holds, under a checksum
        clips.jsonl  the recordings, in the order of ids
        codes.bin    their codes [frames, K], the smallest unsigned integers that fit, little-endian, nothing else

    A recording without tokens, or whose tokens are of another file than its sound, is left out. Reading is safe from
    any number of threads.
    """

    def __init__(self, path: Path, audio: AudioCache, hop_length: int) -> None:
        head, self.clips = _read(path)
        self.path, self.audio = path, audio
        self.spec = TokenSpec.from_dict(head["spec"])
        self.grid = FrameGrid(self.spec.sample_rate, self.spec.hop_length, audio.sample_rate, hop_length)
        self.identity: str = sha256(json.dumps([head["clips"], head["spec"], audio.sample_rate]).encode()).hexdigest()
        shape = sum(clip.frames for clip in self.clips), self.spec.num_codebooks
        self._codes: np.ndarray = np.memmap(path / _CODES, _code_type(self.spec), "r", shape=shape).view(np.ndarray)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        audio: AudioCache,
        store: TokenStore,
        hop_length: int,
        *,
        reduce: Reducer = ALONE,
    ) -> Self:
        """The codes of the store beside the sound, at `path`: made, or made anew if there is other sound or tokens now.

        hop_length: samples of the audio cache in a frame of a crop. Of several processes the first makes it, on a disk
        that all share. InputError if something else is at `path`, or if no recording has both sound and tokens.
        """
        folder = Path(path)
        if reduce.rank == 0:
            state = _state(audio, store)
            if is_vacant(folder) or _require_codes_of(folder, store.spec)["state"] != state:
                _write(folder, audio, store, state)
        meet(reduce)
        return cls(folder, audio, hop_length)

    def num_frames(self, index: int) -> int:
        """Frames of crops that a recording has."""
        return self.grid.num_frames(self.clips[index].recording.samples)

    def codes(self, index: int) -> np.ndarray:
        """All codes [K, T] of a recording, int64."""
        clip = self.clips[index]
        return np.ascontiguousarray(self._codes[clip.first : clip.first + clip.frames].T, np.int64)

    def crop(self, index: int, first_frame: int, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frames [first_frame, first_frame + frames) of a recording: codes [K, t] int64, phase [t], samples [t * hop].

        Codes and phase are those that hold the middle of each frame (`FrameGrid`). Beyond the end of the recording its
        last codes are repeated and samples are zero.
        """
        clip, hop = self.clips[index], self.grid.hop_length
        indices, phase = self.grid.sources(first_frame, first_frame + frames)
        codes = self._codes[clip.first + np.minimum(indices, clip.frames - 1)]
        samples = self.audio.crop(clip.recording, first_frame * hop, frames * hop)
        return codes.T.astype(np.int64), phase, samples


def _state(audio: AudioCache, store: TokenStore) -> str:
    """What the codes are made of: the recordings that are there, and the shards, which are named by their content."""
    recordings = [asdict(recording) for recording in audio.recordings()]
    return sha256(json.dumps([recordings, [shard.name for shard in store.shards()]]).encode()).hexdigest()


def _require_codes_of(path: Path, spec: TokenSpec) -> dict[str, Any]:
    """The head at `path`. InputError if its codes are of another tokenizer."""
    head = read_head(path, _KIND, _FORMAT)
    if TokenSpec.from_dict(head["spec"]) != spec:
        raise InputError(f"{path} holds tokens of another tokenizer", hint="remove it, or name another folder")
    return head


def _write(path: Path, audio: AudioCache, store: TokenStore, state: str) -> None:
    recordings = {recording.id: recording for recording in audio.recordings()}
    clips = _clips(recordings, store)
    if not clips:
        raise InputError(
            "expected recordings with sound and tokens, got none", hint="tokenize the files that the corpus names now"
        )
    lines = b"".join(json.dumps(asdict(clip)).encode() + b"\n" for clip in clips)
    head = {"kind": _KIND, "format": _FORMAT, "spec": store.spec.to_dict(), "state": state}
    places = {clip.id: clip.first for clip in clips}
    dtype = _code_type(store.spec)
    with new_directory(path, overwrite=True) as folder:
        with (folder / _CODES).open("wb") as file:
            for entry in _matching(recordings, store):
                file.seek(places[entry.id] * store.spec.num_codebooks * dtype.itemsize)
                file.write(entry.codes.T.astype(dtype).tobytes())
            file.flush()
            os.fsync(file.fileno())
        (folder / _INDEX).write_bytes(lines)
        write_head(folder, {**head, "clips": sha256(lines).hexdigest()})


def _clips(recordings: dict[str, Recording], store: TokenStore) -> list[Clip]:
    """The recordings that have tokens, in the order of ids, and the places of their codes."""
    entries = [(entry.id, entry.codes.shape[1], entry.samples) for entry in _matching(recordings, store)]
    clips, first = [], 0
    for name, frames, samples in sorted(entries):
        clips.append(Clip(recordings[name], first, frames, samples))
        first += frames
    return clips


def _matching(recordings: dict[str, Recording], store: TokenStore) -> Iterator[Entry]:
    for entry in store:
        recording = recordings.get(entry.id)
        if recording is not None and recording.checksum == entry.checksum:
            yield entry


def _read(path: Path) -> tuple[dict[str, Any], tuple[Clip, ...]]:
    head = read_head(path, _KIND, _FORMAT)
    lines = (path / _INDEX).read_bytes() if (path / _INDEX).is_file() else b""
    if sha256(lines).hexdigest() != head["clips"]:
        raise ArtifactError(f"{path / _INDEX} is damaged", hint="remove it, or name another folder")
    found = [json.loads(line) for line in lines.splitlines()]
    return head, tuple(Clip(**{**values, "recording": Recording(**values["recording"])}) for values in found)


def _code_type(spec: TokenSpec) -> np.dtype[Any]:
    largest = max(book.size for book in spec.codebooks) - 1
    return np.dtype(np.min_scalar_type(largest)).newbyteorder("<")
