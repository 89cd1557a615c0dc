"""What a feature cache says of itself, and the places that recordings get in it before the first is read."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vocable import audio
from vocable.clock import num_frames
from vocable.corpus import Corpus
from vocable.errors import ArtifactError, AudioError, InputError
from vocable.files import inside, new_directory
from vocable.tokenizers.units import default_windows
from vocable.types import FeatureExtractor

HEAD, PLACES, FINISHED = "head.json", "utterances.jsonl", "finished.i64"
DTYPES = {"fp16": ("f16", "<f2"), "fp32": ("f32", "<f4")}
ANEW = "remove it, or name another --cache"
_FORMAT, _KIND = 1, "features"


class Place(NamedTuple):
    """The rows [first, first + rows) of a recording."""

    id: str
    first: int
    rows: int


def plan(corpus: Corpus, extractor: FeatureExtractor, precision: str) -> tuple[dict[str, Any], list[Place]]:
    """What the cache will be: its head, and the place of every recording."""
    utterances, windows = sorted(corpus, key=lambda utterance: utterance.id), default_windows(extractor)
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda utterance: _frames(utterance.path, extractor), utterances))
    starts = np.cumsum([0, *counts]).tolist()
    places = [Place(u.id, start, rows) for u, start, rows in zip(utterances, starts[:-1], counts, strict=True)]
    head = {
        "format": _FORMAT,
        "kind": _KIND,
        "extractor": extractor.config(),
        "windows": asdict(windows),
        "layers": list(extractor.layers),
        "dim": extractor.dim,
        "precision": precision,
        "frames": starts[-1],
        "utterances": sha256(_lines(places)).hexdigest(),
    }
    head = plain(head)
    return {**head, "checksum": _checksum(head)}, places


def _frames(path: Path, extractor: FeatureExtractor) -> int:
    """Frames of a recording; 0 for what is no audio."""
    try:
        due = audio.num_samples(path, extractor.sample_rate)
        return num_frames(due, extractor.hop_length, extractor.window)
    except AudioError:  # told when it is read
        return 0


def write(path: Path, head: dict[str, Any], places: list[Place]) -> None:
    """A cache with nothing in its places yet. InputError if there are none."""
    if not head["frames"]:
        raise InputError("expected audio to cache, got no readable recording", hint="look at the files of the corpus")
    suffix, kind = DTYPES[head["precision"]]
    with new_directory(path) as folder:
        for label in head["layers"]:
            file = inside(folder, label, f".{suffix}")
            file.touch()
            os.truncate(file, head["frames"] * head["dim"] * np.dtype(kind).itemsize)
        np.zeros(len(places), "<i8").tofile(folder / FINISHED)
        (folder / PLACES).write_bytes(_lines(places))
        (folder / HEAD).write_text(json.dumps(head, indent=1) + "\n")


def read(path: Path) -> tuple[dict[str, Any], list[Place]]:
    """The head and the places. ArtifactError if they are not those of a cache, or not as they were written."""
    try:
        head, lines = json.loads((path / HEAD).read_bytes()), (path / PLACES).read_bytes()
        body = {key: value for key, value in head.items() if key != "checksum"}
        known = (head["kind"], head["format"]) == (_KIND, _FORMAT)
        sound = head["checksum"] == _checksum(body) and head["utterances"] == sha256(lines).hexdigest()
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise ArtifactError(f"{path} is no feature cache", hint="name another --cache, or an empty folder") from None
    if not (known and sound):
        raise ArtifactError(f"{path} is {'damaged' if known else 'a cache of another version'}", hint=ANEW)
    return head, [Place(*json.loads(line)) for line in lines.splitlines()]


def require_same(path: Path, wanted: dict[str, Any]) -> None:
    """InputError unless the cache at `path` has the head that is wanted."""
    head, _ = read(path)
    parts = ("extractor", "extractor"), ("windows", "extractor"), ("precision", "precision"), ("utterances", "corpus")
    for key, name in parts:
        if head[key] != wanted[key]:
            raise InputError(f"{path} is the cache of another {name}", hint=ANEW)


def plain(values: Any) -> Any:
    """The values as they are read again from JSON: tuples are lists there."""
    return json.loads(json.dumps(values))


def _checksum(head: dict[str, Any]) -> str:
    return sha256(json.dumps(head, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _lines(places: list[Place]) -> bytes:
    return b"".join(json.dumps(place).encode() + b"\n" for place in places)
