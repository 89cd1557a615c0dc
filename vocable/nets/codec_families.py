"""EnCodec, DAC, Mimi and X-Codec of transformers as `CodecNet`s: where each has its latents, quantizer and clock.

Each takes `model`, loaded and in float32, and the dtype in which encoder and decoder are to run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

_CONTEXT_SECONDS = 3.0
LEVELS = 256
_LEVEL_STEP, _LEVEL_FLOOR = 0.5, -120.0  # dB


def measure(samples: Float[Tensor, "b c n"]) -> Float[Tensor, " b"]:
    """The level of each row: root mean square of its channels' mean, and 1e-8 (EnCodec's `scale`)."""
    return samples.mean(dim=1).square().mean(dim=-1).sqrt() + 1e-8


def level_codes(levels: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Levels on a grid of 0.5 dB, code i for -120 + i / 2 dB of full scale: 256 codes up to 7.5 dB, clipped beyond."""
    decibels = 20 * levels.double().log10()
    return ((decibels - _LEVEL_FLOOR) / _LEVEL_STEP).round().long().clamp(0, LEVELS - 1)


def level_values(codes: Int[Tensor, "*t"]) -> Float[Tensor, "*t"]:
    """The levels that codes stand for."""
    return (10 ** ((codes.double() * _LEVEL_STEP + _LEVEL_FLOOR) / 20)).float()


class BaseNet:
    """What the families share: a clock, labelled codebooks, modules that run in one dtype."""

    model: Any
    parts: tuple[str, ...] = ("encoder", "decoder")  # what runs in `dtype`; the quantizer does not
    longest: int | None = None
    levels = False
    causal = False
    channels = 1

    def __init__(self, model: nn.Module, dtype: torch.dtype, *, hop_length: int, dim: int, count: int) -> None:
        self.model = model
        self.dtype = dtype
        self.hop_length = hop_length
        self.dim = dim
        self.sample_rate = self._sample_rate()
        self.labels, self.codebook_sizes = self._codebooks(count)
        self.context = math.ceil(_CONTEXT_SECONDS * self.sample_rate / hop_length)
        for part in self.parts:
            getattr(model, part).to(dtype)

    def to(self, device: torch.device) -> None:
        self.model.to(device)

    def _sample_rate(self) -> int:
        return int(self.model.config.sampling_rate)

    def _codebooks(self, count: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Labels and sizes of the codebooks."""
        return tuple(f"rvq{index}" for index in range(count)), (int(self.model.config.codebook_size),) * count

    def _framed(self, latents: Float[Tensor, "b d t"]) -> Float[Tensor, "b t d"]:
        return latents.float().transpose(1, 2)

    def _shaped(self, samples: Float[Tensor, "b c n"], frames: int) -> Float[Tensor, "b c m"]:
        """Exactly `frames` hops of float32 samples: DAC with odd strides gives a few less."""
        due = frames * self.hop_length
        return F.pad(samples.float(), (0, max(0, due - samples.shape[-1])))[..., :due]


class EncodecNet(BaseNet):
    """EnCodec (Défossez et al. 2022): at 24 kHz mono and causal, at 48 kHz stereo in normalised chunks of 1 s.

    Upstream overlaps the chunks by 1 % and so repeats frames; here they meet on the frame grid, each normalised by its
    own level as upstream. A recording of one chunk has upstream's codes.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        config: Any = model.config
        count = len(model.quantizer.layers)  # type: ignore[arg-type, union-attr]
        self.channels = int(config.audio_channels)
        self.levels = bool(config.normalize)
        super().__init__(model, dtype, hop_length=config.hop_length, dim=config.hidden_size, count=count)
        # a group norm over time makes every frame depend on all
        self.causal = bool(config.use_causal_conv) and config.norm_type == "weight_norm" and not self.levels
        if config.chunk_length is not None:
            self.longest, self.context = config.chunk_length // self.hop_length, 0

    @torch.no_grad()
    def latents(self, samples: Float[Tensor, "b c n"]) -> Float[Tensor, "b t d"]:
        if self.levels:
            samples = samples / measure(samples)[:, None, None]
        return self._framed(self.model.encoder(samples.to(self.dtype)))

    @torch.no_grad()
    def quantize(self, latents: Float[Tensor, "b t d"]) -> Int[Tensor, "b k t"]:
        return _residual_codes(latents, self.model.quantizer.layers[: len(self.labels)])

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "b k t"]) -> Float[Tensor, "b c n"]:
        quantized = self.model.quantizer.decode(codes.transpose(0, 1))
        return self._shaped(self.model.decoder(quantized.to(self.dtype)), codes.shape[-1])


