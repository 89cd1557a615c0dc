"""The trainer: it learns, it goes on exactly where it was stopped, and it stops where numbers are not finite."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.processes import run_processes
from tests.training.tones import Tones
from vocable.errors import ArtifactError, InputError
from vocable.training.adversarial import AdversarialTrainer, Batch, Rendition
from vocable.training.averages import WeightAverage
from vocable.training.checkpoints import Checkpoint, unbroken
from vocable.training.regime import Regime, Weights
from vocable.training.reports import Report

SHORT = Regime(steps=6, discriminators="none", report_every=1, check_every=2, warm_up=2)
FULL = replace(SHORT, discriminators="small", adversarial_from=0.3)


def _train(
    regime: Regime, checkpoint: Checkpoint | None = None, task: Tones | None = None
) -> tuple[list[Report], dict[str, Tensor]]:
    reports: list[Report] = []
    trainer = AdversarialTrainer(task or Tones(), regime)
    trainer.run(reports.append, checkpoint)
    return reports, trainer.weights()


def test_losses_fall_and_validations_are_told() -> None:
    reports, weights = _train(replace(SHORT, steps=40, learning_rate=5e-2, ema=0.9, report_every=10, check_every=20))
    assert [report.step for report in reports] == [10, 20, 30, 40]
    assert [bool(report.figures) for report in reports] == [False, True, False, True]
    first, last = reports[0], reports[-1]
    assert last.losses.keys() == {"mel", "stft", "size"}
    assert last.losses["mel"] < 0.7 * first.losses["mel"]
    assert last.share == 1.0
    assert last.best is not None
    assert last.best.mel == min(report.figures["mel"] for report in reports if report.figures)
    assert all(0 < report.computing <= 1 and report.speed > 0 for report in reports)
    assert weights["seen"].sum() == 40 * 40


def test_discriminators_join_at_their_share_of_the_budget() -> None:
    reports, _ = _train(replace(FULL, steps=4, adversarial_from=0.5))
    parts = [report.losses.keys() - {"mel", "stft", "size"} for report in reports]
    assert parts == [set(), set(), *[{"adversarial", "features", "discriminator"}] * 2]


class _Killed(Exception):
    pass


def test_after_a_kill_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, expected = _train(FULL, Checkpoint(tmp_path / "whole", "tones", seconds=0))
    checkpoint = Checkpoint(tmp_path / "state", "tones", seconds=0)

    def kill(report: Report) -> None:
        if report.step == 4:  # what is on disk is the state after step 3
            raise _Killed

    with pytest.raises(_Killed):
        AdversarialTrainer(Tones(), FULL).run(kill, checkpoint)
    rest, weights = _train(FULL, checkpoint)
    assert [report.step for report in rest] == [4, 5, 6]
    assert [report.losses for report in rest] == [report.losses for report in whole[3:]]
    assert [report.figures for report in rest] == [report.figures for report in whole[3:]]
    assert rest[-1].best == whole[-1].best
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    ours, theirs = load_file(tmp_path / "state"), load_file(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_means_of_losses_survive_an_interruption(tmp_path: Path) -> None:
    rarely = replace(SHORT, report_every=6, check_every=6)
    (expected,), _ = _train(rarely)
    checkpoint = Checkpoint(tmp_path / "state", "tones", seconds=0)
    task = Tones()
    task.judge = lambda: (_ for _ in ()).throw(_Killed)  # type: ignore[method-assign]
    with pytest.raises(_Killed):
        AdversarialTrainer(task, rarely).run(lambda report: None, checkpoint)
    (report,), _ = _train(rarely, checkpoint)
    assert report.losses == expected.losses


def test_an_interrupt_within_a_step_leaves_the_state_after_it(tmp_path: Path) -> None:
    expected = _train(SHORT)[1]
    checkpoint = Checkpoint(tmp_path / "state", "tones")  # not due for ten minutes
    task = Tones()

    def render(batch: Batch) -> Rendition:
        if trainer.state()[1]["step"] == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        return Tones.render(task, batch)

    task.render = render  # type: ignore[method-assign]
    trainer = AdversarialTrainer(task, SHORT)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(lambda report: None, checkpoint)
    rest, weights = _train(SHORT, checkpoint)
    assert [report.step for report in rest] == [4, 5, 6]
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_interrupts_wait_for_what_must_not_be_broken() -> None:
    done = False
    with pytest.raises(KeyboardInterrupt), unbroken():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        done = True
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    other = threading.Thread(target=lambda: unbroken().__enter__())
    other.start()
    other.join()


def test_a_number_that_is_not_finite_stops_it(tmp_path: Path) -> None:
    expected = _train(SHORT)[1]
    checkpoint = Checkpoint(tmp_path / "state", "tones", seconds=0)
    broken = AdversarialTrainer(Tones(broken=4), SHORT)
    with pytest.raises(InputError, match="the training diverged at step 5: mel and stft") as caught:
        broken.run(lambda report: None, checkpoint)
    assert "last checkpoint" in caught.value.hint
    assert all(bool(tensor.isfinite().all()) for tensor in broken.weights().values())
    weights = _train(SHORT, checkpoint)[1]  # step 4 was the last good one
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_errors_of_loaders_are_heard() -> None:
    task = Tones()
    task.batch = lambda step, *, rank, world: 1 / 0  # type: ignore[method-assign, assignment]
    with pytest.raises(ZeroDivisionError):
        _train(SHORT, task=task)


def test_a_checkpoint_belongs_to_its_training(tmp_path: Path) -> None:
    path = tmp_path / "state"
    _train(replace(SHORT, steps=1), Checkpoint(path, "tones"))
    for owner, regime in (("noises", SHORT), ("tones", replace(SHORT, ema=0.5)), ("tones", replace(SHORT, seed=1))):
        with pytest.raises(InputError, match="another training"):
            _train(regime, Checkpoint(path, owner))
    longer, _ = _train(replace(SHORT, steps=2, learning_rate=1e-3), Checkpoint(path, "tones"))
    assert [report.step for report in longer] == [2]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="damaged"):
        _train(SHORT, Checkpoint(path, "tones"))


def test_minutes_are_a_budget() -> None:
    reports, _ = _train(replace(SHORT, steps=None, minutes=0.01))
    shares = [report.share for report in reports]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert reports[-1].minutes >= 0.01


def test_the_schedule_rises_and_falls() -> None:
    regime = Regime(steps=100, learning_rate=1.0, warm_up=4)
    assert [regime.rate(step, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert regime.rate(50, 0.5) == pytest.approx(0.5)
    assert regime.rate(100, 1.0) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": None},
        {"minutes": -1.0},
        {"learning_rate": float("nan")},
        {"ema": 1.0},
        {"discriminators": "huge"},
        {"precision": "fp8"},
    ],
)
def test_regimes_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        Regime(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected"):
        Weights(mel=0, stft=0)


def test_bfloat16_trains() -> None:
    reports, _ = _train(replace(FULL, steps=2, adversarial_from=0.0, precision="bf16"))
    assert all(math.isfinite(loss) for report in reports for loss in report.losses.values())


def test_weights_are_averaged_and_buffers_are_not() -> None:
    network = torch.nn.BatchNorm1d(1)
    average = WeightAverage(network, decay=0.5)
    for updates, value in enumerate((2.0, 3.0)):
        with torch.no_grad():
            network.weight.fill_(value)
            network.running_mean.fill_(value)
        average.update(updates)
    # 1 -> .1 * 1 + .9 * 2 = 1.9 -> 2/11 * 1.9 + 9/11 * 3 = 2.8
    with average.in_place() as averaged:
        assert averaged is network
        assert not network.training
        assert network.weight.tolist() == [pytest.approx(2.8)]
        assert network.running_mean.tolist() == [3.0]
    assert network.weight.tolist() == [3.0]
    assert network.training


CHILD = """
import sys, torch
from tests.training.tones import Tones
from vocable.artifacts import hash_tensors
from vocable.distributed import from_environment
from vocable.training.adversarial import AdversarialTrainer, Regime
with from_environment() as processes:
    torch.set_num_threads(1)
    task, reports = Tones(), []
    with torch.no_grad():
        task.network.head.weight += processes.rank  # they begin with those of the first all the same
    regime = Regime(steps=2, discriminators="small", adversarial_from=.5, report_every=1)
    trainer = AdversarialTrainer(task, regime, processes=processes)
    trainer.run(reports.append)
    tensors, _ = trainer.state()
    assert tensors.pop("network.weights.seen").sum() == 2 * 40  # of its own batches
    digest = torch.tensor(list(bytes.fromhex(hash_tensors(tensors))))
    assert torch.equal(*processes.gather(digest))
    assert len(reports) == (2 if processes.rank == 0 else 0)
    print("same")
"""


def test_processes_have_batches_of_their_own_and_the_same_weights() -> None:
    for code, out, err in run_processes(["-c", CHILD], 2):
        assert (code, out) == (0, "same\n"), err
