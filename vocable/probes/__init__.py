"""Downstream probes on frozen tokens: small networks that tell what is still known, beside what it was made of."""

from __future__ import annotations

from vocable.probes.harness import probe
from vocable.probes.material import Material
from vocable.probes.report import ProbeReport, ProbeRow
from vocable.probes.scores import Figure
from vocable.probes.splits import Split, split_by_field, split_by_hash, split_by_store
from vocable.probes.tasks import Classification, Task, Transcription, Verification
from vocable.probes.training import Epoch, Recipe
from vocable.probes.upper_bound import bounds

__all__ = [
    "Classification",
    "Epoch",
    "Figure",
    "Material",
    "ProbeReport",
    "ProbeRow",
    "Recipe",
    "Split",
    "Task",
    "Transcription",
    "Verification",
    "bounds",
    "probe",
    "split_by_field",
    "split_by_hash",
    "split_by_store",
]
