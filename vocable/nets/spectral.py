"""Short-time spectra of speech: framing, mel bands, cepstra and deltas, with the same bits wherever a frame stands."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocable.errors import InputError

BLOCK = 128
"""Frames computed at a time, always: FFT kernels may treat the rows of a small batch differently."""


class ExactProduct:
    """x -> x @ matrix, by sums that come out the same in any order.

    BLAS kernels sum in an order that changes with the shape of the problem, the place of a row in it and the number
    of threads. So the matrix is rounded to 17 bits below its largest entry, and each row of x to as many bits below its
    own largest entry as keep every partial sum an integer of at most 2^53: float64 then adds without rounding.
    For mel filters some 32 bits (96 dB of power below the strongest bin) are left to x.
    """

    def __init__(self, matrix: Float[Tensor, "n m"]) -> None:
        peak = matrix.abs().max().double()
        self.integers = (matrix.double() / peak * 2**17).round()
        self.levels = 2.0 ** math.floor(53 - math.log2(float(self.integers.abs().sum(0).max())))
        self.unit = float(peak) / 2**17 / self.levels

    def __call__(self, x: Float[Tensor, "*rows n"]) -> Float[Tensor, "*rows m"]:
        scale = x.double().abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        return (x / scale * self.levels).round() @ self.integers.to(x.device) * (scale * self.unit)


def frame(
    samples: Float[Tensor, "b n"], lengths: Int[Tensor, " b"], window_length: int, hop_length: int
) -> Float[Tensor, "b t w"]:
    """Cuts waveforms into overlapping frames, T = ceil(N / hop_length), frame t centred on sample (t + 1/2) hop_length.

    Zeros stand wherever an utterance is not: before it, and from its length on, whatever the padding holds.
    """
    beyond = torch.arange(samples.shape[1], device=samples.device) >= lengths[:, None].to(samples.device)
    count = -(-samples.shape[1] // hop_length)
    before = (window_length - hop_length) // 2
    after = max(0, count - 1) * hop_length + window_length - before - samples.shape[1]
    padded = torch.nn.functional.pad(samples.masked_fill(beyond, 0.0), (before, after))
    return padded.unfold(1, window_length, hop_length)[:, :count]


def log_mel(
    frames: Float[Tensor, "b t w"], window: Float[Tensor, " w"], filters: ExactProduct, floor: float
) -> Float[Tensor, "b t m"]:
    """Natural logarithm of mel power, not below that of `floor`, the same bits for a frame among any others.

    Power is |X|^2 / (sum of the window)^2, X the DFT over the next power of two: a sine of amplitude 1 peaks at 1/4.
    """
    out = torch.empty(*frames.shape[:2], filters.integers.shape[1], device=frames.device)
    block = torch.zeros(BLOCK, len(window), device=frames.device)
    taper = (window / window.sum()).to(frames.device)
    for rows, results in zip(frames, out, strict=True):
        for part, result in zip(rows.split(BLOCK), results.split(BLOCK), strict=True):
            block[: len(part)] = part
            spectrum = torch.fft.rfft(block * taper, fft_length(len(window)))
            power = spectrum.real.double().square() + spectrum.imag.double().square()
            result[:] = filters(power).clamp_min(floor).log()[: len(part)]
    return out


def fft_length(window_length: int) -> int:
    """The power of two that holds a window."""
    return 1 << (window_length - 1).bit_length()


def mel_filters(
    sample_rate: int, fft_size: int, num_bands: int, low: float, high: float
) -> Float[Tensor, "bins bands"]:
    """Triangles of height 1 over the power spectrum, equally spaced from `low` to `high` Hz on Slaney's mel scale.

    Slaney's scale (Auditory Toolbox, 1998; librosa's default) is linear below 1 kHz. HTK's is so fine at the bottom
    that with 80 bands some triangles fall between the bins of a 512-point DFT. InputError where a band holds no bin.
    """
    mels = torch.linspace(_hertz_to_mel(low), _hertz_to_mel(high), num_bands + 2, dtype=torch.float64)
    edges = _mel_to_hertz(mels)
    bins = torch.linspace(0, sample_rate / 2, fft_size // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp_min(0.0)
    if bool((filters.amax(0) == 0).any()):
        raise InputError(f"{num_bands} mel bands are too many for a DFT of {fft_size} points", hint="use fewer bands")
    return filters


_LINEAR = 200 / 3  # Hz per mel below 1 kHz
_KNEE = 1000 / _LINEAR
_LOG_STEP = math.log(6.4) / 27  # above 1 kHz, 27 mels to 6.4 kHz


def _hertz_to_mel(hertz: float) -> float:
    return hertz / _LINEAR if hertz < 1000 else _KNEE + math.log(hertz / 1000) / _LOG_STEP


def _mel_to_hertz(mels: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    return torch.where(mels < _KNEE, mels * _LINEAR, 1000 * torch.exp((mels - _KNEE) * _LOG_STEP))


def dct_matrix(num_bands: int, num_coefficients: int) -> Float[Tensor, "bands coefficients"]:
    """The first columns of the orthonormal DCT-II: x @ matrix are cepstra, cepstra @ matrix.T the smoothed x."""
    band = torch.arange(num_bands, dtype=torch.float64)[:, None] + 0.5
    order = torch.arange(num_coefficients, dtype=torch.float64)
    matrix = torch.cos(math.pi / num_bands * band * order) * math.sqrt(2 / num_bands)
    matrix[:, 0] /= math.sqrt(2)
    return matrix


def deltas(frames: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b t d"]:
    """Slopes of straight lines fitted to five frames, per frame (HTK book, eq. 5.16 with a window of 2, as in Kaldi).

    The first and the last frame of an utterance are repeated; frames from its length on have no influence.
    """
    last = (lengths.to(frames.device) - 1).clamp_min(0)[:, None]
    time = torch.arange(frames.shape[1], device=frames.device)
    batch = torch.arange(len(frames), device=frames.device)[:, None]

    def shifted(by: int) -> Tensor:
        return frames[batch, (time + by).clamp_min(0).minimum(last)]

    return 0.1 * (shifted(1) - shifted(-1)) + 0.2 * (shifted(2) - shifted(-2))
