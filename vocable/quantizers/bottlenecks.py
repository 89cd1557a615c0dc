"""What a trainable quantizer has in its middle: quantizers with gradients, and what each becomes when frozen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from vector_quantize_pytorch import FSQ as TrainableFSQ
from vector_quantize_pytorch import LFQ as TrainableLFQ
from vector_quantize_pytorch import GroupedResidualVQ, SimVQ, VectorQuantize
from vector_quantize_pytorch import ResidualFSQ as TrainableResidualFSQ

from vocable.errors import InputError
from vocable.quantizers.fsq import FSQ, LFQ, ResidualFSQ, checked_levels
from vocable.quantizers.gumbel import GumbelCodes, GumbelVQ, diversity_loss, temperature_at
from vocable.quantizers.kmeans import KMeans, fit_kmeans
from vocable.quantizers.residual import ResidualKMeans

Codes = ResidualKMeans | FSQ | ResidualFSQ | LFQ | GumbelCodes
"""What a bottleneck becomes when it is frozen: a quantizer of latents."""

_ITERATIONS = 20  # of the k-means that codebooks begin with
_DECAY = 0.99
_COMMITMENT = 0.25  # van den Oord et al. 2017, equation 3
_DIVERSITY = 0.1  # Baevski et al. 2020 (wav2vec 2.0), section 3.2
_DEAD = 0.01  # of the latents that an entry would get of a batch if all got as many: rarer than real clusters


class Passed(NamedTuple):
    """What came through: quantized latents with gradients, codes (-1 where dropped), and the loss of the passage."""

    quantized: Float[Tensor, "n z"]
    codes: Int[Tensor, "n k"]
    loss: Float[Tensor, ""]


class Bottleneck(nn.Module, ABC):
    """Latents [n, Z] to quantized latents, in training mode with gradients, noise and updates of codebooks.

    latent: Z. whiten: whether latents should begin with variance 1 in each dimension.
    encoder_rate: learning rate of the encoder, as a share of that of all else.
    """

    latent: int
    whiten = False
    encoder_rate = 1.0

    @abstractmethod
    def forward(self, latents: Float[Tensor, "n z"]) -> Passed: ...

    @abstractmethod
    def freeze(self) -> Codes:
        """What evaluation mode does, without the network."""

    def begin(self, latents: Float[Tensor, "n z"]) -> None:
        """Sees the first latents, many of them, before training."""

    def advance(self, progress: float) -> None:
        """Told how far training is, from 0 to 1."""


class CodebookBottleneck(Bottleneck):
    """Codebooks one after the other, each on some channels of what the ones before left over.

    They begin as k-means, follow the latents by exponential moving averages, and give up entries with less than a
    hundredth of their share for latents at hand.

    batch: latents that training shows at a time.
    """

    encoder_rate = 0.1  # moving averages lag behind latents that move fast, and the error grows

    def __init__(self, latent: int, batch: int) -> None:
        super().__init__()
        self.latent, self._batch = latent, batch

    @abstractmethod
    def stages(self) -> list[tuple[Any, int]]:
        """The codebooks in the order of their codes, each with the first of its channels."""

    def begin(self, latents: Float[Tensor, "n z"]) -> None:
        rest = latents.clone()
        for vq, first in self.stages():
            rows = rest[:, first : first + vq.dim]
            book = _clustered(rows, vq.codebook_size)
            codes = book.encode(rows)
            _install(vq, book.centroids, codes[:, 0].bincount(minlength=vq.codebook_size) * (self._batch / len(rows)))
            rows -= book.decode(codes)

    def freeze(self) -> ResidualKMeans:
        return ResidualKMeans([_placed(vq.codebook, first, self.latent) for vq, first in self.stages()])

    def _settings(self, size: int) -> dict[str, Any]:
        return {
            "codebook_size": size,
            "decay": _DECAY,
            "commitment_weight": _COMMITMENT,
            "threshold_ema_dead_code": _DEAD * self._batch / size,
        }


class ResidualBottleneck(CodebookBottleneck):
    """K codebooks of V entries, groups of channels apart if there are several; K = 1 is plain VQ.

    In training only a random number of the first codebooks are used each step if `dropout`, so that every prefix
    decodes (Zeghidour et al. 2021). Codes stand depth by depth: the first of each group come first.
    """

    def __init__(
        self, latent: int, size: int, num_codebooks: int, *, groups: int = 1, dropout: bool = True, batch: int
    ) -> None:
        super().__init__(latent, batch)
        if min(size, num_codebooks, groups) < 1 or latent % groups or num_codebooks % groups:
            raise InputError(
                f"expected latents and codebooks that {groups} groups divide, got {latent} and {num_codebooks}"
            )
        depth = num_codebooks // groups
        settings = self._settings(size)
        self.vq = GroupedResidualVQ(
            dim=latent, groups=groups, num_quantizers=depth, quantize_dropout=dropout, **settings
        )

    def forward(self, latents: Float[Tensor, "n z"]) -> Passed:
        quantized, codes, losses = self.vq(latents[None])
        return Passed(quantized[0], codes[:, 0].permute(1, 2, 0).flatten(1), losses.sum() / len(losses))

    def stages(self) -> list[tuple[Any, int]]:
        groups = [(rvq.layers, index * rvq.layers[0].dim) for index, rvq in enumerate(self.vq.rvqs)]
        return [(layers[depth], first) for depth in range(len(groups[0][0])) for layers, first in groups]


class MaskedBottleneck(CodebookBottleneck):
    """The first M codebooks each see one M-th of the channels, the others what is left of all.

    So the first codes share the content instead of the first having most of it: the idea of Ji et al. 2024,
    "Language-Codec" (masked channel residual vector quantization).
    """

    def __init__(self, latent: int, size: int, num_codebooks: int, *, masked: int, batch: int) -> None:
        super().__init__(latent, batch)
        if not 1 <= masked < num_codebooks or latent % masked:
            raise InputError(
                f"expected fewer than {num_codebooks} masked codebooks that divide {latent} channels, got {masked}"
            )
        settings = self._settings(size)
        self.first = nn.ModuleList(VectorQuantize(latent // masked, **settings) for _ in range(masked))
        self.rest = ResidualBottleneck(latent, size, num_codebooks - masked, dropout=False, batch=batch)

    def forward(self, latents: Float[Tensor, "n z"]) -> Passed:
        parts = latents.chunk(len(self.first), dim=1)
        quantized, codes, losses = zip(*(vq(part) for vq, part in zip(self.first, parts, strict=True)), strict=True)
        coarse = torch.cat(quantized, dim=1)
        fine = self.rest(latents - coarse.detach())
        found = torch.cat([torch.stack(codes, dim=1), fine.codes], dim=1)
        return Passed(coarse + fine.quantized, found, torch.stack(losses).mean() + fine.loss)

    def stages(self) -> list[tuple[Any, int]]:
        return [(vq, index * cast(Any, vq).dim) for index, vq in enumerate(self.first)] + self.rest.stages()


class SimBottleneck(Bottleneck):
    """One codebook whose entries are a trained linear map of frozen ones, so that all of them move at once.

    Zhu et al. 2024, "Addressing Representation Collapse in Vector Quantized Models with One Linear Layer"; but what is
    frozen are k-means centroids where they have random numbers.
    """

    def __init__(self, latent: int, size: int) -> None:
        super().__init__()
        self.latent = latent
        self.vq = SimVQ(latent, size)

    def begin(self, latents: Float[Tensor, "n z"]) -> None:
        self.vq.frozen_codebook.copy_(_clustered(latents, self.vq.codebook_size).centroids)
        nn.init.eye_(self.vq.code_transform.weight)

    def forward(self, latents: Float[Tensor, "n z"]) -> Passed:
        quantized, codes, loss = self.vq(latents[None])
        return Passed(quantized[0], codes[0, :, None], loss)

    def freeze(self) -> ResidualKMeans:
        return ResidualKMeans(self.vq.codebook.detach()[None])


class FSQBottleneck(Bottleneck):
    """Levels of single dimensions; no codebook, nothing that could die."""

    whiten = True

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = checked_levels(levels, lowest=3)
        self.latent = len(levels)
        # its table of all codes is not needed, and would be as large as their product
        self.fsq = TrainableFSQ(list(levels), return_indices=False)

    def forward(self, latents: Float[Tensor, "n z"]) -> Passed:
        quantized, _ = self.fsq(latents[None])
        half = latents.new_tensor(self.levels) // 2
        digits = (quantized[0].detach() * half + half).round().long()
        basis = torch.tensor([1, *self.levels[:-1]], device=digits.device).cumprod(0)
        return Passed(quantized[0], (digits * basis).sum(1, keepdim=True), latents.new_zeros(()))

    def freeze(self) -> FSQ:
        return FSQ(self.levels)


class ResidualFSQBottleneck(Bottleneck):
    """Levels of what coarser levels left over, K times; a random number of them each step."""

    whiten = True

    def __init__(self, levels: Sequence[int], num_codebooks: int) -> None:
        super().__init__()
        self.levels, self.num_codebooks = checked_levels(levels, lowest=2), num_codebooks
        self.latent = len(levels)
        self.fsq = TrainableResidualFSQ(levels=list(levels), num_quantizers=num_codebooks, quantize_dropout=True)

    def forward(self, latents: Float[Tensor, "n z"]) -> Passed:
        quantized, codes = self.fsq(latents[None])
        return Passed(quantized[0], codes[0].long(), latents.new_zeros(()))

    def freeze(self) -> ResidualFSQ:
        return ResidualFSQ(self.levels, self.num_codebooks)


class LFQBottleneck(Bottleneck):
    """Signs, with a loss that makes each code sure and all codes used."""

    whiten = True

    def __init__(self, size: int, num_codebooks: int) -> None:
        super().__init__()
        if size < 2 or size & (size - 1):
            raise InputError(f"expected a power of two as the codebook size of LFQ, got {size}")
        self.bits, self.num_codebooks = size.bit_length() - 1, num_codebooks
        self.latent = self.bits * num_codebooks
        self.lfq = TrainableLFQ(
            dim=self.latent, codebook_size=size, num_codebooks=num_codebooks, commitment_loss_weight=_COMMITMENT
        )

    def forward(self, latents: Float[Tensor, "n z"]) -> Passed:
        quantized, codes, loss = self.lfq(latents[None])
        return Passed(quantized[0], codes[0].view(len(latents), -1), loss)

    def freeze(self) -> LFQ:
        return LFQ(self.bits, self.num_codebooks)


class GumbelBottleneck(Bottleneck):
    """Entries of several groups, chosen by logits; the temperature falls while training advances.

    It begins as product k-means: the nearest centroid c is the largest of 2 c.z - |c|^2, which is linear in z.
    """

    def __init__(self, latent: int, size: int, groups: int) -> None:
        super().__init__()
        self.latent = latent
        self.gumbel = GumbelVQ(latent, size, groups, latent)

    def forward(self, latents: Float[Tensor, "n z"]) -> Passed:
        quantized, codes, probabilities = self.gumbel(latents)
        return Passed(quantized, codes, _DIVERSITY * diversity_loss(probabilities))

    def begin(self, latents: Float[Tensor, "n z"]) -> None:
        size, width = self.gumbel.size, self.latent // self.gumbel.groups
        self.gumbel.weight_proj.weight.zero_()
        for group, part in enumerate(latents.split(width, dim=1)):
            entries = _clustered(part, size).centroids
            rows, channels = slice(group * size, (group + 1) * size), slice(group * width, (group + 1) * width)
            self.gumbel.codevectors[0, rows] = entries
            self.gumbel.weight_proj.weight[rows, channels] = 2 * entries
            self.gumbel.weight_proj.bias[rows] = -entries.square().sum(1)

    def advance(self, progress: float) -> None:
        self.gumbel.temperature = temperature_at(progress)

    def freeze(self) -> GumbelCodes:
        return self.gumbel.freeze()


def _clustered(rows: Float[Tensor, "n w"], size: int) -> KMeans:
    seed = int(torch.randint(2**31, ()))
    return fit_kmeans(rows.contiguous(), size, iterations=_ITERATIONS, seed=seed)[0]


def _install(vq: Any, entries: Float[Tensor, "v w"], counts: Float[Tensor, " v"]) -> None:
    """Makes these the entries of a codebook, as if moving averages had found so many latents for each."""
    moving = {"embed": entries, "embed_avg": entries * counts[:, None], "cluster_size": counts}
    state = {f"_codebook.{name}": tensor[None] for name, tensor in moving.items()}
    vq.load_state_dict({**state, "_codebook.initted": torch.tensor(True)})


def _placed(entries: Float[Tensor, "v w"], first: int, latent: int) -> Float[Tensor, "v z"]:
    """Entries of some channels as entries of all: nothing is taken from the others, and distances order alike."""
    return F.pad(entries.detach(), (first, latent - first - entries.shape[1]))
