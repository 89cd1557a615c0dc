"""Neural codecs behind one interface: waveforms to latents to codes, and codes back to waveforms.

The networks are those of transformers; what is added is one convention of lengths for all of them: samples come in
multiples of the hop, T = n / hop frames go out, and T frames give back exactly T x hop samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vocable.errors import ArtifactError, InputError
from vocable.nets.codec_families import DACNet, EncodecNet, MimiNet, XCodecNet
from vocable.nets.codec_fsq import NeuCodecNet, XCodec2Net

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@runtime_checkable
class CodecNet(Protocol):
    """A codec in the tensor world.

    model: the module of transformers, its weight norms folded.
    labels, codebook_sizes: the residual codebooks in their order ("rvq0", ...), as many as were asked for; "fsq0" where
        there is one by finite scalar quantization.
    dim: width of the latents.
    context: frames on either side on which a frame depends, or 3 s where attention or recurrence has no bound.
    longest: frames that the network takes at most, None without a bound.
    causal: whether no output depends on input later than its own frame, but for reflections before the very first.
    levels: whether each window is normalised to unit level, which is then a code of its own (`measure`).
    """

    model: nn.Module
    sample_rate: int
    channels: int
    hop_length: int
    labels: tuple[str, ...]
    codebook_sizes: tuple[int, ...]
    dim: int
    context: int
    longest: int | None
    causal: bool
    levels: bool

    def latents(self, samples: Float[Tensor, "b c n"]) -> Float[Tensor, "b t d"]:
        """The encoder's output, before its quantizer; n is a multiple of the hop, t = n / hop."""

    def quantize(self, latents: Float[Tensor, "b t d"]) -> Int[Tensor, "b k t"]:
        """Codes of each frame, which depend on no other frame."""

    def decode(self, codes: Int[Tensor, "b k t"]) -> Float[Tensor, "b c n"]:
        """Samples, n = t x hop, from all codebooks or from the first few of them."""

    def to(self, device: torch.device) -> None:
        """Moves the weights."""


_ADAPTERS: dict[str, tuple[str, Callable[[nn.Module, torch.dtype], CodecNet]]] = {
    "encodec": ("EncodecModel", EncodecNet),
    "dac": ("DacModel", DACNet),
    "mimi": ("MimiModel", MimiNet),
    "xcodec": ("XcodecModel", XCodecNet),
    "xcodec2": ("Xcodec2Model", XCodec2Net),
    "neucodec": ("NeuCodecModel", NeuCodecNet),
}
FAMILIES = tuple(_ADAPTERS)
"""The values of `model_type` that `build` knows."""


def build(
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    num_codebooks: int | None = None,
    precision: str = "fp32",
) -> CodecNet:
    """The codec of a published configuration and its tensors, on the CPU, for inference.

    settings: the values of config.json. tensors: float32, under their published names; the network shares their memory.
    num_codebooks: the first so many residual codebooks, None for all of them.
    precision: "fp32", "bf16" or "fp16", of encoder and decoder; the quantizer stays in float32.
    InputError if the family is unknown, if the configuration is not one of it, or if there are not so many codebooks.
    ArtifactError if a tensor is missing or has another shape.
    """
    if precision not in PRECISIONS:
        raise InputError(f"expected a precision among {', '.join(PRECISIONS)}, got {precision!r}")
    family = settings.get("model_type")
    if family not in _ADAPTERS:
        raise InputError(f"expected a codec among {', '.join(FAMILIES)}, got {family!r}")
    model = _load(str(family), settings, tensors)
    _fold_weight_norms(model)
    net = _ADAPTERS[str(family)][1](model, PRECISIONS[precision])
    count = len(net.labels) if num_codebooks is None else num_codebooks
    if not 1 <= count <= len(net.labels):
        raise InputError(f"expected 1 to {len(net.labels)} codebooks, got {count}")
    net.labels, net.codebook_sizes = net.labels[:count], net.codebook_sizes[:count]
    return net


def _load(family: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """The module of transformers, which also knows the names that tensors had in earlier checkpoints."""
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    kind = getattr(transformers, _ADAPTERS[family][0])
    try:
        config = kind.config_class.from_dict(dict(settings))
        with _quiet():
            model, info = kind.from_pretrained(
                None,
                config=config,
                state_dict=dict(tensors),
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as problem:
        raise InputError(f"expected the configuration of a {family} model ({problem})") from problem
    if info["missing_keys"]:
        raise ArtifactError(f"expected the tensors of a {family} model, got no {min(info['missing_keys'])}")
    if info["mismatched_keys"]:
        name, found, expected = min(info["mismatched_keys"])
        raise ArtifactError(f"expected {name} of shape {list(expected)}, got {list(found)}")
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


def _fold_weight_norms(model: nn.Module) -> None:
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither progress bars nor tables of tensors on standard error: what is wrong is raised."""
    from transformers.utils import logging as hf_logging

    logging: Any = hf_logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
