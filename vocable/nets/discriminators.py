"""Networks that tell real waveforms from made ones: by period (HiFi-GAN) and by bands of complex spectra (DAC)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

Size = Literal["small", "full"]

_SLOPE = 0.1  # of leaky rectifiers
_PEAK = 0.8  # that waveforms are brought to, as in DAC
_QUIETEST = 1e-2  # peak below which they are not raised further: near silence gradients would have no bound
_COMPRESSION = 0.3  # power of the magnitudes that discriminators see
_FAINTEST = 1e-6  # power that bounds the gradient of that
_BANDS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # edges as shares of the spectrum, as in DAC


class Verdict(NamedTuple):
    """What one discriminator finds: scores, high where it takes the sound for real, and the maps behind them."""

    score: Float[Tensor, "b ..."]
    maps: list[Tensor]


class Stack(nn.Module):
    """Convolutions with weight norm, a leaky rectifier after each; gives what each of them gives."""

    def __init__(self, layers: Iterable[nn.Conv2d]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_begun(layer) for layer in layers)

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        maps = []
        for layer in self.layers:
            x = nn.functional.leaky_relu(layer(x), _SLOPE)
            maps.append(x)
        return maps


class PeriodDiscriminator(nn.Module):
    """Every `period`-th sample is a neighbour of the next: strided convolutions along the columns of [n / p, p].

    Kong et al. 2020 (HiFi-GAN), section 2.3; their channels are 32, 128, 512, 1024, 1024.
    """

    def __init__(self, period: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        strides = [*[3] * (len(channels) - 1), 1]
        self.stack = Stack(
            nn.Conv2d(before, after, (5, 1), (stride, 1), (2, 0))
            for (before, after), stride in zip(pairwise((1, *channels)), strides, strict=True)
        )
        self.score = _begun(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waves: Float[Tensor, "b n"]) -> Verdict:
        folded = nn.functional.pad(waves, (0, -waves.shape[1] % self.period)).unflatten(1, (-1, self.period))
        maps = self.stack(folded[:, None])
        return Verdict(self.score(maps[-1]), maps)


class SpectrumDiscriminator(nn.Module):
    """Complex spectra of one resolution, cut into five bands with convolutions of their own over time and frequency.

    Kumar et al. 2023 (DAC), section 3.4: the phase is seen, and no band can hide behind a louder one; unlike there,
    magnitudes are compressed. `strides` are those of the convolutions along frequency; in DAC 1, 2, 2, 2.
    """

    taper: Tensor

    def __init__(self, window: int, channels: int, strides: Sequence[int] = (1, 2, 2, 2)) -> None:
        super().__init__()
        edges = [round(share * (window // 2 + 1)) for share in _BANDS]
        self.widths = [stop - start for start, stop in pairwise(edges)]
        self.bands = nn.ModuleList(_band(channels, strides) for _ in self.widths)
        self.score = _begun(nn.Conv2d(channels, 1, 3, padding=1))
        taper = torch.hann_window(window)
        # white noise then has spectra of about its own level at every resolution
        self.register_buffer("taper", taper / taper.square().sum().sqrt(), persistent=False)

    def forward(self, waves: Float[Tensor, "b n"]) -> Verdict:
        found = [stack(part) for part, stack in zip(self._planes(waves), self.bands, strict=True)]
        score = self.score(torch.cat([maps[-1] for maps in found], dim=3))
        return Verdict(score, [each for maps in found for each in maps])

    def _planes(self, waves: Float[Tensor, "b n"]) -> tuple[Float[Tensor, "b 2 t f"], ...]:
        """Real and imaginary parts, band by band, quiet ones raised: told apart three times as soon, measured."""
        length = len(self.taper)
        with torch.autocast(waves.device.type, enabled=False):
            spectra = torch.stft(
                waves.float(), length, length // 4, window=self.taper, pad_mode="constant", return_complex=True
            )
        planes = torch.view_as_real(spectra).permute(0, 3, 2, 1)
        power = planes.square().sum(1, keepdim=True)
        return torch.split(planes * (power + _FAINTEST) ** ((_COMPRESSION - 1) / 2), self.widths, dim=3)


class Discriminators(nn.Module):
    """Several discriminators, each of which sees the same waveforms, freed of their offset and brought to one peak."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, waves: Float[Tensor, "b n"]) -> list[Verdict]:
        centred = waves - waves.mean(1, keepdim=True)
        levelled = centred * (_PEAK / centred.abs().amax(1, keepdim=True).clamp_min(_QUIETEST))
        return [member(levelled) for member in self.members]


def build_discriminators(size: Size) -> Discriminators:
    """The discriminators of a size, with random weights.

    full: periods 2, 3, 5, 7, 11 and spectra of 2048, 1024, 512 samples, as DAC has them (43 million weights).
    small: spectra of 1024 and 256 samples, with fewer and narrower layers, for processors (45 thousand weights).
    """
    if size == "small":
        return Discriminators(SpectrumDiscriminator(window, 8, (4, 2, 2)) for window in (1024, 256))
    periods = [PeriodDiscriminator(period, (32, 128, 512, 1024, 1024)) for period in (2, 3, 5, 7, 11)]
    return Discriminators([*periods, *(SpectrumDiscriminator(window, 32) for window in (2048, 1024, 512))])


def _begun(layer: nn.Conv2d) -> nn.Module:
    """The layer with weight norm, and weights that keep the size of what comes in (He et al. 2015)."""
    nn.init.kaiming_normal_(layer.weight, _SLOPE)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    normed: nn.Module = weight_norm(layer)
    return normed


def _band(channels: int, strides: Sequence[int]) -> Stack:
    widths = [2, *[channels] * len(strides)]
    wide = [
        nn.Conv2d(before, after, (3, 9), (1, stride), (1, 4))
        for (before, after), stride in zip(pairwise(widths), strides, strict=True)
    ]
    return Stack([*wide, nn.Conv2d(channels, channels, 3, padding=1)])
