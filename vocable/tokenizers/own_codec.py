"""Codecs trained here behind the interface of the published ones: their configuration, their tensors, their files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vocable.errors import ArtifactError, InputError
from vocable.files import new_directory
from vocable.nets import codec_decoder, codec_encoder
from vocable.nets.codec_decoder import CodecDecoder
from vocable.nets.codec_encoder import CodecEncoder, Encoder, encode_blocks
from vocable.nets.codecs import PRECISIONS, CodecNet, build
from vocable.nets.spectral_encoder import SpectralEncoder
from vocable.nets.state import below
from vocable.quantizers.fsq import FSQ, LFQ, ResidualFSQ
from vocable.quantizers.gumbel import GumbelCodes
from vocable.quantizers.residual import ResidualKMeans

MODEL_TYPE = "vocable-codec"
"""The `model_type` of a configuration."""

TRAINING = "training.json"
"""The file beside a codec that says how it was trained."""

Codes = ResidualKMeans | FSQ | ResidualFSQ | LFQ | GumbelCodes
"""The quantizers that a codec may have."""

_KINDS: dict[str, type[Codes]] = {kind.kind: kind for kind in (ResidualKMeans, FSQ, ResidualFSQ, LFQ, GumbelCodes)}
_ENCODERS: dict[str, Callable[[Mapping[str, Any]], Encoder]] = {
    "convolutions": CodecEncoder,
    "spectral": SpectralEncoder,
}
_PREFIXES = (ResidualKMeans, ResidualFSQ)  # of which the first few codebooks decode alone


class VocableCodecModel(nn.Module):
    """Encoder and decoder of a codec. KeyError, TypeError or InputError for settings that are not its own."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.encoder = build_encoder(settings["encoder"])
        self.decoder = CodecDecoder(settings["decoder"])
        if self.encoder.hop_length != self.decoder.hop_length:
            raise InputError(
                f"expected an encoder and a decoder of one hop length, got {self.encoder.hop_length} "
                f"and {self.decoder.hop_length}"
            )


def build_encoder(config: Mapping[str, Any]) -> Encoder:
    """The encoder of a configuration: of its "kind", convolutions where it names none. InputError if it is none."""
    kind = config.get("kind", "convolutions")
    if kind not in _ENCODERS:
        raise InputError(f"expected an encoder among {', '.join(_ENCODERS)}, got {kind!r}")
    return _ENCODERS[kind](config)


