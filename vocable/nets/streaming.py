"""Causal convolutional codecs, EnCodec at 24 kHz and Mimi, a piece of time at a time.

The state of each module is held outside of it, so that any number of streams can share one model. Models and modules
are transformers', typed Any: importing their classes takes seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.errors import InputError

_INSTEAD = "encode whole recordings: long ones are cut into windows, in bounded memory"


class EncoderStream:
    """The encoder of transformers' EncodecModel (causal) or MimiModel; its latents are those of the whole to rounding.

    InputError for a model of another kind, or one that looks ahead.
    """

    def __init__(self, model: Any) -> None:
        self.hop_length = hop_length(model)
        self._channels = int(model.config.audio_channels)
        self._like = next(model.encoder.parameters())
        self._stages = _Chain(_encoder_stages(model))

    @torch.no_grad()
    def push(self, samples: Float[Tensor, "c n"], *, last: bool = False) -> Float[Tensor, "t d"]:
        """The latents that a whole number of frames more completes, none before a padding by reflection is known.

        `last` ends the stream: what was held back comes out. InputError for another shape.
        """
        channels, count = samples.shape
        if channels != self._channels or count % self.hop_length:
            raise InputError(
                f"expected samples [{self._channels}, a multiple of {self.hop_length}], got {list(samples.shape)}"
            )
        return self._stages.push(samples[None].to(self._like), last=last)[0].T.float()


class DecoderStream:
    """The decoder of the same models; its samples are those of the whole to rounding."""

    def __init__(self, model: Any) -> None:
        self.hop_length = hop_length(model)
        self._model = model
        self._like = next(model.decoder.parameters())
        self._stages = _Chain(_decoder_stages(model))

    @torch.no_grad()
    def push(self, codes: Int[Tensor, "k t"], *, last: bool = False) -> Float[Tensor, "c n"]:
        """The samples, whole frames of them, that these codes complete; `last` ends the stream as in encoding."""
        latents = _dequantized(self._model, codes.to(self._like.device))
        return self._stages.push(latents.to(self._like), last=last)[0].float()


def hop_length(model: Any) -> int:
    """Samples to a frame of the codec. InputError for a model that is known to need what is yet to come."""
    config = model.config
    if config.model_type not in ("encodec", "mimi"):
        raise InputError(f"expected an EnCodec or Mimi model, got {config.model_type}", hint=_INSTEAD)
    _require(config.use_causal_conv, "convolutions that look ahead")
    _require(not getattr(config, "normalize", False), "a scale taken from the whole recording")
    if config.model_type == "encodec":
        return int(config.hop_length)
    return math.prod(map(int, config.upsampling_ratios)) * int(config.latent_stride)


def _encoder_stages(model: Any) -> Iterable[_Stage]:
    encoder = model.encoder
    if model.config.model_type == "encodec":
        return map(_stage, encoder.layers)
    convolutions = map(_stage, encoder.encoder_seanet.layers)
    return *convolutions, _Transformer(encoder.encoder_transformer), _stage(encoder.downsample)


def _decoder_stages(model: Any) -> Iterable[_Stage]:
    decoder = model.decoder
    if model.config.model_type == "encodec":
        return map(_stage, decoder.layers)
    convolutions = map(_stage, decoder.decoder_seanet.layers)
    return _stage(decoder.upsample), _Transformer(decoder.decoder_transformer), *convolutions


def _dequantized(model: Any, codes: Tensor) -> Tensor:
    """Latents [1, d, t] of codes [k, t]."""
    if not codes.shape[1]:
        return torch.zeros(1, model.config.hidden_size, 0, device=codes.device)
    # EnCodec's quantizer has the codebooks first, Mimi's the batch
    first = model.config.model_type == "encodec"
    return cast(Tensor, model.quantizer.decode(codes[:, None] if first else codes[None]))


@runtime_checkable
class _Stage(Protocol):
    """One module and what it remembers: [1, c, n] in, as much as is certain out, all of it at the last push."""

    def push(self, signal: Tensor, *, last: bool) -> Tensor: ...


def _stage(module: Any) -> _Stage:
    """The stage of a module, told by its parts: EnCodec's and Mimi's classes are twins under different names."""
    if hasattr(module, "block"):
        return _Residual(module)
    if hasattr(module, "lstm"):
        return _Recurrence(module)
    conv = getattr(module, "conv", None)
    if isinstance(conv, nn.ConvTranspose1d):
        return _Upsampling(module, conv)
    return _Convolution(module, conv) if isinstance(conv, nn.Conv1d) else _Pointwise(module)


class _Chain:
    def __init__(self, stages: Iterable[_Stage]) -> None:
        self._stages = tuple(stages)

    def push(self, signal: Tensor, *, last: bool) -> Tensor:
        for stage in self._stages:
            signal = stage.push(signal, last=last)
        return signal


class _Pointwise:
    """What needs no memory: an activation, an identity."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def push(self, signal: Tensor, *, last: bool) -> Tensor:
        return cast(Tensor, self._module(signal))


