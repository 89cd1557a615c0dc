"""`vocable inspect`: what is this? In one screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vocable.cli import shared

if TYPE_CHECKING:
    from vocable.tokenizers import JoinedTokenizer, NeuralCodec, UnitTokenizer
    from vocable.types import TokenSpec

Row = tuple[str, str]
_MANY = 32  # codebooks that are shown one by one


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--agreement",
    multiple=True,
    metavar="CORPUS",
    help="Measure on this audio how many codes change with precision and batching (units of a model).",
)
@shared.workers_option
def command(path: Path, agreement: tuple[str, ...], workers: int | None) -> None:
    """Say what an artifact, a model, a token store or a sound file is.

    \b
    vocable inspect units/
    vocable inspect units/ --agreement speech/
    vocable inspect tokens/
    vocable inspect speech/a.flac
    """
    if agreement:
        rows = _agreement(path, agreement, shared.pick_workers(workers))
    elif (path / "_store.json").exists():
        rows = _store(path)
    elif path.is_dir():
        rows = _artifact(path)
    else:
        rows = _sound(path)
    listed = list(rows)
    width = max(len(label) for label, _ in listed)
    for label, value in listed:
        click.echo(f"{label:<{width}}  {value}")


def _sound(path: Path) -> Iterator[Row]:
    from vocable import audio

    info = audio.info(path)
    yield "kind", f"sound file ({info.format}, {info.coding})"
    yield "length", f"{info.seconds:,.3f} s, {info.samples:,} samples at {info.sample_rate:,} Hz"
    yield "channels", str(info.channels)
    yield "sha256", audio.checksum(path)


def _artifact(path: Path) -> Iterator[Row]:
    from vocable.tokenizers import JoinedTokenizer, NeuralCodec, is_model, load
    from vocable.tokenizers.checkpoint import Checkpoint
    from vocable.vocoders.units import KIND

    if Checkpoint.open(str(path)).config.get("kind") == KIND:
        yield from _vocoder(path)
        return
    if is_model(str(path)):
        yield from _model(path)
        return
    tokenizer = load(str(path))
    yield "kind", _kind(tokenizer)
    yield "fingerprint", tokenizer.fingerprint
    if isinstance(tokenizer, JoinedTokenizer):
        yield from _spec_rows(tokenizer.spec)
        yield from _parts(tokenizer)
        return
    yield from _codec(tokenizer) if isinstance(tokenizer, NeuralCodec) else _units(tokenizer)
    yield from _spec_rows(tokenizer.spec)
    yield from _evidence_rows(tokenizer.evidence)
    yield from _training_rows(tokenizer.evidence)


def _kind(tokenizer: UnitTokenizer | JoinedTokenizer | NeuralCodec) -> str:
    from vocable.tokenizers import JoinedTokenizer, NeuralCodec

    if isinstance(tokenizer, NeuralCodec):
        return "neural codec"
    return "joined tokenizer" if isinstance(tokenizer, JoinedTokenizer) else "unit tokenizer"


def _vocoder(path: Path) -> Iterator[Row]:
    from vocable.vocoders import UnitVocoder

    vocoder = UnitVocoder.from_pretrained(path)
    generator = vocoder.decoder.config()["generator"]
    weights = sum(weight.numel() for weight in vocoder.decoder.parameters()) / 1e6
    yield "kind", "vocoder"
    yield "fingerprint", vocoder.fingerprint
    yield "decodes", f"any of the layers {', '.join(vocoder.layers)} of tokenizer {vocoder.spec.source[:12]}"
    yield from _spec_rows(vocoder.spec)
    yield "sound", f"{vocoder.sample_rate:,} Hz"
    yield "generator", f"{generator['kind']}, {weights:.1f} M weights, latency {1000 * vocoder.latency:.0f} ms"
    yield "voices", ", ".join(vocoder.speakers) or "one"
    yield "durations", f"of {vocoder.durations.layer}" if vocoder.durations else "none"
    yield from _training_rows(vocoder.evidence)


def _training_rows(evidence: Mapping[str, Any]) -> Iterator[Row]:
    """How a vocoder or a codec was trained, and what it reached on recordings held out."""
    if curve := evidence.get("curve"):
        heard = f"{evidence['recordings']:,} recordings, {evidence['audio_seconds'] / 60:,.1f} minutes"
        yield "trained on", f"{heard}, {curve[-1]['step']:,} steps"
        figures = [report["figures"] for report in curve if report["figures"]]
        if figures:
            yield "held out", ", ".join(f"{name} {value:.4g}" for name, value in figures[-1].items())


def _model(path: Path) -> Iterator[Row]:
    from vocable.tokenizers import build

    model = build(str(path))
    yield "kind", "self-supervised model"
    yield "layers", f"{', '.join(model.layers)}, {model.dim} wide"
    yield "clock", f"{model.sample_rate / model.hop_length:g} frames/s at {model.sample_rate:,} Hz"
    yield "units", f"none yet: vocable train kmeans CORPUS --features {path} --layers N --out units/"


def _codec(codec: NeuralCodec) -> Iterator[Row]:
    family = type(codec.net.model).__name__.removesuffix("Model")
    yield "codec", f"{family}, {'mono' if codec.channels == 1 else f'{codec.channels} channels'}"
    yield "streams", "yes, chunk by chunk" if codec.net.causal else "no, window by window"


def _units(units: UnitTokenizer) -> Iterator[Row]:
    from vocable.tokenizers.extractors import origin

    if model := origin(units.extractor).get("model"):
        yield "model", model
    settings = units.extractor.config().items()
    yield "features", ", ".join(f"{name} {value}" for name, value in settings if isinstance(value, str | int | float))


def _parts(joined: JoinedTokenizer) -> Iterator[Row]:
    for number, (name, part) in enumerate(zip(joined.names, joined.parts, strict=True), start=1):
        for label, value in (*_units(part), *_evidence_rows(part.evidence)):
            yield f"{name or number}: {label}", value


def _agreement(path: Path, sources: tuple[str, ...], workers: int) -> Iterator[Row]:
    from vocable.errors import InputError
    from vocable.metrics.agreement import agreement
    from vocable.tokenizers import UnitTokenizer
    from vocable.tokenizers.variants import REFERENCE, variants

    others = variants(UnitTokenizer.from_pretrained(path))
    if not others:
        raise InputError(f"{path} computes its features in one way only", hint="agreement is of units of a model")
    found = agreement(shared.read_corpus(sources), others.pop(REFERENCE), others, workers=workers)
    for name, same in found.items():
        shares = ", ".join(f"{label} {share:.4%}" for label, share in same.share.items())
        yield name, f"{shares} of {same.frames:,} frames as in {REFERENCE}"


def _evidence_rows(evidence: Mapping[str, Any]) -> Iterator[Row]:
    for source in evidence.get("imported", ()):
        yield "imported", f"{source['file']}, sha256 {source['sha256']}"
    if "fits" in evidence:
        yield (
            "trained on",
            (
                f"{evidence['recordings']:,} recordings, {evidence['audio_seconds'] / 60:,.1f} minutes, "
                f"{evidence['frames_used']:,} of {evidence['frames_seen']:,} frames, seed {evidence['seed']}"
            ),
        )
        for label, fit in evidence["fits"].items():
            yield (
                f"fit of {label}",
                (
                    f"objective {fit['objective'][-1]:.4g} after {fit['iterations']} iterations, "
                    f"usage {fit['usage']:.1%}, entropy {fit['entropy']:.2f} bits"
                ),
            )


def _store(path: Path) -> Iterator[Row]:
    from vocable.metrics.summary import summarize
    from vocable.store import TokenStore

    store = TokenStore.open(path)
    held, shards = summarize(store), store.shards()
    yield "kind", "token store"
    yield "tokenizer", store.spec.source
    yield from _spec_rows(store.spec)
    yield "holds", f"{held.recordings:,} recordings, {held.seconds / 60:,.1f} minutes, {held.frames:,} frames"
    yield "shards", f"{len(shards):,}, {sum(shard.stat().st_size for shard in shards) / 1e6:,.2f} MB"
    use = held.use()
    for label in [*use][:_MANY]:
        yield f"use of {label}", use[label]
    yield "failed", f"{len(store.failures()):,} recordings"


def _spec_rows(spec: TokenSpec) -> Iterator[Row]:
    books = [f"{book.label} ({book.size})" for book in spec.codebooks]
    more = f"{len(books)}: {books[0]}, {books[1]}, ... {books[-1]}" if len(books) > _MANY else ", ".join(books)
    yield "codebooks", more
    yield "clock", f"{spec.frame_rate:g} frames/s at {spec.sample_rate:,} Hz (hop {spec.hop_length})"
    yield "bitrate", f"{spec.bitrate:,.0f} bit/s"
