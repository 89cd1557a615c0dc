"""The generator of Vocos: convolutions over frames predict spectra, of which an inverse STFT makes sound."""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.errors import InputError
from vocable.nets.generators import Generator
from vocable.nets.linear import Linear

_MOST = math.log(1e2)  # of a magnitude, as in Vocos


class ISTFTGenerator(Generator):
    """Vocos (Siuzdak 2023): ConvNeXt blocks, magnitude and phase of each frame, overlap-add.

    dim: channels of the frames and of the blocks. depth: blocks. width: channels within a block.
    hop_length: samples per frame. fft_size: samples of a spectrum's window, even.
    kernel: frames that each convolution sees.
    causal: no sample depends on a later frame. Convolutions then look back only, and the window of a spectrum begins
        with the first sample of its frame, so that a frame's samples are complete as soon as it is there.
    subframes: spectra per frame, `hop_length / subframes` samples apart: the blocks run at a lower rate than spectra.
    InputError if a number is out of range, or the window shorter than two steps, of which Hann windows leave gaps.
    """

    taper: Tensor

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        width: int,
        hop_length: int,
        fft_size: int,
        kernel: int = 7,
        causal: bool = False,
        subframes: int = 1,
    ) -> None:
        super().__init__()
        if min(dim, depth, width, kernel, subframes) < 1 or hop_length < 2 * subframes or hop_length % subframes:
            raise InputError(
                f"expected positive sizes and {subframes} subframes that divide a hop of two samples each or more, "
                f"got dim {dim}, depth {depth}, width {width}, kernel {kernel}, hop_length {hop_length}"
            )
        if fft_size % 2 or fft_size * subframes < 2 * hop_length:
            raise InputError(f"expected an even fft_size of {2 * hop_length // subframes} or more, got {fft_size}")
        self.dim, self.hop_length, self.fft_size, self.subframes = dim, hop_length, fft_size, subframes
        self._step = hop_length // subframes
        self._before = 0 if causal else (fft_size - self._step) // 2
        self.embed = FrameConv(dim, kernel, causal=causal)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.convnext = nn.ModuleList(ConvNeXtBlock(dim, width, kernel, 1 / depth, causal=causal) for _ in range(depth))
        self.final_layer_norm = nn.LayerNorm(dim, eps=1e-6)
        self.out = nn.Linear(dim, subframes * (fft_size + 2))
        self.apply(_start)
        self.register_buffer("taper", _taper(fft_size, self._step), persistent=False)
        back, ahead = self._reach()
        self.past = (depth + 1) * self.embed.before + back
        self.future = (depth + 1) * self.embed.after + ahead

    def forward(self, frames: Float[Tensor, "b d t"]) -> Float[Tensor, "b n"]:
        hidden = self.norm(self.embed(frames.transpose(1, 2)).to(self.norm.weight.dtype))
        for block in self.convnext:
            hidden = block(hidden)
        return self._overlap_add(self._spectra(self.final_layer_norm(hidden)))

    def prepared(self, dtype: torch.dtype = torch.float32) -> Generator:
        other = copy.deepcopy(self).eval().requires_grad_(False)
        for module in other.modules():
            if isinstance(module, Pointwise):
                module.to(dtype)
                module.prepare()
        return other

    def _spectra(self, hidden: Float[Tensor, "b t d"]) -> Complex[Tensor, "b s f"]:
        """Spectra, s = t x subframes; never in low precision, which has too few bits for a phase."""
        with torch.autocast(hidden.device.type, enabled=False):
            polar = self.out(hidden.to(self.out.weight.dtype)).unflatten(-1, (self.subframes, -1)).flatten(1, 2)
            log_magnitude, phase = polar.chunk(2, dim=-1)
            # bounded before it grows: beyond the range of floats a gradient would not be a number
            return torch.polar(log_magnitude.clamp(max=_MOST).exp(), phase)

    def _overlap_add(self, spectra: Complex[Tensor, "b s f"]) -> Float[Tensor, "b n"]:
        """Inverse STFT. The taper is the window, divided by what all windows over a sample add up to."""
        step, count = self._step, spectra.shape[1]
        windows: Tensor = torch.fft.irfft(spectra, self.fft_size) * self.taper
        pieces = -(-self.fft_size // step)
        windows = F.pad(windows, (0, pieces * step - self.fft_size)).unflatten(-1, (pieces, step))
        total = windows.new_zeros(len(windows), count + pieces, step)
        for index in range(pieces):
            total[:, index : index + count] += windows[:, :, index]
        return total.flatten(1)[:, self._before : self._before + count * step]

    def _reach(self) -> tuple[int, int]:
        """How many frames before and after a frame have windows over its samples; the first of a window counts 0."""
        back = (self.fft_size - 1 - self._before) // self._step
        ahead = (self.hop_length - 2 + self._before) // self._step
        return -(-back // self.subframes), ahead // self.subframes


class Pointwise(Linear):
    """An affine map of each frame: one that learns, or once that is over, the fastest."""

    def forward(self, x: Float[Tensor, "*b i"], *, gelu: bool = False) -> Float[Tensor, "*b o"]:
        if not torch.is_grad_enabled():
            return super().forward(x.to(self.weight.dtype), gelu=gelu)
        y = F.linear(x, self.weight, self.bias)
        return F.gelu(y) if gelu else y


class FrameConv(nn.Module):
    """A convolution over frames that lie one after another: one product with overlapping rows of `kernel` frames.

    before, after: frames that it sees on either side of each.
    """

    def __init__(self, dim: int, kernel: int, *, causal: bool) -> None:
        super().__init__()
        self.kernel = kernel
        self.before, self.after = _sides(kernel, causal)
        self.rows = Pointwise(kernel * dim, dim)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        rows = F.pad(x, (0, 0, self.before, self.after)).unfold(1, self.kernel, 1)
        y: Tensor = self.rows(rows.transpose(2, 3).flatten(2))
        return y


class ChannelConv(nn.Conv1d):
    """A convolution over frames that lie one after another, of each channel alone."""

    def __init__(self, dim: int, kernel: int, *, causal: bool) -> None:
        super().__init__(dim, dim, kernel, groups=dim)
        self.sides = _sides(kernel, causal)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        # as an image one row high, channels last: on a processor four times as fast as Conv1d, which lays it out anew
        image = F.pad(x, (0, 0, *self.sides)).transpose(1, 2)[:, :, None]
        return F.conv2d(image, self.weight[:, :, None], self.bias, groups=self.groups)[:, :, 0].transpose(1, 2)


class ConvNeXtBlock(nn.Module):
    """Convolution per channel, layer norm, two products with a GELU between, each channel scaled; added to the input.

    (Liu et al. 2022, with the layer scale of Touvron et al. 2021.)
    """

    def __init__(self, dim: int, width: int, kernel: int, scale: float, *, causal: bool) -> None:
        super().__init__()
        self.dwconv = ChannelConv(dim, kernel, causal=causal)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = Pointwise(dim, width)
        self.pwconv2 = Pointwise(width, dim)
        self.gamma = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        hidden = self.pwconv1(self.norm(self.dwconv(x)), gelu=True)
        return x + self.gamma * cast(Tensor, self.pwconv2(hidden))


def _sides(kernel: int, causal: bool) -> tuple[int, int]:
    """How many frames before and after its own each output of a convolution sees."""
    before = kernel - 1 if causal else kernel // 2
    return before, kernel - 1 - before


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv1d) and not module.weight.is_meta:
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _taper(fft_size: int, step: int) -> Float[Tensor, " w"]:
    """A Hann window w over the sum of w^2 of all windows that cover a sample, as if they went on beyond the ends."""
    window = torch.hann_window(fft_size, dtype=torch.float64, device="cpu")  # even where parameters are on none
    pieces = -(-fft_size // step)
    envelope = F.pad(window.square(), (0, pieces * step - fft_size)).view(pieces, step).sum(0)
    return (window / envelope.repeat(pieces)[:fft_size]).float()
