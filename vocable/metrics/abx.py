"""ABX: whether a phone is nearer to another token of itself than to a token of another phone, in units or features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.metrics.tokens import frame_centres, phones_of
from vocable.progress import Progress
from vocable.store import TokenStore
from vocable.tokenizers.gathering import Reading, extract_corpus
from vocable.types import FeatureExtractor

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
_PAIRS_AT_ONCE = 2048
_DIGITS = 12  # of a cosine that are kept: equal frames then have distance 0 whatever else is computed beside them


@dataclass(frozen=True, eq=False)
class Segment:
    """One token of a phone: its frames, codes [T] or vectors [T, D]; who said it; the phones around it, or "" if any.

    Only segments with the same context are compared.
    """

    frames: np.ndarray
    phone: str
    speaker: str = ""
    context: str = ""


def segments(
    frames: np.ndarray,
    phones: Sequence[tuple[float, str]],
    centres: np.ndarray,
    *,
    speaker: str = "",
    in_context: bool = False,
    leave_out: Collection[str] = (),
) -> list[Segment]:
    """The tokens of phones in one recording: each has the frames whose centre lies in it, and at least one.

    frames: codes [T] or vectors [T, D]. centres: seconds [T], as `frame_centres` gives them.
    phones: (end in seconds, label) in order of time; a phone begins, inclusive, where the one before it ends.
    in_context: phones are compared between equal neighbours only (the triphones of the ZeroSpeech benchmarks).
    leave_out: labels that are no phones. Raises InputError if the ends descend or frames and centres do not fit.
    """
    ends = [end for end, _ in phones]
    if len(frames) != len(centres) or any(later < earlier for earlier, later in pairwise(ends)):
        raise InputError("expected a centre for each frame, and phones in order of time")
    places = [0, *np.searchsorted(centres, ends).tolist()]
    names = ["", *(label for _, label in phones), ""]
    found = []
    for index, (start, stop) in enumerate(pairwise(places)):
        label = names[index + 1]
        context = f"{names[index]} {names[index + 2]}" if in_context else ""
        if start < stop and label not in leave_out:
            found.append(Segment(frames[start:stop], label, speaker, context))
    return found


def store_segments(
    store: TokenStore,
    codebook: int | str,
    *,
    labels: str = "phones",
    in_context: bool = False,
    leave_out: Collection[str] = (),
) -> list[Segment]:
    """The `segments` of all recordings of a store that have `labels`, in one of its codebooks.

    Labels and `speaker` are what the manifest said of a recording, the speaker "" where it did not.
    InputError if there is no such codebook, or labels are not [[end_seconds, phone], ...] in order of time.
    """
    (index,), found = store.spec.indices([codebook]), []
    for entry in sorted(store, key=lambda entry: entry.id):
        centres = frame_centres(store.spec, entry.codes.shape[1]).numpy()
        phones, speaker = phones_of(entry.id, entry.fields, labels), str(entry.fields.get("speaker", ""))
        codes = entry.codes[index]
        found += segments(codes, phones, centres, speaker=speaker, in_context=in_context, leave_out=leave_out)
    return found


def corpus_segments(
    corpus: Corpus,
    extractor: FeatureExtractor,
    layer: int | str = 0,
    *,
    labels: str = "phones",
    in_context: bool = False,
    leave_out: Collection[str] = (),
    reading: Reading | None = None,
) -> list[Segment]:
    """The `segments` of all recordings of a corpus that have `labels`, in frames [T, D] of one layer of an extractor.

    What `store_segments` is for units, for the features that they are made of: the bound to compare units with. All
    frames are held in memory. InputError if there is no such layer, a recording cannot be read, or labels are not
    [[end_seconds, phone], ...] in order of time.
    """
    column = _layer(extractor, layer)
    labelled = {one.id: (one, phones) for one in corpus if (phones := phones_of(one.id, one.fields, labels))}
    progress, windows = Progress(len(labelled)), defaultdict[str, dict[int, np.ndarray]](dict)
    wanted = Corpus(one for one, _ in labelled.values())
    for piece, frames in extract_corpus(wanted, extractor, progress, reading or Reading()):
        windows[piece.utterance.id][piece.index] = frames[column].numpy()
    if progress.failed:
        raise InputError(f"{progress.failed} of {len(labelled)} recordings with {labels} cannot be read")
    found = []
    for name, parts in sorted(windows.items()):
        utterance, phones = labelled[name]
        vectors = np.concatenate([parts[index] for index in sorted(parts)])
        centres = frame_centres(extractor, len(vectors)).numpy()
        speaker = str(utterance.fields.get("speaker", ""))
        found += segments(vectors, phones, centres, speaker=speaker, in_context=in_context, leave_out=leave_out)
    return found


def _layer(extractor: FeatureExtractor, layer: int | str) -> int:
    places = dict(zip(extractor.layers, range(len(extractor.layers)), strict=True))
    place = places.get(layer) if isinstance(layer, str) else layer
    if place is None or not 0 <= place < len(places):
        raise InputError(f"no layer {layer!r}", hint=f"there are {', '.join(places)}")
    return place


# Distances of frames, for P pairs of segments at once: [P, n] and [P, m], or [P, n, D] and [P, m, D], to [P, n, m]


def unequal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """0 for equal codes, 1 for others."""
    different: np.ndarray = a[:, :, None] != b[:, None, :]
    return different.astype(np.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 - the cosine of two vectors, 0..2; the cosine with the zero vector is 0."""
    cosines: np.ndarray = np.round(_unit(a) @ _unit(b).swapaxes(1, 2), _DIGITS)
    return 1 - cosines


