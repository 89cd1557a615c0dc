"""The sounds of an evaluation's page: which recordings have players, and how well they are coded to fit its size."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from vocable.audio import AudioStream, resample_blocks
from vocable.errors import AudioError, InputError
from vocable.evaluation.results import Evaluation, Item, Judged, System
from vocable.files import inside
from vocable.progress import Progress, Watcher, unwatched

LONGEST = 30.0  # seconds of a player: what is longer is cut
LOWEST, HIGHEST = 12_000, 64_000  # bit/s of Opus: below, speech suffers audibly; above, mono gains nothing
_OVERHEAD = 900  # bytes of an Ogg file that are not sound
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_MARGIN = 0.97  # of the room, for what the encoder misses
_TRIED = 12  # sounds coded ahead, to see what the encoder makes of them


@dataclass(frozen=True, slots=True)
class Clip:
    """The players of one item, in the order of the systems: base64 has still to be made of them.

    sounds: bytes of sound files, None where there is none. rate: Hz, the highest among the files.
    """

    sounds: tuple[bytes | None, ...]
    rate: int


@dataclass(frozen=True, slots=True)
class Sounds:
    """All players of a page. coding: "FLAC" or "Opus". bitrate: of Opus as measured, bit/s, None for FLAC.

    clips: by index of the item, in the order of importance. missing: (item, system, why) of what cannot be read.
    """

    coding: str
    bitrate: float | None
    clips: dict[int, Clip]
    missing: tuple[tuple[str, str, str], ...]


def sound_paths(evaluation: Evaluation, folder: Path, item: Item) -> list[Path | None]:
    """Where the sounds of an item lie, in the order of the systems; None where a system has no such file to offer."""
    return [_path(system, folder, item) for system in evaluation.systems]


def _path(system: System, folder: Path, item: Item) -> Path | None:
    if system.kind == "original":
        return Path(item.path)
    return None if system.sounds is None else inside(folder / system.sounds, item.id, system.suffix)


def ranked(evaluation: Evaluation) -> list[int]:
    """Indices of the items, of which the first n are the ones to keep: by turns the worst left and one at random.

    Worst by the first metric that was taken, on average over the systems; what failed is worse than anything.
    """
    worst = sorted(range(len(evaluation.items)), key=_badness(evaluation), reverse=True)
    drawn = Random(0).sample(worst, len(worst))
    return list(dict.fromkeys(index for pair in zip(worst, drawn, strict=True) for index in pair))


def ranking(evaluation: Evaluation) -> Judged | None:
    """The first metric that any system but the original was judged by."""
    taken = {name for system in evaluation.systems if system.kind != "original" for name in system.scores}
    return next((metric for metric in evaluation.metrics if metric.name in taken), None)


def _badness(evaluation: Evaluation) -> Callable[[int], float]:
    metric = ranking(evaluation)
    if metric is None:
        return lambda index: 0.0
    judged = [system for system in evaluation.systems if system.kind != "original"]
    columns = [system.scores[metric.name].values for system in judged if metric.name in system.scores]
    sign = -1.0 if metric.higher_is_better else 1.0
    return lambda index: math.fsum(_bad(sign, values[index]) for values in columns)


def _bad(sign: float, value: float | None) -> float:
    # a large number rather than infinity, of which sums are not always defined
    return 1e9 if value is None else max(-1e9, min(1e9, sign * value))


def gather_sounds(evaluation: Evaluation, folder: Path, order: Sequence[int], budget: int, watcher: Watcher) -> Sounds:
    """Players for as many items of `order` as fit into `budget` bytes of base64: FLAC if all do, else Opus.

    InputError if the budget holds no item at all.
    """
    paths = {index: sound_paths(evaluation, folder, evaluation.items[index]) for index in order}
    room = budget * 3 // 4
    lossless = _coded(paths, _flac, Progress(len(paths)), unwatched, room)
    if lossless is not None:
        return _sounds(evaluation, paths, lossless, "FLAC")
    seconds = {index: min(LONGEST, evaluation.items[index].seconds) for index in order}
    kept = _affordable(paths, seconds, room)
    if order and not kept:
        raise InputError(
            f"expected room for one recording at least, got {max(0, budget):,} bytes", hint="allow more megabytes"
        )
    paths = {index: paths[index] for index in kept}
    rate = _bitrate(paths, seconds, room)
    coded = _coded(paths, lambda wave, hz: _opus(wave, hz, rate), Progress(len(paths)), watcher) or {}
    return _sounds(evaluation, paths, _trimmed(coded, room), "Opus")


@dataclass(frozen=True, slots=True)
class _Coded:
    """One sound: the bytes of its file, seconds and Hz; or why there is none."""

    data: bytes | None
    seconds: float = 0.0
    rate: int = 0
    why: str = ""


_Coder = Callable[[np.ndarray, int], bytes]
_Row = tuple[_Coded, ...]


def _coded(
    paths: dict[int, list[Path | None]], coder: _Coder, progress: Progress, watcher: Watcher, room: int | None = None
) -> dict[int, _Row] | None:
    """The sounds of every item; None as soon as they take more than `room` bytes."""
    rows: dict[int, _Row] = {}
    size = 0
    made = _in_threads(lambda row: tuple(_code(path, coder) for path in row), list(paths.values()))
    for index, row in zip(paths, made, strict=True):
        rows[index] = row
        size += _size(row)
        if room is not None and size > room:
            return None
        progress.done += 1
        progress.audio_seconds += sum(one.seconds for one in row)
        watcher(progress)
    return rows


def _in_threads(work: Callable[[list[Path | None]], _Row], rows: Sequence[list[Path | None]]) -> Iterator[_Row]:
    """In order; encoders let other threads run. A few items at a time, so that stopping early wastes little."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    step = 4 * threads
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(rows), step):
            yield from pool.map(work, rows[start : start + step])


