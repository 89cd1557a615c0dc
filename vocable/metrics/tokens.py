"""How well codes are used, what they cost, and what they say about phones.

Counts are the accumulators: histograms, run counts and contingency tables of utterances are added up, and judged once.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.store import TokenStore
from vocable.types import FeatureExtractor, TokenSpec

Contingency = Counter[tuple[int, str]]


# What of a codebook is used


def code_counts(codes: Tensor, size: int) -> Tensor:
    """Histogram [V] (int64) of codes of any shape, without padding; histograms of utterances add up.

    Raises InputError if a code lies outside 0..size-1.
    """
    flat = codes.flatten()
    if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < size:
        raise InputError(f"expected codes in 0..{size - 1}, got {int(flat.min())}..{int(flat.max())}")
    return torch.bincount(flat, minlength=size)


def usage(counts: Tensor) -> float:
    """Share of the entries that occur at all, 0..1."""
    return int((counts > 0).sum()) / counts.numel()


def dead_entries(counts: Tensor) -> Tensor:
    """Indices [n] (int64) of the entries that never occur, ascending."""
    return torch.nonzero(counts == 0).flatten()


def entropy(counts: Tensor) -> float:
    """Entropy of the histogram in bits, 0..log2(V). Raises InputError if it is empty."""
    return _entropy(counts.flatten().tolist())


def normalized_entropy(counts: Tensor) -> float:
    """Entropy of the histogram as a share of log2(V), 0..1; 1 where there is one entry. InputError if it is empty."""
    return min(1.0, entropy(counts) / math.log2(counts.numel())) if counts.numel() > 1 else 1.0


def perplexity(counts: Tensor) -> float:
    """2 ** entropy: the number of equally likely entries that would be as uncertain, 1..V."""
    return float(2 ** entropy(counts))


def _entropy(counts: Iterable[int]) -> float:
    # fsum rounds once, so tables with the same counts in any order have exactly the same entropy
    present = [n for n in counts if n]
    if not present:
        raise InputError("expected at least one count, got an empty histogram")
    total = sum(present)
    return max(0.0, math.log2(total) - math.fsum(n * math.log2(n) for n in present) / total)


# What codes cost


def run_counts(codes: Tensor) -> Tensor:
    """Number of runs of equal codes [K] (int64) in one utterance [K, T] without padding; utterances add up."""
    if codes.ndim != 2:
        raise InputError(f"expected the codes [K, T] of one utterance, got shape {list(codes.shape)}")
    if not codes.shape[1]:
        return torch.zeros(codes.shape[0], dtype=torch.int64)
    return 1 + (codes[:, 1:] != codes[:, :-1]).sum(dim=1)


def token_rate(runs: Tensor, seconds: float) -> float:
    """Tokens per second, all codebooks together, when every run of equal codes [K] is sent as one token."""
    return int(runs.sum()) / _positive(seconds)


def deduplicated_bitrate(runs: Tensor, sizes: Sequence[int], seconds: float) -> float:
    """Bits per second when every run is sent as one token of log2(size) bits; durations of runs are not counted.

    runs: [K], as `run_counts` gives them; sizes: V of the K codebooks. The raw counterpart is `TokenSpec.bitrate`.
    """
    bits = math.fsum(n * math.log2(size) for n, size in zip(runs.tolist(), sizes, strict=True))
    return bits / _positive(seconds)


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise InputError(f"expected a positive duration, got {seconds} s")
    return seconds


# What codes say about phones


def frame_centres(frames: TokenSpec | FeatureExtractor, num_frames: int) -> Tensor:
    """Times [T] in seconds (float64) of the middle of every frame: t * hop + max(window, hop) / 2 samples."""
    starts = torch.arange(num_frames, dtype=torch.float64) * frames.hop_length
    return (starts + max(frames.window, frames.hop_length) / 2) / frames.sample_rate


def frame_labels(phones: Sequence[tuple[float, str]], spec: TokenSpec, num_frames: int) -> list[str]:
    """One label per frame: that of the phone in which the centre of the frame lies (see `frame_centres`).

    phones: (end in seconds, label) in order of time; a phone lasts from the end of the one before it (0 for the first),
    inclusive, to its own end, exclusive. Frames whose centre lies at or beyond the last end are dropped, so there may
    be fewer labels than frames. Raises InputError if the ends descend.
    """
    ends = [end for end, _ in phones]
    if any(later < earlier for earlier, later in pairwise(ends)):
        raise InputError("expected phones in order of time, got ends that descend")
    places = (bisect_right(ends, centre) for centre in frame_centres(spec, num_frames).tolist())
    return [phones[place][1] for place in places if place < len(phones)]


def phones_of(name: str, fields: Mapping[str, Any], labels: str) -> list[tuple[float, str]]:
    """The phones [[end_seconds, phone], ...] that a manifest's line says of a recording under `labels`, or none.

    InputError, with the recording's name, if there is something else, or the ends descend.
    """
    try:
        phones = [(float(end), str(phone)) for end, phone in fields.get(labels) or ()]
    except (TypeError, ValueError):
        phones = [(math.nan, "")]
    ends = [end for end, _ in phones]
    if not all(map(math.isfinite, ends)) or any(later < earlier for earlier, later in pairwise(ends)):
        raise InputError(
            f"expected `{labels}` of {name} as [[end_seconds, phone], ...] in order of time, got something else"
        )
    return phones


def contingency(codes: Tensor, labels: Sequence[str]) -> Contingency:
    """Counts of (code, label) over the labelled frames of one codebook [T]; tables of utterances add up.

    Codes beyond the last label are left out. Raises InputError if there are more labels than codes.
    """
    if codes.ndim != 1 or len(labels) > len(codes):
        raise InputError(f"expected codes [T] for {len(labels)} labels, got shape {list(codes.shape)}")
    return Counter(zip(codes[: len(labels)].tolist(), labels, strict=True))


def phone_tables(store: TokenStore, *, labels: str = "phones") -> list[Contingency]:
    """The table of each codebook over all recordings of a store that have labels; a code counts for each of its frames.

    A frame has the phone at its centre, whatever the two rates are (see `frame_labels`): labels are never repeated or
    thinned to fit codes. Published values may be of another convention: HuBERT's script repeats codes until they are as
    many as labels every 10 ms, and cuts off what is longer; on 45 recordings of festvox_ru with 100 MFCC units at 50 Hz
    its PNMI was .510, this one .520. InputError if a recording's labels are not [[end_seconds, phone], ...] in order of
    time.
    """
    tables: list[Contingency] = [Counter() for _ in store.spec.codebooks]
    for entry in store:
        codes = entry.tokens(store.spec).codes[0]
        phones = frame_labels(phones_of(entry.id, entry.fields, labels), store.spec, codes.shape[1])
        for table, row in zip(tables, codes, strict=True):
            table.update(contingency(row, phones))
    return tables


def phone_purity(table: Mapping[tuple[int, str], int]) -> float:
    """Accuracy of naming every frame by the phone most frequent for its code, 0..1 (Hsu et al. 2021, HuBERT)."""
    return _purity(table, axis=0)


def cluster_purity(table: Mapping[tuple[int, str], int]) -> float:
    """Accuracy of naming every frame by the code most frequent for its phone, 0..1 (Hsu et al. 2021, HuBERT)."""
    return _purity(table, axis=1)


def pnmi(table: Mapping[tuple[int, str], int]) -> float:
    """Phone-normalized mutual information I(phone; code) / H(phone), 0..1 (Hsu et al. 2021, HuBERT).

    I = H(phone) + H(code) - H(phone, code), exactly from the counts. It grows with the number of codes: compare at one
    codebook size. Raises InputError if there are fewer than two different phones, where it is not defined.
    """
    phones = _entropy(_marginal(table, axis=1).values())
    if phones == 0:
        raise InputError("expected at least two different phones, got one")
    codes = _entropy(_marginal(table, axis=0).values())
    return min(1.0, max(0.0, (phones + codes - _entropy(table.values())) / phones))


def _purity(table: Mapping[tuple[int, str], int], axis: int) -> float:
    best: dict[int | str, int] = {}
    for pair, count in table.items():
        best[pair[axis]] = max(count, best.get(pair[axis], 0))
    if not (total := sum(table.values())):
        raise InputError("expected at least one labelled frame, got an empty table")
    return sum(best.values()) / total


def _marginal(table: Mapping[tuple[int, str], int], axis: int) -> Counter[int | str]:
    sums: Counter[int | str] = Counter()
    for pair, count in table.items():
        sums[pair[axis]] += count
    return sums
