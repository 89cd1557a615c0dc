"""Several processes: sums, maxima and tensors meet, slow ones are waited for, dead ones end the others."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch
from torch.distributed import HashStore

from tests.processes import run_processes
from vocable.distributed import Processes, from_environment, meet, own_device
from vocable.errors import InputError, VocableError

CHILD = """
import os, signal, sys, time
from datetime import timedelta
import torch
from vocable.distributed import from_environment
from vocable.errors import VocableError

TIMEOUT = 2.0
with from_environment(timeout=timedelta(seconds=TIMEOUT)) as processes:
    rank = processes.rank
    total = torch.tensor([2**53 + 1, rank])
    assert processes.sum_(total) is total
    assert total.tolist() == [2**54 + 2, 1], total
    assert processes.max_(torch.tensor([float(rank), -float(rank)])).tolist() == [1.0, 0.0]
    rows = torch.full((3 * rank, 2), rank, dtype=torch.float16)
    assert [part.tolist() for part in processes.gather(rows)] == [[], [[1, 1]] * 3]
    assert [part.tolist() for part in processes.gather(torch.zeros(0, 2))] == [[], []]
    if sys.argv[1] == "meet":
        time.sleep(1.5 * TIMEOUT * rank)  # slow is not dead
        processes.meet()
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    started = time.monotonic()
    try:
        processes.meet() if sys.argv[1] == "meet" else processes.sum_(total)
    except VocableError as problem:
        assert time.monotonic() - started < 3 * TIMEOUT
        print(problem)
        raise SystemExit(7)
"""


@pytest.mark.parametrize(
    ("where", "message"),
    [("meet", "process 1 gave no sign of life for 2 s"), ("sum", "another process ended or did not answer (")],
)
def test_a_rank_that_dies_ends_the_others(where: str, message: str) -> None:
    (code, out, err), (killed, _, _) = run_processes(["-c", CHILD, where], 2)
    assert (code, killed) == (7, -9), err
    assert out.startswith(message)
    assert out.count("\n") == 1


def test_a_rank_that_fails_says_why() -> None:
    store = HashStore()
    store.set("failed", "process 1: expected bread, got a stone")
    with pytest.raises(VocableError, match="another process failed: process 1: expected bread, got a stone"):
        Processes(0, 2, store=store).meet()


def test_one_process_is_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    values = torch.arange(3)
    with from_environment() as processes:
        assert (processes.rank, processes.world) == (0, 1)
        assert processes.sum_(values) is values
        assert processes.max_(values) is values
        assert processes.gather(values)[0] is values
        meet(processes)
    assert own_device("cuda") == "cuda"


def test_each_process_has_its_own_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [own_device(name) for name in ("cuda", "cuda:1", "cpu")] == ["cuda:3", "cuda:1", "cpu"]


@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "two"}, {"WORLD_SIZE": "2", "RANK": "1", "MASTER_PORT": "1"}])
def test_variables_that_make_no_sense(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="expected"), from_environment(timeout=timedelta(seconds=2)):
        pass
