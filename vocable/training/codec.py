"""Training a codec on a corpus: its sound is decoded once and kept, then the network learns from crops."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from vocable.corpus import Corpus
from vocable.distributed import Processes
from vocable.errors import InputError
from vocable.tokenizers.codec import NeuralCodec
from vocable.tokenizers.gathering import Reading
from vocable.training.adversarial import AdversarialTrainer
from vocable.training.audio_cache import AudioCache, Recording, read_sound
from vocable.training.checkpoints import Checkpoint
from vocable.training.codec_designs import CodecDesign
from vocable.training.codec_network import CodecNetwork, Teacher
from vocable.training.codec_task import CodecTask
from vocable.training.crops import Crops, held_out
from vocable.training.regime import Regime
from vocable.training.reports import Report
from vocable.training.vocoder_task import Judge, no_figures
from vocable.training.work import CHECKPOINT, SAMPLES, Diary, claim
from vocable.types import FeatureExtractor

_ALONE = Processes()
_JUDGED = 16  # recordings at most


def train_codec(
    corpus: Corpus,
    design: CodecDesign,
    work: Path,
    *,
    regime: Regime,
    crops: Crops | None = None,
    teacher: FeatureExtractor | None = None,
    validation: Corpus | None = None,
    judge: Judge = no_figures,
    device: str = "cpu",
    processes: Processes = _ALONE,
    reading: Reading | None = None,
    on_cache: Callable[[AudioCache], None] = lambda cache: None,
    on_report: Callable[[Report], None] = lambda report: None,
) -> NeuralCodec:
    """Trains a codec; the evidence travels with it. `publish` writes it.

    work: a folder for sound, checkpoint and samples. If it holds those of the same training, this goes on from there to
        the same codec.
    regime: how to train; its seed decides everything. crops: what a step sees.
    teacher: an extractor of one layer, which the first codebook learns to tell if the design is `distilled`.
    validation: recordings to judge by; without it 2 % of the corpus are held out. judge: gives figures of these.
    processes: those that train together, each on crops of its own. reading: how the corpus is read, who hears of it.
    on_cache hears of the sound on disk before it is filled.

    InputError if parts do not fit, if there is less sound than one crop, if `work` holds another training, or if this
    one diverges; ArtifactError if what is in `work` is damaged.
    """
    crops, reading = crops or Crops(), reading or Reading()
    lesson = _lesson(teacher, design)
    if processes.rank == 0:
        claim(work, "codec")
    cache = _sound(corpus, work / "audio", design.sample_rate, processes, reading, on_cache)
    judged = cache
    if validation is not None:
        judged = _sound(validation, work / "validation", design.sample_rate, processes, reading, on_cache)
    training, held = _divided(cache, judged)
    checkpoint = Checkpoint(work / CHECKPOINT, _owner(cache, judged, design, crops, lesson))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(regime.seed)
        frames = crops.batch * crops.frames(design.sample_rate, design.hop_length)
        network = CodecNetwork(design, batch=frames, teacher=lesson.dim if lesson else 0).to(device)
        task = CodecTask(
            network,
            cache,
            training,
            (judged, held),
            crops=crops,
            teacher=lesson,
            seed=regime.seed,
            judge=judge,
            samples=work / SAMPLES,
        )
        if not checkpoint.path.exists():
            task.begin()
    trainer = AdversarialTrainer(task, regime, device=device, processes=processes)
    diary = Diary(work, on_report)
    trainer.run(diary, checkpoint)
    network.load_state_dict(trainer.weights())
    codec = NeuralCodec(*network.freeze(), device=device)
    codec.evidence = _evidence(design, crops, regime, diary, cache, training, held)
    return codec


def _lesson(teacher: FeatureExtractor | None, design: CodecDesign) -> Teacher | None:
    if (teacher is None) != (design.distilled == 0):
        raise InputError(
            f"expected a teacher just where a design is distilled, got weight {design.distilled:g} "
            f"and {'no teacher' if teacher is None else 'one'}",
            hint="name one with --distill, such as logmel or a model and its --distill-layer",
        )
    return None if teacher is None else Teacher(teacher, design.sample_rate, design.hop_length)


def _sound(
    corpus: Corpus,
    path: Path,
    sample_rate: int,
    processes: Processes,
    reading: Reading,
    on_cache: Callable[[AudioCache], None],
) -> AudioCache:
    """The sound of a corpus at `path`; what cannot be read is told."""
    cache, failures = read_sound(corpus, path, sample_rate, reading, processes, on_cache)
    for failure in failures:
        reading.on_failure(failure)
    return cache


def _divided(cache: AudioCache, judged: AudioCache) -> tuple[list[Recording], list[Recording]]:
    """Recordings to learn from, and those to judge by: all of another cache, or those held out of this one."""
    recordings = cache.recordings()
    if judged is not cache:
        return recordings, judged.recordings()[:_JUDGED]
    out = held_out([recording.id for recording in recordings])
    training = [recording for recording in recordings if recording.id not in out]
    return training, [recording for recording in recordings if recording.id in out][:_JUDGED]


def _owner(cache: AudioCache, judged: AudioCache, design: CodecDesign, crops: Crops, lesson: Teacher | None) -> str:
    """What a checkpoint belongs to besides the regime."""
    sound = [[asdict(recording) for recording in each.recordings()] for each in (cache, judged)]
    teacher = lesson.extractor.config() if lesson else None
    return sha256(json.dumps([sound, design.config(), asdict(crops), teacher]).encode()).hexdigest()


def _evidence(
    design: CodecDesign,
    crops: Crops,
    regime: Regime,
    diary: Diary,
    cache: AudioCache,
    training: Sequence[Recording],
    held: Sequence[Recording],
) -> dict[str, Any]:
    """What it was trained on, how, and how it went."""
    samples = sum(recording.samples for recording in training)
    return {
        "recordings": len(training),
        "audio_seconds": round(samples / cache.sample_rate, 3),
        "judged": [recording.id for recording in held],
        "design": design.config(),
        "crops": asdict(crops),
        "regime": asdict(regime),
        "curve": diary.curve(),
    }
