"""Gumbel vector quantization as in vq-wav2vec and wav2vec 2.0: for training, and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.errors import InputError
from vocable.nets.spectral import ExactProduct
from vocable.quantizers.rows import code_rows, vector_rows

_TINY = 1e-7  # as in fairseq: the logarithm of an entry that nothing would choose has no gradient


class GumbelVQ(nn.Module):
    """G groups of V entries, chosen by logits that are linear in the input: the entry of each group, side by side.

    Baevski et al. 2020, "vq-wav2vec"; Baevski et al. 2020, "wav2vec 2.0", equation 1. In training the choice is a
    sample of softmax((logits + Gumbel noise) / temperature), passed on hard and differentiated as if soft (Jang et al.
    2017); in evaluation the largest logit. The state has the names and shapes of transformers'
    Wav2Vec2GumbelVectorQuantizer.

    dim: D of the input. size: V. groups: G. out: width of the output, a multiple of G.
    """

    def __init__(self, dim: int, size: int, groups: int, out: int) -> None:
        super().__init__()
        if min(dim, size, groups, out) < 1 or out % groups:
            raise InputError(f"expected an output width that {groups} groups divide, got {out}")
        self.groups, self.size, self.temperature = groups, size, 2.0
        self.weight_proj = nn.Linear(dim, groups * size)
        self.codevectors = nn.Parameter(torch.rand(1, groups * size, out // groups))
        nn.init.normal_(self.weight_proj.weight)  # as in fairseq: choices that differ from the first step on
        nn.init.zeros_(self.weight_proj.bias)

    def forward(
        self, x: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "n o"], Int[Tensor, "n g"], Float[Tensor, "n g v"]]:
        """The entries, their codes, and the probabilities softmax(logits) that tell how evenly entries are used."""
        logits = self.weight_proj(x).view(-1, self.groups, self.size).float()
        if self.training:
            chosen = F.gumbel_softmax(logits, tau=self.temperature, hard=True)
        else:
            chosen = F.one_hot(logits.argmax(-1), self.size).to(logits.dtype)
        entries = self.codevectors.view(self.groups, self.size, -1)
        quantized = torch.einsum("ngv,gvd->ngd", chosen, entries).flatten(1)
        return quantized, chosen.argmax(-1), logits.softmax(-1)

    def freeze(self) -> GumbelCodes:
        """The same choice without noise, exact; what this network learns later is not part of it."""
        weight, bias, entries = (
            tensor.detach().clone() for tensor in (*self.weight_proj.parameters(), self.codevectors)
        )
        return GumbelCodes(weight, bias, entries[0], self.groups)


def diversity_loss(probabilities: Float[Tensor, "n g v"]) -> Float[Tensor, ""]:
    """1 - perplexity of the mean probabilities over their number: 0 if all entries are used alike.

    Equation 4 of wav2vec 2.0, in the form that its authors train with.
    """
    mean = probabilities.mean(0)
    perplexity = (-(mean * (mean + _TINY).log()).sum(-1)).exp()
    return (1 - perplexity / mean.shape[-1]).mean()


def temperature_at(progress: float, first: float = 2.0, last: float = 0.5) -> float:
    """A geometric decay from `first` to `last` as progress goes from 0 to 1; the values are wav2vec 2.0's (base)."""
    return float(first * (last / first) ** min(max(progress, 0.0), 1.0))


class GumbelCodes:
    """G codes, each the largest of V logits that are linear in the vector: [..., D] <-> [..., G].

    Logits are exact sums, so a code is a function of its vector alone, the lowest among equals. Codes decode to entries
    side by side, [..., out], which is not the input again: only a trained decoder makes that of them.

    weight: [G x V, D]. bias: [G x V]. entries: [G x V, out / G]. InputError if they do not fit.
    """

    kind = "gumbel"

    def __init__(self, weight: Tensor, bias: Tensor, entries: Tensor, groups: int) -> None:
        if weight.ndim != 2 or groups < 1 or len(weight) % groups or not len(weight) == len(bias) == len(entries):
            shapes = [list(tensor.shape) for tensor in (weight, bias, entries)]
            raise InputError(f"expected weights, biases and entries of {groups} groups, got {shapes}")
        self._tensors = {"weight": weight, "bias": bias, "entries": entries}
        self.groups, self.size = groups, len(weight) // groups
        self._project = ExactProduct(weight.T.double())

    @property
    def dim(self) -> int:
        return self._tensors["weight"].shape[1]

    @property
    def width(self) -> int:
        """Dimensions of what codes decode to."""
        return self.groups * self._tensors["entries"].shape[1]

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.size,) * self.groups

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Int[Tensor, "*batch g"]:
        """Codes of vectors [..., D]. InputError if D differs or a vector is not finite."""
        rows = vector_rows(vectors, self.dim)
        logits = self._project(rows) + self._tensors["bias"].double()
        codes = logits.view(-1, self.groups, self.size).argmax(-1)
        return codes.view(*vectors.shape[:-1], self.groups)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Float[Tensor, "*batch o"]:
        """Entries [..., out] of codes [..., G]. InputError if a code is out of range."""
        rows = code_rows(codes, self.codebook_sizes)
        first = self.size * torch.arange(self.groups, device=rows.device)
        return F.embedding(rows + first, self._tensors["entries"]).view(*codes.shape[:-1], self.width)

    def config(self) -> dict[str, Any]:
        """Plain values that, with the tensors, say which quantizer this is; `from_config` is the inverse."""
        return {"kind": self.kind, "groups": self.groups}

    def tensors(self) -> dict[str, Tensor]:
        """Weights and entries."""
        return dict(self._tensors)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> GumbelCodes:
        """The quantizer that `config` and `tensors` described."""
        return cls(tensors["weight"], tensors["bias"], tensors["entries"], config["groups"])
