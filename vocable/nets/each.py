"""A network over many inputs so that the company an input is in has no part in its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Shaped
from torch import Tensor

from vocable.nets.threads import one_thread_each

_BATCH_VALUES = 1 << 23  # of input to an accelerator at once: 5.8 minutes of 24 kHz


def run_each(
    network: Callable[[Tensor], Tensor], inputs: Sequence[Shaped[Tensor, "c _n"]], device: torch.device
) -> list[Tensor]:
    """What the network, [b, c, n] -> [b, ...], makes of each input, in their order, on its device.

    On a CPU each input runs alone and on a thread of its own, the longest first, so that its bits depend neither on the
    others nor on the number of cores. On an accelerator inputs of one shape share a batch: no padding at all.
    """
    rows = sorted(range(len(inputs)), key=lambda row: -inputs[row].shape[-1])
    found: dict[int, Tensor] = {}
    if device.type == "cpu":
        with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
            # buffers of their own: where an input lies in memory must not choose another kernel
            outputs = pool.map(lambda row: network(inputs[row][None].clone())[0], rows)
            found.update(zip(rows, outputs, strict=True))
    else:
        for group in _groups(rows, inputs):
            found.update(zip(group, network(torch.stack([inputs[row] for row in group]).to(device)), strict=True))
    return [found[row] for row in range(len(inputs))]


def _groups(rows: Sequence[int], inputs: Sequence[Tensor]) -> list[list[int]]:
    groups: list[list[int]] = []
    for row in rows:
        group = groups[-1] if groups else []
        alike = bool(group) and inputs[group[0]].shape == inputs[row].shape
        if alike and (len(group) + 1) * inputs[row].numel() <= _BATCH_VALUES:
            group.append(row)
        else:
            groups.append([row])
    return groups
