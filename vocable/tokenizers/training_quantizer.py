"""Training quantizers with gradients on a corpus: one pass of extraction, then for each layer a training."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from vocable.artifacts import hash_tensors, read_state, write_state
from vocable.corpus import Corpus, Failure
from vocable.errors import ArtifactError, InputError
from vocable.files import inside
from vocable.progress import Progress, Watcher, unwatched
from vocable.quantizers.evaluate import judge
from vocable.quantizers.reservoir import FrameReservoir
from vocable.quantizers.trainable import Design
from vocable.quantizers.trained import TrainedQuantizer
from vocable.quantizers.trainer import Check, Schedule, Trainer
from vocable.tokenizers.gathering import Reading, Stopwatch, ignore
from vocable.tokenizers.training import DEFAULT_MEMORY, gather_frames
from vocable.tokenizers.units import UnitTokenizer
from vocable.types import FeatureExtractor

_JUDGED = 65536
_DEFAULT = Schedule()


def train_quantizer(
    corpus: Corpus,
    extractor: FeatureExtractor,
    design: Design,
    *,
    schedule: Schedule = _DEFAULT,
    memory: int = DEFAULT_MEMORY,
    sample_frames: int | None = None,
    checkpoints: Path | None = None,
    checkpoint_seconds: float = 60.0,
    device: str = "cpu",
    workers: int = 0,
    batch_seconds: float | None = None,
    watcher: Watcher = unwatched,
    stopwatch: Stopwatch | None = None,
    on_failure: Callable[[Failure], None] = ignore,
    on_check: Callable[[str, Check], None] = lambda layer, check: None,
) -> UnitTokenizer:
    """Trains a quantizer of this design for every layer of the extractor; the evidence travels with them.

    schedule: see Schedule; its seed also chooses the frames.
    memory: bytes of frames held at most, or `sample_frames` as their number: of a larger corpus a seeded uniform sample
        is kept, the same frames for all layers.
    checkpoints: a folder for the state of each layer's training, written at most every `checkpoint_seconds` and at its
        end. If it holds states of the same training, this goes on from there to the same result.
    device: where the training runs; on CUDA in bfloat16 (autocast), codes always in float32.
    stopwatch: what takes wall time: "features", "sample", and the training of each layer.
    on_failure hears of recordings that cannot be used, on_check(layer, check) of the training.

    InputError if the numbers do not go together, if there are fewer than two frames or they are constant, if the
    training diverges, or if `checkpoints` holds another training. ArtifactError if a checkpoint is damaged.
    """
    design.build(extractor.dim, batch=schedule.batch)  # what cannot be built is told before features are extracted
    stopwatch = stopwatch or Stopwatch()
    reading = Reading(workers, batch_seconds, watcher, on_failure, stopwatch)
    frames, progress = gather_frames(
        corpus, extractor, memory=memory, sample_frames=sample_frames, seed=schedule.seed, reading=reading
    )
    quantizers: list[TrainedQuantizer] = []
    fits: dict[str, Any] = {}
    for index, layer in enumerate(extractor.layers):
        with stopwatch.time(f"training {layer}"):
            trainer = Trainer(frames.layer(index), design, schedule, device=device)
            checkpoint = _Checkpoint(checkpoints, layer, trainer, design, checkpoint_seconds)
            _train(trainer, checkpoint, layer, on_check)
            quantizers.append(trainer.result())
        fits[layer] = _fit_evidence(trainer, quantizers[-1], design)
    return UnitTokenizer(extractor, quantizers, evidence=_evidence(progress, frames, schedule.seed) | {"fits": fits})


class _Checkpoint:
    """The state of one training in one file: tensors, and in their header the JSON values and what they belong to."""

    def __init__(self, folder: Path | None, layer: str, trainer: Trainer, design: Design, seconds: float) -> None:
        self.path = inside(folder, layer, ".safetensors") if folder else None
        self._owner = _owner(trainer, design) if folder else ""
        self._trainer, self._seconds, self._written = trainer, seconds, time.monotonic()

    def restore(self) -> None:
        """Goes on from the file, if there is one."""
        if self.path is None or not self.path.exists():
            return
        tensors, header = read_state(self.path)
        if header.get("owner") != self._owner:
            raise InputError(
                f"{self.path} is the state of another training",
                hint="name another folder for checkpoints, or the settings and the corpus that it began with",
            )
        try:
            self._trainer.restore(tensors, json.loads(header["values"]))
        except (KeyError, ValueError, TypeError, RuntimeError) as problem:
            raise ArtifactError(f"{self.path} is damaged: {problem}", hint="delete it to begin again") from problem

    def save(self, *, now: bool = False) -> None:
        """Writes the state, if it is due."""
        if self.path is None or not (now or time.monotonic() - self._written >= self._seconds):
            return
        tensors, values = self._trainer.state()
        header = {"owner": self._owner, "values": json.dumps(values)}
        write_state(self.path, tensors, header)
        self._written = time.monotonic()


def _train(trainer: Trainer, checkpoint: _Checkpoint, layer: str, on_check: Callable[[str, Check], None]) -> None:
    def checked(check: Check) -> None:
        checkpoint.save()
        on_check(layer, check)

    checkpoint.restore()
    trainer.run(checked)
    checkpoint.save(now=True)


def _owner(trainer: Trainer, design: Design) -> str:
    """What a state belongs to: the frames and all settings."""
    settings = {"design": design.config(), "schedule": asdict(trainer.schedule), "device": trainer.device.type}
    points = hash_tensors({"points": trainer.points})
    return sha256(json.dumps([settings, points], sort_keys=True).encode()).hexdigest()


def _fit_evidence(trainer: Trainer, quantizer: TrainedQuantizer, design: Design) -> dict[str, Any]:
    """How the training went up to the best check, and what the frozen quantizer does on a sample of the frames."""
    curve = trainer.curve[: trainer.best + 1]
    found = judge(quantizer, trainer.points[torch.arange(min(len(trainer.points), _JUDGED))].float())
    return {
        "objective": [check.objective for check in curve],
        "iterations": curve[-1].step,
        "stopped": trainer.curve[-1].step,
        "usage": sum(found.usage) / len(found.usage),
        "entropy": found.coded_bits,
        "num_points": len(trainer.points),
        "design": design.config(),
        "schedule": asdict(trainer.schedule),
        "judgement": found.to_dict(),
    }


def _evidence(progress: Progress, frames: FrameReservoir, seed: int) -> dict[str, Any]:
    return {
        "recordings": progress.done,
        "failed": progress.failed,
        "audio_seconds": round(progress.audio_seconds, 3),
        "frames_seen": frames.seen,
        "frames_used": len(frames),
        "seed": seed,
    }
