"""What codes say of phones, learnt from some recordings and judged on others: no more for being many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


def surprises(
    codes: Integers, phones: Sequence[str], new_codes: Integers, new_phones: Sequence[str]
) -> tuple[Numbers, Numbers]:
    """Bits [m] that each new phone costs whoever knows its codes, and whoever does not, after frames [n] of both.

    codes: [n, K], new_codes: [m, K]. P(phone | c1 .. ck) = (n(c1 .. ck, phone) + T P(phone | c1 .. ck-1)) / (n + T),
    with n frames of these codes and T different phones among them: interpolated Witten-Bell (Witten and Bell 1991;
    Chen and Goodman 1999, eq. 19), where the codebooks before are the shorter context. It ends at the shares of the
    phones, to each of which one frame is added. Codes that were not there before say what the ones before them say.
    """
    names, numbers = np.unique([*phones, *new_phones], return_inverse=True)
    seen, new = numbers[: len(phones)].astype(np.int64), numbers[len(phones) :].astype(np.int64)
    prior = (np.bincount(seen, minlength=len(names)) + 1.0) / (len(seen) + len(names))
    chance = without = prior[new]
    context = np.zeros(len(numbers), np.int64)
    for column in np.concatenate([codes, new_codes]).T:
        context = np.unique(context * (int(column.max()) + 1) + column, return_inverse=True)[1].astype(np.int64)
        chance = _sharpened(chance, context[: len(seen)], seen, context[len(seen) :], new, len(names))
    return -np.log2(chance), -np.log2(without)


def _sharpened(
    chance: Numbers, context: Integers, phones: Integers, new_context: Integers, new_phones: Integers, count: int
) -> Numbers:
    """P(phone | context) of each new frame, from P of the shorter context and the frames seen."""
    size = 1 + max(int(context.max(initial=0)), int(new_context.max(initial=0)))
    pairs, times = np.unique(context * count + phones, return_counts=True)
    frames = np.bincount(context, minlength=size)[new_context]
    kinds = np.bincount(pairs // count, minlength=size)[new_context]
    wanted = new_context * count + new_phones
    place = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
    met = np.where(pairs[place] == wanted, times[place], 0)
    return np.where(frames > 0, (met + kinds * chance) / np.maximum(frames + kinds, 1), chance)
