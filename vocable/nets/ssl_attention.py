"""Self-attention of HuBERT and its relatives, and WavLM's, which knows how far apart two frames are."""

from __future__ import annotations

import math
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.nets.linear import Linear
from vocable.nets.ssl_config import SSLConfig


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017) over the frames that `keys` leaves visible."""

    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.k_proj = Linear(config.hidden_size, config.hidden_size)
        self.v_proj = Linear(config.hidden_size, config.hidden_size)
        self.q_proj = Linear(config.hidden_size, config.hidden_size)
        self.out_proj = Linear(config.hidden_size, config.hidden_size)

    def position_bias(self, frames: int) -> Float[Tensor, "h t t"] | None:
        """What is added to the scores for the distance of two frames: nothing."""
        return None

    def scores_bias(self, hidden: Tensor, keys: Tensor | None, bias: Tensor | None) -> Tensor | None:
        """The mask, or the term to add to the scores, [b, h or 1, t or 1, t]."""
        return keys

    def forward(
        self, hidden: Float[Tensor, "b t d"], keys: Bool[Tensor, "b 1 1 t"] | None, bias: Tensor | None
    ) -> Tensor:
        query, key, value = (self._split(project(hidden)) for project in (self.q_proj, self.k_proj, self.v_proj))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self.scores_bias(hidden, keys, bias))
        return cast(Tensor, self.out_proj(mixed.transpose(1, 2).flatten(2)))

    def _split(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b h t e"]:
        return hidden.view(*hidden.shape[:2], self.heads, -1).transpose(1, 2)


class GatedAttention(Attention):
    """Attention with a gated relative position bias (Chen et al. 2022, "WavLM", section III-A).

    The first block holds the table of biases, which all blocks share; the gates are each block's own.
    """

    def __init__(self, config: SSLConfig, *, first: bool) -> None:
        super().__init__(config)
        self.buckets, self.farthest = config.num_buckets, config.max_bucket_distance
        self.gru_rel_pos_const = nn.Parameter(torch.ones(1, self.heads, 1, 1))
        self.gru_rel_pos_linear = nn.Linear(config.hidden_size // self.heads, 8)
        if first:
            self.rel_attn_embed = nn.Embedding(config.num_buckets, self.heads)

    def position_bias(self, frames: int) -> Float[Tensor, "h t t"]:
        """The table's entry for the distance from query to key, in exact, then logarithmic buckets."""
        places = torch.arange(frames, device=self.rel_attn_embed.weight.device)
        buckets = self._bucket(torch.arange(1 - frames, frames, device=places.device))
        return cast(Tensor, self.rel_attn_embed(buckets)).T[:, places - places[:, None] + frames - 1]

    def scores_bias(self, hidden: Tensor, keys: Tensor | None, bias: Tensor | None) -> Tensor | None:
        gates = self.gru_rel_pos_linear(self._split(hidden))
        near, far = (gate.sum(-1, keepdim=True).sigmoid() for gate in gates.chunk(2, dim=-1))
        gated = cast(Tensor, (near * (far * self.gru_rel_pos_const - 1) + 2) * bias)
        return gated if keys is None else gated.masked_fill(~keys, -math.inf)

    def _bucket(self, distance: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        half = self.buckets // 2
        exact = half // 2
        far = distance.abs()
        slope = torch.log(far.float() / exact) / math.log(self.farthest / exact) * (half - exact)
        coarse = (exact + slope).clamp(max=half - 1).long()
        return torch.where(far < exact, far, coarse) + half * (distance > 0)
