"""A shuffled order of which every place is known by itself: no list of all, and nothing to replay after a stop."""

from __future__ import annotations

from hashlib import sha512
from math import isqrt

import numpy as np

from vocable.errors import InputError

# four make a Feistel network a pseudorandom permutation where it is large (Luby and Rackoff, 1988); below a thousand
# blocks some distances of neighbours came far too often with four, with eight no more than chance has it
_ROUNDS = 8
_MOST = 1 << 62  # so that sums of a round stay below 2^64


def permuted(places: np.ndarray, size: int, seed: int, epoch: int = 0) -> np.ndarray:
    """What stands at some places [n] of a shuffled 0..size - 1: a permutation that seed and epoch name (int64 [n]).

    A Feistel network over pairs of digits to the base ceil(sqrt(size)), walked on where it leaves 0..size - 1
    (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). The same on every machine. InputError for places
    outside of 0..size - 1, or a size that is not in 1..2^62.
    """
    if not 1 <= size <= _MOST:
        raise InputError(f"expected a size of 1 to {_MOST}, got {size}")
    found = np.asarray(places)
    if found.size and not 0 <= int(found.min()) <= int(found.max()) < size:
        raise InputError(f"expected places 0..{size - 1}, got {found.min()}..{found.max()}")
    base, keys = np.uint64(isqrt(size - 1) + 1), _keys(seed, epoch)
    found = _once(found.astype(np.uint64), base, keys)
    # base^2 is at most 2 sqrt(size) beyond size: few places ever walk on
    while (outside := np.flatnonzero(found >= size)).size:
        found[outside] = _once(found[outside], base, keys)
    return found.astype(np.int64)


def _once(x: np.ndarray, base: np.uint64, keys: np.ndarray) -> np.ndarray:
    left, right = np.divmod(x, base)
    for key in keys:
        left, right = right, (left + _hash(right ^ key)) % base
    return np.asarray(left * base + right)


def _hash(x: np.ndarray) -> np.ndarray:
    """32 bits of the finalizer of SplitMix64 (Steele et al., 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x >> np.uint64(32)


def _keys(seed: int, epoch: int) -> np.ndarray:
    return np.frombuffer(sha512(f"{seed}/{epoch}".encode()).digest(), "<u8", _ROUNDS).astype(np.uint64)
