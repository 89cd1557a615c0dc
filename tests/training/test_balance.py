"""Gradients at the waveform keep the ratio of their weights, and lengths have a limit."""

from __future__ import annotations

import pytest
import torch

from vocable.distributed import Processes
from vocable.training.balance import Balancer, LengthLimit


def test_each_loss_has_the_share_that_its_weight_says() -> None:
    """Two losses that touch different samples: their parts of the gradient are 3 to 1 in length, whatever the scale."""
    balancer = Balancer({"loud": 3.0, "quiet": 1.0}, Processes())
    torch.manual_seed(0)
    for _ in range(3):
        at = torch.randn(2, 8).requires_grad_()
        losses = {"loud": 1e6 * at[:, :4].sum(), "quiet": 1e-6 * at[:, 4:].sum()}
        gradient = balancer.gradient(losses, at)
        lengths = torch.stack([gradient[:, :4].norm(dim=1).mean(), gradient[:, 4:].norm(dim=1).mean()])
        torch.testing.assert_close(lengths, torch.tensor([0.75, 0.25]))


def test_lengths_are_measured_against_their_running_average() -> None:
    balancer = Balancer({"only": 5.0}, Processes())
    at = torch.zeros(1, 1).requires_grad_()
    found = [float(balancer.gradient({"only": scale * at.sum()}, at)) for scale in (1.0, 3.0)]
    assert found[0] == pytest.approx(1.0)
    assert found[1] == pytest.approx(3 / ((0.999 * 1 + 3) / 1.999))


def test_averages_can_be_gone_on_from() -> None:
    first, second = Balancer({"only": 1.0}, Processes()), Balancer({"only": 1.0}, Processes())
    at = torch.zeros(1, 1).requires_grad_()
    first.gradient({"only": 2 * at.sum()}, at)
    second.restore(first.state(), torch.device("cpu"))
    assert torch.equal(second.gradient({"only": at.sum()}, at), first.gradient({"only": at.sum()}, at))


def test_a_loss_of_weight_zero_and_one_without_gradient_do_nothing() -> None:
    balancer = Balancer({"off": 0.0, "flat": 1.0, "on": 1.0}, Processes())
    at = torch.ones(1, 2).requires_grad_()
    gradient = balancer.gradient({"off": at.sum() * 9, "flat": (at * 0).sum(), "on": at[:, 0].sum()}, at)
    assert gradient.tolist() == [[0.5, 0.0]]


def test_a_length_far_beyond_the_average_is_limited() -> None:
    limit = LengthLimit(2.0)
    assert [limit.next(1.0) for _ in range(3)] == [1.0, pytest.approx(2.0), pytest.approx(2.0)]
    assert limit.next(1000.0) == pytest.approx(2.0)
    assert limit.next(1.0) < 2.7  # the outlier counted as 2 only
