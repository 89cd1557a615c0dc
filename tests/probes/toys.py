"""Stores of made-up tokens that know their labels, or do not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vocable.store import Entry, TokenStore
from vocable.types import Codebook, TokenSpec

SPEC = TokenSpec(16000, 160, (Codebook(8, "L1"), Codebook(8, "L2")), "toy")
LETTERS = "abcd "


def classes(count: int = 60, *, seed: int = 0) -> list[Entry]:
    """Three classes: L1 has two codes of the class and some noise, L2 is noise; 5 to 20 frames."""
    draw = np.random.default_rng(seed)
    entries = []
    for index in range(count):
        kind, frames = index % 3, int(draw.integers(5, 21))
        known = np.where(draw.random(frames) < 0.8, 2 * kind + draw.integers(0, 2, frames), draw.integers(0, 8, frames))
        codes = np.stack([known, draw.integers(0, 8, frames)])
        fields = {"kind": f"k{kind}", "number": kind, "split": "test" if index % 5 == 0 else "train"}
        entries.append(entry(f"u{index:03}", codes, fields))
    return entries


def texts(count: int = 120, *, seed: int = 0) -> list[Entry]:
    """Words of four letters; every character is three frames of its code, and one of silence."""
    draw = np.random.default_rng(seed)
    entries = []
    for index in range(count):
        numbers = [*draw.integers(0, 4, 3), 4, *draw.integers(0, 4, 2)]
        row = np.concatenate([[n, n, n, 7] for n in numbers])
        said = "".join(LETTERS[n] for n in numbers)
        entries.append(entry(f"t{index:03}", np.stack([row, row]), {"text": said.upper() + "!"}))
    return entries


def entry(name: str, codes: np.ndarray, fields: dict[str, Any]) -> Entry:
    return Entry(name, codes.astype(np.uint8), 160 * codes.shape[1], fields=fields)


def store(path: Path, entries: Iterable[Entry]) -> Path:
    TokenStore.create(path, SPEC).append(entries)
    return path
