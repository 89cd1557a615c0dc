"""Packed tokens of known recordings, without a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vocable.exports import PackedTokens
from vocable.exports.packed import PackedSink
from vocable.exports.rows import Content, Row
from vocable.store import Entry
from vocable.tokenizers.streams import TokenStream
from vocable.types import Codebook, TokenSpec

SIZE = 5000


def pack(folder: Path, lengths: Sequence[int], *, size: int = SIZE) -> PackedTokens:
    """Recordings of so many tokens each, which count up from 0 over all of them (modulo the vocabulary)."""
    spec = TokenSpec(16000, 320, (Codebook(size, "L6"),), "a" * 64)
    sink = PackedSink(folder, "", Content(spec, TokenStream(spec)), {})
    ends = np.cumsum(np.array(lengths, np.int64), dtype=np.int64)
    for index, (length, end) in enumerate(zip(lengths, ends.tolist(), strict=True)):
        ids = np.arange(end - length, end) % size
        sink.add(Row(Entry(str(index), ids[None], spec.num_samples(length) if length else 0), ids, None))
    sink.finish()
    return PackedTokens.open(folder)
