"""The reader: every block once an epoch over all ranks and workers, and the same rest after a stop anywhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data._utils import worker as worker_module

from tests.reading.packs import pack
from vocable.errors import InputError
from vocable.exports import PackedTokens
from vocable.reading import BlockReader, TokenBlocks, WholeUtterances

LENGTH = 3
BLOCKS = st.integers(1, 60)
SIZES = st.integers(1, 7)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackedTokens:
    """Of 60 blocks."""
    return pack(tmp_path_factory.mktemp("packed"), [50, 0, 100, 30])


class Few(TokenBlocks):
    """The first blocks of all."""

    def __init__(self, packed: PackedTokens, count: int) -> None:
        self.count = count
        super().__init__(packed, LENGTH)

    def __len__(self) -> int:
        return self.count


def numbers(batches: Iterator[Tensor]) -> list[list[int]]:
    """Which blocks each batch holds, told from their tokens."""
    found = []
    for batch in batches:
        firsts = batch[:, 0]
        assert torch.equal(batch, firsts[:, None] + torch.arange(LENGTH))
        found.append((firsts // LENGTH).tolist())
    return found


def drain(reader: BlockReader, worlds: int = 1, epochs: int = 3) -> list[list[int]]:
    """All batches until an epoch begins."""
    found = []
    while reader.epoch < epochs:
        found += numbers(iter(reader))
    return found


@given(count=BLOCKS, batch=SIZES, world=SIZES, seed=st.integers(0, 1 << 64), data=st.data())
def test_every_block_comes_once_an_epoch_over_all_ranks(
    packed: PackedTokens, count: int, batch: int, world: int, seed: int, data: st.DataObject
) -> None:
    drop_last = data.draw(st.booleans())
    blocks = Few(packed, count)
    if count < world * (batch if drop_last else 1):
        with pytest.raises(InputError, match=f"got {count}"):
            BlockReader(blocks, batch, seed=seed, world=world, drop_last=drop_last)
        return
    readers = [BlockReader(blocks, batch, seed=seed, rank=r, world=world, drop_last=drop_last) for r in range(world)]
    epochs = [[numbers(iter(reader)) for reader in readers] for _ in range(2)]
    for ranks in epochs:
        seen = [block for rank in ranks for one in rank for block in one]
        assert len(set(seen)) == len(seen)
        if drop_last:
            assert {tuple(map(len, rank)) for rank in ranks} == {(batch,) * (count // (batch * world))}
        else:
            assert sorted(seen) == list(range(count))
            shares = [sum(map(len, rank)) for rank in ranks]
            assert max(shares) - min(shares) <= 1
    assert {reader.epoch for reader in readers} == {2}


@given(count=BLOCKS, batch=SIZES, seed=st.integers(0, 1 << 64), data=st.data())
def test_after_a_stop_anywhere_the_rest_is_the_same(
    packed: PackedTokens, count: int, batch: int, seed: int, data: st.DataObject
) -> None:
    world = data.draw(st.integers(1, min(4, count)))
    rank = data.draw(st.integers(0, world - 1))
    drop_last = data.draw(st.booleans()) and count >= world * batch

    def opened() -> BlockReader:
        return BlockReader(Few(packed, count), batch, seed=seed, rank=rank, world=world, drop_last=drop_last)

    whole = drain(opened())
    taken = data.draw(st.integers(0, len(whole)))
    stopped, first = opened(), []
    while len(first) < taken:
        first += numbers(islice(iter(stopped), taken - len(first)))
    resumed = opened()
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    assert first + drain(resumed) == whole


@given(count=BLOCKS, data=st.data())
def test_other_ranks_and_batches_go_on_where_those_stopped(
    packed: PackedTokens, count: int, data: st.DataObject
) -> None:
    batch, world = data.draw(SIZES), data.draw(st.integers(1, count))
    readers = [BlockReader(Few(packed, count), batch, seed=1, rank=r, world=world) for r in range(world)]
    steps = data.draw(st.integers(0, (count - 1) // (batch * world)))
    seen = [numbers(islice(iter(reader), steps)) for reader in readers]
    states = [reader.state_dict() for reader in readers]
    assert all(state == states[0] for state in states)
    batch, world = data.draw(SIZES), data.draw(st.integers(1, count))
    for rank in range(world):
        reader = BlockReader(Few(packed, count), batch, seed=1, rank=rank, world=world)
        reader.load_state_dict(states[0])
        seen.append(numbers(iter(reader)))
    assert sorted(block for rank in seen for one in rank for block in one) == list(range(count))


@given(count=BLOCKS, batch=SIZES, workers=SIZES, data=st.data())
def test_workers_share_the_batches_of_a_rank(
    packed: PackedTokens, count: int, batch: int, workers: int, data: st.DataObject
) -> None:
    world = data.draw(st.integers(1, min(4, count)))
    reader = BlockReader(Few(packed, count), batch, seed=3, rank=world - 1, world=world)
    reader.load_state_dict(reader.state_dict() | {"done": data.draw(st.integers(0, count))})
    shares = [numbers(in_worker(reader, index, workers)) for index in range(workers)]
    rounds = max(map(len, shares))
    in_turn = [share[turn] for turn in range(rounds) for share in shares if turn < len(share)]
    assert in_turn == numbers(iter(reader))


def in_worker(reader: BlockReader, index: int, workers: int) -> Iterator[Tensor]:
    """What the reader gives in a worker process, told so by torch's own note of who it is."""
    info = worker_module.WorkerInfo(id=index, num_workers=workers, seed=0, dataset=reader)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_module, "_worker_info", info)
        return iter(reader)


