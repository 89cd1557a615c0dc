"""Attention with a learned vector for every distance up to a bound, in a form that is quick to train."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.nets.foreign_attention import RelativeKeyAttention


class SkewedAttention(nn.Module):
    """The values of a `RelativeKeyAttention`, whose place and tensors it takes, for a training.

    Queries meet the vector of every distance between frames, the bounds' own repeated, so that a shifted view of the
    products is the bias (Huang et al. 2018, "Music Transformer"). Gathering it would be undone by scattering sums,
    most of them into the two bounds, which on a GPU wait for one another and come in any order.

    left: the bound of distances to frames before, as a number of frames.
    """

    def __init__(self, plain: RelativeKeyAttention, *, left: int) -> None:
        super().__init__()
        self.heads, self.left = plain.heads, left
        self.linear_q, self.linear_k, self.linear_v = plain.linear_q, plain.linear_k, plain.linear_v
        self.linear_out, self.distance_embedding = plain.linear_out, plain.distance_embedding

    def forward(
        self,
        hidden_states: Float[Tensor, "b t d"],
        attention_mask: None,
        relative_position_embeddings: Int[Tensor, "t t"],
    ) -> tuple[Float[Tensor, "b t d"], None]:
        """As upstream calls it; positions follow from the number of frames alone."""
        query, key, value = (self._split(map_(hidden_states)) for map_ in (self.linear_q, self.linear_k, self.linear_v))
        scale = query.shape[-1] ** -0.5
        bias = self._bias(query * scale)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
        return self.linear_out(mixed.transpose(1, 2).flatten(2)), None

    def _bias(self, query: Float[Tensor, "b h t e"]) -> Float[Tensor, "b h t t"]:
        frames, last = query.shape[2], self.distance_embedding.num_embeddings - 1
        reach = torch.arange(1 - frames, frames + 1, device=query.device) + self.left
        near = query @ self.distance_embedding.weight[reach.clamp(0, last)].T
        # of the 2 t products in row i those for frames 0, 1 ... begin at place t - 1 - i
        rows = near.flatten(2)[..., frames - 1 : -1].unflatten(-1, (frames, 2 * frames - 1))
        bias: Tensor = rows[..., :frames].contiguous()
        return bias

    def _split(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b h t e"]:
        return hidden.view(*hidden.shape[:2], self.heads, -1).transpose(1, 2)
