"""The state of several parts in one mapping: each part's tensors under names that begin alike."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
