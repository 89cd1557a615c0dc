"""Training a language model on the tokens of a store, and saying what it is worth in bits per second."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from vocable.distributed import Processes
from vocable.language.model import LanguageDesign, LanguageModel, complete, new_network
from vocable.language.packs import Pack, Packs, pack
from vocable.language.task import LanguageTask, LanguageTrainer, Predicted, predicted
from vocable.metrics.ngram import NGram
from vocable.progress import Watcher, unwatched
from vocable.store import TokenStore
from vocable.tokenizers.streams import Collapse, Deduplicate, Flatten, Offset, TokenStream, Transform
from vocable.training.checkpoints import Checkpoint
from vocable.training.regime import Regime
from vocable.training.reports import Report
from vocable.training.work import CHECKPOINT, Diary, claim

LanguageSize = Literal["tiny", "small"]
Runs = Literal["frames", "timed", "once"]

RUNS: Mapping[Runs, tuple[Transform, ...]] = {"frames": (), "timed": (Deduplicate(),), "once": (Collapse(),)}
"""Every frame; a run of equal frames once, its length after it; a run once, its length forgotten."""

_ALONE = Processes()
_CHECKPOINT_SECONDS = 120.0
_COUNTED_IDS = 5_000_000  # that n-grams are counted of


@dataclass(frozen=True, slots=True)
class LanguagePlan:
    """A design, and how it is trained if nothing else is asked for: `batch` crops of a whole context in each step."""

    design: LanguageDesign
    regime: Regime
    batch: int


MODELS: Mapping[LanguageSize, LanguagePlan] = {
    "tiny": LanguagePlan(
        LanguageDesign(),
        Regime(None, 10.0, 2e-3, warm_up=100, discriminators="none", ema=0.99, report_every=20, check_every=200),
        8,
    ),
    "small": LanguagePlan(
        LanguageDesign(512, 8, 8, 1408, 1024),
        Regime(None, 20.0, 1e-3, warm_up=500, discriminators="none", ema=0.999, report_every=50, check_every=1000),
        32,
    ),
}
"""By name. tiny: 1.8 M weights beside the vocabulary's, for two cores; small: 26 M, for a GPU."""


def stream_for(
    store: TokenStore, *, codebooks: list[str] | None = None, layout: str | None = None, runs: Runs = "frames"
) -> TokenStream:
    """The stream of a store that a language model learns if none is given.

    layout: one of `vocable.exports.LAYOUTS`; None for the delay pattern of several codebooks, frame by frame of one.
    InputError if there is no such codebook or layout.
    """
    from vocable.exports.rows import LAYOUTS, stream_of

    spec = store.spec if codebooks is None else store.spec.take(codebooks)
    plain = stream_of(spec, layout=layout).transforms  # says which layouts there are
    if layout is None:
        several = spec.num_codebooks > 1
        plain = tuple(step() for step in LAYOUTS["delay"]) if several else (Offset(), Flatten())
    return complete(TokenStream(spec, (*RUNS[runs], *plain)))


@dataclass(frozen=True, slots=True)
class Cost:
    """Bits per second of audio of what is held out, the ends of recordings included, by the name of what foretells it.

    loss: nats an id.
    """

    name: str
    bits_per_second: float
    loss: float


def train_lm(
    store: TokenStore,
    stream: TokenStream,
    work: Path,
    *,
    design: LanguageDesign,
    regime: Regime,
    batch: int,
    held_out: float = 0.05,
    device: str = "cpu",
    processes: Processes = _ALONE,
    watcher: Watcher = unwatched,
    on_report: Callable[[Report], None] = lambda report: None,
) -> LanguageModel:
    """Trains a language model to tell the next id of a stream.

    work: a folder for packed ids and the checkpoint. If it holds those of the same training, this goes on from there
        to the same model. regime: how to train, its seed decides everything. batch: crops of `design.context` ids.
    held_out: share of the recordings that is judged by. watcher hears of the packing, on_report of the training.

    InputError if the store has fewer than two recordings, the stream no bos or eos, `work` another training, or if
    this one diverges. SpecError if the tokens are not those of the stream. ArtifactError if what is in `work` is
    damaged.
    """
    stream = complete(stream)
    if processes.rank == 0:
        claim(work, "language model")
    packs = pack(store, stream, work, held_out=held_out, processes=processes, watcher=watcher)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(regime.seed)
        network: nn.Module = new_network(design, stream)
    task = LanguageTask(network, packs, context=design.context, batch=batch, seed=regime.seed)
    trainer = LanguageTrainer(task, regime, device=device, processes=processes)
    diary = Diary(work, on_report)
    settings = {"design": asdict(design), "batch": batch}
    digest = sha256(json.dumps([packs.identity, settings]).encode()).hexdigest()
    trainer.run(diary, Checkpoint(work / CHECKPOINT, digest, seconds=_CHECKPOINT_SECONDS))
    network.load_state_dict(trainer.weights())
    network.eval()
    evidence = settings | {"regime": asdict(regime), "held_out": held_out, "processes": processes.world}
    if processes.rank == 0:
        evidence |= _worth(packs, predicted(network, packs.held, design.context)) | {"curve": diary.curve()}
    return LanguageModel(network, stream, evidence)


def _worth(packs: Packs, found: Predicted) -> dict[str, Any]:
    """What the model is worth, beside what needs no model; all of the same ids."""
    held, training = packs.held, packs.training
    plain = len(held.ids) - len(held.packed)  # bos is known
    rows = [_cost("log2(vocabulary)", plain * math.log2(held.packed.vocabulary), plain, held.seconds)]
    rows += [_cost(f"order {order}", _ngram_bits(training, held, order), plain, held.seconds) for order in (0, 1)]
    rows.append(_cost("language model", found.nats / math.log(2), plain, held.seconds))
    return {
        "costs": [asdict(row) for row in rows],
        "perplexity": found.perplexity,
        "ids_per_second": held.rate,
        "recordings": [len(training.packed), len(held.packed)],
        "seconds": [round(training.seconds, 3), round(held.seconds, 3)],
        "ids": [len(training.ids), len(held.ids)],
    }


def _cost(name: str, bits: float, ids: int, seconds: float) -> Cost:
    return Cost(name, bits / seconds, bits * math.log(2) / ids)


def _ngram_bits(training: Pack, held: Pack, order: int) -> float:
    """Bits of the ids held out by an `NGram` of those learned from."""
    enough = int(np.searchsorted(training.packed.offsets, _COUNTED_IDS))
    known = [ids[1:] for ids in islice(training.recordings(), max(1, enough))]
    model = NGram(known, held.packed.vocabulary, order + 1)
    return model.bits([ids[1:] for ids in held.recordings()])