@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create 3 worker processes"
)  # more than some machines have cores
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_worker_processes_change_nothing_and_resume_exactly(packed: PackedTokens) -> None:
    def opened() -> BlockReader:
        return BlockReader(TokenBlocks(packed, LENGTH), 4, seed=5, rank=1, world=2)

    alone = [numbers(iter(reader)) for reader in [opened()] for _ in range(2)]
    assert numbers(iter(DataLoader(opened(), batch_size=None, num_workers=2))) == alone[0]
    stopped = opened()
    batches = stopped.with_workers(2)
    first = numbers(islice(batches, 3))  # the workers are further than that
    state = stopped.state_dict()
    batches.close()
    assert state["done"] == 3 * 4 * 2
    resumed = opened()
    resumed.load_state_dict(state)
    assert resumed.steps_left == len(alone[0]) - 3
    assert first + numbers(resumed.with_workers(3)) == alone[0]
    assert numbers(iter(resumed)) == alone[1]


def test_seeds_and_epochs_have_orders_of_their_own(packed: PackedTokens) -> None:
    orders = Counter()
    for seed in range(3):
        reader = BlockReader(TokenBlocks(packed, LENGTH), 60, seed=seed)
        for epoch in range(3):
            reader.set_epoch(epoch)
            orders[tuple(numbers(iter(reader))[0])] += 1
    assert len(orders) == 9
    assert tuple(range(60)) not in orders


def test_blocks_of_whole_recordings_are_read_as_well(packed: PackedTokens) -> None:
    reader = BlockReader(WholeUtterances(packed, 64, pad=-100), 2, seed=0)
    tokens = torch.cat([batch.flatten() for batch in reader])
    assert torch.equal(tokens[tokens != -100].sort().values, torch.arange(180))


def test_positions_of_other_readers_are_refused(packed: PackedTokens) -> None:
    reader = BlockReader(TokenBlocks(packed, LENGTH), 4, seed=0)
    others = [
        BlockReader(TokenBlocks(packed, LENGTH), 4, seed=1),
        BlockReader(TokenBlocks(packed, LENGTH + 1), 4, seed=0),
        BlockReader(WholeUtterances(packed, LENGTH, pad=0), 4, seed=0),
    ]
    for other in others:
        with pytest.raises(InputError, match="same tokens, blocks and seed"):
            reader.load_state_dict(other.state_dict())
    for wrong in ({"done": 61}, {"done": "1"}, {"epoch": -1}, {"epoch": None}):
        with pytest.raises(InputError, match=r"expected an epoch and 0\.\.60 blocks"):
            reader.load_state_dict(reader.state_dict() | wrong)


def test_what_makes_no_sense_is_refused(packed: PackedTokens) -> None:
    blocks = TokenBlocks(packed, LENGTH)
    with pytest.raises(InputError, match="at least 1 block, got 0"):
        BlockReader(blocks, 0, seed=0)
    with pytest.raises(InputError, match="got rank 2 of 2"):
        BlockReader(blocks, 1, seed=0, rank=2, world=2)
    with pytest.raises(InputError, match="at least 1 worker"):
        BlockReader(blocks, 1, seed=0).with_workers(0)
    with pytest.raises(InputError, match="an epoch of at least 0"):
        BlockReader(blocks, 1, seed=0).set_epoch(-1)
