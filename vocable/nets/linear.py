"""Affine maps on weights that are laid out for the processor, their GELU in the same pass over memory."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_ROWS = 256  # that weights are laid out for; any number works


class Linear(nn.Linear):
    """nn.Linear, with a GELU behind it if asked for (Hendrycks & Gimpel 2016)."""

    def prepare(self) -> None:
        """Replaces the weight by what `pack` makes of it."""
        self.weight = nn.Parameter(pack(self.weight.detach()), requires_grad=False)

    def forward(self, x: Float[Tensor, "*b i"], *, gelu: bool = False) -> Float[Tensor, "*b o"]:
        return linear(x, self.weight, self.bias, gelu=gelu)


def pack(weight: Tensor) -> Tensor:
    """The weight [o, i] in the layout that its product is fastest with; `to_dense` gives the same numbers back."""
    if weight.device.type != "cpu" or not _fused(weight.dtype):
        return weight
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS)  # type: ignore[no-any-return]


def linear(
    x: Float[Tensor, "*b i"], weight: Tensor, bias: Float[Tensor, " o"] | None, *, gelu: bool = False
) -> Float[Tensor, "*b o"]:
    """The affine map weight @ x + bias of a weight [o, i], packed or not; through a GELU if asked for.

    On x86 processors by oneDNN, which is a tenth faster in float32 than what F.linear calls; elsewhere by F.linear.
    """
    if x.device.type == "cpu" and _fused(x.dtype):
        name, algorithm = ("gelu", "none") if gelu else ("none", "")
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)  # type: ignore[no-any-return]
    y = F.linear(x, weight, bias)
    return F.gelu(y) if gelu else y


@cache
def _fused(dtype: torch.dtype) -> bool:
    """Whether the operations are there, and meant for this processor: they are private to torch and may go away."""
    x86 = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    there = all(hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight"))
    if not x86 or not torch.backends.mkldnn.is_available() or not there:
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
