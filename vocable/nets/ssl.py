"""HuBERT and its relatives as one network: convolutions, then a transformer no deeper than the layers asked for.

Modules and tensors are named as in the checkpoints that transformers writes. An utterance's frames do not depend on
what it is padded with: statistics over time and attention see its own samples alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.errors import InputError
from vocable.nets.ssl_config import SSLConfig


class SSLEncoder(nn.Module):
    """Waveforms to the hidden states of several layers.

    Layer n is hidden_states[n] of transformers' full model: the output of block n, and 0 the input of the first block.
    Where norms come first (do_stable_layer_norm) the final norm is part of no layer, as in transformers 5; before,
    transformers had it in its last hidden state.

    layers: in the order of the output's layer axis. InputError if the model does not have them.
    chunk: frames that the convolutions make at a time. Their first activations, 1,280 times as wide as a frame's
        samples, then stay in the processor's cache, and take the same memory for any utterance. None: all at once.
    """

    def __init__(self, config: SSLConfig, layers: Sequence[int], *, chunk: int | None = 64) -> None:
        super().__init__()
        _check_layers(layers, config.num_hidden_layers)
        self.config, self.layers = config, tuple(layers)
        self.feature_extractor = FrontEnd(config, chunk)
        self.feature_projection = Projection(config)
        self.encoder = Transformer(config, depth=max(layers))

    def forward(
        self, samples: Float[Tensor, "b n"], lengths: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b l t d"]:
        """Frames of utterances padded to n samples; zeros beyond an utterance's own (lengths - window) // hop + 1.

        lengths: samples of each utterance, at least one window; None if nothing is padded.
        """
        mask = None
        if lengths is None:
            lengths = torch.full((len(samples),), samples.shape[1], device=samples.device)
        else:
            samples = samples.masked_fill(~_valid(lengths, samples.shape[1]), 0)
            mask = _valid(self._num_frames(lengths), int(self._num_frames(torch.tensor(samples.shape[1]))))
        hidden = self.feature_projection(self.feature_extractor(samples, lengths))
        states = self.encoder(hidden, mask)
        return torch.stack([states[layer] for layer in self.layers], dim=1)

    def _num_frames(self, samples: Tensor) -> Tensor:
        return (samples - self.config.window) // self.config.hop_length + 1


class FrontEnd(nn.Module):
    """Unpadded convolutions from samples to frames, normalised over channels, or once over time per channel."""

    def __init__(self, config: SSLConfig, chunk: int | None) -> None:
        super().__init__()
        self.hop_length, self.window, self.chunk = config.hop_length, config.window, chunk
        widths = (1, *config.conv_dim)
        self.conv_layers = nn.ModuleList(ConvLayer(config, i, widths[i], widths[i + 1]) for i in range(len(widths) - 1))

    def forward(self, samples: Float[Tensor, "b n"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b t c"]:
        first, others = cast(ConvLayer, self.conv_layers[0]), self.conv_layers[1:]
        fold = first.fold(samples, lengths)
        frames = (samples.shape[1] - self.window) // self.hop_length + 1
        step = self.chunk or frames
        pieces = []
        for start in range(0, frames, step):
            stop = min(frames, start + step)
            hidden = first(samples[:, None, start * self.hop_length : (stop - 1) * self.hop_length + self.window], fold)
            for layer in others:
                hidden = layer(hidden)
            pieces.append(hidden.transpose(1, 2))
        return torch.cat(pieces, dim=1)


class ConvLayer(nn.Module):
    """Convolution, norm, GELU. The norm is a layer norm over channels, a group norm over time (layer 0), or none."""

    def __init__(self, config: SSLConfig, index: int, width_in: int, width_out: int) -> None:
        super().__init__()
        kernel, self.stride = config.conv_kernel[index], config.conv_stride[index]
        self.conv = nn.Conv1d(width_in, width_out, kernel, self.stride, bias=config.conv_bias)
        self.layer_norm: nn.Module | None = None
        if config.feat_extract_norm == "layer":
            self.layer_norm = nn.LayerNorm(width_out)
        elif index == 0:
            self.layer_norm = nn.GroupNorm(width_out, width_out)

    def fold(self, samples: Float[Tensor, "b n"], lengths: Int[Tensor, " b"]) -> tuple[Tensor, Tensor] | None:
        """The group norm over each utterance's own time as kernels [b, c, k] and biases [b, c, 1]; None without one.

        Statistics of w.x over positions need no activations: the mean is w.mean(x), the variance w'Cov(x)w, and
        Cov(x) is a matrix of the k samples under the kernel. In float64, where its cancellations do no harm.
        """
        if not isinstance(self.layer_norm, nn.GroupNorm):
            return None
        (kernel,), norm = self.conv.kernel_size, self.layer_norm
        patches = samples.unfold(1, kernel, self.stride).double()
        counts = (lengths - kernel) // self.stride + 1
        outside = ~_valid(counts, patches.shape[1])[..., None]
        counts = counts[:, None, None]
        mean = patches.masked_fill(outside, 0).sum(1, keepdim=True) / counts
        centred = (patches - mean).masked_fill(outside, 0)
        covariance = centred.transpose(1, 2) @ centred / counts
        weight = self.conv.weight[:, 0].double()
        variance = ((weight @ covariance) * weight).sum(-1)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        shift = norm.bias - scale * (mean[:, 0] @ weight.T)
        return (scale[..., None] * weight).float(), shift[..., None].float()

    def forward(self, hidden: Float[Tensor, "b i n"], fold: tuple[Tensor, Tensor] | None = None) -> Tensor:
        if fold is not None:
            weight, bias = fold
            patches = hidden[:, 0].unfold(1, weight.shape[-1], self.stride)
            return F.gelu(torch.baddbmm(bias, weight, patches.transpose(1, 2)))
        hidden = self.conv(hidden)
        if self.layer_norm is not None:
            hidden = self.layer_norm(hidden.transpose(1, 2)).transpose(1, 2)
        return F.gelu(hidden)


class Projection(nn.Module):
    """From the channels of the convolutions to the width of the transformer."""

    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        width = config.conv_dim[-1]
        normed = config.feat_proj_layer_norm
        self.layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps) if normed else nn.Identity()
        self.projection = nn.Linear(width, config.hidden_size)

    def forward(self, hidden: Float[Tensor, "b t c"]) -> Float[Tensor, "b t d"]:
        return cast(Tensor, self.projection(self.layer_norm(hidden)))


class Transformer(nn.Module):
    """The first `depth` blocks over frames with a convolutional embedding of their positions."""

    def __init__(self, config: SSLConfig, depth: int) -> None:
        super().__init__()
        self.norm_first = config.do_stable_layer_norm
        self.pos_conv_embed = PositionalEmbedding(config)
        self.layers = nn.ModuleList(Block(config, first=index == 0) for index in range(depth))
        if not self.norm_first:
            self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> list[Tensor]:
        """All depth + 1 hidden states, [b, t, d] each, zero where the mask is not."""
        hidden = _zero_outside(hidden, mask)
        hidden = hidden + self.pos_conv_embed(hidden)
        if not self.norm_first:
            hidden = self.layer_norm(hidden)
        states = [hidden]
        keys = None if mask is None else mask[:, None, None]
        bias = cast(Block, self.layers[0]).attention.position_bias(hidden.shape[1]) if len(self.layers) else None
        for block in self.layers:
            states.append(block(states[-1], keys, bias))
        return [_zero_outside(state, mask) for state in states]


class PositionalEmbedding(nn.Module):
    """A wide grouped convolution over frames, of as many frames as it was given."""

    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        self.conv = WeightNormConv(
            config.hidden_size, config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
        )

    def forward(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        positions = self.conv(hidden.transpose(1, 2))[..., : hidden.shape[1]]
        return F.gelu(positions).transpose(1, 2)


class WeightNormConv(nn.Module):
    """A grouped convolution whose kernel is direction and length, one length for each tap (Salimans & Kingma 2016)."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight_g = nn.Parameter(torch.ones(1, 1, kernel))
        self.weight_v = nn.Parameter(torch.zeros(width, width // groups, kernel))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, hidden: Float[Tensor, "b d t"]) -> Float[Tensor, "b d s"]:
        # three times as fast as Tensor.norm over leading dimensions
        weight = self.weight_v * (self.weight_g * self.weight_v.square().sum((0, 1)).rsqrt())
        return F.conv1d(hidden, weight, self.bias, padding=weight.shape[-1] // 2, groups=self.groups)


class Block(nn.Module):
    """Attention and a feed-forward network, each beside a residual path, normed before (stable) or after."""

    def __init__(self, config: SSLConfig, *, first: bool) -> None:
        super().__init__()
        self.norm_first = config.do_stable_layer_norm
        self.attention = GatedAttention(config, first=first) if config.model_type == "wavlm" else Attention(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Float[Tensor, "b t d"], keys: Tensor | None, bias: Tensor | None) -> Tensor:
        if self.norm_first:
            hidden = hidden + self.attention(self.layer_norm(hidden), keys, bias)
            return cast(Tensor, hidden + self.feed_forward(self.final_layer_norm(hidden)))
        hidden = self.layer_norm(hidden + self.attention(hidden, keys, bias))
        return cast(Tensor, self.final_layer_norm(hidden + self.feed_forward(hidden)))


class FeedForward(nn.Module):
    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output_dense = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return cast(Tensor, self.output_dense(F.gelu(self.intermediate_dense(hidden))))


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017) over the frames that `keys` leaves visible."""

    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

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


def _check_layers(layers: Sequence[int], last: int) -> None:
    known = all(isinstance(layer, int) and 0 <= layer <= last for layer in layers)
    if not layers or not known or len(set(layers)) != len(layers):
        raise InputError(f"expected distinct layers from 0 to {last}, got {', '.join(map(str, layers)) or 'none'}")


def _valid(counts: Int[Tensor, " b"], length: int) -> Bool[Tensor, "b n"]:
    return torch.arange(length, device=counts.device) < counts[:, None]


def _zero_outside(hidden: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
    return hidden if mask is None else hidden.masked_fill(~mask[..., None], 0)
