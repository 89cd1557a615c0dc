"""What every SSL network offers, whoever wrote its forward: waveforms in, the hidden states of chosen layers out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from vocable.errors import InputError

_NAME = re.compile(r"L?(\d+)(\.pre)?")


@runtime_checkable
class Encoder(Protocol):
    """An nn.Module from waveforms to frames. It runs in the dtype of its weights; waveforms are float32 in any case.

    padding: whether utterances of different lengths may share a padded batch, because masks keep padding out of every
        frame; if not, only utterances of one length do.
    longest: frames that one utterance may have at most, None without a bound.
    """

    padding: bool
    longest: int | None

    @property
    def sample_rate(self) -> int: ...

    @property
    def hop_length(self) -> int:
        """Samples between two frames."""

    @property
    def window(self) -> int:
        """Samples that a frame needs before it exists: T = (N - window) // hop_length + 1."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the L layers asked for, in order: "L6", "L6.pre"."""

    @property
    def dim(self) -> int: ...

    def settings(self) -> dict[str, Any]:
        """Plain JSON values from which the network, without its weights, can be built again."""

    def __call__(self, samples: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Frames [b, l, t, d] of waveforms [b, n], each at least one window long.

        lengths [b] in samples if they are padded (only where `padding`), None if not.
        """


class Layer(NamedTuple):
    """A place in a transformer: the output of `block` (0: what enters the first), or what it adds last (`pre`)."""

    block: int
    pre: bool = False

    @property
    def label(self) -> str:
        return f"L{self.block}.pre" if self.pre else f"L{self.block}"


def parse_layers(layers: Sequence[int | str] | None, last: int) -> tuple[Layer, ...]:
    """Layers from 6, "6", "L6", "6.pre" or "L6.pre", in the order given; None stands for L0 to the last.

    InputError unless they are distinct and the model has them; L0 has no "pre".
    """
    if layers is None:
        return tuple(Layer(block) for block in range(last + 1))
    found = [_parse(name) for name in layers]
    known = [layer for layer in found if layer is not None and int(layer.pre) <= layer.block <= last]
    if not known or len(set(known)) != len(layers):
        raise InputError(
            f"expected distinct layers from 0 to {last}, got {', '.join(map(str, layers)) or 'none'}",
            hint='"L6" is the output of block 6, "L6.pre" what its feed-forward network adds to it; "L0" has no "pre"',
        )
    return tuple(known)


def _parse(name: int | str) -> Layer | None:
    match = _NAME.fullmatch(str(name))
    return Layer(int(match[1]), match[2] is not None) if match and not isinstance(name, bool) else None