class DACNet(BaseNet):
    """Descript Audio Codec (Kumar et al. 2023) at 16, 24 or 44.1 kHz: convolutions alone, so its context is exact."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        config: Any = model.config
        # published configurations of 16 and 24 kHz carry a stale hop_length of 512
        hop_length = math.prod(config.downsampling_ratios)
        super().__init__(model, dtype, hop_length=hop_length, dim=config.hidden_size, count=config.n_codebooks)
        reach = max(_reach(self.model.encoder, 1.0), _reach(self.model.decoder, float(self.hop_length)))
        self.context = math.ceil(reach / self.hop_length)

    @torch.no_grad()
    def latents(self, samples: Float[Tensor, "b 1 n"]) -> Float[Tensor, "b t d"]:
        return self._framed(self.model.encoder(samples.to(self.dtype)))

    @torch.no_grad()
    def quantize(self, latents: Float[Tensor, "b t d"]) -> Int[Tensor, "b k t"]:
        residual, codes = latents.transpose(1, 2), []
        for quantizer in self.model.quantizer.quantizers[: len(self.labels)]:
            quantized, _, _, indices, _ = quantizer(residual)
            codes.append(indices)
            residual = residual - quantized
        return torch.stack(codes, dim=1)

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "b k t"]) -> Float[Tensor, "b 1 n"]:
        quantized = self.model.quantizer.from_codes(codes)[0]
        return self._shaped(self.model.decoder(quantized.to(self.dtype)), codes.shape[-1])


class MimiNet(BaseNet):
    """Mimi (Défossez et al. 2024): causal, 12.5 Hz, a semantic codebook before the residual acoustic ones."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        config: Any = model.config
        hop_length = math.prod(config.upsampling_ratios) * config.latent_stride
        self.channels = int(config.audio_channels)
        self.causal = bool(config.use_causal_conv)
        super().__init__(model, dtype, hop_length=hop_length, dim=config.hidden_size, count=config.num_quantizers)
        for codebook in (module for module in model.modules() if hasattr(module, "embed_sum")):
            _ = codebook.embed  # computed once, at first use: not by threads beside one another

    @torch.no_grad()
    def latents(self, samples: Float[Tensor, "b c n"]) -> Float[Tensor, "b t d"]:
        return self._framed(self.model.encoder(samples.to(self.dtype)).latents)

    @torch.no_grad()
    def quantize(self, latents: Float[Tensor, "b t d"]) -> Int[Tensor, "b k t"]:
        count = max(len(self.labels), self.model.config.num_semantic_quantizers)
        codes: Tensor = self.model.quantizer.encode(latents.transpose(1, 2), count)
        return codes[: len(self.labels)].transpose(0, 1)

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "b k t"]) -> Float[Tensor, "b c n"]:
        quantized = self.model.quantizer.decode(codes)
        return self._shaped(self.model.decoder(quantized.to(self.dtype)).audio_values, codes.shape[-1])


class XCodecNet(BaseNet):
    """X-Codec (Ye et al. 2024): DAC latents and the mean of all HuBERT layers, mixed before one residual quantizer."""

    parts = ("acoustic_encoder", "acoustic_decoder", "semantic_model", "encoder_semantic", "fc", "fc2")

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        config: Any = model.config
        count = len(model.quantizer.quantizers)  # type: ignore[arg-type, union-attr]
        super().__init__(model, dtype, hop_length=config.hop_length, dim=config.hidden_size, count=count)

    def _sample_rate(self) -> int:
        return int(self.model.config.sample_rate)

    @torch.no_grad()
    def latents(self, samples: Float[Tensor, "b 1 n"]) -> Float[Tensor, "b t d"]:
        samples = samples.to(self.dtype)
        acoustic = self.model.acoustic_encoder(samples).transpose(1, 2)
        mixed: Tensor = self.model.fc(torch.cat([acoustic, self._semantic(samples[:, 0])], dim=-1))
        return mixed.float()

    @torch.no_grad()
    def quantize(self, latents: Float[Tensor, "b t d"]) -> Int[Tensor, "b k t"]:
        return _residual_codes(latents, self.model.quantizer.quantizers[: len(self.labels)])

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "b k t"]) -> Float[Tensor, "b 1 n"]:
        quantized = self.model.quantizer.decode(codes.transpose(0, 1))
        mixed = self.model.fc2(quantized.transpose(1, 2).to(self.dtype))
        return self._shaped(self.model.acoustic_decoder(mixed.transpose(1, 2)), codes.shape[-1])

    def _semantic(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b t d"]:
        """One frame a hop: the receptive field of the front end is longer than a hop, so the ends are padded."""
        padded = F.pad(samples, (self.hop_length // 2, self.hop_length // 2))
        layers = self.model.semantic_model(padded, output_hidden_states=True).hidden_states
        mean = torch.stack(layers, dim=1).mean(dim=1)
        semantic: Tensor = self.model.encoder_semantic(mean.transpose(1, 2))
        return semantic.transpose(1, 2)


def _residual_codes(latents: Float[Tensor, "b t d"], quantizers: Iterable[Any]) -> Int[Tensor, "b k t"]:
    residual, codes = latents.transpose(1, 2), []
    for quantizer in quantizers:
        codes.append(quantizer.encode(residual))
        residual = residual - quantizer.decode(codes[-1])
    return torch.stack(codes, dim=1)


def _reach(stack: nn.Module, spacing: float) -> float:
    """At most so many samples on either side does an output of a stack of convolutions depend on.

    spacing: samples between two inputs of the stack. All convolutions are counted as if they came one after another.
    """
    reach = 0.0
    for module in stack.modules():
        if isinstance(module, nn.Conv1d):
            reach += (module.kernel_size[0] - 1) * module.dilation[0] * spacing / 2
            spacing *= module.stride[0]
        elif isinstance(module, nn.ConvTranspose1d):
            reach += module.kernel_size[0] / module.stride[0] * spacing
            spacing /= module.stride[0]
    return reach + spacing
