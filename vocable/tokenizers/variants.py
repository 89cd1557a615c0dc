"""The same units with their model run in other ways, to measure what precision, batching and device change."""

from __future__ import annotations

from itertools import product

import torch

from vocable.tokenizers.ssl import SSLExtractor
from vocable.tokenizers.units import UnitTokenizer

REFERENCE = "fp32 exact"


def variants(units: UnitTokenizer) -> dict[str, UnitTokenizer]:
    """The units under every precision and mode, by name ("bf16 fast"), REFERENCE among them.

    On a GPU as well if there is one ("bf16 fast on cuda"). Empty if their features are not those of a model, which
    alone can be run in several ways.
    """
    extractor = units.extractor
    if not isinstance(extractor, SSLExtractor):
        return {}
    own, made = str(extractor.device), {}
    devices = dict.fromkeys([own, *(["cuda"] if torch.cuda.is_available() else [])])
    for device, precision, mode in product(devices, ("fp32", "bf16"), ("exact", "fast")):
        other = SSLExtractor.from_config(
            extractor.config() | {"precision": precision, "mode": mode},
            origin=extractor.origin,
            tensors=extractor.state_dict(),
            device=device,
        )
        made[f"{precision} {mode}" + (f" on {device}" if device != own else "")] = UnitTokenizer(
            other, units.quantizers, windows=units.windows
        )
    return made
