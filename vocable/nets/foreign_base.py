"""The frame of an encoder made of transformers' own blocks: configuration, layers, one pass no deeper than needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vocable.errors import InputError
from vocable.nets.encoder import parse_layers

_NO_MASKS = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}  # they would bring a tensor for training


class ForeignEncoder(nn.Module):
    """An `Encoder` around one of transformers' models; its tensors are named as in the upstream base model.

    Layer n is hidden_states[n] of transformers 5: the output of block n, and 0 what enters the first block. A norm
    after the last block is part of no layer, but of Whisper's last. Runs in the dtype of its weights, though features
    are computed in float32. Without `padding` utterances of a batch are of one length, and nothing is masked.

    values: those of config.json; fields that do not define the encoder are left aside.
    layers: numbers, or names like "L6", in the order of the output's layer axis; None for all.
    InputError if transformers does not build such a network or it does not have these layers.
    """

    model_type: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]
    """Fields of the configuration that decide a layer's output."""
    unused: ClassVar[tuple[str, ...]]
    """Modules that no layer needs."""
    attention: ClassVar[str] = "sdpa"
    """Which of upstream's forms of attention."""

    hop_length: int
    window: int

    sample_rate = 16000
    padding = False
    longest: int | None = None

    def __init__(self, values: Mapping[str, Any], layers: Sequence[int | str] | None = None) -> None:
        super().__init__()
        self.config, self.model = self._build(values)
        blocks = self.blocks
        self.layers = _blocks_asked(layers, len(blocks))
        self._truncate(blocks, max(self.layers))
        for name in self.unused:
            parent, _, last = name.rpartition(".")
            delattr(self.model.get_submodule(parent), last)

    @staticmethod
    def upstream() -> tuple[Any, Any]:
        """The classes of the configuration and of the model in transformers."""
        raise NotImplementedError

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer's blocks."""
        blocks: nn.ModuleList = self.model.encoder.layers
        return blocks

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the layers, in the order asked for."""
        return tuple(f"L{layer}" for layer in self.layers)

    @property
    def dim(self) -> int:
        """Width of the transformer."""
        return int(self.config.hidden_size)

    def features(self) -> dict[str, Any]:
        """Fields of a preprocessor_config.json that this encoder's features presuppose."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Plain JSON values: `type(self)(settings["config"], settings["layers"])` is the same network."""
        found = {name: getattr(self.config, name) for name in self.fields if hasattr(self.config, name)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
        return {"model_type": self.model_type, "config": plain, "layers": list(self.layers)}

    def forward(
        self, samples: Float[Tensor, "b n"], lengths: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b l t d"]:
        """Frames of waveforms of one length, at least one window long. InputError if they are padded."""
        if lengths is not None:
            raise InputError("expected utterances of one length without padding, got lengths")
        return self._run(samples)

    def _run(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b l t d"]:
        kept = {n: state for n, state in enumerate(self._states(samples)) if n in self.layers}
        return torch.stack([kept[layer] for layer in self.layers], dim=1)

    def _states(self, samples: Float[Tensor, "b n"]) -> Iterator[Float[Tensor, "b t d"]]:
        """What enters the first block, then the output of each."""
        hidden = self._embed(samples)
        beside = self._beside(hidden)
        yield hidden
        for block in self.blocks:
            hidden = block(hidden, **beside)
            yield hidden

    def _embed(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b t d"]:
        """What enters the first block."""
        raise NotImplementedError

    def _beside(self, hidden: Float[Tensor, "b t d"]) -> dict[str, Any]:
        """What every block is given beside the hidden states."""
        return {"attention_mask": None}

    def _truncate(self, blocks: nn.ModuleList, depth: int) -> None:
        del blocks[depth:]

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def _build(self, values: Mapping[str, Any]) -> tuple[Any, Any]:
        from huggingface_hub.errors import StrictDataclassError

        config_class, model_class = self.upstream()
        chosen = {name: values[name] for name in self.fields if name in values}
        try:
            config = config_class(**chosen, **_NO_MASKS, attn_implementation=self.attention)
            return config, model_class(config)
        except (StrictDataclassError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as problem:
            raise InputError(f"expected the configuration of a {self.model_type} model, got {chosen}") from problem


def _blocks_asked(layers: Sequence[int | str] | None, last: int) -> tuple[int, ...]:
    """Layers as numbers of blocks. InputError for layers before a residual, which no block here gives out."""
    asked = parse_layers(layers, last)
    if any(layer.pre for layer in asked):
        raise InputError(
            f"expected layers like L{last}, got {', '.join(layer.label for layer in asked)}",
            hint="only models like wav2vec 2.0 and HuBERT have layers before the last residual",
        )
    return tuple(layer.block for layer in asked)
