"""Attention with a learned vector for every distance up to a bound, in a form that is quick to train."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.nets.foreign_attention import RelativeKeyAttention


class SkewedAttention(RelativeKeyAttention):
    """The values of a `RelativeKeyAttention`, whose place and tensors it takes, for a training.

    Queries meet the vector of every distance between frames, the bounds' own repeated, so that a shifted view of the
    products is the bias (Huang et al. 2018, "Music Transformer"). Gathering it would be undone by scattering sums,
    most of them into the two bounds, which on a GPU wait for one another and come in any order.

    left: the bound of distances to frames before, as a number of frames.
    """

    def __init__(self, plain: RelativeKeyAttention, *, left: int) -> None:
        super().__init__(plain)
        self.left = left

    def _bias(self, query: Float[Tensor, "b h t e"], positions: Int[Tensor, "t t"]) -> Float[Tensor, "b h t t"]:
        """They follow from the number of frames alone."""
        frames, last = query.shape[2], self.distance_embedding.num_embeddings - 1
        reach = torch.arange(1 - frames, frames + 1, device=query.device) + self.left
        near = query @ self.distance_embedding.weight[reach.clamp(0, last)].T
        # of the 2 t products in row i those for frames 0, 1 ... begin at place t - 1 - i
        rows = near.flatten(2)[..., frames - 1 : -1].unflatten(-1, (frames, 2 * frames - 1))
        bias: Tensor = rows[..., :frames].contiguous()
        return bias
