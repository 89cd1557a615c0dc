"""Sound files in and out: the only file that knows audio formats, and where channels and rates are settled.

Everything is streamed in blocks, so a recording of hours needs no more memory than one of seconds. Resampling a
stream gives bit for bit what resampling the whole gives (soxr keeps its state between blocks): one answer per file.
torch is imported only where a tensor is made: the processes that decode do without it.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from vocable.clock import resampled_length
from vocable.errors import AudioError, InputError, OutputError
from vocable.files import publish

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from vocable.types import Audio

SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".w64", ".caf"}
)
_BLOCK = 1 << 16  # samples decoded at a time; the result does not depend on it
_LONGEST_HEADER = 1 << 40  # samples; headers of streams that nobody finished claim more


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file's header says: Hz, channels, samples per channel, and the names of container and coding."""

    sample_rate: int
    channels: int
    samples: int
    format: str
    coding: str

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """The header of a sound file. AudioError if it is none."""
    with _opened(path) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames, file.format, file.subtype)


def num_samples(path: str | os.PathLike[str], sample_rate: int) -> int:
    """Samples of a recording at `sample_rate`: by its header, or, where that does not tell, by decoding it.

    AudioError if it cannot be read.
    """
    header = info(path)
    told = 0 < header.samples < _LONGEST_HEADER
    samples = header.samples if told else sum(map(len, AudioStream(path)))
    return resampled_length(samples, header.sample_rate, sample_rate)


