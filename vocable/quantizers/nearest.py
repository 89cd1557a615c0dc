"""Nearest centroids as a function of the vector alone: fast products propose, exact arithmetic decides close calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from vocable.errors import InputError

CHUNK_BYTES = 2**25
"""What one chunk of rows may take in working memory, in each thread of a CPU."""

ACCELERATOR_CHUNK_BYTES = 2**31
"""The same on an accelerator, where every chunk waits for the host a few times."""

GROUP_WIDTH = 32
"""Centroids that share a bound: fewer skip more distances, more make better matrix products."""

SMALLEST_NORMAL = 2.0**-126
UNIT_ROUNDOFF = 2.0**-24
INPUT_ROUNDOFF = {"highest": 0.0, "high": 2.0**-9, "medium": 2.0**-8}  # of both factors: TensorFloat-32, bfloat16


@dataclass(frozen=True, eq=False, slots=True)
class Table:
    """Centroids laid out for the search: K of them in G groups of equal width, padded to P = G x width.

    Distances do not change when everything is shifted, so the products work on vectors minus the centroids' mean:
    a common offset then costs no precision. `score` = y.w - |w|^2 / 2 is largest where the distance is smallest.
    """

    centroids: Float[Tensor, "k d"]
    centre: Float[Tensor, " d"]
    weights: Float[Tensor, "p d"]
    biases: Float[Tensor, " p"]  # -|w|^2 / 2, and -inf for what is not live
    live: Bool[Tensor, " p"]  # neither padding nor a repetition of an earlier centroid
    width: int
    radius: float  # largest |w|
    relative_error: float

    @property
    def groups(self) -> int:
        return len(self.weights) // self.width


@dataclass(frozen=True, eq=False, slots=True)
class Found:
    """The answer for a chunk: codes, and bounds that hold whatever the rounding.

    upper: at least the distance to the own centroid. lower: at most the distance to any other live one of a group.
    NaN, which no comparison trusts, where squares overflow.
    """

    codes: Int[Tensor, " n"]
    upper: Float[Tensor, " n"]
    lower: Float[Tensor, "n g"]


def build_table(centroids: Float[Tensor, "k d"], width: int = GROUP_WIDTH) -> Table:
    """The layout of float32 centroids for `nearest`, in groups of `width`."""
    size, dim = centroids.shape
    width = min(width, size)
    padding = -size % width
    centre = centroids.double().mean(0).float()
    shifted = centroids.double() - centre.double()
    halves = fold(shifted.square()) / 2
    live = _first_of_equals(centroids, halves)
    biases = torch.where(live, -halves.float(), -torch.inf)
    return Table(
        centroids=centroids,
        centre=centre,
        weights=functional.pad(shifted.float(), (0, 0, 0, padding)),
        biases=functional.pad(biases, (0, padding), value=-torch.inf),
        live=functional.pad(live, (0, padding)),
        width=width,
        radius=float((2 * halves.max()).sqrt()),
        relative_error=(dim + 16) * UNIT_ROUNDOFF + _input_rounding(),
    )


def _first_of_equals(centroids: Float[Tensor, "k d"], norms: Float[Tensor, " k"]) -> Bool[Tensor, " k"]:
    first = torch.ones(len(centroids), dtype=torch.bool, device=centroids.device)
    if len(torch.unique(norms)) == len(norms):
        return first
    _, group = torch.unique(centroids, dim=0, return_inverse=True)
    order = torch.arange(len(group), device=group.device)
    lowest = torch.full_like(group, len(group)).scatter_reduce_(0, group, order, "amin")
    return lowest[group] == order


def _input_rounding() -> float:
    # Users may allow products of float32 in TensorFloat-32 or bfloat16; then more calls are close, none is wrong.
    try:
        return INPUT_ROUNDOFF[torch.get_float32_matmul_precision()]
    except RuntimeError:  # settings of the old and of the new kind were mixed
        return INPUT_ROUNDOFF["medium"]


def nearest(
    table: Table,
    rows: Float[Tensor, "n d"],
    own: Int[Tensor, " n"] | None = None,
    lower: Float[Tensor, "n g"] | None = None,
) -> Found:
    """The nearest centroid of each row in Euclidean distance, the lowest index among equals.

    Scores carry an error of at most (D + 16) u (|y| + R)^2 / 2, the worst case of a float32 dot product in any order of
    summation (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), u = 2^-24, R = max |w|. Rows whose best two
    scores are closer than that are decided by float64 distances summed in a fixed order.

    Where `own` codes and valid `lower` bounds are given, groups that cannot hold a nearer centroid are left out
    (Ding et al. 2015, Yinyang k-means); the answer is the same. InputError if a row is not finite.
    """
    with torch.autocast(rows.device.type, enabled=False):
        shifted = rows - table.centre
        if own is None or lower is None:
            return _decide(table, rows, shifted, torch.addmm(table.biases, shifted, table.weights.T))
        own_scores = table.weights.index_select(0, own).mul_(shifted).sum(1) + table.biases[own]
        norms, slack = _norms(table, shifted)
        unsure = ~(_above(norms, own_scores, slack)[:, None] < lower)
        scores = _grouped_scores(table, shifted, unsure)
        scores.scatter_(1, own[:, None], own_scores[:, None])
        found = _decide(table, rows, shifted, scores)
        kept = torch.where(unsure, found.lower, torch.minimum(found.lower, lower))
        return Found(found.codes, found.upper, kept)


def _grouped_scores(table: Table, shifted: Float[Tensor, "n d"], wanted: Bool[Tensor, "n g"]) -> Float[Tensor, "n p"]:
    scores = shifted.new_full((len(shifted), len(table.weights)), -torch.inf)
    for group in range(table.groups):
        block = slice(group * table.width, (group + 1) * table.width)
        members = wanted[:, group].nonzero()[:, 0]
        found = torch.addmm(table.biases[block], shifted.index_select(0, members), table.weights[block].T)
        scores[:, block].index_copy_(0, members, found)
    return scores


def _decide(
    table: Table, rows: Float[Tensor, "n d"], shifted: Float[Tensor, "n d"], scores: Float[Tensor, "n p"]
) -> Found:
    norms, slack = _norms(table, shifted)
    blocks = scores.view(-1, table.groups, table.width)
    others = blocks.amax(2)
    best, group = others.max(1)  # only the best group is searched for the place of the maximum
    block = blocks[torch.arange(len(group), device=group.device), group]
    place = block.argmax(1, keepdim=True)
    codes = group * table.width + place[:, 0]
    others.scatter_(1, group[:, None], block.scatter(1, place, -torch.inf).amax(1, keepdim=True))
    close = (~(best - others.amax(1) > slack)).nonzero()[:, 0]  # NaN counts as close
    if len(close):
        candidates = ~(scores[close] < (best - slack)[close, None]) & table.live
        codes[close] = _decide_exactly(table, rows[close], candidates)
        others[close] = blocks[close].amax(2)
    return Found(codes, _above(norms, best, 2 * slack), _below(norms[:, None], others, slack[:, None]))


def _decide_exactly(table: Table, rows: Float[Tensor, "n d"], candidates: Bool[Tensor, "n p"]) -> Int[Tensor, " n"]:
    if not bool(rows.isfinite().all()):
        raise InputError("expected finite vectors, got NaN or infinity", hint="look for broken audio or features")
    distances = torch.full(candidates.shape, torch.inf, dtype=torch.float64, device=rows.device)
    for pairs in parts(candidates.nonzero(), chunk_rows(32 * rows.shape[1], rows.device)):
        row, column = pairs.unbind(1)
        distances[row, column] = squared_distances(rows[row], table.centroids[column])
    return distances.argmin(1)


def _norms(table: Table, shifted: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    lengths = torch.linalg.vector_norm(shifted, dim=1)
    slack = table.relative_error * (lengths + table.radius).square() + len(table.centre) * SMALLEST_NORMAL
    return lengths.square(), slack


def _above(norms: Tensor, scores: Tensor, slack: Tensor) -> Tensor:
    return (norms - 2 * scores + 2 * slack).clamp(min=0).sqrt() * (1 + 4 * UNIT_ROUNDOFF)


def _below(norms: Tensor, scores: Tensor, slack: Tensor) -> Tensor:
    return (norms - 2 * scores - 2 * slack).clamp(min=0).sqrt() * (1 - 4 * UNIT_ROUNDOFF)


def squared_distances(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Squared Euclidean distances of float32 pairs in float64, the same bits on any device, in any batch."""
    return fold((a.double() - b.double()).square())


