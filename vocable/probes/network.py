"""The network of a probe: vectors for what it sees, attention over layers, a body over time, and an answer.

Frames beyond an utterance's length have no part in anything: a batch gives what each utterance gives alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from vocable.probes.bodies import Head, body, drop, mask_of, pool
from vocable.probes.material import Layer

Attention = Literal["frame", "utterance"]


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """logits [B, C], or [B, T', C] of a network that answers frame by frame, with their lengths [B].

    embedding: [B, E], what the classifier sees of an utterance. weights: [B, L] mean weight of each layer.
    """

    logits: Tensor
    lengths: Tensor
    embedding: Tensor
    weights: Tensor


class CodeFront(nn.Module):
    """A vector for each code of each codebook; those of one layer are added."""

    def __init__(self, layers: Sequence[Layer], dim: int) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.tables = nn.ModuleList(nn.Embedding(size, dim) for layer in layers for size in layer.sizes)

    def forward(self, codes: Int[Tensor, "b t k"]) -> Float[Tensor, "b l t dim"]:
        tables, found = iter(self.tables), []
        for layer in self.layers:
            vectors = [next(tables)(codes[..., column]) for column in layer.columns]
            found.append(torch.stack(vectors).sum(0) / math.sqrt(len(vectors)))
        return torch.stack(found, dim=1)


class FrameFront(nn.Module):
    """An affine map of each layer's frames, every dimension first scaled to mean 0 and variance 1 of the training."""

    mean: Tensor
    scale: Tensor

    def __init__(self, layers: Sequence[Layer], dim: int) -> None:
        super().__init__()
        self.layers, width = tuple(layers), sum(len(layer.columns) for layer in layers)
        self.maps = nn.ModuleList(nn.Linear(len(layer.columns), dim) for layer in layers)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    @torch.no_grad()
    def start(self, utterances: Sequence[Float[Tensor, "t w"]]) -> None:
        """Learns the scale of every dimension."""
        count = sum(len(frames) for frames in utterances)
        mean = torch.stack([frames.double().sum(0) for frames in utterances]).sum(0) / count
        variance = torch.stack([(frames.double() - mean).square().sum(0) for frames in utterances]).sum(0) / count
        self.mean.copy_(mean)
        self.scale.copy_(variance.sqrt().clamp_min(1e-6).reciprocal())

    def forward(self, frames: Float[Tensor, "b t w"]) -> Float[Tensor, "b l t dim"]:
        scaled = (frames - self.mean) * self.scale
        columns = [slice(layer.columns[0], layer.columns[-1] + 1) for layer in self.layers]
        parts = [project(scaled[..., where]) for project, where in zip(self.maps, columns, strict=True)]
        return torch.stack(parts, dim=1)


class LayerMix(nn.Module):
    """The mean of the layers, weighted by an attention that looks at each (Mousavi et al. 2024, section 3.3).

    Per frame or, from the mean over an utterance, for all of its frames alike.
    """

    def __init__(self, dim: int, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.score = nn.Sequential(nn.Linear(dim, dim // 2), nn.Tanh(), nn.Linear(dim // 2, 1))

    def forward(
        self, layers: Float[Tensor, "b l t dim"], mask: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b t dim"], Float[Tensor, "b l"]]:
        """The mixture, and the mean weight of each layer over the frames of each utterance."""
        if layers.shape[1] == 1:
            return layers[:, 0], layers.new_ones(len(layers), 1)
        share = (mask / mask.sum(1, keepdim=True))[:, None].to(layers.dtype)
        scores = self.score(layers)[..., 0]
        if self.attention == "utterance":
            scores = (scores * share).sum(2, keepdim=True).expand_as(scores)
        weights = scores.softmax(1)
        return (weights[..., None] * layers).sum(1), (weights * share).sum(2)


class Network(nn.Module):
    """Codes or frames of some layers -> an answer of `outputs` logits, for the utterance or for its frames.

    stride: 0 for one answer for the utterance; else one for so many frames (Graves et al. 2006 for CTC).
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        outputs: int,
        *,
        head: Head,
        attention: Attention = "frame",
        dim: int = 128,
        dropout: float = 0.1,
        stride: int = 0,
    ) -> None:
        super().__init__()
        self.stride, self.dropout = stride, dropout
        self.front = CodeFront(layers, dim) if layers[0].sizes else FrameFront(layers, dim)
        self.mix = LayerMix(dim, attention)
        self.thin = nn.Conv1d(dim, dim, 2 * stride - 1, stride, padding=stride - 1) if stride > 1 else None
        self.body = body(head, dim)
        width = self.body.width
        self.embed = None if stride or head == "linear" else nn.Linear(2 * width, dim)
        self.out = nn.Linear(width if stride else 2 * width if self.embed is None else dim, outputs)

    def forward(
        self, frames: Shaped[Tensor, "b t w"], lengths: Int[Tensor, " b"], noise: torch.Generator | None = None
    ) -> Answer:
        """The answer of each utterance. noise: where dropout draws from, on the CPU; None for no dropout."""
        mask = mask_of(lengths, frames.shape[1])
        mixed, weights = self.mix(self.front(frames), mask)
        mixed = drop(mixed, self.dropout, noise) * mask[..., None]
        if self.thin is not None:
            mixed = self.thin(mixed.transpose(1, 2)).transpose(1, 2)
            lengths = (lengths - 1) // self.stride + 1
            mask = mask_of(lengths, mixed.shape[1])
            mixed = torch.nn.functional.gelu(mixed) * mask[..., None]
        inner = self.body(mixed, mask)
        embedding = pool(inner, mask)
        if self.embed is not None:
            embedding = self.embed(embedding)
        seen = inner if self.stride else embedding if self.embed is None else embedding.relu()
        return Answer(self.out(drop(seen, self.dropout, noise)), lengths, embedding, weights)
