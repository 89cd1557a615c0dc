"""The laws that every component keeps, as functions to call from a test: the house's own components and anybody's.

Each check_* raises LawBrokenError, saying which law and where, and returns nothing if all is well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from vocable.clock import Windows, num_frames
from vocable.errors import VocableError
from vocable.metrics.reconstruction import Scores
from vocable.tokenizers.codec import NeuralCodec
from vocable.types import Audio, Codec, FeatureExtractor, Quantizer, Tokenizer, Tokens, Vocoder

_SECONDS = (0.0001, 0.013, 0.1, 0.31, 0.7, 1.01)


class LawBrokenError(VocableError, AssertionError):
    """A component does not keep a law."""


class SavedTokenizer(Tokenizer, Protocol):
    """A tokenizer that can be saved."""

    def save_pretrained(self, path: Path) -> None: ...


def noise(seconds: float, sample_rate: int, seed: int) -> Tensor:
    """Reproducible sound [N] whose colour and level wander, at least one sample."""
    generator = torch.Generator().manual_seed(seed)
    samples = max(1, round(seconds * sample_rate))
    white = torch.randn(samples, generator=generator)
    level = torch.sin(torch.arange(samples) * (3.0 + seed) / sample_rate).square()
    return 0.3 * white.cumsum(0).sub(white.cumsum(0).mean()).clamp(-2, 2) * level + 0.01 * white


def check_extractor(extractor: FeatureExtractor) -> None:
    """Laws 1 and 2 for features: the frame count, and the same bits alone and in any batch, whatever the padding."""
    longest = (extractor.longest or math.inf) * extractor.hop_length / extractor.sample_rate
    waves = [noise(min(seconds, longest), extractor.sample_rate, seed) for seed, seconds in enumerate(_SECONDS)]
    alone = [extractor.extract(Audio.of([wave], extractor.sample_rate)).utterance(0) for wave in waves]
    for wave, frames in zip(waves, alone, strict=True):
        due = num_frames(len(wave), extractor.hop_length, extractor.window)
        _law(1, list(frames.shape) == [len(extractor.layers), due, extractor.dim], f"shape {list(frames.shape)}")
        _law(1, bool(torch.isfinite(frames).all()), "features are not finite")
    for order in _orders(len(waves)):
        batch = extractor.extract(_with_garbage([waves[i] for i in order], extractor.sample_rate))
        for row, index in enumerate(order):
            _law(2, torch.equal(batch.utterance(row), alone[index]), f"utterance {index} differs in batch {order}")


def check_exact_windows(extractor: FeatureExtractor) -> None:
    """For features that look at a bounded stretch of sound: windows with `context` give exactly the whole's frames."""
    wave = noise(1.37, extractor.sample_rate, 7)
    whole = extractor.extract(Audio.of([wave], extractor.sample_rate)).utterance(0)
    for size in (1, 7, 20):
        parts = []
        for window in Windows(size, extractor.context, extractor.hop_length, extractor.window).cut(len(wave)):
            piece = Audio.of([wave[window.start : window.stop]], extractor.sample_rate)
            parts.append(extractor.extract(piece).utterance(0)[:, window.skip : window.skip + window.frames])
        _law(3, torch.equal(torch.cat(parts, dim=1), whole), f"windows of {size} frames differ from the whole")


def check_quantizer(quantizer: Quantizer) -> None:
    """Codes in range, and the same for a vector whatever stands beside it; decoded vectors are finite."""
    vectors = torch.randn(257, quantizer.dim, generator=torch.Generator().manual_seed(0))
    codes = quantizer.encode(vectors)
    _law(1, codes.shape == (257, len(quantizer.codebook_sizes)), f"codes have shape {list(codes.shape)}")
    for column, size in zip(codes.T, quantizer.codebook_sizes, strict=True):
        _law(1, int(column.min()) >= 0 and int(column.max()) < size, "codes leave their range")
    for size in (1, 3, 64):
        parts = torch.cat([quantizer.encode(part) for part in vectors.split(size)])
        _law(2, torch.equal(parts, codes), f"codes differ in chunks of {size}")
    decoded = quantizer.decode(codes)
    _law(1, decoded.shape == vectors.shape and bool(decoded.isfinite().all()), f"decoded to {list(decoded.shape)}")


