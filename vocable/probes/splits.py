"""Which recordings a probe learns from, and which it is judged on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from vocable.errors import InputError
from vocable.probes.material import Item


@dataclass(frozen=True, slots=True)
class Split:
    """Ids of recordings to learn from and to be judged on; how that was decided, in words."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    rule: str

    def __post_init__(self) -> None:
        if not self.train or not self.test:
            counts = f"{len(self.train)} and {len(self.test)}"
            raise InputError(f"expected recordings to train on and to test on, got {counts} ({self.rule})")

    def keep(self, ids: set[str]) -> Split:
        """The same of fewer recordings."""
        train, test = ([name for name in part if name in ids] for part in (self.train, self.test))
        return Split(tuple(train), tuple(test), self.rule)


def split_by_field(items: Mapping[str, Item], field: str) -> Split:
    """By what the manifest says: "train" and "test" in a field; recordings with neither are left out.

    InputError if nothing is called so.
    """
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for name in sorted(items):
        said = items[name].fields.get(field)
        if isinstance(said, str) and said in parts:
            parts[said].append(name)
    return Split(tuple(parts["train"]), tuple(parts["test"]), f"field {field}")


def split_by_hash(ids: Iterable[str], *, seed: int = 0, share: float = 0.2) -> Split:
    """A random share of the recordings is the test, the same for the same ids and seed. InputError for fewer than 2."""
    ranked = shuffled(ids, seed)
    count = max(1, round(share * len(ranked)))
    return Split(tuple(sorted(ranked[count:])), tuple(sorted(ranked[:count])), f"{share:.0%} at random, seed {seed}")


def split_by_store(items: Mapping[str, Item], test: Iterable[str]) -> Split:
    """These are the test, and all others are for training."""
    chosen = set(test) & set(items)
    return Split(tuple(sorted(set(items) - chosen)), tuple(sorted(chosen)), "a store of its own")


def hold_out(ids: Sequence[str], groups: Mapping[str, str], *, seed: int, share: float = 0.1) -> tuple[list[str], ...]:
    """Ids to fit on, and a share of each group to know when to stop by; every group keeps one to fit on.

    InputError for fewer than two ids.
    """
    if len(ids) < 2:
        raise InputError(f"expected two recordings to train on at least, got {len(ids)}")
    members: dict[str, list[str]] = {}
    for name in shuffled(ids, seed):
        members.setdefault(groups[name], []).append(name)
    held = {name for group in members.values() for name in group[: min(round(share * len(group)), len(group) - 1)]}
    held = held or {max(members.values(), key=len)[0]}
    return [name for name in ids if name not in held], [name for name in ids if name in held]


def shuffled(ids: Iterable[str], seed: int) -> list[str]:
    """The ids in a random order that depends on each id and the seed alone."""
    return sorted(ids, key=lambda name: sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest())
