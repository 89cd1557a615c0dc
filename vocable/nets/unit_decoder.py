"""From the codes of any subset of layers to a waveform: embeddings, attention over layers, conditions, a generator."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.errors import InputError
from vocable.nets.generators import build_generator


class CodeEmbedding(nn.Module):
    """A vector of `dim` for each of `size` codes; where codes stand for centroids, a learned projection of these too.

    centroids: width of the centroids, 0 for none. Their sum starts out as the projection alone.
    """

    centroids: Tensor

    def __init__(self, size: int, dim: int, centroids: int = 0) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(size, dim) / math.sqrt(dim))
        self.project = nn.Linear(centroids, dim) if centroids else None
        if centroids:
            nn.init.zeros_(self.table)
            self.register_buffer("centroids", torch.zeros(size, centroids))

    @torch.no_grad()
    def start(self, centroids: Float[Tensor, "v d"]) -> None:
        """Takes the centroids, each dimension scaled to variance 1, so that all are seen alike at first."""
        spread = centroids.std(0, correction=0).clamp_min(1e-6)
        self.centroids.copy_((centroids - centroids.mean(0)) / spread)

    def vectors(self) -> Float[Tensor, "v dim"]:
        """The vector of every code."""
        return self.table if self.project is None else self.table + self.project(self.centroids)

    def forward(self, codes: Int[Tensor, "b t"]) -> Float[Tensor, "b t dim"]:
        return F.embedding(codes, self.vectors())


class UnitDecoder(nn.Module):
    """Codes of K codebooks in L layers, one per frame of the generator -> waveform.

    Each code has a vector; those of one layer are added. Per frame the layers that are present are averaged with
    weights of an attention over layers (Mousavi et al. 2024, "How Should We Extract Discrete Audio Tokens from
    Self-Supervised Models?", section 3.3): a small network scores each layer's vector, and a softmax over the layers
    present turns scores into weights. An absent layer has weight exactly 0, and its codes are never looked at. To the
    mixture are added where the frame lies within the frame of its codes, the voice, and the pitch.

    config: see `unit_decoder_config`. InputError if it does not fit together.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self._config = dict(config)
        self.layers: tuple[tuple[int, ...], ...] = tuple(tuple(layer) for layer in config["layers"])
        self.pitch: int | None = config["pitch"]
        sizes: list[int] = list(config["sizes"])
        known = sorted([k for layer in self.layers for k in layer] + ([] if self.pitch is None else [self.pitch]))
        if known != list(range(len(sizes))) or not all(self.layers) or not self.layers:
            raise InputError(f"expected every one of {len(sizes)} codebooks in one layer, got {config['layers']}")
        self.generator = build_generator(config["generator"])
        dim = self.generator.dim
        widths = config.get("centroids") or [0] * len(sizes)
        self.embeddings = nn.ModuleList(
            CodeEmbedding(size, dim, width) for size, width in zip(sizes, widths, strict=True)
        )
        self.score = nn.Sequential(nn.Linear(dim, dim // 2), nn.GELU(), nn.Linear(dim // 2, 1))
        self.place = nn.Linear(2, dim)
        self.voices = nn.Parameter(torch.randn(int(config["speakers"]), dim) / math.sqrt(dim))

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.generator.hop_length

    def config(self) -> dict[str, Any]:
        """Plain JSON values from which the same network is built."""
        return dict(self._config)

    @torch.no_grad()
    def start(self, centroids: Sequence[Tensor | None]) -> None:
        """Starts embeddings from centroids [V, D], for the codebooks that were configured to have some."""
        for embedding, points in zip(self.embeddings, centroids, strict=True):
            if isinstance(embedding, CodeEmbedding) and embedding.project is not None and points is not None:
                embedding.start(points)

    def forward(
        self,
        codes: Int[Tensor, "b k t"],
        phase: Float[Tensor, "b t"],
        present: Bool[Tensor, "b l"],
        speaker: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b n"]:
        """Waveforms of n = t hop_length samples.

        phase: where in the frame of its codes each frame lies, 0..1. present: which layers there are, one at least in
        each row; codes of the others may be anything. speaker: rows of the table of voices, -1 for an unknown one.
        """
        voice = None if speaker is None else self.voice(speaker)
        waveform: Tensor = self.generator(self.frames(codes, phase, present, voice))
        return waveform

    def frames(
        self,
        codes: Int[Tensor, "b k t"],
        phase: Float[Tensor, "b t"],
        present: Bool[Tensor, "b l"],
        voice: Float[Tensor, "b dim"] | None = None,
    ) -> Float[Tensor, "b dim t"]:
        """What the generator is given. Without a voice it is the mean of the table."""
        weights, layers = self.attend(codes, present)
        mixed: Tensor = (weights[..., None] * layers).sum(1)
        angle = 2 * math.pi * phase
        mixed = mixed + self.place(torch.stack([angle.cos(), angle.sin()], dim=-1).to(mixed.dtype))
        if len(self.voices):
            mixed = mixed + (self.voices.mean(0)[None] if voice is None else voice)[:, None]
        if self.pitch is not None:
            mixed = mixed + self.embeddings[self.pitch](codes[:, self.pitch])
        return mixed.transpose(1, 2)

    def attend(
        self, codes: Int[Tensor, "b k t"], present: Bool[Tensor, "b l"]
    ) -> tuple[Float[Tensor, "b l t"], Float[Tensor, "b l t dim"]]:
        """Weights of the layers per frame, which sum to 1, and the layers' vectors, zeros where a layer is absent."""
        rows = []
        for layer, members in enumerate(self.layers):
            here = present[:, layer, None]  # an absent layer's codes are no codes: none of them may be looked up
            row = sum(self.embeddings[k](codes[:, k] * here) for k in members) * here[..., None]
            rows.append(row)
        layers = torch.stack(rows, dim=1)
        scores = self.score(layers)[..., 0].float().masked_fill(~present[..., None], -torch.inf)
        return scores.softmax(dim=1).to(layers.dtype), layers

    def voice(self, speaker: Int[Tensor, " b"]) -> Float[Tensor, "b dim"]:
        """Rows of the table of voices, the mean of all for -1."""
        known = F.embedding(speaker.clamp_min(0), self.voices)
        return torch.where((speaker < 0)[:, None], self.voices.mean(0), known)

    def random_presence(self, count: int, generator: torch.Generator) -> Bool[Tensor, "b l"]:
        """Layer dropout: for each of `count` rows a random number of layers, 1 to L, and random ones so many."""
        number = torch.randint(1, len(self.layers) + 1, (count, 1), generator=generator)
        rank = torch.rand(count, len(self.layers), generator=generator).argsort(1).argsort(1)
        return rank < number

    @torch.no_grad()
    def folded(self) -> UnitDecoder:
        """The same function for use: embeddings and their projections added up, the generator's weights made plain."""
        if not self._config["centroids"]:
            return copy.deepcopy(self).eval().requires_grad_(False)
        plain = UnitDecoder({**self._config, "centroids": None})
        state = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("embeddings.")}
        for index, embedding in enumerate(self.embeddings):
            if isinstance(embedding, CodeEmbedding):
                state[f"embeddings.{index}.table"] = embedding.vectors().clone()
        plain.load_state_dict(state)
        return plain.eval().requires_grad_(False)


def unit_decoder_config(
    sizes: Sequence[int],
    layers: Sequence[Sequence[int]],
    generator: Mapping[str, Any],
    *,
    pitch: int | None = None,
    speakers: int = 0,
    centroids: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The plain values that define a `UnitDecoder`.

    sizes: entries V of each of the K codebooks. layers: which codebooks each layer has. generator: see
    `build_generator`. pitch: the codebook that is pitch and no layer. speakers: rows of the table of voices.
    centroids: width of each codebook's centroids, 0 for none; None for none at all.
    """
    return {
        "sizes": list(sizes),
        "layers": [list(layer) for layer in layers],
        "generator": dict(generator),
        "pitch": pitch,
        "speakers": speakers,
        "centroids": list(centroids) if centroids else None,
    }
