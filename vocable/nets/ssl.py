"""HuBERT and its relatives as one network: convolutions, then a transformer no deeper than the layers asked for.

Modules and tensors are named as in the checkpoints that transformers writes. An utterance's frames do not depend on
what it is padded with: statistics over time and attention see its own samples alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vocable.nets.encoder import parse_layers
from vocable.nets.linear import Linear
from vocable.nets.ssl_attention import Attention, GatedAttention
from vocable.nets.ssl_config import SSLConfig
from vocable.nets.ssl_front import FrontEnd, Projection, valid
from vocable.nets.ssl_positions import PositionalEmbedding, PositionalStack, zero_outside


class SSLEncoder(nn.Module):
    """Waveforms to the hidden states of several layers; an `encoder.Encoder`.

    "L6" is hidden_states[6] of transformers' full model: the output of block 6, and "L0" the input of the first block.
    Where norms come first (do_stable_layer_norm) the final norm is part of no layer, as in transformers 5; before,
    transformers had it in its last hidden state.
    "L6.pre" is what the feed-forward network of block 6 gives, before its residual and the block's final norm:
    fairseq's layer_result, the target of data2vec. "L0" has none.

    layers: 6, "6", "L6", "6.pre" or "L6.pre", in the order of the output's layer axis; None for L0 to the last.
        InputError if the model does not have them.
    chunk: see FrontEnd.
    """

    padding = True
    longest: int | None = None

    def __init__(self, config: SSLConfig, layers: Sequence[int | str] | None, *, chunk: int | None = 64) -> None:
        super().__init__()
        self.config, self.layers = config, parse_layers(layers, config.num_hidden_layers)
        self.feature_extractor = FrontEnd(config, chunk)
        self.feature_projection = Projection(config)
        self.encoder = Transformer(config, depth=max(layer.block for layer in self.layers))

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms."""
        return self.config.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples between two frames."""
        return self.config.hop_length

    @property
    def window(self) -> int:
        """Samples that one frame sees of the convolutions."""
        return self.config.window

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the layers, in order."""
        return tuple(layer.label for layer in self.layers)

    @property
    def dim(self) -> int:
        """Width of the transformer."""
        return self.config.hidden_size

    def settings(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return self.config.to_dict()

    def prepare(self, dtype: torch.dtype) -> None:
        """Turns the weights to `dtype`, but for the first convolution, and computes what every call needs of them.

        To be called once the weights are in place and on their device; optional in float32.
        """
        self.encoder.pos_conv_embed.prepare()
        self.feature_extractor.prepare(dtype)
        self.feature_projection.to(dtype)
        self.encoder.to(dtype)
        for module in self.modules():
            if isinstance(module, Linear):
                module.prepare()

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
            samples = samples.masked_fill(~valid(lengths, samples.shape[1]), 0)
            mask = valid(self._num_frames(lengths), int(self._num_frames(torch.tensor(samples.shape[1]))))
        dtype = self.feature_projection.projection.weight.dtype
        hidden = self.feature_projection(self.feature_extractor(samples, lengths, dtype))
        states = self.encoder(hidden, mask)
        return torch.stack([zero_outside(states[layer.block][layer.pre], mask) for layer in self.layers], dim=1)

    def _num_frames(self, samples: Tensor) -> Tensor:
        return (samples - self.config.window) // self.config.hop_length + 1


class Transformer(nn.Module):
    """The first `depth` blocks over frames with a convolutional embedding of their positions."""

    def __init__(self, config: SSLConfig, depth: int) -> None:
        super().__init__()
        self.norm_first = config.do_stable_layer_norm
        stacked = config.model_type == "data2vec-audio"
        self.pos_conv_embed = PositionalStack(config) if stacked else PositionalEmbedding(config)
        self.layers = nn.ModuleList(Block(config, first=index == 0) for index in range(depth))
        if not self.norm_first:
            self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> list[tuple[Tensor, Tensor]]:
        """Output and last addend [b, t, d] of each of the depth + 1 layers; nothing is added to layer 0."""
        hidden = zero_outside(hidden, mask)
        hidden = hidden + self.pos_conv_embed(hidden, mask)
        if not self.norm_first:
            hidden = self.layer_norm(hidden)
        states = [(hidden, hidden)]
        keys = None if mask is None else mask[:, None, None]
        bias = cast(Block, self.layers[0]).attention.position_bias(hidden.shape[1]) if len(self.layers) else None
        for block in self.layers:
            states.append(block(states[-1][0], keys, bias))
        return states


class Block(nn.Module):
    """Attention and a feed-forward network, each beside a residual path, normed before (stable) or after."""

    def __init__(self, config: SSLConfig, *, first: bool) -> None:
        super().__init__()
        self.norm_first = config.do_stable_layer_norm
        self.attention = GatedAttention(config, first=first) if config.model_type == "wavlm" else Attention(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, hidden: Float[Tensor, "b t d"], keys: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The block's output, and what its feed-forward network gave for it."""
        if self.norm_first:
            hidden = hidden + self.attention(self.layer_norm(hidden), keys, bias)
            added = self.feed_forward(self.final_layer_norm(hidden))
            return hidden + added, added
        hidden = self.layer_norm(hidden + self.attention(hidden, keys, bias))
        added = self.feed_forward(hidden)
        return self.final_layer_norm(hidden + added), added


class FeedForward(nn.Module):
    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        self.intermediate_dense = Linear(config.hidden_size, config.intermediate_size)
        self.output_dense = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return cast(Tensor, self.output_dense(self.intermediate_dense(hidden, gelu=True)))
