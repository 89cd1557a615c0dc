"""How far a waveform is from what it should be: spectra at several resolutions, and what discriminators say of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vocable.nets.discriminators import Verdict
from vocable.nets.spectral import mel_filters

WINDOWS = (128, 256, 512, 1024, 2048)
"""Lengths of windows in samples, all of them powers of two; hops are a quarter."""

_BANDS = 5 / 32  # mel bands per sample of a window: 20 of 128, 320 of 2048, as in DAC
_FLOOR = 1e-5  # of magnitudes, -100 dB: what is below cannot be heard, and its logarithm must not matter


class SpectralDistances(NamedTuple):
    """mel: mean |ln| ratio of mel bands. stft: that of all bins, plus the spectral convergence."""

    mel: Float[Tensor, ""]
    stft: Float[Tensor, ""]


class SpectralLoss(nn.Module):
    """Distances of magnitude spectra at several resolutions, the mean over them, one transform for both kinds.

    mel: L1 of log mel magnitudes with many bands in long windows and few in short ones, as in DAC (Kumar et al. 2023).
    stft: L1 of log magnitudes and spectral convergence, |S - S'| / |S| in Frobenius norms (Yamamoto et al. 2020, eq. 4
    to 6). A sine of amplitude 1 has magnitude 1; magnitudes are floored at -100 dB. Always computed in float32.

    InputError if a window is too short to have mel bands at the rate.
    """

    def __init__(self, sample_rate: int, windows: Sequence[int] = WINDOWS) -> None:
        super().__init__()
        self.windows = tuple(windows)
        for length in self.windows:
            taper = torch.hann_window(length)
            filters = mel_filters(sample_rate, length, round(length * _BANDS), 0.0, sample_rate / 2)
            self.register_buffer(f"taper_{length}", taper * 2 / taper.sum(), persistent=False)
            # a band is a weighted mean of its bins, so that the floor means the same for all
            self.register_buffer(f"filters_{length}", (filters / filters.sum(0)).float(), persistent=False)

    def forward(self, real: Float[Tensor, "b n"], fake: Float[Tensor, "b n"]) -> SpectralDistances:
        with torch.autocast(real.device.type, enabled=False):
            found = [self._distances(length, real.float(), fake.float()) for length in self.windows]
        mel, stft = (torch.stack(parts).mean() for parts in zip(*found, strict=True))
        return SpectralDistances(mel, stft)

    def _distances(self, length: int, real: Float[Tensor, "b n"], fake: Float[Tensor, "b n"]) -> SpectralDistances:
        taper, filters = self.get_buffer(f"taper_{length}"), self.get_buffer(f"filters_{length}")
        ours, theirs = magnitudes(real, taper), magnitudes(fake, taper)
        mel = nn.functional.l1_loss((theirs @ filters).log(), (ours @ filters).log())
        convergence = torch.linalg.vector_norm(ours - theirs) / torch.linalg.vector_norm(ours)
        return SpectralDistances(mel, convergence + nn.functional.l1_loss(theirs.log(), ours.log()))


def magnitudes(waves: Float[Tensor, "b n"], taper: Float[Tensor, " w"]) -> Float[Tensor, "b t f"]:
    """Magnitudes of centred frames with a hop of a quarter of the window, zeros beyond the ends; floored, so that their
    roots and logarithms have gradients.
    """
    length = len(taper)
    spectra = torch.stft(waves, length, length // 4, window=taper, pad_mode="constant", return_complex=True)
    power = spectra.real.square() + spectra.imag.square()
    return power.clamp_min(_FLOOR**2).sqrt().transpose(1, 2)


def discriminator_loss(real: Sequence[Verdict], fake: Sequence[Verdict]) -> Float[Tensor, ""]:
    """Hinge loss of discriminators: max(0, 1 - D(real)) + max(0, 1 + D(fake)), means over scores and discriminators."""
    each = [
        (1 - ours.score.float()).relu().mean() + (1 + theirs.score.float()).relu().mean()
        for ours, theirs in zip(real, fake, strict=True)
    ]
    return torch.stack(each).mean()


def adversarial_loss(fake: Sequence[Verdict]) -> Float[Tensor, ""]:
    """What a generator has to lower: max(0, 1 - D(fake)), as in EnCodec (Défossez et al. 2022, section 3.4)."""
    return torch.stack([(1 - verdict.score.float()).relu().mean() for verdict in fake]).mean()


def feature_loss(real: Sequence[Verdict], fake: Sequence[Verdict]) -> Float[Tensor, ""]:
    """Feature matching: L1 of the maps inside discriminators, over the mean size of the real ones (EnCodec, eq. 2).

    Means over maps and discriminators. Real maps get no gradient.
    """
    distances = []
    for ours, theirs in zip(real, fake, strict=True):
        for target, given in zip(ours.maps, theirs.maps, strict=True):
            level = target.detach().float().abs().mean().clamp_min(1e-8)
            distances.append(nn.functional.l1_loss(given.float(), target.detach().float()) / level)
    return torch.stack(distances).mean()
