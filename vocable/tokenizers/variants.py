"""The same units with their model run in other ways, to measure what precision and batching change."""

from __future__ import annotations

from itertools import product

from vocable.tokenizers.ssl import SSLExtractor
from vocable.tokenizers.units import UnitTokenizer

REFERENCE = "fp32 exact"


def variants(units: UnitTokenizer) -> dict[str, UnitTokenizer]:
    """The units under every precision and mode, by name ("bf16 fast"), REFERENCE among them.

    Empty if their features are not those of a model, which alone can be run in several ways.
    """
    extractor = units.extractor
    if not isinstance(extractor, SSLExtractor):
        return {}
    made = {}
    for precision, mode in product(("fp32", "bf16"), ("exact", "fast")):
        other = SSLExtractor.from_config(
            extractor.config() | {"precision": precision, "mode": mode},
            origin=extractor.origin,
            tensors=extractor.state_dict(),
            device=str(extractor.device),
        )
        made[f"{precision} {mode}"] = UnitTokenizer(other, units.quantizers, windows=units.windows)
    return made
