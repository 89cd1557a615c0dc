"""A codec in training: encoder, bottleneck and decoder, and what a teacher wants of the first codebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.clock import FrameGrid
from vocable.errors import InputError
from vocable.quantizers.bottlenecks import CodebookBottleneck
from vocable.tokenizers.own_codec import MODEL_TYPE, VocableCodecModel
from vocable.training.codec_designs import CodecDesign
from vocable.types import Audio, FeatureExtractor

_WIDEST = 256  # of latents, where the kind of the quantizer leaves the choice


class Passage(NamedTuple):
    """What a batch became: waveforms, and losses by name."""

    fake: Float[Tensor, "b n"]
    losses: dict[str, Float[Tensor, ""]]


class CodecNetwork(nn.Module):
    """A design as a network to train; `freeze` gives the codec that it is.

    batch: latents that a step shows. teacher: width of the features that the first codebook is to tell, 0 for none.
    """

    def __init__(self, design: CodecDesign, *, batch: int, teacher: int = 0) -> None:
        super().__init__()
        quantizer = design.quantizer.build(_WIDEST, batch=batch)
        self.design, self.bottleneck = design, quantizer.bottleneck
        latent = self.bottleneck.latent
        self.settings: dict[str, Any] = {
            "model_type": MODEL_TYPE,
            "sample_rate": design.sample_rate,
            "label": design.label,
            "encoder": design.encoder(latent),
            "decoder": design.decoder(latent),
        }
        self.codec = VocableCodecModel(self.settings)
        self.tell = nn.Linear(latent, teacher) if teacher else None

    @torch.no_grad()
    def begin(self, crops: Sequence[Float[Tensor, "b n"]]) -> None:
        """Scales latents to variance 1 and starts codebooks from those of crops, better from many.

        InputError if there are fewer latents than entries of a codebook.
        """
        encoder = self.codec.encoder
        encoder.standardize([encoder.padded(crop[:, None]) for crop in crops])
        self.bottleneck.begin(torch.cat([self._latents(crop).flatten(0, 1) for crop in crops]))

    def forward(self, real: Float[Tensor, "b n"], taught: Float[Tensor, "c t d"] | None = None) -> Passage:
        """The waveforms that codes of `real` give, n whole hops; taught: the teacher's features of the first."""
        latents = self._latents(real).float()
        with torch.autocast(real.device.type, enabled=False):  # codes are decided in full precision
            passed = self.bottleneck(latents.flatten(0, 1))
        losses = {"quantizer": self.design.commitment * passed.loss}
        if taught is not None and self.tell is not None:
            first = self._first(latents.flatten(0, 1), passed.quantized, passed.codes)
            told = self.tell(first).unflatten(0, latents.shape[:2])[: len(taught)]
            losses["distillation"] = self.design.distilled * distillation(told.float(), taught)
        return Passage(self.codec.decoder(passed.quantized.unflatten(0, latents.shape[:2])), losses)

    def freeze(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Settings and tensors of the codec, as `NeuralCodec` takes them. InputError if a number is not finite."""
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in self.codec.state_dict().items()}
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise InputError("expected finite weights, got NaN or infinity", hint="train with a lower learning rate")
        codes = self.bottleneck.freeze()
        own = {f"quantizer.{name}": tensor.detach().cpu().clone() for name, tensor in codes.tensors().items()}
        return {**self.settings, "quantizer": codes.config()}, tensors | own

    def _latents(self, real: Float[Tensor, "b n"]) -> Float[Tensor, "b t z"]:
        encoder = self.codec.encoder
        latents: Tensor = encoder(encoder.padded(real[:, None]))
        return latents

    def _first(self, latents: Tensor, quantized: Tensor, codes: Tensor) -> Float[Tensor, "n z"]:
        """What the first codebook alone gives, passed straight through to the latents."""
        if codes.shape[1] == 1:
            return quantized
        if isinstance(self.bottleneck, CodebookBottleneck):
            found = F.embedding(codes[:, 0], self.bottleneck.stages()[0][0].codebook)
            entries = F.pad(found, (0, latents.shape[1] - found.shape[1]))  # it may see the first channels alone
        else:
            entries = self.bottleneck.freeze().decode(codes[:, :1])
        return latents + (entries - latents).detach()


def distillation(told: Float[Tensor, "b t d"], taught: Float[Tensor, "b t d"]) -> Float[Tensor, ""]:
    """-log sigmoid of the cosine between the courses of each dimension over time, the mean over dimensions.

    Zhang et al. 2024, "SpeechTokenizer", equation 2; but courses are taken without their means, which say nothing of
    what is spoken.
    """
    told, taught = told - told.mean(1, keepdim=True), taught - taught.mean(1, keepdim=True)
    return -F.logsigmoid(F.cosine_similarity(told, taught, dim=1)).mean()


class Teacher:
    """Features of crops on a codec's clock: for each of its frames the extractor's that holds its middle.

    InputError for an extractor of several layers.
    """

    def __init__(self, extractor: FeatureExtractor, sample_rate: int, hop_length: int) -> None:
        if len(extractor.layers) != 1:
            raise InputError(f"expected one layer to learn from, got {len(extractor.layers)}", hint="name one layer")
        self.extractor = extractor
        self._grid = FrameGrid(extractor.sample_rate, extractor.hop_length, sample_rate, hop_length)

    @property
    def dim(self) -> int:
        """Width of the features."""
        return self.extractor.dim

    @torch.no_grad()
    def features(self, heard: Float[Tensor, "b m"], frames: int) -> Float[Tensor, "b t d"]:
        """Features of crops at the extractor's rate, for so many frames of the codec, on the crops' device."""
        found = self.extractor.extract(Audio.of(list(heard.cpu()), self.extractor.sample_rate)).frames[:, 0]
        indices, _ = self._grid.sources(0, frames)
        places = torch.from_numpy(indices).clamp_max(found.shape[1] - 1).to(found.device)
        return found[:, places].to(heard.device)