def fold(terms: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Sums of rows by halving: only elementwise additions, so that the order is fixed by D alone."""
    while terms.shape[1] > 1:
        half = terms.shape[1] // 2
        last = terms[:, 2 * half :]
        terms = terms[:, :half] + terms[:, half : 2 * half]
        terms[:, : last.shape[1]] += last  # the one that is left over if D is odd
    return terms[:, 0]


def normalized(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows scaled to length 1, each alone and in a fixed order of sums; a row of zeros stays one."""
    scaled = rows.double() / rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return (scaled / fold(scaled.square()).sqrt().clamp(min=torch.finfo(torch.float32).tiny)[:, None]).float()


def chunk_rows(row_bytes: int, device: torch.device | None = None) -> int:
    """Rows of so many bytes that go into one chunk on a device, or on a CPU."""
    room = CHUNK_BYTES if device is None or device.type == "cpu" else ACCELERATOR_CHUNK_BYTES
    return max(1, room // row_bytes)


def search_rows(table: Table) -> int:
    """Rows that one call of `nearest` should get: eight copies of them and two of their scores make up a chunk."""
    return chunk_rows(4 * (8 * table.weights.shape[1] + 2 * len(table.weights)), table.weights.device)


def parts(values: Tensor, size: int) -> Iterator[Tensor]:
    """Consecutive parts of at most `size` along the first axis."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
