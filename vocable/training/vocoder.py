"""Training a unit vocoder on a corpus: tokens and sound are made once and kept, then the network learns from crops."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocable.corpus import Corpus
from vocable.distributed import Processes
from vocable.errors import InputError
from vocable.nets.unit_decoder import UnitDecoder
from vocable.quantizers import KMeans
from vocable.quantizers.books import KMeansBooks
from vocable.quantizers.standardized import Standardized
from vocable.store import TokenStore
from vocable.tokenizers.folder import WindowTokenizer
from vocable.tokenizers.gathering import Reading
from vocable.training.adversarial import AdversarialTrainer
from vocable.training.audio_cache import AudioCache
from vocable.training.checkpoints import Checkpoint
from vocable.training.clips import ClipCache
from vocable.training.crops import Crops, held_out
from vocable.training.desk import Desk
from vocable.training.regime import Regime
from vocable.training.reports import Report
from vocable.training.vocoder_task import Judge, Selection, VocoderTask, no_figures
from vocable.training.work import CHECKPOINT, SAMPLES, Diary, claim
from vocable.vocoders.designs import Size
from vocable.vocoders.units import UnitVocoder

PRESETS: Mapping[Size, tuple[Regime, Crops]] = {
    "tiny": (
        # small batches at a high rate: after as many seconds on a core, STOI is .75 instead of .62 with 8 crops at 1e-3
        Regime(None, 5.0, learning_rate=4e-3, warm_up=50, discriminators="none", report_every=10, check_every=500),
        Crops(4, 0.5),
    ),
    "small": (Regime(None, 20.0, check_every=2000), Crops(32, 1.0)),
    "base": (Regime(1_000_000, check_every=10_000), Crops(32, 1.0)),
}
"""How designs of each size are trained if nothing else is asked for."""

_ALONE = Processes()
_JUDGED = 16  # recordings at most
_CHECKPOINT_SECONDS = 300.0


def train_vocoder(
    corpus: Corpus,
    tokenizer: WindowTokenizer,
    work: Path,
    *,
    design: Mapping[str, Any],
    sample_rate: int,
    regime: Regime,
    crops: Crops | None = None,
    layer_dropout: bool = True,
    speakers: str | None = None,
    tokens: TokenStore | None = None,
    validation: Corpus | None = None,
    judge: Judge = no_figures,
    device: str = "cpu",
    processes: Processes = _ALONE,
    reading: Reading | None = None,
    on_cache: Callable[[AudioCache], None] = lambda cache: None,
    on_report: Callable[[Report], None] = lambda report: None,
) -> UnitVocoder:
    """Trains a vocoder of the tokenizer's tokens; the evidence travels with it.

    work: a folder for tokens, sound, checkpoint and samples. If it holds those of the same training, this goes on from
        there to the same vocoder.
    design: configuration of a `UnitDecoder` (see `designs.design`), of as many speakers as `speaker_names` gives.
    sample_rate: Hz of the sound, whatever the tokenizer's. crops, layer_dropout: what a step sees, see `VocoderTask`.
    regime: how to train; its seed decides everything.
    speakers: the field of manifests that names voices; None to learn none.
    tokens: a store of the corpus's tokens, made already; None to make it in `work`.
    validation: recordings to judge by; without it 2 % of the corpus are held out. judge: gives figures of these.
    processes: those that train together, each on crops of its own. reading: how the corpus is read, and who hears.
    on_cache hears of the cache of sound before it is filled, on_report of the training.

    InputError if parts do not fit, if there is less sound than one crop, or if `work` holds another training;
    SpecError if the tokens are not the tokenizer's; ArtifactError if what is in `work` is damaged.
    """
    names = speaker_names(corpus, speakers) if speakers else ()
    if design["speakers"] != len(names):
        raise InputError(f"expected a design of {len(names)} speakers, got {design['speakers']}")
    if processes.rank == 0:
        claim(work, "vocoder")
    crops, reading = crops or Crops(), reading or Reading()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(regime.seed)
        decoder = UnitDecoder(design)
    if design["centroids"]:
        decoder.start(centroids_of(tokenizer))
    desk = Desk(tokenizer, sample_rate, decoder.hop_length, processes, reading, on_cache)
    clips = desk.clips(corpus, work, tokens)
    judged = desk.clips(validation, work / "validation", None) if validation else None
    numbers, held = _divided(clips, judged)
    training = Selection(clips, numbers, _voices(clips, corpus, speakers, names))
    judging = Selection(judged or clips, held, _voices(judged or clips, validation or corpus, speakers, names))
    task = VocoderTask(
        decoder,
        training,
        judging,
        crops=crops,
        layer_dropout=layer_dropout,
        speakers=names,
        seed=regime.seed,
        judge=judge,
        samples=work / SAMPLES,
    )
    settings = {"design": dict(design), "crops": asdict(crops), "layer_dropout": layer_dropout, "speakers": speakers}
    owner = [clips.identity, judged.identity if judged else None, settings, names, training.voices]
    trainer = AdversarialTrainer(task, regime, device=device, processes=processes)
    diary = Diary(work, on_report)
    digest = sha256(json.dumps(owner).encode()).hexdigest()
    trainer.run(diary, Checkpoint(work / CHECKPOINT, digest, seconds=_CHECKPOINT_SECONDS))
    decoder.load_state_dict(trainer.weights())
    evidence = settings | {"regime": asdict(regime), "curve": diary.curve()}
    evidence |= _heard(training, judging)
    return UnitVocoder(decoder, clips.spec, sample_rate, speakers=names, evidence=evidence, device=device)


def speaker_names(corpus: Corpus, field: str) -> tuple[str, ...]:
    """The values of a field of the manifests, sorted, each once. InputError if no recording has the field."""
    names = {str(utterance.fields[field]) for utterance in corpus if utterance.fields.get(field) is not None}
    if not names:
        known = sorted({name for utterance in corpus for name in utterance.fields})
        raise InputError(
            f"expected recordings with a field {field!r} for --speakers, got none",
            hint=f"their fields are {', '.join(known)}" if known else "name a manifest (.jsonl) whose lines have it",
        )
    return tuple(sorted(names))


def centroids_of(tokenizer: object) -> list[Tensor | None]:
    """The centroids [V, D] of each codebook of a tokenizer, None for those that have none; nothing if none has any.

    Those of standardised vectors are in standard units: embeddings scale each dimension anyway.
    What embeddings begin with: after 2.5 minutes of two cores held-out STOI was .825, with random ones .715.
    """
    found: list[Tensor | None] = []
    for each in getattr(tokenizer, "quantizers", ()):
        quantizer = each.quantizer if isinstance(each, Standardized) else each
        if isinstance(quantizer, KMeans | KMeansBooks):
            books = quantizer.books if isinstance(quantizer, KMeansBooks) else (quantizer,)
            found += [book.centroids.cpu() for book in books]
        else:
            found += [None] * len(quantizer.codebook_sizes)
    return found if any(points is not None for points in found) else []


def _heard(training: Selection, judged: Selection) -> dict[str, Any]:
    """How much there was to learn from, and who judges."""
    samples = sum(training.clips.clips[index].recording.samples for index in training.numbers)
    return {
        "recordings": len(training.numbers),
        "audio_seconds": round(samples / training.clips.audio.sample_rate, 3),
        "judged": [judged.clips.clips[index].id for index in judged.numbers],
    }


def _voices(clips: ClipCache, corpus: Corpus, field: str | None, names: Sequence[str]) -> list[int]:
    """For each recording of a cache the number of its speaker, -1 where that is not known."""
    numbers = {name: number for number, name in enumerate(names)}
    told = {utterance.id: utterance.fields.get(field) for utterance in corpus} if field else {}
    known = {name: numbers.get(str(speaker), -1) for name, speaker in told.items() if speaker is not None}
    return [known.get(clip.id, -1) for clip in clips.clips]


def _divided(clips: ClipCache, judged: ClipCache | None) -> tuple[list[int], list[int]]:
    """Numbers of the clips to learn from, and of those to judge by, among the latter's own cache if there is one."""
    numbers = range(len(clips.clips))
    if judged is not None:
        return list(numbers), list(range(len(judged.clips)))[:_JUDGED]
    held = held_out([clip.id for clip in clips.clips])
    chosen = [number for number in numbers if clips.clips[number].id in held]
    return [number for number in numbers if clips.clips[number].id not in held], chosen[:_JUDGED]
