"""Encoders whose blocks are transformers' own classes: SEW, SEW-D, wav2vec2-conformer, w2v-BERT 2.0, Whisper.

The way from samples to the first block and on to the deepest layer asked for is written out here, so that nothing
else is computed and nothing is kept in the modules between calls: threads may share one encoder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from operator import mul
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.errors import InputError
from vocable.nets.foreign_attention import RelativeKeyAttention, distances
from vocable.nets.foreign_base import ForeignEncoder
from vocable.nets.foreign_features import (
    KALDI_WINDOW,
    MEL_HOP,
    WHISPER_WINDOW,
    KaldiMel,
    WhisperMel,
    relative_positions,
    rotary_positions,
)

_CONV = ("conv_dim", "conv_kernel", "conv_stride", "conv_bias", "feat_extract_norm", "feat_extract_activation")
_BODY = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps")
_PLACES = ("num_conv_pos_embeddings", "num_conv_pos_embedding_groups")
_WHISPER_ROWS = 32  # at once: each takes the memory of 30 s, however short it is


class SEW(ForeignEncoder):
    """Convolutions, squeezed in time before the transformer (Wu et al. 2021, "Performance-Efficiency Trade-offs").

    Frames are those that the transformer sees, one for `squeeze_factor` of the convolutions' frames.
    """

    model_type = "sew"
    fields: ClassVar[tuple[str, ...]] = (*_CONV, *_BODY, *_PLACES, "squeeze_factor")
    unused = ("encoder.upsample",)

    @staticmethod
    def upstream() -> tuple[Any, Any]:
        from transformers import SEWConfig, SEWModel

        return SEWConfig, SEWModel

    def __init__(self, values: Mapping[str, Any], layers: Sequence[int | str] | None = None) -> None:
        super().__init__(values, layers)
        hop_length, squeeze = math.prod(self.config.conv_stride), int(self.config.squeeze_factor)
        self.hop_length, self.window = hop_length * squeeze, _receptive_field(self.config) + hop_length * (squeeze - 1)

    def _embed(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b t d"]:
        hidden = self._squeeze(samples)
        normed: Tensor = self.model.encoder.layer_norm(hidden)
        return normed

    def _squeeze(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b t d"]:
        model, encoder = self.model, self.model.encoder
        hidden = model.layer_norm(model.feature_extractor(samples.to(self._dtype)).transpose(1, 2))
        if model.project_features:
            hidden = model.feature_projection(hidden)
        hidden = hidden.transpose(1, 2)
        pooled = encoder.pool(hidden)
        placed: Tensor = pooled + encoder.pos_conv_embed(hidden)[..., : pooled.shape[-1]]
        return placed.transpose(1, 2)


class SEWD(SEW):
    """SEW with disentangled attention (He et al. 2021, "DeBERTa")."""

    model_type = "sew-d"
    fields = (
        *(*SEW.fields, "feature_layer_norm_eps", "max_position_embeddings", "max_relative_positions"),
        *("position_buckets", "share_att_key", "relative_attention", "pos_att_type", "norm_rel_ebd"),
        "attention_head_size",
    )
    # upstream has disentangled attention in its eager form alone
    attention = "eager"

    @staticmethod
    def upstream() -> tuple[Any, Any]:
        from transformers import SEWDConfig, SEWDModel

        return SEWDConfig, SEWDModel

    def __init__(self, values: Mapping[str, Any], layers: Sequence[int | str] | None = None) -> None:
        if values.get("conv_kernel_size", 0):
            raise InputError(f"expected a sew-d model without conv_kernel_size, got {values['conv_kernel_size']!r}")
        super().__init__(values, layers)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer's blocks."""
        blocks: nn.ModuleList = self.model.encoder.encoder.layer
        return blocks

    def _embed(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b t d"]:
        return self._squeeze(samples)

    def _beside(self, hidden: Float[Tensor, "b t d"]) -> dict[str, Any]:
        transformer = self.model.encoder.encoder
        return {
            "attention_mask": torch.ones(len(hidden), 1, 1, hidden.shape[1], dtype=torch.long, device=hidden.device),
            "relative_pos": transformer.get_rel_pos(hidden),
            "rel_embeddings": transformer.get_rel_embedding(),
        }


class _Conformer(ForeignEncoder):
    """Blocks of attention and convolution (Gulati et al. 2020, "Conformer"), with positions computed for each call."""

    def _beside(self, hidden: Float[Tensor, "b t d"]) -> dict[str, Any]:
        return {"attention_mask": None, "relative_position_embeddings": self._positions(hidden)}

    def _positions(self, hidden: Float[Tensor, "b t d"]) -> Tensor | None:
        config, frames = self.config, hidden.shape[1]
        if config.position_embeddings_type == "relative":
            return relative_positions(frames, hidden)
        if config.position_embeddings_type == "rotary":
            width = config.hidden_size // config.num_attention_heads
            return rotary_positions(frames, width, float(config.rotary_embedding_base), hidden)
        if config.position_embeddings_type == "relative_key":
            left, right = config.left_max_position_embeddings, config.right_max_position_embeddings
            return distances(frames, left, right, hidden.device)
        return None


class Wav2Vec2Conformer(_Conformer):
    """wav2vec 2.0 with conformer blocks, of relative or rotary positions (Wang et al. 2020, "fairseq S2T")."""

    model_type = "wav2vec2-conformer"
    fields = (
        *(*_CONV, *_BODY, *_PLACES),
        *("position_embeddings_type", "rotary_embedding_base", "conv_depthwise_kernel_size"),
    )
    unused = ("encoder.embed_positions", "encoder.pos_conv_embed", "encoder.layer_norm")

    @staticmethod
    def upstream() -> tuple[Any, Any]:
        from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel

        return Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel

    def __init__(self, values: Mapping[str, Any], layers: Sequence[int | str] | None = None) -> None:
        super().__init__(values, layers)
        self.hop_length, self.window = math.prod(self.config.conv_stride), _receptive_field(self.config)
        block: Any
        for block in self.blocks:
            # its counter matters to training alone
            norm = block.conv_module.batch_norm
            norm.num_batches_tracked, norm.track_running_stats = None, False

    def _embed(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b t d"]:
        convolved = self.model.feature_extractor(samples.to(self._dtype)).transpose(1, 2)
        projected: Tensor = self.model.feature_projection(convolved)[0]
        return projected


class Wav2Vec2Bert(_Conformer):
    """w2v-BERT 2.0: conformer blocks over pairs of Kaldi's mel frames (Barrault et al. 2023, "Seamless")."""

    model_type = "wav2vec2-bert"
    fields = (
        *(*_BODY, "feature_projection_input_dim", "position_embeddings_type", "rotary_embedding_base"),
        *("left_max_position_embeddings", "right_max_position_embeddings", "conv_depthwise_kernel_size"),
    )
    unused = ("encoder.embed_positions",)
    hop_length = 2 * MEL_HOP
    window = KALDI_WINDOW + MEL_HOP

    @staticmethod
    def upstream() -> tuple[Any, Any]:
        from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

        return Wav2Vec2BertConfig, Wav2Vec2BertModel

    def __init__(self, values: Mapping[str, Any], layers: Sequence[int | str] | None = None) -> None:
        super().__init__(values, layers)
        if self.config.feature_projection_input_dim % 2:
            raise InputError(f"expected pairs of mel frames, got {self.config.feature_projection_input_dim} values")
        self.bands = self.config.feature_projection_input_dim // 2
        self._mel = KaldiMel(self.bands, self.sample_rate)
        if self.config.position_embeddings_type == "relative_key":
            block: Any
            for block in self.blocks:
                block.self_attn = RelativeKeyAttention(block.self_attn)

    def features(self) -> dict[str, Any]:
        """Fields of a preprocessor_config.json that this encoder's features presuppose."""
        return {"sampling_rate": self.sample_rate, "num_mel_bins": self.bands, "stride": 2}

    def _embed(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b t d"]:
        mel = self._mel(samples)
        pairs = mel[:, : mel.shape[1] // 2 * 2].reshape(len(mel), -1, 2 * self.bands)
        projected: Tensor = self.model.feature_projection(pairs.to(self._dtype))[0]
        return projected


class Whisper(ForeignEncoder):
    """The encoder of Whisper (Radford et al. 2022), which sees every utterance followed by silence up to 30 s.

    T = ceil(N / 320), at most `longest`; frames of the silence are dropped. The last layer has the final norm.
    """

    model_type = "whisper"
    fields = (
        *("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim"),
        *("num_mel_bins", "max_source_positions", "activation_function"),
    )
    unused = ()
    padding = True
    hop_length = 2 * MEL_HOP
    window = 1

    @staticmethod
    def upstream() -> tuple[Any, Any]:
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        return WhisperConfig, WhisperEncoder

    def __init__(self, values: Mapping[str, Any], layers: Sequence[int | str] | None = None) -> None:
        super().__init__(values, layers)
        self.longest = int(self.config.max_source_positions)
        self._mel = WhisperMel(self.config.num_mel_bins, self.sample_rate)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer's blocks."""
        blocks: nn.ModuleList = self.model.layers
        return blocks

    def features(self) -> dict[str, Any]:
        """Fields of a preprocessor_config.json that this encoder's features presuppose."""
        bands = int(self.config.num_mel_bins)
        return {
            "sampling_rate": self.sample_rate,
            "feature_size": bands,
            "hop_length": MEL_HOP,
            "n_fft": WHISPER_WINDOW,
        }

    def _truncate(self, blocks: nn.ModuleList, depth: int) -> None:
        if depth < len(blocks):
            self.model.layer_norm = nn.Identity()
        super()._truncate(blocks, depth)

    def forward(
        self, samples: Float[Tensor, "b n"], lengths: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b l t d"]:
        """Frames of utterances padded to n samples; beyond an utterance's own ceil(lengths / 320) those of silence.

        InputError for an utterance of more than `longest` frames.
        """
        if lengths is not None:
            beyond = torch.arange(samples.shape[1], device=samples.device) >= lengths[:, None]
            samples = samples.masked_fill(beyond, 0)
        most = samples.shape[1] if lengths is None else int(lengths.max())
        room = self.config.max_source_positions * self.hop_length
        if most > room:
            raise InputError(f"expected at most {self.longest} frames, got {most} samples")
        # or crops, where a batch was padded beyond what its utterances need
        samples = F.pad(samples, (0, room - samples.shape[1]))
        parts = [self._run(part)[:, :, : -(-most // self.hop_length)] for part in samples.split(_WHISPER_ROWS)]
        return torch.cat(parts)

    def _states(self, samples: Float[Tensor, "b n"]) -> Iterator[Float[Tensor, "b t d"]]:
        for depth, state in enumerate(super()._states(samples)):
            yield self.model.layer_norm(state) if depth == len(self.blocks) else state

    def _embed(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b t d"]:
        hidden = F.gelu(self.model.conv1(self._mel(samples).to(self._dtype)))
        hidden = F.gelu(self.model.conv2(hidden)).transpose(1, 2)
        placed: Tensor = hidden + self.model.embed_positions.weight
        return placed


FAMILIES: Mapping[str, type[ForeignEncoder]] = {
    family.model_type: family for family in (SEW, SEWD, Wav2Vec2Conformer, Wav2Vec2Bert, Whisper)
}


def _receptive_field(config: Any) -> int:
    """Samples that one frame sees through a stack of convolutions."""
    strides = accumulate(config.conv_stride[:-1], mul, initial=1)
    return 1 + int(sum((kernel - 1) * stride for kernel, stride in zip(config.conv_kernel, strides, strict=True)))
