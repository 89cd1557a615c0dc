"""Sound from units of spectral features without any weights: mel bands to a spectrum, a spectrum to a waveform."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vocable.errors import InputError, SpecError
from vocable.nets.phase import Stft, griffin_lim, mel_to_power
from vocable.quantizers import ScalarBins, decodes_prefixes
from vocable.tokenizers.spectral import MFCC, LogMel
from vocable.types import Audio, Features, Quantizer, Tokens, TokenSpec

FrameLookup = Callable[[Tensor], Tensor]
"""Indices [n] of frames -> those frames [n, dim]: a long utterance need not be there all at once."""


class SpectralInverter:
    """Features -> Audio on the CPU, as many samples as asked for, in bounded memory, alone as in any batch.

    Frames become log-mel bands, a power spectrum, and by Griffin and Lim a waveform, `seconds` at a time. Each stretch
    starts from the samples of the one before, so that its phases go on over the seam, and is cross-faded with what that
    one had foreseen. Of MFCC the slopes are left out: a trajectory made to fit them (Tokuda et al. 2000) was less
    intelligible than the plain cepstra.

    extractor: what made the features.
    smooth: whether frames are steps through a codebook; weights 1/4, 1/2, 1/4 over time then make up for the steps.
    iterations: of Griffin-Lim; twice as many raise STOI by .001.
    seconds: length of a stretch; 10 s take some 50 MB.
    """

    def __init__(
        self, extractor: LogMel | MFCC, *, smooth: bool = False, iterations: int = 32, seconds: float = 10.0
    ) -> None:
        if iterations < 0 or not seconds > 0:
            raise InputError(f"expected iterations >= 0 and seconds > 0, got {iterations} and {seconds}")
        self.extractor = extractor
        self.mel = extractor.mel if isinstance(extractor, MFCC) else extractor
        self.smooth = smooth
        self.iterations = iterations
        self.filters = self.mel.filters.float()
        self.stft = Stft(self.mel.taper, max(1, self.mel.window_length // 4))
        self.stretch = max(1, round(seconds * extractor.sample_rate / extractor.hop_length))
        # four windows: beyond, the edge of a stretch is no longer felt
        self.margin = -(-4 * self.mel.window_length // extractor.hop_length)

    @property
    def sample_rate(self) -> int:
        """Hz of the audio, which is the features'."""
        return self.extractor.sample_rate

    def invert(self, features: Features, samples: Tensor) -> Audio:
        """Audio [B, 1, N] with lengths `samples` [B]. InputError if those do not make as many frames as there are."""
        waves = []
        for index, count in enumerate(samples.tolist()):
            frames = features.utterance(index)[0]
            waves.append(_join(self.blocks(frames.__getitem__, len(frames), count)))
        return Audio.of(waves, self.sample_rate)

    def blocks(self, frames: FrameLookup, num_frames: int, samples: int) -> Iterator[Tensor]:
        """Blocks [n] of the waveform of one utterance; together they have exactly `samples` samples.

        InputError if so many samples do not make `num_frames` frames.
        """
        hop = self.extractor.hop_length
        if num_frames != -(-samples // hop):
            raise InputError(f"{samples} samples make {-(-samples // hop)} frames, not {num_frames}")
        past, fade = self.margin * hop, self.mel.window_length
        known = torch.zeros(0)
        for first in range(0, num_frames, self.stretch):
            wave = self._stretch(frames, first, num_frames, known)
            if len(known):
                wave[past : past + fade] = torch.lerp(
                    known[past:], wave[past : past + fade], torch.linspace(0, 1, fade)
                )
            stop = min(self.stretch * hop, samples - first * hop)
            known = wave[stop : past + stop + fade].clone()
            yield wave[past : past + stop]

    def _stretch(self, frames: FrameLookup, first: int, num_frames: int, known: Tensor) -> Tensor:
        """Samples from `margin` frames before frame `first` to as many after the stretch; the first may be known."""
        stop = min(first + self.stretch, num_frames) + self.margin
        # one frame more on either side to smooth with; the ends of the utterance are repeated beyond it
        indices = torch.arange(first - self.margin - 1, stop + 1).clamp(0, num_frames - 1)
        mel = _interpolated(self._log_mel(frames(indices)), self.extractor.hop_length, self.stft.hop_length).exp()
        # the floor of the features is no sound
        power = mel_to_power((mel - self.mel.floor).clamp_min(1e-6 * self.mel.floor), self.filters)
        lead = (self.mel.window_length - self.stft.hop_length) // 2
        wave = griffin_lim(power.sqrt() * self.mel.taper.sum(), self.stft, self.iterations, known, lead)
        return wave[lead : lead + (len(indices) - 2) * self.extractor.hop_length]

    def _log_mel(self, frames: Tensor) -> Tensor:
        """Log-mel bands [n - 2, num_bands] of frames [n, dim], on the CPU."""
        frames = frames.float().cpu()
        frames = 0.25 * frames[:-2] + 0.5 * frames[1:-1] + 0.25 * frames[2:] if self.smooth else frames[1:-1]
        if isinstance(self.extractor, MFCC):
            return frames[:, : self.extractor.num_coefficients] @ self.extractor.dct.float().T
        return frames


class UnitInverter:
    """The weight-free vocoder of units of spectral features: what the quantizer decodes is inverted.

    Frames out of codebooks are steps and are smoothed over time, be it one codebook or several (STOI of residual
    k-means, 4 x 256: .894, smoothed .899). Bins of single bands as in dMel are fine enough as they are (STOI on the
    bundled speech: .92, smoothed .85).

    extractor, quantizer: what made the tokens.
    spec: the contract of the tokens it takes. InputError if the three do not fit one another.
    iterations: see `SpectralInverter`.
    """

    channels = 1

    def __init__(
        self, extractor: LogMel | MFCC, quantizer: Quantizer, spec: TokenSpec, *, iterations: int = 32
    ) -> None:
        ours = (extractor.sample_rate, extractor.hop_length, extractor.dim, spec.num_codebooks)
        theirs = (spec.sample_rate, spec.hop_length, quantizer.dim, len(quantizer.codebook_sizes))
        if ours != theirs:
            raise InputError("expected an extractor, a quantizer and a spec of one tokenizer, got parts of several")
        self.quantizer = quantizer
        self.spec = spec
        self.inverter = SpectralInverter(extractor, smooth=not isinstance(quantizer, ScalarBins), iterations=iterations)

    @property
    def sample_rate(self) -> int:
        """Hz of the audio, which is the tokens'."""
        return self.spec.sample_rate

    @property
    def fingerprint(self) -> str:
        """The tokenizer's, whose codebooks are all that was learnt, and the effort."""
        return f"{self.spec.source}/inverted-{self.inverter.iterations}"

    def decode(self, tokens: Tokens) -> Audio:
        """Audio [B, 1, N] with lengths `tokens.samples`.

        SpecError for tokens that `require` refuses.
        """
        self.require(tokens.spec)
        counts = tokens.samples.tolist()
        waves = [_join(self.decode_blocks(tokens.utterance(index), count)) for index, count in enumerate(counts)]
        return Audio.of(waves, self.sample_rate)

    def require(self, spec: TokenSpec) -> None:
        """SpecError unless tokens of this spec are the tokenizer's, with all its codebooks in their order.

        Of codebooks that refine one another, the first ones are enough.
        """
        self.spec.require(spec)
        first = self.spec.codebooks[: spec.num_codebooks]
        if spec.codebooks != (first if decodes_prefixes(self.quantizer) else self.spec.codebooks):
            came = ", ".join(spec.labels)
            raise SpecError(f"expected all {self.spec.num_codebooks} codebooks in their order, got {came}")

    def decode_blocks(self, codes: Tensor, samples: int, spec: TokenSpec | None = None) -> Iterator[Tensor]:
        """Blocks [n] of the waveform of codes [K, T], some seconds at a time; together they are what `decode` gives.

        spec: what the codes are; without one they are the tokenizer's. SpecError for codes that `require` refuses.
        """
        self.require(spec or self.spec)
        return self.inverter.blocks(lambda at: self.quantizer.decode(codes[:, at].T), codes.shape[1], samples)


def _join(blocks: Iterator[Tensor]) -> Tensor:
    return torch.cat([torch.zeros(0), *blocks])


def _interpolated(frames: Tensor, hop_length: int, finer: int) -> Tensor:
    """Frames centred on the middle of each hop, interpolated to the middles of finer hops over the same samples."""
    count = -(-len(frames) * hop_length // finer)
    place = ((torch.arange(count) + 0.5) * (finer / hop_length) - 0.5).clamp(0, len(frames) - 1)
    before = place.long()
    return torch.lerp(frames[before], frames[(before + 1).clamp_max(len(frames) - 1)], (place - before)[:, None])
