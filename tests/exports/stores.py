"""Small stores with ids that upset careless writers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vocable.store import Entry, TokenStore
from vocable.types import Codebook, TokenSpec

SPEC = TokenSpec(16000, 320, (Codebook(500, "L6"), Codebook(100, "L9")), "a" * 64, window=400)
IDS = [
    "plain",
    "speaker 1/clip 2",
    "../../escape",
    "/etc/passwd",
    "line\nbreak\tand tab",
    "100%25",
    "Привет/мир",
    "a.b.c",
    "__meta__/x",
    "\u2028\u3000wide",
    "",
    "n" * 400,
]


def entries(spec: TokenSpec = SPEC, ids: list[str] = IDS) -> list[Entry]:
    """Recordings of 3 frames and more, with runs of equal ones."""
    rng = np.random.default_rng(0)
    made = []
    for index, name in enumerate(ids):
        lasting = rng.integers(1, 4, 3 + index)
        codes = np.stack([rng.integers(0, book.size, 3 + index) for book in spec.codebooks]).repeat(lasting, axis=1)
        samples = spec.num_samples(codes.shape[1]) + index  # more than the frames alone would say
        facts = {"subset": "dev-clean" if index % 3 else "test", "text": f"words {index}"}
        path = f"/audio/{name}.flac" if index % 2 else ""
        made.append(Entry(name, codes, samples, path, 2 * samples, 32000, f"{index:064x}", facts))
    return made


def make_store(path: Path, spec: TokenSpec = SPEC, ids: list[str] = IDS) -> TokenStore:
    """A store of several shards."""
    store = TokenStore.create(path, spec)
    rows = entries(spec, ids)
    for first in range(0, len(rows), 5):
        store.append(rows[first : first + 5])
    return store


def bytes_of(folder: Path) -> dict[str, bytes]:
    """All files under a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