def _code(path: Path | None, coder: _Coder) -> _Coded:
    if path is None:
        return _Coded(None)
    try:
        stream = AudioStream(path)
        most, blocks, length = round(LONGEST * stream.sample_rate), [], 0
        for block in stream:
            blocks.append(block)
            length += len(block)
            if length >= most:
                break
        wave = np.clip(np.concatenate(blocks)[:most], -1.0, 1.0)
        return _Coded(coder(wave, stream.sample_rate), len(wave) / stream.sample_rate, stream.sample_rate)
    except (AudioError, OSError) as problem:
        return _Coded(None, why=str(problem))


def _flac(wave: np.ndarray, rate: int) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def _opus(wave: np.ndarray, rate: int, bitrate: float) -> bytes:
    """Ogg Opus at about so many bit/s, at the next rate that it takes."""
    taken = next((one for one in _OPUS_RATES if one >= rate), _OPUS_RATES[-1])
    wave = np.concatenate(list(resample_blocks([wave], rate, taken)))
    # libsndfile maps 0..1 to 256..6 kbit/s
    level = 1 - (bitrate - 6000) / 250_000
    stream = io.BytesIO()
    soundfile.write(stream, wave, taken, format="OGG", subtype="OPUS", compression_level=level)
    return stream.getvalue()


def _size(row: Iterable[_Coded]) -> int:
    # base64 goes in steps of three bytes, and a space stands between two
    return sum(len(one.data or b"") + 4 for one in row)


def _cost(row: Sequence[Path | None], seconds: float, bitrate: float) -> float:
    return sum(path is not None for path in row) * (_OVERHEAD + seconds * bitrate / 8)


def _affordable(paths: dict[int, list[Path | None]], seconds: dict[int, float], room: int) -> list[int]:
    """The first items that fit at the lowest bitrate."""
    kept, size = [], 0.0
    for index, row in paths.items():
        size += _cost(row, seconds[index], LOWEST)
        if size > room:
            break
        kept.append(index)
    return kept


def _bitrate(paths: dict[int, list[Path | None]], seconds: dict[int, float], room: int) -> float:
    """The bitrate to ask for, corrected by what the encoder makes of a few sounds."""
    counts = {index: sum(path is not None for path in row) for index, row in paths.items()}
    length = sum(count * seconds[index] for index, count in counts.items())
    wanted = _MARGIN * 8 * (room - _OVERHEAD * sum(counts.values())) / max(length, 1e-9)
    rate = min(HIGHEST, max(LOWEST, wanted))
    rows = list(paths.values())[:: max(1, len(paths) // _TRIED)]
    tried = [_code(row[place % len(row)], lambda wave, hz: _opus(wave, hz, rate)) for place, row in enumerate(rows)]
    length = sum(one.seconds for one in tried)
    got = sum(8 * (len(one.data) - _OVERHEAD) for one in tried if one.data) / max(length, 1e-9)
    return min(rate, max(LOWEST, rate * wanted / max(got, 1.0)))


def _trimmed(coded: dict[int, _Row], room: int) -> dict[int, _Row]:
    """Without the last items, should the encoder have taken more than was asked for."""
    size, kept = 0, {}
    for index, row in coded.items():
        size += _size(row)
        if size > room:
            break
        kept[index] = row
    return kept


def _sounds(evaluation: Evaluation, paths: dict[int, list[Path | None]], coded: dict[int, _Row], coding: str) -> Sounds:
    clips = {
        index: Clip(tuple(one.data for one in row), max((one.rate for one in row), default=0))
        for index, row in coded.items()
        if any(one.data for one in row)
    }
    missing = [
        (evaluation.items[index].id, system.name, one.why)
        for index, row in coded.items()
        for system, one in zip(evaluation.systems, row, strict=True)
        if one.why
    ]
    sounds = [one for row in coded.values() for one in row if one.data]
    seconds = sum(one.seconds for one in sounds)
    measured = 8 * sum(len(one.data or b"") for one in sounds) / seconds if seconds and coding == "Opus" else None
    return Sounds(coding, measured, clips, tuple(missing))
