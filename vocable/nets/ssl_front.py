"""The front end of HuBERT and its relatives: unpadded convolutions from samples to frames.

Activations lie frame by frame, [t, c]: a convolution over them is one matrix product with overlapping rows of k frames,
which nothing has to copy, and norms over channels need no transposition.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.nets.linear import Linear, linear, pack
from vocable.nets.ssl_config import SSLConfig


class FrontEnd(nn.Module):
    """Convolutions, normalised over channels each, or the first of them over time per channel.

    chunk: frames made at a time. The first activations, 1,280 times as wide as a frame's samples, then stay in the
        processor's cache, and take the same memory for any utterance. None: all at once.
    """

    def __init__(self, config: SSLConfig, chunk: int | None) -> None:
        super().__init__()
        self.hop_length, self.window, self.chunk = config.hop_length, config.window, chunk
        widths = (1, *config.conv_dim)
        self.conv_layers = nn.ModuleList(ConvLayer(config, i, widths[i], widths[i + 1]) for i in range(len(widths) - 1))

    def prepare(self, dtype: torch.dtype) -> None:
        """The first convolution and its group norm, on the waveform, stay float32: what they lose nobody gets back."""
        first, *others = cast("list[ConvLayer]", list(self.conv_layers))
        for layer in others:
            layer.to(dtype)
        for layer in (first, *others):
            layer.prepare()

    def forward(
        self, samples: Float[Tensor, "b n"], lengths: Int[Tensor, " b"], dtype: torch.dtype
    ) -> Float[Tensor, "b t c"]:
        """Frames, in `dtype` from the second convolution on; lengths [b] in samples."""
        first, others = cast(ConvLayer, self.conv_layers[0]), self.conv_layers[1:]
        fold = first.fold(samples, lengths)
        frames = (samples.shape[1] - self.window) // self.hop_length + 1
        step = self.chunk or frames
        pieces = []
        for start in range(0, frames, step):
            end = (min(frames, start + step) - 1) * self.hop_length + self.window
            hidden = first(samples[:, start * self.hop_length : end, None], fold).to(dtype)
            for layer in others:
                hidden = layer(hidden)
            pieces.append(hidden)
        return torch.cat(pieces, dim=1)


class ConvLayer(nn.Module):
    """Convolution, norm, GELU. The norm is a layer norm over channels, a group norm over time (layer 0), or none."""

    def __init__(self, config: SSLConfig, index: int, width_in: int, width_out: int) -> None:
        super().__init__()
        self.kernel_size, self.stride = config.conv_kernel[index], config.conv_stride[index]
        self.conv = nn.Conv1d(width_in, width_out, self.kernel_size, self.stride, bias=config.conv_bias)
        self.layer_norm: nn.Module | None = None
        if config.feat_extract_norm == "layer":
            self.layer_norm = nn.LayerNorm(width_out)
        elif index == 0:
            self.layer_norm = nn.GroupNorm(width_out, width_out)
        self._matrix: Tensor | None = None

    def prepare(self) -> None:
        """Lays the kernel out once as the matrix that it is multiplied as."""
        self._matrix = pack(self._flat())

    def fold(self, samples: Float[Tensor, "b n"], lengths: Int[Tensor, " b"]) -> tuple[Tensor, Tensor] | None:
        """The group norm over each utterance's own time as kernels [b, c, k] and biases [b, c]; None without one.

        Statistics of w.x over positions need no activations: the mean is w.mean(x), the variance w'Cov(x)w, and
        Cov(x) is a matrix of the k samples under the kernel. In float64, where its cancellations do no harm.
        """
        if not isinstance(self.layer_norm, nn.GroupNorm):
            return None
        norm = self.layer_norm
        patches = samples.unfold(1, self.kernel_size, self.stride).double()
        counts = (lengths - self.kernel_size) // self.stride + 1
        outside = ~valid(counts, patches.shape[1])[..., None]
        counts = counts[:, None, None]
        mean = patches.masked_fill(outside, 0).sum(1, keepdim=True) / counts
        centred = (patches - mean).masked_fill(outside, 0)
        covariance = centred.transpose(1, 2) @ centred / counts
        weight = self.conv.weight[:, 0].double()
        variance = ((weight @ covariance) * weight).sum(-1)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        shift = norm.bias - scale * (mean[:, 0] @ weight.T)
        return (scale[..., None] * weight).float(), shift.float()

    def forward(self, hidden: Float[Tensor, "b n i"], fold: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Frames [b, (n - k) // stride + 1, o]; with the kernels and biases of `fold` if there are any."""
        patches = hidden.unfold(1, self.kernel_size, self.stride).transpose(2, 3).flatten(2)
        if fold is not None:
            weight, bias = fold
            if len(patches) == 1:
                return linear(patches, weight[0], bias[0], gelu=True)
            return F.gelu(torch.baddbmm(bias[:, None], patches, weight.transpose(1, 2)))
        matrix = self._flat() if self._matrix is None else self._matrix
        if self.layer_norm is None:
            return linear(patches, matrix, self.conv.bias, gelu=True)
        return F.gelu(self.layer_norm(linear(patches, matrix, self.conv.bias)))

    def _flat(self) -> Float[Tensor, "o ki"]:
        return self.conv.weight.transpose(1, 2).flatten(1)


class Projection(nn.Module):
    """From the channels of the convolutions to the width of the transformer."""

    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        width = config.conv_dim[-1]
        normed = config.feat_proj_layer_norm
        self.layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps) if normed else nn.Identity()
        self.projection = Linear(width, config.hidden_size)

    def forward(self, hidden: Float[Tensor, "b t c"]) -> Float[Tensor, "b t d"]:
        return cast(Tensor, self.projection(self.layer_norm(hidden)))


def valid(counts: Int[Tensor, " b"], length: int) -> Bool[Tensor, "b n"]:
    """Which of `length` places each row really has."""
    return torch.arange(length, device=counts.device) < counts[:, None]
