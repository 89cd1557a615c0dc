"""Durations for units that come without: those of one layer, repetitions left out, as language models give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vocable.artifacts import Artifact, hash_tensors
from vocable.errors import InputError, SpecError
from vocable.nets.durations import DurationPredictor, fit_durations, run_lengths
from vocable.nets.state import below
from vocable.nets.threads import one_thread_each
from vocable.store import TokenStore
from vocable.types import TokenSpec
from vocable.vocoders.designs import PITCH, layers_of

if TYPE_CHECKING:
    from vocable.vocoders.units import UnitVocoder

NO_DURATIONS = "learn them with `vocable train vocoder --durations`"

_PREFIX = "durations."  # of its tensors among those of a vocoder


@dataclass(frozen=True, eq=False)
class Durations:
    """How long each unit of a layer with one codebook lasts, given the units around it.

    layer: its name. predictor: fitted on that layer. evidence: what it is worth, see `fit_durations`.
    """

    layer: str
    predictor: DurationPredictor
    evidence: Mapping[str, int | float] = field(default_factory=dict)

    def lengthen(self, units: Tensor) -> Tensor:
        """Codes [T] of units [U]: each for as many frames as are predicted, 1 or more.

        InputError for another shape, or units that the codebook does not have.
        """
        size = self.predictor.size
        if units.ndim != 1 or (len(units) and not 0 <= int(units.min()) <= int(units.max()) < size):
            raise InputError(f"expected units [U] from 0 to {size - 1}, got {list(units.shape)} or others")
        with one_thread_each():
            return units.long().repeat_interleave(self.predictor.frames(units.long()))

    def renewed(self, codes: Tensor) -> Tensor:
        """Codes [T'] with the units of codes [T] in their order, and none of their durations."""
        return self.lengthen(run_lengths(codes)[0])

    def require(self, spec: TokenSpec) -> None:
        """SpecError unless tokens of this spec are the units of its layer and nothing else."""
        books = [spec.codebooks[k] for members in layers_of(spec).values() for k in members]
        if list(layers_of(spec)) != [self.layer] or [book.size for book in books] != [self.predictor.size]:
            raise SpecError(
                f"expected the layer {self.layer} alone, got {', '.join(spec.labels)}",
                hint=f"durations were learned for it: choose it with --layers {self.layer}",
            )
        if PITCH in spec.labels:
            raise SpecError(f"expected units without pitch to predict durations for, got {', '.join(spec.labels)}")

    def config(self) -> dict[str, Any]:
        """Plain values from which, with `tensors`, the same is built."""
        predictor = self.predictor
        return {"layer": self.layer, "size": predictor.size, "dim": predictor.dim, "kernel": predictor.kernel}

    def tensors(self) -> dict[str, Tensor]:
        """The weights, under names that no other part of a vocoder has."""
        return {_PREFIX + name: tensor for name, tensor in self.predictor.state_dict().items()}

    @property
    def fingerprint(self) -> str:
        """What tells these durations from others."""
        return hash_tensors(self.tensors())

    @classmethod
    def of_artifact(cls, artifact: Artifact) -> Durations | None:
        """Those that a saved vocoder has, if any."""
        config = artifact.config.get("durations")
        if config is None:
            return None
        predictor = DurationPredictor(config["size"], dim=config["dim"], kernel=config["kernel"])
        predictor.load_state_dict(below(_PREFIX, artifact.tensors))
        return cls(config["layer"], predictor.eval().requires_grad_(False), artifact.evidence.get("durations", {}))


def without_durations(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a vocoder that are not those of its durations."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_PREFIX)}


def with_durations(
    vocoder: UnitVocoder, store: TokenStore, layer: str | None = None, *, steps: int = 1000, seed: int = 0
) -> UnitVocoder:
    """The vocoder with durations learned from a store of its tokens; what they are worth is in its evidence.

    layer: whose, see `durations_layer`. Fitted on the vocoder's device.
    SpecError if the store has other tokens, InputError for a layer that cannot be, or fewer than two recordings.
    """
    layer = durations_layer(vocoder.spec, layer)
    book = vocoder.spec.codebooks[layers_of(vocoder.spec)[layer][0]]
    vocoder.spec.require(store.spec.take([book.label]))
    row = store.spec.labels.index(book.label)
    sequences = [torch.from_numpy(entry.codes[row].astype(np.int64)) for entry in store]
    predictor, evidence = fit_durations(sequences, book.size, steps=steps, seed=seed, device=str(vocoder.device))
    return vocoder.lasting(Durations(layer, predictor, evidence))


def durations_layer(spec: TokenSpec, layer: str | None = None) -> str:
    """The layer that durations can be learned of: `layer`, or the only one with one codebook. To ask before a training.

    InputError if it is unknown or has several codebooks, or if a vocoder of these tokens needs pitch besides.
    """
    if PITCH in spec.labels:
        raise InputError("expected tokens without pitch to learn durations of, which predicted frames do not have")
    single = [name for name, members in layers_of(spec).items() if len(members) == 1]
    if layer in single or (layer is None and len(single) == 1):
        return layer or single[0]
    raise InputError(
        f"expected a layer of one codebook to learn durations of, got {layer or 'none'}",
        hint=f"name one of {', '.join(single)}" if single else "no layer of these tokens has one codebook",
    )
