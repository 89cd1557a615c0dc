"""What quantizers ask of vectors and codes before they work on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.errors import InputError


def vector_rows(vectors: Tensor, dim: int) -> Float[Tensor, "n d"]:
    """Vectors [..., D] as rows. InputError if D differs, or one is not finite."""
    if vectors.ndim < 1 or vectors.shape[-1] != dim or not vectors.is_floating_point():
        raise InputError(f"expected vectors [..., {dim}], got {vectors.dtype} {list(vectors.shape)}")
    if not bool(vectors.isfinite().all()):
        raise InputError("expected finite vectors, got NaN or infinity", hint="look for broken audio or features")
    return vectors.detach().reshape(-1, dim)


def code_rows(codes: Tensor, sizes: Sequence[int], *, prefix: bool = False) -> Int[Tensor, "n k"]:
    """Codes [..., K] as rows, or of fewer codebooks if a `prefix` will do. InputError if one is not in its codebook."""
    lowest = 1 if prefix else len(sizes)
    if codes.ndim < 1 or not lowest <= codes.shape[-1] <= len(sizes) or codes.is_floating_point():
        raise InputError(f"expected codes [..., {len(sizes)}], got {codes.dtype} {list(codes.shape)}")
    rows = codes.reshape(-1, codes.shape[-1]).long()
    limits = torch.tensor(sizes[: rows.shape[1]], device=rows.device)
    if bool(((rows < 0) | (rows >= limits)).any()):
        raise InputError(f"expected codes below {list(sizes)}, got others")
    return rows