class _Convolution:
    """A causal convolution, padded at the very beginning as the module does; holds what later outputs will see.

    A matrix product over unfolded inputs: the kernels for convolutions rearrange the weights at every call, which takes
    several times as long as a frame's worth of work.
    """

    def __init__(self, module: Any, conv: nn.Conv1d) -> None:
        _require(not hasattr(module, "norm"), "a norm over time")
        self._weight, self._bias = conv.weight.flatten(1), conv.bias
        self._stride, self._dilation = conv.stride[0], conv.dilation[0]
        self._reach = (conv.kernel_size[0] - 1) * self._dilation + 1
        self._padding, self._mode = self._reach - self._stride, str(module.pad_mode)
        self._held = conv.weight.new_zeros(1, conv.in_channels, 0)
        self._begun = False

    def push(self, signal: Tensor, *, last: bool) -> Tensor:
        signal = torch.cat([self._held, signal], dim=-1)
        if not self._begun and signal.shape[-1] and (last or self._can_begin(signal.shape[-1])):
            signal, self._begun = self._padded(signal), True
        count = max(0, (signal.shape[-1] - self._reach) // self._stride + 1) if self._begun else 0
        # a copy: a view would keep all of a long piece in memory
        self._held = signal[..., count * self._stride :].clone()
        if not count:
            return signal.new_zeros(1, len(self._weight), 0)
        seen = signal[0].unfold(-1, self._reach, self._stride)[..., :: self._dilation]
        return F.linear(seen.transpose(0, 1).flatten(1), self._weight, self._bias).T[None]

    def _can_begin(self, length: int) -> bool:
        return self._mode != "reflect" or length > self._padding

    def _padded(self, signal: Tensor) -> Tensor:
        """Padded on the left; by reflection a signal too short is lengthened with zeros first, as upstream does."""
        length = signal.shape[-1]
        if self._mode == "reflect":
            signal = F.pad(signal, (0, max(0, self._padding - length + 1)))
        return F.pad(signal, (self._padding, 0), mode=self._mode)[..., : self._padding + length]


class _Upsampling:
    """A transposed convolution trimmed at its end; holds the tail that overlaps with what comes."""

    def __init__(self, module: Any, conv: nn.ConvTranspose1d) -> None:
        _require(not hasattr(module, "norm"), "a norm over time")
        _require(module.trim_right_ratio == 1.0, "transposed convolutions that look ahead")
        self._weight, self._bias = conv.weight, conv.bias
        self._stride, self._groups = conv.stride[0], conv.groups
        self._tail = conv.weight.new_zeros(1, conv.out_channels, conv.kernel_size[0] - self._stride)

    def push(self, signal: Tensor, *, last: bool) -> Tensor:
        if not signal.shape[-1]:
            return signal.new_zeros(1, self._tail.shape[1], 0)
        spread = self._spread(signal)
        spread[..., : self._tail.shape[-1]] += self._tail
        out, self._tail = spread.tensor_split([signal.shape[-1] * self._stride], dim=-1)
        self._tail = self._tail.clone()
        return out if self._bias is None else out + self._bias[:, None]

    def _spread(self, signal: Tensor) -> Tensor:
        """Each input spread over the kernel, without the bias: outputs get that once, whatever they are the sum of."""
        if self._groups > 1:
            return F.conv_transpose1d(signal, self._weight, None, self._stride, groups=self._groups)
        parts = (signal[0].T @ self._weight.flatten(1)).T[None]
        kernel = self._weight.shape[-1]
        length = (signal.shape[-1] - 1) * self._stride + kernel
        return F.fold(parts, (1, length), (1, kernel), stride=(1, self._stride))[:, :, 0]


class _Residual:
    """A block beside a shortcut, which waits for the block where that holds something back."""

    def __init__(self, module: Any) -> None:
        self._block = _Chain(map(_stage, module.block))
        self._shortcut = _stage(module.shortcut)
        self._waiting: Tensor | None = None

    def push(self, signal: Tensor, *, last: bool) -> Tensor:
        out = self._block.push(signal, last=last)
        short = self._shortcut.push(signal, last=last)
        if self._waiting is not None:
            short = torch.cat([self._waiting, short], dim=-1)
        ready = out.shape[-1]
        self._waiting = short[..., ready:].clone()
        return short[..., :ready] + out


class _Recurrence:
    """An LSTM with a residual connection, a step at a time: for the kernel of nn.LSTM the same holds as above."""

    def __init__(self, module: Any) -> None:
        self._lstm: nn.LSTM = module.lstm
        zeros = self._lstm.weight_hh_l0.new_zeros(1, self._lstm.hidden_size)
        self._states = [(zeros, zeros)] * self._lstm.num_layers

    def push(self, signal: Tensor, *, last: bool) -> Tensor:
        if not signal.shape[-1]:
            return signal
        out = torch.stack([self._step(step) for step in signal.unbind(-1)], dim=-1)
        return out + signal

    def _step(self, vector: Tensor) -> Tensor:
        for layer, weights in enumerate(self._lstm.all_weights):
            self._states[layer] = torch.lstm_cell(vector, self._states[layer], *weights)
            vector = self._states[layer][0]
        return vector


class _Transformer:
    """A causal transformer over a sliding window: transformers' cache keeps the keys and values of that window."""

    def __init__(self, module: Any) -> None:
        from transformers import DynamicCache

        self._module = module
        self._cache = DynamicCache(config=module.config)

    def push(self, signal: Tensor, *, last: bool) -> Tensor:
        if not signal.shape[-1]:
            return signal
        out = self._module(signal.transpose(1, 2), past_key_values=self._cache).last_hidden_state
        return cast(Tensor, out).transpose(1, 2)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise InputError(f"expected a causal codec, got one with {what}", hint=_INSTEAD)
