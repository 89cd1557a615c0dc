"""Training a small encoder of speech on a corpus and the units of any tokenizer; what it saves is an SSL model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vocable.corpus import Corpus
from vocable.distributed import Processes
from vocable.files import new_directory
from vocable.nets.masked_prediction import MaskedPrediction
from vocable.store import TokenStore
from vocable.tokenizers.folder import WindowTokenizer
from vocable.tokenizers.gathering import Reading
from vocable.training.audio_cache import AudioCache
from vocable.training.checkpoints import Checkpoint
from vocable.training.crops import Crops, held_out
from vocable.training.desk import Desk
from vocable.training.encoder_frames import FrameCache
from vocable.training.encoder_task import EncoderTask, Masking
from vocable.training.encoder_trainer import EncoderTrainer
from vocable.training.regime import Regime
from vocable.training.reports import Report
from vocable.training.work import CHECKPOINT, Diary, claim

EncoderSize = Literal["tiny", "small"]

_BANDS = 80
_SHARED = {
    "feature_projection_input_dim": 2 * _BANDS,
    "position_embeddings_type": "relative_key",
    "left_max_position_embeddings": 32,
    "right_max_position_embeddings": 32,
    "conv_depthwise_kernel_size": 15,
    "num_attention_heads": 4,
    "hidden_act": "swish",
}


@dataclass(frozen=True, slots=True)
class EncoderDesign:
    """Width, number of blocks and width of their feed-forward networks; dropout while it is trained."""

    dim: int = 256
    depth: int = 6
    width: int = 768
    dropout: float = 0.1

    def values(self) -> dict[str, Any]:
        """Those of a w2v-BERT config.json; clamped relative positions, so that length is no matter."""
        size = {"hidden_size": self.dim, "num_hidden_layers": self.depth, "intermediate_size": self.width}
        return {**_SHARED, **size}


@dataclass(frozen=True, slots=True)
class EncoderPlan:
    """A design and how it is trained if nothing else is asked for."""

    design: EncoderDesign
    regime: Regime
    crops: Crops


ENCODERS: Mapping[EncoderSize, EncoderPlan] = {
    "tiny": EncoderPlan(
        EncoderDesign(192, 6, 768, 0.0),
        Regime(None, 20.0, 2e-3, warm_up=100, discriminators="none", ema=0.99, report_every=20, check_every=200),
        Crops(8, 4.0),
    ),
    "small": EncoderPlan(
        EncoderDesign(),
        Regime(None, 20.0, 1.5e-3, warm_up=1000, discriminators="none", report_every=50, check_every=1000),
        Crops(64, 6.4),
    ),
}
"""By name. tiny: 5.2 M weights, for two cores; small: 7.6 M, for a GPU."""

_ALONE = Processes()
_JUDGED = 64  # stretches at most
_CHECKPOINT_SECONDS = 120.0


@dataclass(frozen=True)
class TrainedEncoder:
    """What a training gives: settings and tensors by transformers' names, and the evidence of how it went."""

    config: Any
    tensors: Mapping[str, Tensor]
    preprocessor: Mapping[str, Any]
    evidence: Mapping[str, Any]

    @property
    def weights(self) -> int:
        """How many it has."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def save_pretrained(self, path: Path, *, half: bool = False, overwrite: bool = False) -> None:
        """Writes a directory as transformers does for a Wav2Vec2BertModel, whole or not at all, and training.json.

        half: weights in 16 bits. OutputError if something is there and `overwrite` is not given.
        """
        from safetensors.torch import save_file

        dtype = torch.float16 if half else torch.float32
        tensors = {name: tensor.to(dtype).contiguous() for name, tensor in self.tensors.items()}
        with new_directory(path, overwrite=overwrite) as folder:
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
            self.config.dtype = dtype
            self.config.architectures = ["Wav2Vec2BertModel"]
            self.config.save_pretrained(folder)
            for name, values in (("preprocessor_config", self.preprocessor), ("training", self.evidence)):
                (folder / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")


def train_encoder(
    corpus: Corpus,
    targets: WindowTokenizer,
    work: Path,
    *,
    design: EncoderDesign,
    regime: Regime,
    crops: Crops | None = None,
    masking: Masking | None = None,
    tokens: TokenStore | None = None,
    device: str = "cpu",
    processes: Processes = _ALONE,
    reading: Reading | None = None,
    on_cache: Callable[[AudioCache], None] = lambda cache: None,
    on_report: Callable[[Report], None] = lambda report: None,
) -> TrainedEncoder:
    """Trains an encoder to tell the codes of what it does not see.

    targets: any tokenizer; each of its codebooks gets a head of its own. Its codes are brought to the encoder's 50 Hz
        by the frame grid (see `FrameCache`).
    work: a folder for sound, tokens, spectra and checkpoint. If it holds those of the same training, this goes on from
        there to the same encoder.
    regime: how to train, its seed decides everything.
    crops, masking: what a step sees. 2 % of the recordings are held out.
    tokens: a store of the corpus's tokens, made already; None to make it in `work`.
    processes: those that train together, each on crops of its own. reading: how the corpus is read, and who hears.
    on_cache hears of the cache of sound before it is filled, on_report of the training.

    InputError if there is less sound than one crop, if `work` holds another training, or if this one diverges;
    SpecError if the tokens are not the targets'; ArtifactError if what is in `work` is damaged.
    """
    crops, masking, reading = crops or Crops(), masking or Masking(), reading or Reading()
    if processes.rank == 0:
        claim(work, "encoder")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(regime.seed)
        network = MaskedPrediction(
            design.values(), [book.size for book in targets.spec.codebooks], dropout=design.dropout
        )
    desk = Desk(targets, network.sample_rate, network.hop_length, processes, reading, on_cache)
    clips = desk.clips(corpus, work, tokens)
    cache = FrameCache.create(work / "frames", clips, bands=network.bands, window=network.window, processes=processes)
    out = held_out([clip.id for clip in clips.clips])
    training = [number for number, stretch in enumerate(cache.stretches) if stretch.id not in out]
    held = [number for number, stretch in enumerate(cache.stretches) if stretch.id in out][:_JUDGED]
    task = EncoderTask(network, cache, training, held, crops=crops, masking=masking, seed=regime.seed)
    settings = {"design": asdict(design), "crops": asdict(crops), "masking": asdict(masking)}
    trainer = EncoderTrainer(task, regime, device=device, processes=processes)
    diary = Diary(work, on_report)
    digest = sha256(json.dumps([cache.identity, settings]).encode()).hexdigest()
    trainer.run(diary, Checkpoint(work / CHECKPOINT, digest, seconds=_CHECKPOINT_SECONDS))
    network.load_state_dict(trainer.weights())
    seconds = sum(cache.stretches[number].frames for number in training) * network.hop_length / network.sample_rate
    evidence = settings | {
        "regime": asdict(regime),
        "targets": {"source": targets.spec.source, "labels": list(targets.spec.labels)},
        "recordings": len(clips.clips) - len(out),
        "audio_seconds": round(seconds, 3),
        "processes": processes.world,
        "curve": diary.curve(),
    }
    preprocessor = {
        "feature_extractor_type": "SeamlessM4TFeatureExtractor",
        "feature_size": network.bands,
        "padding_value": 0.0,
        **network.features(),
    }
    tensors = {name: tensor.cpu() for name, tensor in network.upstream_state().items()}
    return TrainedEncoder(network.config, tensors, preprocessor, evidence)
