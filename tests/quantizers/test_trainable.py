"""Trained quantizers: frozen they give the library's codes, the same in any company; training can be interrupted."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers import judge, quantizer_config, quantizer_from, quantizer_tensors
from vocable.quantizers.trainable import Design, masked_channels, wav2vec2_gumbel, wide_codebook
from vocable.quantizers.trained import TrainedQuantizer
from vocable.quantizers.trainer import Check, Schedule, Trainer
from vocable.testing import check_quantizer
from vocable.types import Quantizer

SCHEDULE = Schedule(steps=20, batch=64, check_every=10, learning_rate=5e-3)
DESIGNS = [
    Design("vq", size=16),
    Design("rvq", size=8, num_codebooks=3),
    Design("grouped-rvq", size=8, num_codebooks=4, groups=2),
    Design("masked-rvq", size=8, num_codebooks=3, masked=2),
    Design("simvq", size=16),
    Design("fsq", levels=(5, 4, 3)),
    Design("residual-fsq", levels=(4, 3, 2), num_codebooks=3),
    Design("lfq", size=16, num_codebooks=2),
    Design("gumbel", size=8, num_codebooks=2),
]
each_design = pytest.mark.parametrize("design", DESIGNS, ids=lambda design: f"{design.kind}{design.num_codebooks}")


@cache
def points() -> Tensor:
    """Noisy points on a curved sheet in 12 dimensions, far from the origin."""
    generator = torch.Generator().manual_seed(0)
    sheet = torch.randn(800, 3, generator=generator)
    mixed = torch.cat([sheet, sheet.square(), sheet.roll(1, 1) * sheet], dim=1) @ torch.randn(
        9, 12, generator=generator
    )
    return 10 * mixed + torch.randn(800, 12, generator=generator) + 50


@cache
def trained(design: Design) -> Trainer:
    trainer = Trainer(points(), design, SCHEDULE)
    trainer.run()
    return trainer


@cache
def frozen(design: Design) -> TrainedQuantizer:
    return trained(design).result()


def held_out() -> Tensor:
    """The frames that a trainer with the seed 0 does not see."""
    return points()[torch.randperm(800, generator=torch.Generator().manual_seed(0))[:40]]


@each_design
def test_codes_are_functions_of_the_vector(design: Design) -> None:
    assert isinstance(frozen(design), Quantizer)
    check_quantizer(frozen(design))
    rows = points()[:300]
    codes = frozen(design).encode(rows)
    assert torch.equal(frozen(design).encode(rows.flip(0)).flip(0), codes)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(frozen(design).encode(rows), codes)
    finally:
        torch.set_num_threads(before)


@each_design
def test_frozen_codes_are_those_of_the_network(design: Design) -> None:
    model = design.build(12, batch=SCHEDULE.batch)
    tensors, _ = trained(design).state()
    model.load_state_dict({name.removeprefix("best."): t for name, t in tensors.items() if name.startswith("best.")})
    with torch.no_grad():
        found = model.eval()(points())
    codes = frozen(design).encode(points())
    assert (codes == found.codes).float().mean().item() >= 0.999
    error = (frozen(design).decode(found.codes) - points()).square().mean() / model.coder.scale.square()
    assert float(error) == pytest.approx(float(found.error), rel=1e-3)


@each_design
def test_training_helps_and_the_best_is_kept(design: Design) -> None:
    curve = [check.objective for check in trained(design).curve]
    judged = judge(frozen(design), held_out())
    assert judged.distortion[-1] == pytest.approx(min(curve), rel=2e-3)
    assert judged.distortion[-1] < 0.8 * judged.variance
    assert [check.step for check in trained(design).curve] == [0, 10, 20]
    if design.kind in {"fsq", "residual-fsq", "lfq"}:  # the others begin as k-means
        assert min(curve) < 0.98 * curve[0]


@each_design
def test_what_is_frozen_learns_no_more(design: Design) -> None:
    model = design.build(12, batch=SCHEDULE.batch)
    model.begin(points())
    quantizer = model.eval().freeze()
    before = {name: tensor.clone() for name, tensor in quantizer_tensors(quantizer, "codebooks.L6").items()}
    codes = quantizer.encode(points())
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(1)
    after = quantizer_tensors(quantizer, "codebooks.L6")
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert torch.equal(quantizer.encode(points()), codes)


@each_design
def test_saved_and_read_again(design: Design) -> None:
    quantizer = frozen(design)
    config = json.loads(json.dumps(quantizer_config(quantizer)))
    again = quantizer_from(config, quantizer_tensors(quantizer, "codebooks.L6"), "codebooks.L6")
    codes = quantizer.encode(points())
    assert torch.equal(again.encode(points()), codes)
    assert torch.equal(again.decode(codes), quantizer.decode(codes))
    assert quantizer_config(again) == config


@pytest.mark.parametrize("design", [DESIGNS[1], DESIGNS[2], DESIGNS[3], DESIGNS[6]], ids=lambda design: design.kind)
def test_error_falls_with_depth(design: Design) -> None:
    errors = judge(frozen(design), points()).distortion
    assert len(errors) == design.num_codebooks
    assert list(errors) == sorted(errors, reverse=True)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("design", [DESIGNS[1], DESIGNS[8]], ids=lambda design: design.kind)
def test_an_interrupted_training_ends_as_if_it_had_not_been(design: Design) -> None:
    def stop(check: Check) -> None:
        if check.step == 10:
            raise Interrupted

    broken = Trainer(points(), design, SCHEDULE)
    with pytest.raises(Interrupted):
        broken.run(stop)
    tensors, values = broken.state()
    resumed = Trainer(points(), design, SCHEDULE)
    resumed.restore(tensors, json.loads(json.dumps(values)))
    resumed.run()
    assert resumed.curve == trained(design).curve
    expected, found = trained(design).state()[0], resumed.state()[0]
    assert set(expected) == set(found)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_seed_decides_everything_and_the_caller_keeps_its_randomness() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    for seed, same in ((0, True), (1, False)):
        torch.manual_seed(7)
        trainer = Trainer(points(), DESIGNS[8], replace(SCHEDULE, seed=seed))
        trainer.run()
        assert torch.equal(torch.rand(3), expected)
        assert (trainer.curve == trained(DESIGNS[8]).curve) is same


def test_it_stops_when_nothing_is_gained() -> None:
    schedule = Schedule(steps=500, batch=16, learning_rate=1e-12, check_every=1, patience=3)
    trainer = Trainer(points(), Design("fsq", levels=(3, 3)), schedule)
    trainer.run()
    assert [check.step for check in trainer.curve] == [0, 1, 2, 3]
    assert trainer.best == 0


def test_the_rate_rises_and_falls() -> None:
    schedule = Schedule(steps=1000, learning_rate=1e-3)
    rates = [schedule.rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-5)
    assert max(rates) == pytest.approx(rates[99]) == pytest.approx(1e-3, rel=0.05)
    assert rates[-1] < 1e-7


def test_masked_codebooks_share_the_channels() -> None:
    books = frozen(DESIGNS[3]).codes.books
    assert not books[0].centroids[:, 6:].any()
    assert not books[1].centroids[:, :6].any()
    assert bool(books[2].centroids.all())


def test_presets() -> None:
    assert wide_codebook().build(80, batch=8).bottleneck.freeze().codebook_sizes == (4096,)
    assert masked_channels(size=16).build(80, batch=8).bottleneck.freeze().codebook_sizes == (16,) * 4
    assert wav2vec2_gumbel().build(80, batch=8).bottleneck.freeze().codebook_sizes == (320, 320)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "nothing"}, "expected one of vq"),
        ({"kind": "vq", "latent": 13}, "1 to 12 latent"),
        ({"kind": "grouped-rvq", "groups": 5, "num_codebooks": 4}, "5 groups divide"),
        ({"kind": "masked-rvq", "masked": 3, "num_codebooks": 3}, "fewer than 3 masked"),
        ({"kind": "fsq", "levels": (2, 3)}, "levels from 3"),
        ({"kind": "fsq", "levels": (3,) * 13}, "1 to 12 latent"),
        ({"kind": "lfq", "size": 10}, "power of two"),
        ({"kind": "rvq", "num_codebooks": 0}, "0"),
        ({"kind": "gumbel", "latent": 5, "num_codebooks": 2}, "2 groups divide"),
    ],
)
def test_designs_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Design(**settings).build(12, batch=8)


def test_points_that_do_not_fit_are_refused() -> None:
    few, strange = points()[:10], points().clone()
    strange[5] = torch.nan
    for bad, message in (
        (few[:1], "two points"),
        (few, "at least as many points as clusters"),
        (torch.ones(100, 12), "finite and differ"),
        (strange, "finite points"),
    ):
        with pytest.raises(InputError, match=message):
            Trainer(bad, DESIGNS[0], SCHEDULE).run()
    with pytest.raises(InputError, match="positive"):
        Schedule(steps=0)
    with pytest.raises(InputError, match="diverged"):
        Trainer(points(), DESIGNS[5], Schedule(steps=20, batch=32, learning_rate=1e30)).run()