def checksum(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the file as it lies on disk, as `sha256sum` prints it."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class AudioStream:
    """A sound file as float32 blocks at `sample_rate` Hz (the file's own rate if none is given); iterate once.

    Blocks are [n] for one channel, into which all of the file's are averaged, and [n, C] for more: the file's own if it
    has as many, else copies of that average. After the iteration `source_samples` tells how many samples per channel
    were decoded.
    AudioError if the file is unreadable, holds no sample, holds NaN or infinity, or breaks off where its format tells
    (flac; a wav or an mp3 that was cut short is a shorter recording).
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int | None = None, channels: int = 1) -> None:
        self.path, self.channels = Path(path), channels
        self.source_rate = info(path).sample_rate
        self.sample_rate = sample_rate or self.source_rate
        self.source_samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from resample_blocks(self._laid_out(), self.source_rate, self.sample_rate)
        if not self.source_samples:
            raise AudioError("expected audio, got a file with no samples")

    def _laid_out(self) -> Iterator[np.ndarray]:
        for block in self._decoded():
            self.source_samples += len(block)
            yield np.ascontiguousarray(_lay_out(block.T, self.channels).T) if self.channels > 1 else _mix(block.T)

    def _decoded(self) -> Iterator[np.ndarray]:
        with _opened(self.path) as file:
            while True:
                try:
                    block = file.read(_BLOCK, dtype="float32", always_2d=True)
                except soundfile.LibsndfileError as problem:
                    raise AudioError(f"decoding broke off: {_reason(problem)}", hint=_DAMAGED) from problem
                if not len(block):
                    return
                if not np.isfinite(block).all():
                    raise AudioError("expected finite samples, got NaN or infinity", hint=_DAMAGED)
                yield block


def read(path: str | os.PathLike[str], sample_rate: int | None = None, channels: int = 1) -> Audio:
    """A whole file as Audio [1, C, N], mono unless told otherwise, resampled if a rate is given; see AudioStream."""
    import torch

    from vocable.types import Audio

    stream = AudioStream(path, sample_rate, channels)
    samples = np.concatenate(list(stream))
    return Audio.of([torch.from_numpy(np.ascontiguousarray(samples.T))], stream.sample_rate)


def write(path: str | os.PathLike[str], audio: Audio) -> None:
    """Writes one utterance; the suffix names the format (wav and flac in 16 bit). Complete or not at all."""
    if len(audio) != 1:
        raise InputError(f"expected a batch of one utterance to write, got {len(audio)}")
    write_blocks(path, [audio.waveform(0).T.cpu().numpy()], audio.sample_rate, audio.samples.shape[1])


def write_blocks(
    path: str | os.PathLike[str], blocks: Iterable[np.ndarray], sample_rate: int, channels: int = 1
) -> None:
    """Writes blocks [n] or [n, C] of one recording as they come, clipped to -1..1. Complete or not at all."""
    path = Path(path)
    format_name = path.suffix[1:].upper()
    kind = {"OPUS": ("OGG", "OPUS")}.get(format_name, (format_name, None))
    if kind[0] not in soundfile.available_formats():
        raise InputError(f"expected an audio suffix such as .wav or .flac, got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-", suffix=path.suffix)
    try:
        with _Sink(handle, "rb+") as file:
            with soundfile.SoundFile(file, "w", sample_rate, channels, kind[1], format=kind[0]) as sound:
                for block in blocks:
                    sound.write(np.clip(block, -1.0, 1.0))
                    file.check()
            file.check()
            os.fsync(file.fileno())
        publish(Path(name), path)
    except soundfile.LibsndfileError as problem:
        message = f"cannot write {path} at {sample_rate} Hz with {channels} channels: {_reason(problem)}"
        raise OutputError(message, hint="not every format takes every rate: .wav does") from problem
    finally:
        Path(name).unlink(missing_ok=True)


def encoded(audio: Audio, format_name: str = "FLAC") -> bytes:
    """One utterance as the bytes of a sound file, for embedding in a page."""
    buffer = io.BytesIO()
    soundfile.write(
        buffer, np.clip(audio.waveform(0).T.cpu().numpy(), -1.0, 1.0), audio.sample_rate, format=format_name
    )
    return buffer.getvalue()


def resample_blocks(
    blocks: Iterable[np.ndarray], source_rate: int, target_rate: int, *, length: int | None = None
) -> Iterator[np.ndarray]:
    """Resamples a stream of blocks [n] or [n, C] (soxr, high quality).

    To `length` samples in all, or as many as its own length makes.
    """
    if source_rate == target_rate:
        yield from blocks if length is None else _exactly(blocks, length)
        return
    resampler: soxr.ResampleStream | None = None
    came = given = 0
    nothing = np.zeros(0, np.float32)
    for block in blocks:
        if resampler is None:
            nothing = block[:0]
            resampler = soxr.ResampleStream(source_rate, target_rate, _width(block), dtype="float32")
        out = resampler.resample_chunk(block)
        came += len(block)
        given += len(out)
        yield out
    if resampler is not None and came:
        tail = resampler.resample_chunk(nothing, last=True)
        total = resampled_length(came, source_rate, target_rate) if length is None else length
        yield _fit(tail, max(0, total - given))


def resample(audio: Audio, sample_rate: int) -> Audio:
    """The same audio at another rate (soxr, high quality); lengths are rounded half up."""
    import torch

    from vocable.types import Audio

    if audio.sample_rate == sample_rate:
        return audio
    waves = []
    for index in range(len(audio)):
        source = np.ascontiguousarray(audio.waveform(index).cpu().numpy().T, dtype=np.float32)
        due = resampled_length(len(source), audio.sample_rate, sample_rate)
        out = _fit(soxr.resample(source, audio.sample_rate, sample_rate), due)
        waves.append(torch.from_numpy(out.T.copy()))
    return Audio.of(waves, sample_rate)


def conform(audio: Audio, sample_rate: int, channels: int = 1) -> Audio:
    """What a tokenizer works on: float32 at its own rate and channels, as AudioStream makes it from a file.

    AudioError if an utterance is empty or not finite.
    """
    import torch

    from vocable.types import Audio

    if len(audio) == 0 or int(audio.lengths.min()) < 1:
        raise AudioError("expected audio, got an utterance with no samples")
    waves = [_lay_out(audio.waveform(index).cpu().float().numpy(), channels) for index in range(len(audio))]
    if not all(np.isfinite(wave).all() for wave in waves):
        raise AudioError("expected finite samples, got NaN or infinity")
    return resample(Audio.of([torch.from_numpy(wave) for wave in waves], audio.sample_rate), sample_rate)


_DAMAGED = "the file is damaged: make it anew, or leave it out"


class _Sink(io.FileIO):
    """A file under libsndfile, which loses errors of writing: the first is kept, and raised by `check`."""

    _problem: OSError | None = None

    def write(self, data: Buffer) -> int:
        left = memoryview(data)
        try:
            while left:
                left = left[super().write(left) :]
        except OSError as problem:
            self._problem = self._problem or problem
        return memoryview(data).nbytes

    def check(self) -> None:
        if self._problem:
            raise self._problem


def _opened(path: str | os.PathLike[str]) -> soundfile.SoundFile:
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(f"expected a sound file, got {'a directory' if path.is_dir() else 'a pipe or a device'}")
        if not status.st_size:
            raise AudioError("expected a sound file, got an empty file")
        # a descriptor, because a name may hold bytes that soundfile cannot pass on
        return soundfile.SoundFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except soundfile.LibsndfileError as problem:
        raise AudioError(f"not a readable sound file: {_reason(problem)}") from problem
    except (OSError, ValueError) as problem:
        if isinstance(problem, AudioError):
            raise
        raise AudioError(f"cannot be opened: {getattr(problem, 'strerror', None) or problem}") from problem


def _reason(problem: soundfile.LibsndfileError) -> str:
    return str(problem.error_string).rstrip(". ").removeprefix("Error : ").removeprefix("Error: ")


def _width(block: np.ndarray) -> int:
    return block.shape[1] if block.ndim > 1 else 1


def _exactly(blocks: Iterable[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """The blocks, cut off or filled up with zeros to `length` samples in all."""
    given, last = 0, np.zeros(0, np.float32)
    for block in blocks:
        last = block[: length - given]
        given += len(last)
        yield last
    if given < length:
        yield _fit(last[:0], length - given)


def _fit(wave: np.ndarray, length: int) -> np.ndarray:
    """A wave [n] or [n, C] cut, or filled up with zeros, to so many samples."""
    missing = max(0, length - len(wave))
    return np.pad(wave[:length], [(0, missing)] + [(0, 0)] * (wave.ndim - 1))


def _lay_out(wave: np.ndarray, channels: int) -> np.ndarray:
    """A wave [C, N] as so many channels: its own if it has as many, else copies of their average."""
    return wave if len(wave) == channels else np.stack([_mix(wave)] * channels)


def _mix(channels: np.ndarray) -> np.ndarray:
    """Channels [C, N] averaged to [N], summed one by one: a reduction's order depends on the layout in memory."""
    return np.ascontiguousarray(reduce(np.add, channels) / np.float32(len(channels)))
