"""A trained quantizer as it is used: no network, no library, the same bits for a vector in any company."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.errors import InputError
from vocable.nets.frame_coder import ExactFrameCoder
from vocable.quantizers.fsq import FSQ, LFQ, ResidualFSQ
from vocable.quantizers.gumbel import GumbelCodes
from vocable.quantizers.residual import ResidualKMeans
from vocable.quantizers.rows import vector_rows

_KINDS: dict[str, type[ResidualKMeans | FSQ | ResidualFSQ | LFQ | GumbelCodes]] = {
    kind.kind: kind for kind in (ResidualKMeans, FSQ, ResidualFSQ, LFQ, GumbelCodes)
}


class TrainedQuantizer:
    """Vectors [..., D] <-> codes [..., K]: a trained encoder, a quantizer of its latents, a trained decoder.

    Sums are exact and codes the nearest, so a code is a function of its vector alone: the batch, the order, the number
    of threads and the device have no part in it. A decoded vector need not get its own codes again, for the encoder
    is not the inverse of the decoder.

    coder: the state of a FrameCoder. codes: the quantizer of latents. InputError if they do not fit.
    """

    kind = "trained"

    def __init__(
        self, coder: Mapping[str, Tensor], codes: ResidualKMeans | FSQ | ResidualFSQ | LFQ | GumbelCodes
    ) -> None:
        self._tensors = {name: tensor.detach() for name, tensor in coder.items()}
        self._coder, self.codes = ExactFrameCoder(self._tensors), codes
        latent = len(self._tensors["into.weight"])
        if codes.dim != latent:
            raise InputError(f"expected a quantizer of {latent} dimensions, got {codes.dim}")

    @property
    def dim(self) -> int:
        return self._coder.dim

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.codes.codebook_sizes

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Int[Tensor, "*batch k"]:
        """Codes of vectors [..., D], on the vectors' device. InputError if D differs or a vector is not finite."""
        rows = vector_rows(vectors, self.dim).to(self._coder.device)
        codes = self.codes.encode(self._coder.encode(rows))
        return codes.view(*vectors.shape[:-1], codes.shape[-1]).to(vectors.device)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Float[Tensor, "*batch d"]:
        """Vectors [..., D] of codes [..., K]; residual kinds also decode fewer, the first ones.

        InputError if a code is out of range.
        """
        latents = self.codes.decode(codes.to(self._coder.device))
        rows = self._coder.decode(latents.reshape(-1, latents.shape[-1]))
        return rows.view(*codes.shape[:-1], self.dim).to(codes.device)

    def config(self) -> dict[str, Any]:
        """Plain values that, with the tensors, say which quantizer this is; `from_config` is the inverse."""
        return {"kind": self.kind, "codes": self.codes.config()}

    def tensors(self) -> dict[str, Tensor]:
        """The weights of the coder under "coder.", those of the codes under "codes."."""
        coder = {f"coder.{name}": tensor for name, tensor in self._tensors.items()}
        return coder | {f"codes.{name}": tensor for name, tensor in self.codes.tensors().items()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> TrainedQuantizer:
        """The quantizer that `config` and `tensors` described. KeyError if a part is missing."""
        parts: dict[str, dict[str, Tensor]] = {"coder": {}, "codes": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        codes = _KINDS[config["codes"]["kind"]].from_config(config["codes"], parts["codes"])
        return cls(parts["coder"], codes)
