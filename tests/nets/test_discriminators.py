"""Discriminators: what they see, the shapes they give, and that they can be trained."""

from __future__ import annotations

import pytest
import torch

from vocable.nets.discriminators import (
    Discriminators,
    PeriodDiscriminator,
    Size,
    SpectrumDiscriminator,
    build_discriminators,
)
from vocable.nets.losses import adversarial_loss, discriminator_loss


def test_a_period_discriminator_has_a_score_for_each_place_in_the_period() -> None:
    network = PeriodDiscriminator(3, (4, 8, 8))
    verdict = network(torch.randn(2, 1000))  # 334 rows, then 112, 38, 38
    assert [tuple(each.shape) for each in verdict.maps] == [(2, 4, 112, 3), (2, 8, 38, 3), (2, 8, 38, 3)]
    assert verdict.score.shape == (2, 1, 38, 3)


def test_a_period_discriminator_sees_columns_apart() -> None:
    network = PeriodDiscriminator(5, (4, 8))
    wave = torch.randn(1, 500)
    other = wave.clone()
    other[:, 2::5] = 0
    changed = (network(wave).score - network(other).score).abs().amax((0, 1, 2)) > 0
    assert changed.tolist() == [False, False, True, False, False]


def test_a_spectrum_discriminator_has_convolutions_for_each_band() -> None:
    network = SpectrumDiscriminator(256, 4, (2, 2))
    verdict = network(torch.randn(2, 640))
    assert network.widths == [13, 19, 32, 33, 32]
    assert sum(network.widths) == 129
    assert [each.shape[3] for each in verdict.maps] == [7, 4, 4, 10, 5, 5, 16, 8, 8, 17, 9, 9, 16, 8, 8]
    assert verdict.score.shape == (2, 1, 11, 34)


@pytest.mark.parametrize("size", ["small", "full"])
def test_sizes(size: Size) -> None:
    torch.manual_seed(0)
    network = build_discriminators(size)
    assert sum(weight.numel() for weight in network.parameters()) == {"small": 45_428, "full": 42_519_760}[size]
    wave = 0.1 * torch.randn(1, 1600)
    with torch.no_grad():
        verdicts = network(wave)
        raised = network(3 * wave + 0.5)
    assert len(verdicts) == {"small": 2, "full": 8}[size]
    for verdict, again in zip(verdicts, raised, strict=True):  # neither level nor offset matters
        torch.testing.assert_close(verdict.score, again.score, atol=1e-4, rtol=1e-3)


def test_silence_is_not_raised_without_bound() -> None:
    network = build_discriminators("small")
    wave = torch.zeros(1, 1600).requires_grad_()
    (gradient,) = torch.autograd.grad(sum(verdict.score.sum() for verdict in network(wave)), wave)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("size", ["small", "full"])
def test_every_weight_gets_a_gradient(size: Size) -> None:
    torch.manual_seed(0)
    network = build_discriminators(size)
    loss = adversarial_loss(network(torch.randn(1, 600)))
    for gradient in torch.autograd.grad(loss, list(network.parameters())):
        assert bool(gradient.isfinite().all())
        assert bool(gradient.any())


def test_they_learn_to_tell_noise_from_tone() -> None:
    torch.manual_seed(0)
    network = Discriminators([PeriodDiscriminator(3, (4, 8)), SpectrumDiscriminator(256, 8, (4, 2))])
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    tone = torch.sin(0.3 * torch.arange(800))[None]
    losses = []
    for _ in range(20):
        loss = discriminator_loss(network(tone), network(torch.randn(1, 800)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(2.0, abs=0.3)
    assert losses[-1] < 0.5 * losses[0]