def angular(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The angle between two vectors as a share of a half turn, 0..1; a metric, unlike `cosine`."""
    angles: np.ndarray = np.arccos(np.clip(1 - cosine(a, b), -1, 1))
    return angles / np.pi


def _unit(vectors: np.ndarray) -> np.ndarray:
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=-1, keepdims=True)
    return exact / np.where(lengths > 0, lengths, 1)


def dtw(costs: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Mean cost along the cheapest path from corner to corner of P tables [P, n, m]: [P].

    rows, columns: the part of each table that is real, [P]. Steps go right, down or diagonally and weigh the same
    (Sakoe and Chiba 1978); of equally cheap ones the diagonal comes first, then the shorter path, so that a table and
    its transpose agree.
    """
    tables = np.ascontiguousarray(np.moveaxis(costs, 0, -1))
    n, m, pairs = tables.shape
    totals, lengths = np.full((n + 1, m + 1, pairs), np.inf), np.zeros((n + 1, m + 1, pairs), np.int64)
    totals[0, 0] = 0
    for i, j in product(range(n), range(m)):
        diagonal, right, down = totals[i, j], totals[i + 1, j], totals[i, j + 1]
        least = np.minimum(np.minimum(diagonal, right), down)
        shorter = np.minimum(lengths[i + 1, j], lengths[i, j + 1])
        straight = np.where(right < down, lengths[i + 1, j], np.where(down < right, lengths[i, j + 1], shorter))
        lengths[i + 1, j + 1] = np.where(diagonal == least, lengths[i, j], straight) + 1
        totals[i + 1, j + 1] = least + tables[i, j]
    ends = rows, columns, np.arange(pairs)
    means: np.ndarray = totals[ends] / lengths[ends]
    return means


def distances(items: Sequence[Segment], distance: Distance) -> np.ndarray:
    """DTW distances between all segments, [n, n] (float64), symmetric, 0 on the diagonal."""
    sizes = np.array([len(item.frames) for item in items])
    first, second = np.triu_indices(len(items), 1)
    # pairs of like shape together: what is padded is computed, too
    order = np.lexsort((sizes[first], sizes[second]))
    table = np.zeros((len(items), len(items)))
    for start in range(0, len(order), _PAIRS_AT_ONCE):
        pairs = order[start : start + _PAIRS_AT_ONCE]
        a, b = first[pairs], second[pairs]
        (left, rows), (right, columns) = (_padded([items[index].frames for index in side]) for side in (a, b))
        table[a, b] = table[b, a] = dtw(distance(left, right), rows, columns)
    return table


def _padded(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of several lengths as one array [P, longest, ...], and their lengths."""
    lengths = np.array([len(item) for item in frames])
    padded = np.zeros((len(frames), lengths.max(), *frames[0].shape[1:]), frames[0].dtype)
    for row, item in zip(padded, frames, strict=True):
        row[: len(item)] = item
    return padded, lengths


@dataclass(frozen=True)
class ABX:
    """Share of wrong answers, 0..1, chance is 0.5; the same for each (A, B); and how many segments were compared."""

    error: float
    pairs: Mapping[tuple[str, str], float]
    segments: int


def abx(
    items: Iterable[Segment], *, across: bool = False, distance: Distance | None = None, most: int | None = 30
) -> ABX:
    """Of A, B and X, where A and X are tokens of one phone and B of another: how often X is nearer to B than to A.

    A tie is half an error (Schatz 2016, section 3.1). Within speakers all three are of one; across, A and B are of one
    and X of another. Errors are averaged over triples, then contexts, then speakers (or pairs of them), then ordered
    pairs of phones, as in ZeroSpeech and Libri-light (Kahn et al. 2020).

    distance: of frames, by default `unequal` for codes and `angular` for vectors; segments are aligned by `dtw`.
    most: tokens of one phone, speaker and context that are compared, evenly spaced among those that there are; None
        for all, at a cost that grows with their square.
    InputError if no such triple can be made.
    """
    cells: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    compared = 0
    for group in _groups(items, across):
        chosen = _chosen(group, most)
        table = distances(chosen, distance or (unequal if chosen[0].frames.ndim == 1 else angular))
        compared += len(chosen)
        for pair, speakers, error in _errors(chosen, table, across):
            cells[pair][speakers].append(error)
    if not cells:
        raise InputError("expected two phones in one context, one of them twice, got no triple to compare")
    pairs = {pair: _mean([_mean(contexts) for contexts in by_speaker.values()]) for pair, by_speaker in cells.items()}
    return ABX(_mean(list(pairs.values())), pairs, compared)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _groups(items: Iterable[Segment], across: bool) -> list[list[Segment]]:
    """The segments that are compared with each other: those of one context, and within speakers of one speaker."""
    groups: dict[tuple[str, str], list[Segment]] = defaultdict(list)
    for item in items:
        groups[item.context, "" if across else item.speaker].append(item)
    return [group for group in groups.values() if _comparable(group, across)]


def _comparable(group: Sequence[Segment], across: bool) -> bool:
    return len({item.phone for item in group}) > 1 and (not across or len({item.speaker for item in group}) > 1)


def _chosen(group: Sequence[Segment], most: int | None) -> list[Segment]:
    places = _places(group)
    kept = (
        [indices[k * len(indices) // most] for k in range(most)] if most and len(indices) > most else indices
        for indices in places.values()
    )
    return [group[index] for indices in kept for index in indices]


def _places(group: Sequence[Segment]) -> dict[tuple[str, str], list[int]]:
    """Where the tokens of each (phone, speaker) are."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, item in enumerate(group):
        places[item.phone, item.speaker].append(index)
    return places


def _errors(
    group: Sequence[Segment], table: np.ndarray, across: bool
) -> Iterator[tuple[tuple[str, str], tuple[str, str], float]]:
    """For each (A, B) and (speaker of A and B, speaker of X): the share of wrong answers."""
    places = _places(group)
    for (phone, speaker), a in places.items():
        others = [(who, x) for (same, who), x in places.items() if same == phone and (who != speaker) == across]
        rivals = [(other, b) for (other, who), b in places.items() if other != phone and who == speaker]
        for (who, x), (other, b) in product(others, rivals):
            if across or len(a) > 1:
                yield (phone, other), (speaker, who), _error(table[np.ix_(a, x)], table[np.ix_(b, x)], across)


def _error(near: np.ndarray, far: np.ndarray, across: bool) -> float:
    """The share of wrong answers by distances of A [a, x] and B [b, x] to X; within, A and X are the same tokens."""
    wrong = (near[:, None] > far[None]) + 0.5 * (near[:, None] == far[None])
    if across:
        return float(wrong.mean())
    other = ~np.eye(len(near), dtype=bool)
    return float(wrong.mean(axis=1)[other].mean())
