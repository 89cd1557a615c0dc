"""Quantizers that are trained: a frame coder around a bottleneck, known designs of it, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.errors import InputError
from vocable.nets.frame_coder import FrameCoder
from vocable.quantizers import bottlenecks
from vocable.quantizers.bottlenecks import Bottleneck
from vocable.quantizers.trained import TrainedQuantizer

_WIDEST = 256


@dataclass(frozen=True, slots=True)
class Design:
    """What to train.

    kind: vq, rvq, grouped-rvq, masked-rvq, simvq, fsq, residual-fsq, lfq or gumbel; see bottlenecks.
    size: entries of each codebook. num_codebooks: K; groups of dimensions count (grouped-rvq), or are K (gumbel).
    groups: of grouped-rvq. masked: codebooks of masked-rvq that see part of the channels. levels: of FSQ.
    dropout: whether rvq and grouped-rvq train every prefix of their codebooks.
    latent: dimensions between encoder and decoder, for kinds that leave the choice; None for those of the frames, but
    256 at most. width: of the hidden layers, None for the frames'. depth: blocks on either side.
    InputError for an unknown kind.
    """

    kind: str
    size: int = 1024
    num_codebooks: int = 1
    groups: int = 1
    masked: int = 0
    dropout: bool = True
    levels: tuple[int, ...] = (8, 5, 5, 5)
    latent: int | None = None
    width: int | None = None
    depth: int = 2

    def __post_init__(self) -> None:
        if self.kind not in _BUILDERS:
            raise InputError(f"expected one of {', '.join(_BUILDERS)}, got {self.kind!r}")

    def config(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "levels": list(self.levels)}

    def build(self, dim: int, *, batch: int) -> TrainableQuantizer:
        """An untrained quantizer of vectors of `dim`, to be shown `batch` of them at a time.

        InputError if the numbers do not go together.
        """
        divisor = max(self.groups, self.masked, self.num_codebooks if self.kind == "gumbel" else 1)
        latent = self.latent or min(dim, _WIDEST) // divisor * divisor
        bottleneck = _BUILDERS[self.kind](self, latent, batch)
        return TrainableQuantizer(dim, bottleneck, width=self.width or dim, depth=self.depth)


_BUILDERS: dict[str, Callable[[Design, int, int], Bottleneck]] = {
    "vq": lambda d, latent, batch: bottlenecks.ResidualBottleneck(latent, d.size, 1, batch=batch),
    "rvq": lambda d, latent, batch: bottlenecks.ResidualBottleneck(
        latent, d.size, d.num_codebooks, dropout=d.dropout, batch=batch
    ),
    "grouped-rvq": lambda d, latent, batch: bottlenecks.ResidualBottleneck(
        latent, d.size, d.num_codebooks, groups=d.groups, dropout=d.dropout, batch=batch
    ),
    "masked-rvq": lambda d, latent, batch: bottlenecks.MaskedBottleneck(
        latent, d.size, d.num_codebooks, masked=d.masked, batch=batch
    ),
    "simvq": lambda d, latent, batch: bottlenecks.SimBottleneck(latent, d.size),
    "fsq": lambda d, latent, batch: bottlenecks.FSQBottleneck(d.levels),
    "residual-fsq": lambda d, latent, batch: bottlenecks.ResidualFSQBottleneck(d.levels, d.num_codebooks),
    "lfq": lambda d, latent, batch: bottlenecks.LFQBottleneck(d.size, d.num_codebooks),
    "gumbel": lambda d, latent, batch: bottlenecks.GumbelBottleneck(latent, d.size, d.num_codebooks),
}


def wide_codebook(size: int = 4096) -> Design:
    """One codebook wide enough for all: Ji et al. 2024, "WavTokenizer", where 4096 entries were the best choice."""
    return Design("vq", size=size)


def masked_channels(size: int = 1024, num_codebooks: int = 4, masked: int = 3) -> Design:
    """The first codebooks share the channels, the others refine: Ji et al. 2024, "Language-Codec"."""
    return Design("masked-rvq", size=size, num_codebooks=num_codebooks, masked=masked)


def wav2vec2_gumbel() -> Design:
    """Two groups of 320 entries: Baevski et al. 2020, "wav2vec 2.0"."""
    return Design("gumbel", size=320, num_codebooks=2)


class Trial(NamedTuple):
    """How a batch went: its codes, the mean squared error of normalized frames, and the loss to be made smaller."""

    codes: Int[Tensor, "n k"]
    error: Float[Tensor, ""]
    loss: Float[Tensor, ""]


class TrainableQuantizer(nn.Module):
    """An encoder and a decoder of single frames around a bottleneck; `freeze` gives the quantizer that was learned.

    The loss is the squared error of the reconstruction in units of the frames' variance, and what the bottleneck adds:
    commitment (VQ), entropy (LFQ) or diversity (Gumbel).
    """

    def __init__(self, dim: int, bottleneck: Bottleneck, *, width: int, depth: int) -> None:
        super().__init__()
        self.coder = FrameCoder(dim, bottleneck.latent, width=width, depth=depth)
        self.bottleneck = bottleneck

    @torch.no_grad()
    def begin(self, frames: Float[Tensor, "n d"]) -> None:
        """Starts the linear maps and the codebooks from frames, better from many. InputError if they are constant."""
        self.train()
        self.coder.start(frames, whiten=self.bottleneck.whiten)
        self.bottleneck.begin(self.coder.encode(self.coder.normalized(frames)))

    def forward(self, frames: Float[Tensor, "n d"]) -> Trial:
        frames = self.coder.normalized(frames)
        latents = self.coder.encode(frames).float()
        with torch.autocast(frames.device.type, enabled=False):  # codes are decided in full precision
            passed = self.bottleneck(latents)
        error = F.mse_loss(self.coder.decode(passed.quantized).float(), frames)
        return Trial(passed.codes, error, error + passed.loss)

    def freeze(self) -> TrainedQuantizer:
        """The quantizer as it is now. InputError if a weight is not finite."""
        weights = {name: tensor.detach().clone() for name, tensor in self.coder.state_dict().items()}
        return TrainedQuantizer(weights, self.bottleneck.freeze())