class OwnCodecNet:
    """A codec trained here as a `CodecNet`: convolutions alone, so that its context is exact.

    If it is causal, latents on a CPU are computed in blocks of one shape: a stream then has the same bits.

    settings: {"model_type", "sample_rate", "label": of its codebooks without their number, "encoder", "decoder",
    "quantizer": its configuration}. tensors: those of `VocableCodecModel`, and of the quantizer under "quantizer.".
    """

    channels = 1
    longest: int | None = None
    levels = False

    def __init__(self, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        modules = VocableCodecModel(settings).eval().requires_grad_(False)
        _load(modules, tensors)
        self.model: nn.Module = modules
        self._encoder, self._decoder = encoder, decoder = modules.encoder, modules.decoder
        self._quantizer = _quantizer(settings["quantizer"], tensors)
        self.sample_rate, self.hop_length, self.dim = int(settings["sample_rate"]), encoder.hop_length, encoder.dim
        self.codebook_sizes = self._quantizer.codebook_sizes
        self.labels = tuple(f"{settings['label']}{index}" for index in range(len(self.codebook_sizes)))
        if self._quantizer.dim != self.dim or (len(self.labels) > 1 and not isinstance(self._quantizer, _PREFIXES)):
            raise InputError(f"expected a quantizer of {self.dim} dimensions that refines, got {settings['quantizer']}")
        self.causal = encoder.causal and decoder.future == 0
        frames = (-(-encoder.past // self.hop_length), -(-encoder.future // self.hop_length))
        self.context = max(*frames, decoder.past, decoder.future)
        self._dtype = dtype
        encoder.to(dtype)
        self._player = self._prepared()

    @torch.no_grad()
    def latents(self, samples: Float[Tensor, "b 1 n"]) -> Float[Tensor, "b t d"]:
        encoder, samples = self._encoder, samples.to(self._dtype)
        if self.causal and samples.device.type == "cpu":
            return encode_blocks(encoder, samples).float()
        latents: Tensor = encoder(encoder.padded(samples))
        return latents.float()

    @torch.no_grad()
    def quantize(self, latents: Float[Tensor, "b t d"]) -> Int[Tensor, "b k t"]:
        return self._quantizer.encode(latents)[..., : len(self.labels)].transpose(1, 2)

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "b k t"]) -> Float[Tensor, "b 1 n"]:
        waveform: Tensor = self._player(self._quantizer.decode(codes.transpose(1, 2)))
        return waveform[:, None]

    def to(self, device: torch.device) -> None:
        self.model.to(device)
        self._player = self._prepared()
        tensors = {name: tensor.to(device) for name, tensor in self._quantizer.tensors().items()}
        self._quantizer = type(self._quantizer).from_config(self._quantizer.config(), tensors)

    def encoder_stream(self) -> codec_encoder.EncoderStream:
        """The latents [t, d] of samples that come piece by piece."""
        return codec_encoder.EncoderStream(self._encoder)

    def decoder_stream(self) -> OwnDecoderStream:
        """The samples of codes that come piece by piece."""
        return OwnDecoderStream(self._quantizer, self._player)

    def _prepared(self) -> CodecDecoder:
        # what follows the products is not for 16 bits, and half precision has no kernels on processors
        return self._decoder.prepared(torch.bfloat16 if self._dtype == torch.bfloat16 else torch.float32)


class OwnDecoderStream:
    """Codes [k, t] to samples [1, n], piece by piece."""

    def __init__(self, quantizer: Codes, decoder: CodecDecoder) -> None:
        self._quantizer, self._stream = quantizer, codec_decoder.DecoderStream(decoder)
        self._device = decoder.spread.weight.device

    def push(self, codes: Int[Tensor, "k t"], *, last: bool = False) -> Float[Tensor, "1 n"]:
        """The samples, whole frames of them, that these codes complete; `last` ends the stream."""
        latents = self._quantizer.decode(codes.T.to(self._device))
        return self._stream.push(latents, last=last)[None]


def build_net(
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    num_codebooks: int | None = None,
    precision: str = "fp32",
) -> CodecNet:
    """The network of a codec that was published, or trained here, as `vocable.nets.codecs.build` has it.

    precision: of those trained here that of the encoder, and if it is "bf16" of the decoder's products.
    """
    if settings.get("model_type") != MODEL_TYPE:
        return build(settings, tensors, num_codebooks=num_codebooks, precision=precision)
    if precision not in PRECISIONS:
        raise InputError(f"expected a precision among {', '.join(PRECISIONS)}, got {precision!r}")
    try:
        net = OwnCodecNet(settings, tensors, PRECISIONS[precision])
    except (KeyError, TypeError, AttributeError) as problem:
        raise InputError(f"expected the configuration of a {MODEL_TYPE} ({problem!r})") from problem
    count = len(net.labels) if num_codebooks is None else num_codebooks
    if not 1 <= count <= len(net.labels):
        raise InputError(f"expected 1 to {len(net.labels)} codebooks, got {count}")
    net.labels, net.codebook_sizes = net.labels[:count], net.codebook_sizes[:count]
    return net


def write_checkpoint(
    path: Path,
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    evidence: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """A folder with config.json and model.safetensors, as codecs are published, and how it was trained beside them.

    OutputError if it is there and `overwrite` is not given.
    """
    from safetensors.torch import save_file

    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with new_directory(path, overwrite=overwrite) as folder:
        save_file(copies, folder / "model.safetensors", metadata={"format": "pt"})
        for name, values in (("config.json", settings), (TRAINING, evidence)):
            (folder / name).write_text(json.dumps(values, indent=1) + "\n")


def _load(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """ArtifactError unless the tensors are those of the model."""
    expected = model.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    if missing:
        raise ArtifactError(f"expected the tensors of a {MODEL_TYPE} model, got no {missing[0]}")
    for name, tensor in expected.items():
        if tensors[name].shape != tensor.shape:
            raise ArtifactError(f"expected {name} of shape {list(tensor.shape)}, got {list(tensors[name].shape)}")
    model.load_state_dict({name: tensors[name] for name in expected})


def _quantizer(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Codes:
    own = below("quantizer.", tensors)
    if config["kind"] not in _KINDS:
        raise InputError(f"expected a quantizer of kind {', '.join(_KINDS)}, got {config['kind']!r}")
    try:
        return _KINDS[config["kind"]].from_config(config, own)
    except KeyError as problem:
        raise ArtifactError(
            f"expected the tensors of a {MODEL_TYPE} model, got no quantizer.{problem.args[0]}"
        ) from None
