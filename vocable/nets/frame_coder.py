"""A light encoder and decoder of single frames; and the same frozen, with the same bits in any batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.errors import InputError
from vocable.nets.spectral import ExactProduct

_ROWS = 1024  # frames in float64 at a time
_SMALLEST_SPREAD = 1e-3


class FrameBlock(nn.Module):
    """x + W2 relu(W1 x + b1) + b2 on single frames, the identity at first (W2 and b2 are zero).

    A ReLU, because it is exact on any processor, which a GELU is not.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(dim, width), nn.Linear(width, dim)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        change: Tensor = self.second(F.relu(self.first(x)))
        return x + change


class FrameCoder(nn.Module):
    """Frames [n, D] to latents [n, Z] and back: residual blocks and a linear map, a linear map and residual blocks.

    RepCodec (Huang et al. 2024, "RepCodec: A Speech Representation Codec for Speech Tokenization") puts convolutions
    over time there. Here nothing looks past its frame: what is trained is a function of a vector, so it needs no
    windows, no padding and no delay, and serves wherever k-means does.

    dim: D. latent: Z <= D. width: of the blocks' hidden layers. depth: blocks on either side.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, latent: int, *, width: int, depth: int) -> None:
        super().__init__()
        if not 1 <= latent <= dim or width < 1 or depth < 0:
            raise InputError(
                f"expected 1 to {dim} latent dimensions, a width and a depth, got {latent}, {width} and {depth}",
                hint="use fewer codebooks or levels, or features of more dimensions",
            )
        self.before = nn.Sequential(*(FrameBlock(dim, width) for _ in range(depth)))
        self.into, self.out = nn.Linear(dim, latent), nn.Linear(latent, dim)
        self.after = nn.Sequential(*(FrameBlock(dim, width) for _ in range(depth)))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def start(self, frames: Float[Tensor, "n d"], *, whiten: bool) -> None:
        """Makes the linear maps the Z first principal components of frames, each of variance 1 if `whiten`.

        So training begins with the best linear code; with Z = D and no whitening distances are those of the frames.
        InputError if the frames are constant or not finite.
        """
        points = frames.double()
        mean = points.mean(0)
        covariance = (points - mean).T @ (points - mean) / len(points)
        scale = (covariance.trace() / len(mean)).sqrt()
        if not bool(scale.isfinite()) or not bool(scale > 0):
            raise InputError("expected frames that are finite and differ", hint="look for broken or silent audio")
        variances, vectors = torch.linalg.eigh(covariance / scale.square())
        basis = vectors.flip(1)[:, : self.into.out_features]
        spread = variances.flip(0)[: basis.shape[1]].clamp_min(0).sqrt().clamp_min(_SMALLEST_SPREAD)
        spread = spread if whiten else torch.ones_like(spread)
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        self.into.weight.copy_((basis / spread).T)
        self.out.weight.copy_(basis * spread)
        nn.init.zeros_(self.into.bias)
        nn.init.zeros_(self.out.bias)

    def normalized(self, frames: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Frames without their mean, in units of their standard deviation (one number for all dimensions)."""
        return (frames - self.mean) / self.scale

    def encode(self, normalized: Float[Tensor, "n d"]) -> Float[Tensor, "n z"]:
        """Latents of normalized frames."""
        latents: Tensor = self.into(self.before(normalized))
        return latents

    def decode(self, latents: Float[Tensor, "n z"]) -> Float[Tensor, "n d"]:
        """Normalized frames of latents."""
        frames: Tensor = self.after(self.out(latents))
        return frames


class ExactFrameCoder:
    """A FrameCoder frozen: the bits of a frame are the same in any batch, with any threads, on any device.

    Its products are exact sums (see ExactProduct: weights are rounded to 17 bits below the largest of their matrix),
    and all else works on single numbers in float64.

    tensors: the state of a FrameCoder. KeyError if one is missing. InputError if one is not finite.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise InputError("expected finite weights, got NaN or infinity", hint="train with a lower learning rate")
        self._mean, self._scale = tensors["mean"].double(), tensors["scale"].double()
        self._into, self._out = _Affine(tensors, "into"), _Affine(tensors, "out")
        self._before, self._after = list(_blocks(tensors, "before")), list(_blocks(tensors, "after"))

    @property
    def dim(self) -> int:
        return len(self._mean)

    @property
    def device(self) -> torch.device:
        return self._mean.device

    def encode(self, frames: Float[Tensor, "n d"]) -> Float[Tensor, "n z"]:
        """Latents of frames, in float32."""
        rows = [self._into(self._through(self._before, self._normalized(part))) for part in frames.split(_ROWS)]
        return torch.cat(rows).float()

    def decode(self, latents: Float[Tensor, "n z"]) -> Float[Tensor, "n d"]:
        """Frames of latents, in float32."""
        rows = [self._through(self._after, self._out(part.double())) for part in latents.split(_ROWS)]
        return (torch.cat(rows) * self._scale + self._mean).float()

    def _normalized(self, frames: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return (frames.double() - self._mean) / self._scale

    def _through(self, blocks: list[tuple[_Affine, _Affine]], x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        for first, second in blocks:
            x = x + second(F.relu(first(x)))
        return x


class _Affine:
    def __init__(self, tensors: Mapping[str, Tensor], name: str) -> None:
        weight = tensors[f"{name}.weight"].double()
        self._bias = tensors[f"{name}.bias"].double()
        # a block that was never trained has no largest weight to count bits from
        self._product = ExactProduct(weight.T) if bool(weight.any()) else None

    def __call__(self, x: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
        return self._bias.expand(len(x), -1) if self._product is None else self._product(x) + self._bias


def _blocks(tensors: Mapping[str, Tensor], side: str) -> Iterator[tuple[_Affine, _Affine]]:
    for index in range(len([name for name in tensors if name.startswith(side) and name.endswith("first.weight")])):
        yield _Affine(tensors, f"{side}.{index}.first"), _Affine(tensors, f"{side}.{index}.second")
