"""Attention with a learned vector for every distance up to a bound, without a table of all pairs of frames."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class RelativeKeyAttention(nn.Module):
    """Scores q.k + q.e[distance] (Shaw et al. 2018, "Self-Attention with Relative Position Representations").

    Takes the place and the tensors of w2v-BERT's attention in transformers. That makes a vector for each pair of
    frames, half a gigabyte in each block for 30 s; here queries meet each distance's vector once, in half the time.
    """

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self.num_heads = theirs.num_heads
        self.linear_q, self.linear_k, self.linear_v = theirs.linear_q, theirs.linear_k, theirs.linear_v
        self.linear_out, self.distance_embedding = theirs.linear_out, theirs.distance_embedding

    def forward(
        self,
        hidden_states: Float[Tensor, "b t d"],
        attention_mask: None,
        relative_position_embeddings: Int[Tensor, "t t"],
    ) -> tuple[Float[Tensor, "b t d"], None]:
        """As upstream calls it; the positions are those of `distances`."""
        query, key, value = (self._split(map_(hidden_states)) for map_ in (self.linear_q, self.linear_k, self.linear_v))
        scale = query.shape[-1] ** -0.5
        bias = self._bias(query * scale, relative_position_embeddings)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
        return self.linear_out(mixed.transpose(1, 2).flatten(2)), None

    def _bias(self, query: Float[Tensor, "b h t e"], positions: Int[Tensor, "t t"]) -> Float[Tensor, "b h t t"]:
        near: Tensor = query @ self.distance_embedding.weight.T
        return near.gather(-1, positions.expand(*near.shape[:2], -1, -1))

    def _split(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b h t e"]:
        return hidden.view(*hidden.shape[:2], self.num_heads, -1).transpose(1, 2)


def distances(frames: int, left: int, right: int, device: torch.device) -> Int[Tensor, "t t"]:
    """From frame (row) to frame (column), no farther than `left` and `right`, counted from the farthest left."""
    places = torch.arange(frames, device=device)
    return (places - places[:, None]).clamp(-left, right) + left
