"""What looks along time in a probe: nothing, an LSTM in both directions, or an x-vector's convolutions; and pooling."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

Head = Literal["linear", "bilstm", "xvector"]

HEADS: Mapping[str, Head] = {"classification": "linear", "verification": "xvector", "transcription": "bilstm"}
"""The head of a probe where none is asked for, by the kind of its task."""

_CONTEXTS = ((5, 1), (3, 2), (3, 3), (1, 1))  # kernel and dilation of an x-vector's frame layers


def mask_of(lengths: Int[Tensor, " b"], longest: int) -> Bool[Tensor, "b t"]:
    """True where a frame is real."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def pool(frames: Float[Tensor, "b t e"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b e2"]:
    """Mean and standard deviation over the real frames (Snyder et al. 2018, statistics pooling)."""
    share = (mask / mask.sum(1, keepdim=True))[..., None].to(frames.dtype)
    mean = (frames * share).sum(1)
    variance = ((frames - mean[:, None]).square() * share).sum(1)
    return torch.cat([mean, (variance + 1e-5).sqrt()], dim=1)


def drop(values: Tensor, share: float, noise: torch.Generator | None) -> Tensor:
    """Dropout that draws from a generator of its own, so that trainings side by side do not disturb each other."""
    if noise is None or not share:
        return values
    kept = torch.rand(values.shape, generator=noise) >= share
    return values * (kept.to(values.device) / (1 - share))


class Body(nn.Module):
    """Frames [B, T, D] -> frames [B, T, width]; what lies beyond the mask has no part in the others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, frames: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t e"]:
        """Here every frame stays what it is."""
        return frames


class BiLSTM(Body):
    """One LSTM forwards and one backwards in time, each half as wide (Graves & Schmidhuber 2005)."""

    def __init__(self, dim: int) -> None:
        super().__init__(2 * (dim // 2))
        self.forwards = nn.LSTM(dim, dim // 2, batch_first=True)
        self.backwards = nn.LSTM(dim, dim // 2, batch_first=True)

    def forward(self, frames: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t e"]:
        """Backwards starts at each utterance's own end: what is reversed is the utterance, not its padding."""
        ahead, _ = self.forwards(frames)
        back, _ = self.backwards(_reversed(frames, mask))
        return torch.cat([ahead, _reversed(back, mask)], dim=2)


class TDNN(Body):
    """Dilated convolutions over time, as before the pooling of an x-vector (Snyder et al. 2018, table 1).

    Layer norm stands for batch norm, which would let the utterances of a batch see one another.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(3 * dim)
        widths = [dim] * len(_CONTEXTS) + [3 * dim]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, kernel, dilation=dilation, padding=dilation * (kernel // 2))
            for (before, after), (kernel, dilation) in zip(pairwise(widths), _CONTEXTS, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths[1:])

    def forward(self, frames: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t e"]:
        """Padding is zero before every convolution, as it is beyond the ends of an utterance alone."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            seen = convolution((frames * mask[..., None]).transpose(1, 2)).transpose(1, 2)
            frames = F.relu(norm(seen))
        return frames


def body(head: Head, dim: int) -> Body:
    """The body of a head by name."""
    return {"linear": Body, "bilstm": BiLSTM, "xvector": TDNN}[head](dim)


def _reversed(frames: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
    """Each utterance backwards; padding stays behind it."""
    place = torch.arange(frames.shape[1], device=frames.device).expand(mask.shape)
    mirrored = torch.where(mask, mask.sum(1, keepdim=True) - 1 - place, place)
    return frames.gather(1, mirrored[..., None].expand_as(frames))
