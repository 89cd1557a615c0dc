"""`vocable train vq`, `rvq`, `fsq` and the like: quantizers that are trained with gradients."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vocable.cli import shared
from vocable.cli.train import parse_layers

if TYPE_CHECKING:
    from vocable.corpus import Failure
    from vocable.quantizers.trainable import Design
    from vocable.quantizers.trainer import Check
    from vocable.tokenizers import UnitTokenizer
    from vocable.tokenizers.ssl import Precision
    from vocable.tokenizers.ssl_batches import Mode

_LINE_SECONDS = 10.0
_FEATURES = (
    click.option(
        "--features",
        default="mfcc",
        show_default=True,
        metavar="mfcc|logmel|stacked-mel|MODEL|latents:CODEC",
        help="What to quantize: spectra, layers of a model, or what a codec's encoder gives.",
    ),
    click.option("--layers", metavar="6,9", help="Layers of the model, a quantizer for each: 6,9 or 4-9 or all."),
    click.option("--revision", help="Revision of the model on the hub."),
    shared.precision_option,
    click.option("--mode", type=click.Choice(["exact", "fast"]), default="exact", show_default=True),
    click.option("--normalize-layers", is_flag=True, help="Scale each frame of a layer to mean 0 and variance 1."),
    shared.device_option,
)
_SCHEDULE = (
    click.option("--steps", type=click.IntRange(1), default=4000, show_default=True, help="Batches at most."),
    click.option("--batch", type=click.IntRange(1), default=1024, show_default=True, help="Frames of a batch."),
    click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=3e-4, show_default=True),
    click.option(
        "--patience",
        type=click.IntRange(1),
        default=10,
        show_default=True,
        help="Stop after so many checks, 100 steps apart, without a gain.",
    ),
    click.option("--seed", type=int, default=0, show_default=True),
)
_RUN = (
    shared.out_option,
    click.option(
        "--memory",
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        show_default=True,
        help="GiB of frames to hold; of a larger corpus a uniform sample is used.",
    ),
    click.option(
        "--checkpoints",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder for the state of the training; the same command goes on from there.",
    ),
    click.option("--bundle", is_flag=True, help="Put the model's weights inside the artifact."),
    shared.workers_option,
    shared.overwrite_option,
)
_size_option = click.option(
    "--size", type=click.IntRange(1), default=1024, show_default=True, help="Entries of each codebook."
)
_latent_option = click.option(
    "--latent", type=click.IntRange(1), help="Dimensions that are quantized.  [default: the features', at most 256]"
)
_dropout_option = click.option(
    "--dropout/--no-dropout", default=True, help="Whether every number of first codebooks is trained for, or only all."
)


def _codebooks_option(default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    text = "Codebooks for each layer."
    return click.option("--codebooks", type=click.IntRange(1), default=default, show_default=True, help=text)


@dataclass(frozen=True)
class _Run:
    """The options that all commands have."""

    corpus: tuple[str, ...]
    features: str
    layers: str | None
    revision: str | None
    precision: Precision
    mode: Mode
    normalize_layers: bool
    device: str
    steps: int
    batch: int
    learning_rate: float
    patience: int
    seed: int
    out: Path
    memory: float
    checkpoints: Path | None
    bundle: bool
    workers: int | None
    overwrite: bool

    def train(self, design: Design) -> None:
        """Trains the design, saves the tokenizer, and says how it went."""
        from vocable.files import require_absent

        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise click.UsageError("this training runs in one process: start it without torchrun")
        require_absent(self.out, overwrite=self.overwrite)
        failures: list[Failure] = []
        tokenizer = self._trained(design, failures)
        tokenizer.save_pretrained(self.out, bundle=self.bundle, overwrite=self.overwrite)
        for failure in failures:
            shared.say(f"left out: {failure.path}: {failure.reason}")
        _report(tokenizer, self.out)

    def _trained(self, design: Design, failures: list[Failure]) -> UnitTokenizer:
        from vocable.quantizers.trainer import Schedule
        from vocable.tokenizers import build
        from vocable.tokenizers.training_quantizer import train_quantizer

        device = shared.pick_device(self.device)
        extractor = build(
            self.features,
            layers=parse_layers(self.layers),
            precision=self.precision,
            mode=self.mode,
            normalize_layers=self.normalize_layers,
            revision=self.revision,
            device=device,
        )
        schedule = Schedule(
            self.steps, self.batch, learning_rate=self.learning_rate, patience=self.patience, seed=self.seed
        )
        with shared.display("features") as display:
            return train_quantizer(
                shared.read_corpus(self.corpus),
                extractor,
                design,
                schedule=schedule,
                memory=int(self.memory * 2**30),
                checkpoints=self.checkpoints,
                device=device,
                workers=shared.pick_workers(self.workers),
                batch_seconds=shared.batch_seconds(device),
                watcher=display.watch,
                on_failure=failures.append,
                on_check=_Lines(self.steps),
            )


class _Lines:
    """A line on how training goes: the first check of each layer, then one every few seconds."""

    def __init__(self, steps: int) -> None:
        self._steps, self._layer, self._said = steps, "", 0.0

    def __call__(self, layer: str, check: Check) -> None:
        if layer == self._layer and time.monotonic() - self._said < _LINE_SECONDS:
            return
        self._layer, self._said = layer, time.monotonic()
        shared.say(f"{layer}: step {check.step} of {self._steps}, error {check.objective:.4g}, usage {check.usage:.1%}")


def _command(function: Callable[..., None]) -> click.Command:
    """A command with the options of all and its own; the function gets the former as a _Run."""

    @wraps(function)
    def collected(**options: Any) -> None:
        run = _Run(**{field.name: options.pop(field.name) for field in fields(_Run)})
        function(run, **options)

    decorated: Callable[..., None] = collected
    for option in reversed((shared.corpus_argument, *_FEATURES, *_RUN, *_SCHEDULE)):
        decorated = option(decorated)
    return click.command()(decorated)


@_command
@_size_option
@_latent_option
def vq(run: _Run, size: int, latent: int | None) -> None:
    """Train one codebook between a light encoder and decoder of single frames.

    \b
    vocable train vq speech/ --size 4096 --out units/
    vocable train vq train.jsonl --features facebook/hubert-base-ls960 --layers 9 --size 2000 --out units/
    """
    from vocable.quantizers.trainable import Design

    run.train(Design("vq", size=size, latent=latent))


@_command
@_size_option
@_codebooks_option(8)
@click.option("--groups", type=click.IntRange(1), default=1, show_default=True, help="Groups of dimensions, apart.")
@click.option(
    "--masked", type=click.IntRange(0), default=0, help="First codebooks that share the dimensions.  [default: none]"
)
@_dropout_option
@_latent_option
def rvq(run: _Run, size: int, codebooks: int, groups: int, masked: int, dropout: bool, latent: int | None) -> None:
    """Train codebooks that each refine the ones before, between a light encoder and decoder of single frames.

    \b
    vocable train rvq speech/ --features logmel --codebooks 4 --size 256 --out units/
    vocable train rvq train.jsonl --features facebook/hubert-base-ls960 --layers 6,9 --out units/
    vocable train rvq speech/ --codebooks 4 --masked 3 --out units/
    """
    from vocable.quantizers.trainable import Design

    if groups > 1 and masked:
        raise click.UsageError("--groups and --masked exclude each other")
    kind = "masked-rvq" if masked else "grouped-rvq" if groups > 1 else "rvq"
    run.train(
        Design(
            kind,
            size=size,
            num_codebooks=codebooks,
            groups=groups,
            masked=masked,
            dropout=dropout,
            latent=latent,
        )
    )


@_command
@_size_option
@_latent_option
def simvq(run: _Run, size: int, latent: int | None) -> None:
    """Train one codebook all of whose entries move together (SimVQ), so that none is left behind.

    \b
    vocable train simvq speech/ --size 8192 --out units/
    """
    from vocable.quantizers.trainable import Design

    run.train(Design("simvq", size=size, latent=latent))


@_command
@click.option("--levels", default="8,5,5,5", show_default=True, help="Levels of each dimension that is quantized.")
@_codebooks_option(1)
def fsq(run: _Run, levels: str, codebooks: int) -> None:
    """Train finite scalar quantization: no codebook, a few dimensions rounded to levels.

    Several codebooks refine one another (residual FSQ).

    \b
    vocable train fsq speech/ --features logmel --out units/
    vocable train fsq train.jsonl --features facebook/hubert-base-ls960 --layers 9 --levels 7,5,5,5,5 --out units/
    """
    from vocable.quantizers.trainable import Design

    try:
        counts = tuple(int(level) for level in levels.split(","))
    except ValueError:
        raise click.UsageError(f"expected --levels such as 8,5,5,5, got {levels!r}") from None
    run.train(Design("residual-fsq" if codebooks > 1 else "fsq", levels=counts, num_codebooks=codebooks))


@_command
@_size_option
@_codebooks_option(1)
def lfq(run: _Run, size: int, codebooks: int) -> None:
    """Train lookup-free quantization: a code is the signs of log2(size) dimensions.

    \b
    vocable train lfq speech/ --features logmel --size 1024 --codebooks 2 --out units/
    """
    from vocable.quantizers.trainable import Design

    run.train(Design("lfq", size=size, num_codebooks=codebooks))


@_command
@click.option("--size", type=click.IntRange(1), default=320, show_default=True, help="Entries of each group.")
@_codebooks_option(2)
@_latent_option
def gumbel(run: _Run, size: int, codebooks: int, latent: int | None) -> None:
    """Train Gumbel vector quantization (vq-wav2vec, wav2vec 2.0): groups of entries chosen by logits.

    \b
    vocable train gumbel speech/ --features logmel --size 320 --codebooks 2 --out units/
    """
    from vocable.quantizers.trainable import Design

    run.train(Design("gumbel", size=size, num_codebooks=codebooks, latent=latent))


def _report(tokenizer: UnitTokenizer, out: Path) -> None:
    evidence = tokenizer.evidence
    shared.say(
        f"{shared.plural(evidence['recordings'], 'recording')}, {evidence['audio_seconds'] / 60:.1f} minutes, "
        f"{evidence['frames_used']:,} of {evidence['frames_seen']:,} frames used"
    )
    for label, fit in evidence["fits"].items():
        shared.say(
            f"{label}: error {fit['objective'][-1]:.4g} after {fit['iterations']} steps, "
            f"usage {fit['usage']:.1%}, entropy {fit['entropy']:.2f} of {fit['judgement']['raw_bits']:.2f} bits"
        )
    shared.say(f"units {tokenizer.fingerprint[:12]} in {out}")
