"""How HuBERT and its relatives tell frames where they are: wide grouped convolutions, added to the frames."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.nets.ssl_config import SSLConfig


class PositionalEmbedding(nn.Module):
    """One convolution over a second or two, and a GELU; of as many frames as it was given."""

    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        self.conv = WeightNormConv(
            config.hidden_size, config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
        )

    def prepare(self) -> None:
        """See `WeightNormConv.prepare`."""
        self.conv.prepare()

    def forward(self, hidden: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
        return F.gelu(self.conv(hidden))


class PositionalStack(nn.Module):
    """Several narrower convolutions, each normed over channels (Baevski et al. 2022, "data2vec")."""

    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(StackedConv(config) for _ in range(config.num_conv_pos_embeddings))

    def prepare(self) -> None:
        """Nothing to do: the convolutions are plain."""

    def forward(self, hidden: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
        for layer in self.layers:
            hidden = zero_outside(layer(hidden), mask)
        return hidden


class StackedConv(nn.Module):
    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        width, kernel, groups = config.hidden_size, config.conv_pos_kernel_size, config.num_conv_pos_embedding_groups
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)
        self.layer_norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        found = self.conv(hidden.transpose(1, 2))[..., : hidden.shape[1]]
        return F.gelu(self.layer_norm(found.transpose(1, 2)))


class WeightNormConv(nn.Module):
    """A grouped convolution whose kernel is direction and length, one length for each tap (Salimans & Kingma 2016).

    On a CPU it is done by Fourier transforms of blocks twice the kernel's size (overlap-save), in float32 whatever
    the dtype: six times as fast as the direct way with 128 taps, and nearer to the exact sum.
    """

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups, self.kernel_size = groups, kernel
        self.weight_g = nn.Parameter(torch.ones(1, 1, kernel))
        self.weight_v = nn.Parameter(torch.zeros(width, width // groups, kernel))
        self.bias = nn.Parameter(torch.zeros(width))
        self._ready: Tensor | None = None

    def prepare(self) -> None:
        """Computes once what is derived from the weights: the kernel, or its spectrum on a CPU."""
        self._ready = self._derive()

    def forward(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        ready = self._derive() if self._ready is None else self._ready
        if ready.is_complex():
            return torch.stack([self._by_spectrum(row, ready) for row in hidden.float()]).to(hidden.dtype)
        bias, padding = self.bias.to(hidden.dtype), self.kernel_size // 2
        found = F.conv1d(hidden.transpose(1, 2), ready.to(hidden.dtype), bias, padding=padding, groups=self.groups)
        return found[..., : hidden.shape[1]].transpose(1, 2)

    def _derive(self) -> Tensor:
        direction = self.weight_v.float()
        # three times as fast as Tensor.norm over leading dimensions
        weight = direction * (self.weight_g.float() * direction.square().sum((0, 1)).rsqrt())
        return self._spectrum(weight) if weight.device.type == "cpu" else weight

    def _spectrum(self, weight: Float[Tensor, "d e k"]) -> Complex[Tensor, "f g e o"]:
        """Matrices from the channels of a group to themselves, one for each frequency."""
        grouped = weight.unflatten(0, (self.groups, -1)).flip(-1)
        spectrum: Tensor = torch.fft.rfft(grouped, 2 * self.kernel_size)
        return spectrum.permute(3, 0, 2, 1).contiguous()

    def _by_spectrum(self, hidden: Float[Tensor, "t d"], spectrum: Complex[Tensor, "f g e o"]) -> Float[Tensor, "t d"]:
        frames, kernel = len(hidden), self.kernel_size
        step = kernel + 1  # outputs of a block that its wrapping around does not touch
        blocks = -(-frames // step)
        padded = F.pad(hidden, (0, 0, kernel // 2, blocks * step + kernel - 1 - kernel // 2 - frames))
        waves = torch.fft.rfft(padded.unfold(0, 2 * kernel, step))
        columns = waves.unflatten(1, (self.groups, -1)).permute(3, 1, 0, 2).flatten(0, 1)
        mixed = torch.bmm(columns, spectrum.flatten(0, 1)).unflatten(0, spectrum.shape[:2])
        found: Tensor = torch.fft.irfft(mixed.permute(2, 1, 3, 0).flatten(1, 2), 2 * kernel)[..., kernel - 1 :]
        return found.transpose(1, 2).flatten(0, 1)[:frames] + self.bias


def zero_outside(hidden: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
    """Zeros in place of the frames that the mask leaves out."""
    return hidden if mask is None else hidden.masked_fill(~mask[..., None], 0)
