"""An encoder of speech that learns to name what it does not see: masked prediction (Hsu et al. 2021, "HuBERT").

The network is w2v-BERT's (Barrault et al. 2023), made narrow: conformer blocks over pairs of log-mel frames. So what is
trained here is what `nets.foreign` runs, block for block, and what transformers loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.nets.foreign import Wav2Vec2Bert
from vocable.nets.skewed_attention import SkewedAttention

_LAST = ("output_dense", "linear_out", "pointwise_conv2")  # of a branch beside the residual


class Prediction(NamedTuple):
    """What a network says of the frames of a batch; means over frames and codebooks, 0 where there are no such frames.

    loss, accuracy: cross entropy in nats, and the share whose code is the likeliest, of masked frames.
    seen_loss, seen_accuracy: of all other frames.
    """

    loss: Float[Tensor, ""]
    seen_loss: Float[Tensor, ""]
    accuracy: Float[Tensor, ""]
    seen_accuracy: Float[Tensor, ""]


class MaskedPrediction(Wav2Vec2Bert):
    """Tells the codes of every frame of log-mel spectra in which spans are hidden; a linear layer for each codebook.

    A plain linear layer, where HuBERT compares with embeddings of units by their cosine: each block ends in a layer
    norm, which bounds the logits as the cosine does.

    values: of a w2v-BERT config.json. sizes: entries of each codebook. dropout: wherever the architecture has it.
    InputError if transformers does not build such a network.
    """

    def __init__(self, values: Mapping[str, Any], sizes: Sequence[int], *, dropout: float = 0.0) -> None:
        super().__init__(values)
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        block: Any
        for block in self.blocks:
            block.self_attn = SkewedAttention(block.self_attn, left=self.config.left_max_position_embeddings)
        self._start()
        self.mask_embedding = nn.Parameter(torch.randn(self.dim))
        self.heads = nn.ModuleList(nn.Linear(self.dim, size) for size in sizes)

    def forward(  # type: ignore[override]
        self, mel: Float[Tensor, "b s m"], codes: Int[Tensor, "b t k"], masked: Bool[Tensor, "b t"]
    ) -> Prediction:
        """How well the codes of t = s / 2 frames are told; frames with codes below 0 do not count.

        mel: of zero mean and unit variance (`standardized`). masked: frames that the network does not see.
        """
        frames = self._frames(mel, masked)
        real = codes[..., 0] >= 0
        books = [self._told(head, frames, codes[..., k]) for k, head in enumerate(self.heads)]
        loss, hit = (torch.stack(values).mean(0) for values in zip(*books, strict=True))
        hidden, seen = masked & real, ~masked & real
        return Prediction(_mean(loss, hidden), _mean(loss, seen), _mean(hit, hidden), _mean(hit, seen))

    def upstream_state(self) -> dict[str, Tensor]:
        """The encoder's tensors by their names in transformers; heads and mask embedding have done their work."""
        return dict(self.model.state_dict())

    @torch.no_grad()
    def _start(self) -> None:
        """Weights that keep variance, and blocks that add little to what they are given.

        As upstream starts them, every convolution adds as much noise as there is signal: with four blocks, a loss at
        seen frames of 5.2 nats after 60 steps of 24 s, and of 4.3 begun like this.
        """
        for name, weight in self.model.named_parameters():
            if weight.ndim > 1 and "distance_embedding" not in name:
                last = any(part in name for part in _LAST)
                weight.normal_(0, (0.1 if last else 1.0) * weight[0].numel() ** -0.5)

    def _frames(self, mel: Float[Tensor, "b s m"], masked: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        pairs = mel.reshape(len(mel), -1, 2 * self.bands)
        projected = self.model.feature_projection(pairs)[0]
        hidden = torch.where(masked[..., None], self.mask_embedding.to(projected.dtype), projected)
        beside = self._beside(hidden)
        for block in self.blocks:
            hidden = block(hidden, **beside)
        return hidden

    def _told(
        self, head: nn.Module, frames: Float[Tensor, "b t d"], codes: Int[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
        """Cross entropy of each frame, and 1 where its code is the likeliest."""
        logits = head(frames).float()
        loss = F.cross_entropy(logits.transpose(1, 2), codes.clamp_min(0), reduction="none")
        return loss, (logits.argmax(-1) == codes).float()


def standardized(mel: Float[Tensor, "b s m"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b s m"]:
    """Each band of zero mean and unit variance over the first `lengths` frames, zero beyond them.

    As Kaldi's features are for an utterance of its own, whatever gain and offset each band had before.
    """
    real = (torch.arange(mel.shape[1], device=mel.device) < lengths[:, None])[..., None]
    count = lengths[:, None, None].to(mel.dtype)
    centred = (mel - (mel * real).sum(1, keepdim=True) / count) * real
    variance = centred.square().sum(1, keepdim=True) / (count - 1)
    scaled: Tensor = centred / (variance + 1e-7).sqrt()
    return scaled


def _mean(values: Float[Tensor, "b t"], where: Bool[Tensor, "b t"]) -> Float[Tensor, ""]:
    return (values * where).sum() / where.sum().clamp_min(1)
