"""The network of masked prediction: what it does not see, what counts, its attention, its warped voices."""

from __future__ import annotations

import math

import pytest
import torch

from vocable.nets.foreign_attention import RelativeKeyAttention, distances
from vocable.nets.foreign_features import KaldiMel
from vocable.nets.masked_prediction import MaskedPrediction, standardized
from vocable.nets.skewed_attention import SkewedAttention
from vocable.nets.vocal_tract import warped
from vocable.training.encoder import EncoderDesign

DESIGN = EncoderDesign(16, 2, 24, 0.1)


def network(sizes: tuple[int, ...] = (16, 8)) -> MaskedPrediction:
    torch.manual_seed(0)
    return MaskedPrediction(DESIGN.values(), sizes)


@torch.no_grad()
def test_hidden_frames_are_not_seen() -> None:
    net = network().eval()
    mel, masked = torch.randn(1, 40, 80), torch.zeros(1, 20, dtype=torch.bool)
    masked[0, 5:15] = True
    other = mel.clone()
    other[0, 10:30] = torch.randn(20, 80)
    assert torch.equal(net._frames(mel, masked), net._frames(other, masked))
    assert not torch.equal(net._frames(mel, ~masked), net._frames(other, ~masked))


@torch.no_grad()
def test_only_real_frames_count() -> None:
    net = network((5,)).eval()
    codes = torch.randint(5, (2, 12, 1))
    masked = torch.rand(2, 12) < 0.5
    mel = standardized(torch.randn(2, 24, 80), torch.tensor([24, 16]))
    codes[1, 8:] = -1
    both = net(mel, codes, masked)
    logits = net.heads[0](net._frames(mel, masked))
    real = codes[..., 0] >= 0
    for loss, accuracy, where in (
        (both.loss, both.accuracy, masked & real),
        (both.seen_loss, both.seen_accuracy, ~masked & real),
    ):
        assert float(loss) == pytest.approx(
            float(torch.nn.functional.cross_entropy(logits[where], codes[where][:, 0])), abs=1e-5
        )
        assert float(accuracy) == pytest.approx(float((logits[where].argmax(-1) == codes[where][:, 0]).float().mean()))


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 7, 40])
def test_attention_in_training_is_that_of_the_encoder(frames: int) -> None:
    import transformers
    from transformers.models.wav2vec2_bert import modeling_wav2vec2_bert as modeling

    config = transformers.Wav2Vec2BertConfig(
        hidden_size=16, num_attention_heads=4, left_max_position_embeddings=4, right_max_position_embeddings=5
    )
    plain = RelativeKeyAttention(modeling.Wav2Vec2BertSelfAttention(config))
    skewed = SkewedAttention(plain, left=4)
    hidden, places = torch.randn(2, frames, 16), distances(frames, 4, 5, torch.device("cpu"))
    got, due = (attention(hidden, None, places)[0] for attention in (skewed, plain))
    assert torch.allclose(got, due, atol=1e-5)


def test_warping_moves_a_tone_by_its_factor() -> None:
    """Log-mel spectra of a tone at f, warped by 1.15, are those of a tone at 1.15 f; near 8 kHz nothing leaves."""

    def peak(hertz: float, factor: float) -> float:
        wave = torch.sin(2 * math.pi * hertz * torch.arange(8000) / 16000)[None] + 1e-3 * torch.randn(1, 8000)
        # centroid of what stands out, in bands; normalised features would hide a constant tone
        mel = warped(_log_mel(wave), torch.tensor([factor]))[0].mean(0)
        weights = (mel - mel.max() + 3).clamp_min(0)
        return float((weights * torch.arange(80)).sum() / weights.sum())

    torch.manual_seed(0)
    for hertz in (500.0, 1500.0, 3000.0):
        for factor in (0.87, 1.15):
            assert peak(hertz, factor) == pytest.approx(peak(hertz * factor, 1.0), abs=0.6)
    assert peak(7600.0, 1.2) < 79.5
    mel = torch.randn(2, 6, 80)
    assert torch.allclose(warped(mel, torch.ones(2)), mel, atol=2e-3)


def _log_mel(wave: torch.Tensor) -> torch.Tensor:
    mel = KaldiMel(80, 16000)
    spectrum = torch.fft.rfft(wave.unfold(1, 400, 160).double() * mel.taper, 512).abs().square()
    return (spectrum @ mel.filters).clamp_min(1e-6).log().float()
