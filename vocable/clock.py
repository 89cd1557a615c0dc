"""The arithmetic of time, all of it: samples to frames, rates to rates, long recordings to windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from vocable.errors import InputError


def num_frames(num_samples: int, hop_length: int, window: int = 1) -> int:
    """Frames of N samples: floor((max(N, window) - window) / hop) + 1; with window 1 this is ceil(N / hop).

    A stack of unpadded convolutions has exactly this count with the stack's receptive field as window,
    because floors of affine maps compose.
    """
    if num_samples < 1:
        raise InputError(f"expected at least one sample, got {num_samples}")
    return (max(num_samples, window) - window) // hop_length + 1


def resampled_length(samples: int, source_rate: int, target_rate: int) -> int:
    """Samples after resampling: N x target / source rounded half up, and never none."""
    return max(1, (2 * samples * target_rate + source_rate) // (2 * source_rate))


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch [start, stop) of samples; of its frames the first `skip` are context, the next `frames` are kept."""

    start: int
    stop: int
    skip: int
    frames: int


@dataclass(frozen=True, slots=True)
class Windows:
    """How long audio is cut on the frame grid: `frames` new frames at a time, with `context` frames on either side.

    The cut is a function of the number of samples alone, so its tokens are a function of the recording alone.
    """

    frames: int
    context: int
    hop_length: int
    window: int = 1

    def cut(self, num_samples: int) -> Iterator[Window]:
        """The windows of N samples, in order; together they keep each of the T frames once."""
        total = num_frames(num_samples, self.hop_length, self.window)
        for first in range(0, total, self.frames):
            yield self._window(first, total, num_samples)

    def stream(self, blocks: Iterable[np.ndarray]) -> Iterator[tuple[Window, np.ndarray]]:
        """The same windows with their samples, from blocks [n] or [n, C] of a recording of unknown length."""
        held, offset, first = np.zeros(0, np.float32), 0, 0
        for block in blocks:
            held = np.concatenate([held, block]) if len(held) else block
            # one frame more than a full window: only then is it known not to be the last
            while offset + len(held) >= self._end(first + self.frames + self.context + 1):
                window = self._window(first, first + self.frames + self.context + 1, offset + len(held))
                yield window, held[window.start - offset : window.stop - offset]
                first += self.frames
                drop = max(0, first - self.context) * self.hop_length - offset
                held, offset = held[drop:], offset + drop
        num_samples = offset + len(held)
        for start in range(first, num_frames(num_samples, self.hop_length, self.window), self.frames):
            window = self._window(start, num_frames(num_samples, self.hop_length, self.window), num_samples)
            yield window, held[window.start - offset : window.stop - offset]

    def _end(self, frames: int) -> int:
        return (frames - 1) * self.hop_length + max(self.window, self.hop_length)

    def _window(self, first: int, total: int, num_samples: int) -> Window:
        begin, end = max(0, first - self.context), min(total, first + self.frames + self.context)
        stop = num_samples if end == total else self._end(end)
        return Window(begin * self.hop_length, stop, first - begin, min(self.frames, total - first))


@dataclass(frozen=True, slots=True)
class FrameGrid:
    """Frames of two clocks over the same sound, in whole numbers: where a frame of one looks among those of the other.

    Frames of `source_hop` samples at `source_rate` Hz are what comes, a vocoder's own frames of `hop_length` samples at
    `sample_rate` Hz what goes out. No rate has to divide another.
    """

    source_rate: int
    source_hop: int
    sample_rate: int
    hop_length: int

    def num_frames(self, num_samples: int) -> int:
        """Frames that N >= 0 samples at `sample_rate` need: ceil(N / hop)."""
        return -(-num_samples // self.hop_length)

    def within(self, source_frames: int) -> int:
        """Frames whose middle lies within the first so many source frames."""
        step, whole = 2 * self.hop_length * self.source_rate, 2 * self.sample_rate * self.source_hop * source_frames
        return max(0, -(-(whole - step // 2) // step))

    def sources(self, first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the frames first..stop - 1: the source frame (int64) that holds the middle of each, and where in it, 0..1.

        The places (float32) and the indices depend on the frame alone, not on where `first` is. An index may lie beyond
        the last source frame of a recording: it is for the caller to clamp.
        """
        middles = (2 * np.arange(first, stop, dtype=np.int64) + 1) * (self.hop_length * self.source_rate)
        whole = 2 * self.sample_rate * self.source_hop
        return middles // whole, ((middles % whole) / whole).astype(np.float32)
