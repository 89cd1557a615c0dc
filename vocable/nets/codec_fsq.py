"""X-Codec 2 and NeuCodec of transformers as `CodecNet`s: one codebook by finite scalar quantization, at 50 Hz."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.errors import InputError
from vocable.nets.codec_families import BaseNet
from vocable.nets.foreign_features import KaldiMel

_HEARD = 16000  # Hz of what both encoders hear


class XCodec2Net(BaseNet):
    """X-Codec 2 (Ye et al. 2025): DAC-like latents beside w2v-BERT 2.0, with a transformer and an inverse STFT back.

    The front end of w2v-BERT is Kaldi's mel, which upstream takes from torchaudio. Upstream pads every recording by one
    sample before it counts frames: of a multiple of the hop it has one more, of silence, than here.
    """

    parts = ("semantic_encoder", "semantic_adapter", "acoustic_encoder", "fc_encoder", "acoustic_decoder")

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        config: Any = model.config
        positions = config.semantic_model_config.position_embeddings_type
        if positions in {"relative", "rotary"}:
            # those upstream keeps in the module, where threads would share them
            raise InputError(f"expected relative_key positions in the semantic model, got {positions}")
        super().__init__(model, dtype, hop_length=config.hop_length, dim=config.quantization_dim, count=1)
        self._mel = KaldiMel(config.semantic_model_config.feature_projection_input_dim // 2, _HEARD)

    def _sample_rate(self) -> int:
        return int(self.model.config.sampling_rate)

    def _codebooks(self, count: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
        return ("fsq0",), (math.prod(self.model.config.quantization_levels),)

    @torch.no_grad()
    def latents(self, samples: Float[Tensor, "b 1 n"]) -> Float[Tensor, "b t d"]:
        margin = self.hop_length // 2
        semantic = self._semantic(F.pad(samples[:, 0], (margin, margin)))
        return self._mixed(semantic, self.model.acoustic_encoder(samples.to(self.dtype)))

    @torch.no_grad()
    def quantize(self, latents: Float[Tensor, "b t d"]) -> Int[Tensor, "b 1 t"]:
        codes: Tensor = self.model.quantizer(latents)[1]
        return codes.long().transpose(1, 2)

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "b 1 t"]) -> Float[Tensor, "b 1 n"]:
        quantized = self.model.quantizer.from_codes(codes.transpose(1, 2))
        return self._shaped(self.model.acoustic_decoder(quantized.to(self.dtype)), codes.shape[-1])

    def _semantic(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b d t"]:
        mel = self._mel(samples)
        pairs = mel.reshape(len(mel), mel.shape[1] // 2, -1).to(self.dtype)
        hidden = self.model.semantic_encoder(pairs).last_hidden_state
        adapted: Tensor = self.model.semantic_adapter(hidden.transpose(1, 2))
        return adapted

    def _mixed(self, semantic: Float[Tensor, "b d t"], acoustic: Float[Tensor, "b e t"]) -> Float[Tensor, "b t f"]:
        latents: Tensor = self.model.fc_encoder(torch.cat([semantic, acoustic], dim=1).transpose(1, 2))
        return latents.float()


class NeuCodecNet(XCodec2Net):
    """NeuCodec (Julian et al. 2025): X-Codec 2 whose decoder speaks at 24 kHz.

    So that there is one clock, audio is at 24 kHz both ways, and what the encoder hears is brought to 16 kHz here, by a
    windowed sinc of 64 zero crossings a side. As upstream, a hop of silence follows, of which no frame is kept.
    """

    def _sample_rate(self) -> int:
        config = self.model.config
        if (config.input_sampling_rate, config.output_sampling_rate) != (_HEARD, 24000):
            raise InputError(f"expected a NeuCodec from 16 to 24 kHz, got {config.input_sampling_rate} Hz")
        return 24000

    @torch.no_grad()
    def latents(self, samples: Float[Tensor, "b 1 n"]) -> Float[Tensor, "b t d"]:
        heard = F.pad(two_thirds(samples), (0, int(self.model.config.encoder_hop_length)))
        frames = samples.shape[-1] // self.hop_length
        acoustic = self.model.acoustic_encoder(heard.to(self.dtype))
        return self._mixed(self._semantic(heard[:, 0]), acoustic[..., :frames])


def two_thirds(samples: Float[Tensor, "b 1 n"]) -> Float[Tensor, "b 1 m"]:
    """Samples at two thirds of the rate, m = 2 n / 3 for n a multiple of 3: 24 to 16 kHz.

    Output m lies at input 1.5 m, so two filters, one for even and one for odd m, run with stride 3.
    """
    reach = 96  # inputs a side: 64 zero crossings at two thirds of the rate
    taps = torch.arange(-reach, reach + 2, dtype=torch.float64, device=samples.device)
    places = taps - torch.tensor([[0.0], [1.5]], dtype=torch.float64, device=samples.device)
    # just below 8 kHz, so that the slope of the filter ends there
    width = 0.97 * 2 / 3
    window = torch.special.i0(9.0 * (1 - (places / (reach + 2)).square()).clamp_min(0).sqrt())
    filters = torch.sinc(width * places) * window
    filters = (filters / filters.sum(dim=1, keepdim=True)).float()
    # [b, 2, m / 2] -> [b, 1, m]
    phases = F.conv1d(F.pad(samples, (reach, reach + 1)), filters[:, None], stride=3)
    return phases.transpose(1, 2).reshape(len(samples), 1, -1)