def check_fixed_points(quantizer: Quantizer) -> None:
    """For quantizers that give each vector its nearest entry: what was decoded once is decoded again to itself.

    Greedy residual codes do not have this property: a sum of entries may have a nearer first entry than its own.
    """
    vectors = torch.randn(257, quantizer.dim, generator=torch.Generator().manual_seed(0))
    decoded = quantizer.decode(quantizer.encode(vectors))
    _law(1, torch.equal(quantizer.decode(quantizer.encode(decoded)), decoded), "decode, encode, decode is not decode")


def check_tokenizer(tokenizer: Tokenizer) -> None:
    """Laws 1 and 2 for tokens, from audio of several rates and channels."""
    spec = tokenizer.spec
    waves = [noise(seconds, spec.sample_rate, seed) for seed, seconds in enumerate(_SECONDS)]
    alone = [tokenizer.encode(Audio.of([wave], spec.sample_rate)) for wave in waves]
    for wave, tokens in zip(waves, alone, strict=True):
        _law(1, tokens.spec == spec, "tokens carry another spec than the tokenizer's")
        _law(1, tokens.samples.tolist() == [len(wave)], f"{len(wave)} samples became {tokens.samples.tolist()}")
        _law(1, tokens.lengths.tolist() == [spec.num_frames(len(wave))], f"{tokens.lengths.tolist()} frames")
        for row, book in zip(tokens.utterance(0), spec.codebooks, strict=True):
            _law(1, int(row.min()) >= 0 and int(row.max()) < book.size, f"codes leave the range of {book.label}")
    for order in _orders(len(waves)):
        batch = tokenizer.encode(_with_garbage([waves[i] for i in order], spec.sample_rate))
        for row, index in enumerate(order):
            _law(2, torch.equal(batch.utterance(row), alone[index].utterance(0)), f"utterance {index} in batch {order}")
    stereo = torch.stack([waves[-1], waves[-1]])
    both = tokenizer.encode(Audio.of([stereo], spec.sample_rate)).utterance(0)
    _law(2, torch.equal(both, alone[-1].utterance(0)), "two equal channels are not one")
    other = tokenizer.encode(Audio.of([waves[-1]], spec.sample_rate // 2))
    _law(1, other.samples.tolist() == [2 * len(waves[-1])], "audio of half the rate is not twice as long")


def check_long_audio(tokenizer: Tokenizer, windows: Windows) -> None:
    """Law 3: tokens of a recording of several windows are those of its windows, each taken alone."""
    spec = tokenizer.spec
    wave = noise(2.6 * windows.frames * spec.hop_length / spec.sample_rate, spec.sample_rate, 3)
    whole = tokenizer.encode(Audio.of([wave], spec.sample_rate)).utterance(0)
    _law(1, whole.shape[1] == spec.num_frames(len(wave)), f"{whole.shape[1]} frames of {len(wave)} samples")
    parts = []
    for window in windows.cut(len(wave)):
        piece = tokenizer.encode(Audio.of([wave[window.start : window.stop]], spec.sample_rate)).utterance(0)
        parts.append(piece[:, window.skip : window.skip + window.frames])
    _law(3, torch.equal(torch.cat(parts, dim=1), whole), "the whole differs from its windows")


def check_saving(tokenizer: SavedTokenizer, load: Callable[[Path], Tokenizer], folder: Path) -> None:
    """Law 5: saved and loaded again, in a folder that does not exist yet, it gives the same codes and fingerprint."""
    tokenizer.save_pretrained(folder)
    again = load(folder)
    _law(5, again.spec == tokenizer.spec, "the fingerprint or the spec changed")
    audio = Audio.of([noise(1.0, tokenizer.spec.sample_rate, 5)], tokenizer.spec.sample_rate)
    _law(5, torch.equal(again.encode(audio).codes, tokenizer.encode(audio).codes), "the codes changed")


def check_vocoder(vocoder: Vocoder, tokens: Tokens) -> None:
    """Law 6, and law 2 on the way back: exact lengths, the same samples alone and in the batch, strangers refused."""
    audio = vocoder.decode(tokens)
    _law(6, audio.lengths.tolist() == tokens.samples.tolist(), f"{audio.lengths.tolist()} samples")
    _law(6, bool(torch.isfinite(audio.samples).all()), "samples are not finite")
    for index in range(len(tokens)):
        one = Tokens.of([tokens.utterance(index)], tokens.spec, [int(tokens.samples[index])])
        _law(2, torch.equal(vocoder.decode(one).waveform(0), audio.waveform(index)), f"utterance {index} differs alone")


def check_codec(codec: Codec) -> None:
    """The laws of tokenizers and of vocoders; and fewer codebooks, the coarsest first, are sound of the same length."""
    check_tokenizer(codec)
    waves = [noise(seconds, codec.spec.sample_rate, seed) for seed, seconds in enumerate(_SECONDS)]
    tokens = codec.encode(Audio.of(waves, codec.spec.sample_rate))
    check_vocoder(codec, tokens)
    for count in {1, (tokens.spec.num_codebooks + 1) // 2}:
        coarse = codec.decode(tokens.take(range(count)))
        _law(6, coarse.lengths.tolist() == tokens.samples.tolist(), f"{count} codebooks make another length")
        _law(6, bool(torch.isfinite(coarse.samples).all()), f"samples of {count} codebooks are not finite")


def check_stream(codec: NeuralCodec) -> None:
    """Law 4: fed in chunks of any size, a causal codec gives the codes of the whole, and its samples up to rounding."""
    wave = noise(1.3, codec.sample_rate, 9).expand(codec.channels, -1)
    whole = codec.encode(Audio.of([wave], codec.sample_rate))
    expected = codec.decode(whole).waveform(0)
    for size in (codec.spec.hop_length - 7, 3 * codec.spec.hop_length + 11, wave.shape[-1]):
        with codec.streaming() as stream:
            codes = torch.cat([*(stream.encode(chunk) for chunk in wave.split(size, dim=1)), stream.finish()], dim=1)
            _law(4, torch.equal(codes, whole.utterance(0)), f"codes differ in chunks of {size} samples")
            parts = [*(stream.decode(part) for part in codes.split(3, dim=1)), stream.finish_decoding()]
        sound = torch.cat(parts, dim=1)[:, : wave.shape[-1]]
        distance = float((sound - expected).abs().max() / expected.abs().max())
        _law(4, distance < 1e-5, f"sound differs by {distance:.1e} of its peak in chunks of {size} samples")


def check_metric(metric: Callable[[Audio, Audio], Scores], *, higher_is_better: bool) -> None:
    """Law 8: best on identical input, worse with noise, and what cannot be scored is counted, not averaged in."""
    wave = noise(2.0, 16000, 11)
    clean, noisy = Audio.of([wave], 16000), Audio.of([wave + 0.3 * noise(2.0, 16000, 12)], 16000)
    best, worse = metric(clean, clean).mean, metric(clean, noisy).mean
    _law(8, best > worse if higher_is_better else best < worse, f"identical {best}, noisy {worse}")
    silence = torch.zeros(32000)
    mixed = metric(Audio.of([wave, silence], 16000), Audio.of([wave, silence], 16000))
    failed_is_out = mixed.failed == 0 or mixed.mean == best
    _law(8, mixed.count + mixed.failed == 2 and failed_is_out, "a failed item is averaged in, or not counted")


def _with_garbage(waves: list[Tensor], sample_rate: int) -> Audio:
    """A batch whose padding holds what it should not."""
    batch = Audio.of(waves, sample_rate)
    samples = batch.samples.clone()
    for row, length in zip(samples, batch.lengths.tolist(), strict=True):
        row[:, length:] = 17.0
    return Audio(samples, batch.lengths, sample_rate)


def _orders(count: int) -> list[list[int]]:
    everything = list(range(count))
    return [everything, everything[::-1], everything[1:3] * 2, [count - 1]]


def _law(number: int, holds: bool, what: str) -> None:
    if not holds:
        raise LawBrokenError(f"law {number} is broken: {what}")
