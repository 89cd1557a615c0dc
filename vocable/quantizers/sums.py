"""Sums as fixed-point integers: the same bits whatever the order of additions, the chunks, threads and processes."""

from __future__ import annotations

from threading import Lock

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.quantizers.reduce import Reducer


class ClusterSums:
    """Sums of the members of each cluster as fixed-point integers [K, D].

    Each dimension is scaled by a power of two that leaves room for the sum over `room` points: at least 61 - log2(room)
    bits below the largest magnitude, 43 for 200,000 points, where float32 has 24. Members can be added and taken
    away any number of times without drift.
    """

    def __init__(self, magnitudes: Float[Tensor, " d"], room: int, num_clusters: int) -> None:
        exponents = torch.frexp(magnitudes).exponent
        bits = 62 - room.bit_length() - exponents
        self.scale = torch.ldexp(torch.ones_like(magnitudes), bits.clamp(max=126))
        self.sums = torch.zeros(num_clusters, len(magnitudes), dtype=torch.int64, device=magnitudes.device)
        self.counts = torch.zeros(num_clusters, dtype=torch.int64, device=magnitudes.device)
        self._lock = Lock()

    def add(self, rows: Float[Tensor, "n d"], codes: Int[Tensor, " n"], sign: int = 1) -> None:
        """Count the rows in (or out, with sign -1) under their codes."""
        units = (rows * self.scale).to(torch.int64)
        counts = torch.bincount(codes, minlength=len(self.counts))
        with self._lock:
            self.sums.index_add_(0, codes, units, alpha=sign)
            self.counts.add_(counts, alpha=sign)

    def over(self, reduce: Reducer) -> ClusterSums:
        """The sums of all processes."""
        joint = ClusterSums.__new__(ClusterSums)
        joint.scale, joint._lock = self.scale, Lock()
        joint.sums, joint.counts = reduce.sum_(self.sums.clone()), reduce.sum_(self.counts.clone())
        return joint

    def means(self, otherwise: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
        """The mean of each cluster in float32; of an empty one the row of `otherwise`."""
        means = self.totals() / self.counts.clamp(min=1)[:, None]
        return torch.where(self.counts[:, None] > 0, means.float(), otherwise)

    def totals(self) -> Float[Tensor, "k d"]:
        """The sums in float64."""
        return self.sums.double() / self.scale.double()

    def mean(self) -> Float[Tensor, " d"]:
        """The mean of all members in float64."""
        return self.sums.sum(0).double() / self.scale.double() / self.counts.sum()


def exact_sum(values: Float[Tensor, " n"], room: int, reduce: Reducer) -> float:
    """Sum of the float64 values >= 0 of all processes, of which there are at most `room`.

    Counts in units of at most 2^-60 room times the largest.
    """
    largest = reduce.max_(torch.cat([values, values.new_zeros(1)]).amax())
    bits = 62 - room.bit_length() - int(torch.frexp(largest).exponent)
    units = (values * 2.0**bits).round().to(torch.int64)
    return float(int(reduce.sum_(units.sum()))) * 2.0**-bits
