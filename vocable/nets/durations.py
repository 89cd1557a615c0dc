"""How long each unit of a deduplicated sequence lasts: a small convolutional predictor, and how it is fitted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vocable.errors import InputError
from vocable.nets.threads import one_thread_each

_BATCH, _STRETCH = 16, 64  # of a step: how many stretches, and units in each
_RATE = 1e-3


class DurationPredictor(nn.Module):
    """Units in a row -> the natural logarithm of the frames that each lasts.

    What a unit usually lasts, plus what its neighbours make of it: an embedding, and two layers of convolution, ReLU,
    normalization and dropout. As in FastSpeech (Ren et al. 2019, section 3.3) and, for discrete units, "Direct
    speech-to-speech translation with discrete units" (Lee et al. 2022, section 3.2).

    size: entries of the codebook.
    """

    def __init__(self, size: int, *, dim: int = 128, kernel: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.size, self.dim, self.kernel = size, dim, kernel
        self.usual = nn.Parameter(torch.zeros(size))
        self.embedding = nn.Embedding(size, dim)
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, dim, kernel, padding="same") for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(dim, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, units: Int[Tensor, "b u"], real: Bool[Tensor, "b u"] | None = None) -> Float[Tensor, "b u"]:
        """real: which units are no padding; what is counts as zeros, as what lies beyond the ends does."""
        hidden = self.embedding(units)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            shown = hidden if real is None else hidden * real[..., None]
            hidden = self.dropout(norm(convolution(shown.transpose(1, 2)).transpose(1, 2).relu()))
        found: Tensor = self.usual[units] + self.head(hidden)[..., 0]
        return found

    @torch.no_grad()
    def frames(self, units: Int[Tensor, " u"]) -> Int[Tensor, " u"]:
        """Whole frames, 1 or more, of each unit of one sequence; their errors of rounding do not add up."""
        return whole_frames(self(units[None])[0].double().exp()) if len(units) else units


def run_lengths(codes: Int[Tensor, " t"]) -> tuple[Int[Tensor, " u"], Int[Tensor, " u"]]:
    """The units of a sequence without repetitions, and for how many frames each goes on."""
    units, counts = torch.unique_consecutive(codes, return_counts=True)
    return units, counts


def whole_frames(durations: Float[Tensor, " u"]) -> Int[Tensor, " u"]:
    """Durations in frames as whole numbers, 1 or more, that end where the durations' sums end, to half a frame.

    Only where 1 is more than is due, the sequence runs ahead, until longer units have made up for it.
    """
    numbers = torch.arange(1, len(durations) + 1, device=durations.device)
    ends = (durations.double().cumsum(0) + 0.5).floor().long()
    ends = (ends - numbers).clamp_min(0).cummax(0).values + numbers
    return ends.diff(prepend=ends.new_zeros(1))


def fit_durations(
    sequences: Sequence[Int[Tensor, " _"]],
    size: int,
    *,
    steps: int = 1000,
    seed: int = 0,
    device: str = "cpu",
    held_out: float = 0.1,
) -> tuple[DurationPredictor, dict[str, int | float]]:
    """A predictor from codes [T] frame by frame, one sequence a recording, and what it is worth.

    Minimizes the squared error of the logarithms. Its mean is a geometric one, and so less than the mean: a constant
    factor afterwards makes sums of durations come out right. The same on every CPU thread count.

    size: entries of the codebook. held_out: share of the sequences to judge by, one at least.
    The evidence, of those held out: "units" (how many), "error" (mean absolute error, in frames), and "error_of_means",
    that of giving each unit its mean duration.
    InputError for fewer than two sequences that are not empty, or codes out of range.
    """
    runs = [run_lengths(codes.long()) for codes in sequences if len(codes)]
    if len(runs) < 2:
        raise InputError(f"expected two recordings or more to learn durations from, got {len(runs)}")
    if not all(0 <= int(units.min()) <= int(units.max()) < size for units, _ in runs):
        raise InputError(f"expected codes from 0 to {size - 1}, got others")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(runs), generator=generator).tolist()
    judged = min(len(runs) - 1, max(1, round(held_out * len(runs))))
    held, known = ([runs[i] for i in part] for part in (order[:judged], order[judged:]))
    with one_thread_each(), torch.random.fork_rng():
        torch.manual_seed(seed)
        predictor = DurationPredictor(size).to(device)
        _train(predictor, known, steps, generator)
        _match_sums(predictor, known)
        predictor = predictor.cpu()
        return predictor, _judge(predictor, held, _means(known, size))


Run = tuple[Tensor, Tensor]


def _train(predictor: DurationPredictor, runs: Sequence[Run], steps: int, generator: torch.Generator) -> None:
    device = predictor.usual.device
    predictor.usual.data.copy_(_means([(units, counts.double().log()) for units, counts in runs], predictor.size))
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=_RATE)
    shares = torch.tensor([len(units) for units, _ in runs], dtype=torch.float64)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = torch.multinomial(shares, _BATCH, replacement=True, generator=generator).tolist()
        units, counts, real = (part.to(device) for part in _stretches([runs[row] for row in rows], generator))
        error = (predictor(units, real) - counts.log()) * real
        optimizer.zero_grad()
        (error.square().sum() / real.sum()).backward()
        optimizer.step()
    predictor.eval().requires_grad_(False)


def _stretches(runs: Sequence[Run], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A random stretch of each: units and counts [b, u], and which are real."""
    units, counts = torch.zeros(len(runs), _STRETCH, dtype=torch.int64), torch.ones(len(runs), _STRETCH)
    real = torch.zeros(len(runs), _STRETCH, dtype=torch.bool)
    for row, (theirs, lasting) in enumerate(runs):
        count = min(len(theirs), _STRETCH)
        first = int(torch.randint(len(theirs) - count + 1, (1,), generator=generator))
        units[row, :count], counts[row, :count] = theirs[first : first + count], lasting[first : first + count].float()
        real[row, :count] = True
    return units, counts, real


@torch.no_grad()
def _match_sums(predictor: DurationPredictor, runs: Sequence[Run]) -> None:
    """Scales all durations such that they add up to as many frames as there were."""
    device = predictor.usual.device
    due = sum(int(counts.sum()) for _, counts in runs)
    given = sum(float(predictor(units[None].to(device)).double().exp().sum()) for units, _ in runs)
    predictor.head.bias.add_(math.log(due / given))


def _means(runs: Sequence[Run], size: int) -> Float[Tensor, " v"]:
    """The mean count of each unit; of all units, for one that never came."""
    units, counts = (torch.cat(parts) for parts in zip(*runs, strict=True))
    sums = torch.zeros(size, dtype=torch.float64).index_add_(0, units, counts.double())
    times = torch.bincount(units, minlength=size)
    return torch.where(times > 0, sums / times.clamp_min(1), counts.double().mean())


def _judge(predictor: DurationPredictor, runs: Sequence[Run], means: Float[Tensor, " v"]) -> dict[str, int | float]:
    ours = sum(int((predictor.frames(units) - counts).abs().sum()) for units, counts in runs)
    theirs = sum(int((whole_frames(means[units]) - counts).abs().sum()) for units, counts in runs)
    count = sum(len(units) for units, _ in runs)
    return {"units": count, "error": ours / count, "error_of_means": theirs / count}
