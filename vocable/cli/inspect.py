"""`vocable inspect`: what is this? In one screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vocable.types import TokenSpec

Row = tuple[str, str]


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def command(path: Path) -> None:
    """Say what an artifact, a token store or a sound file is.

    \b
    vocable inspect units/
    vocable inspect tokens/
    vocable inspect speech/a.flac
    """
    if (path / "_store.json").exists():
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
    from vocable.tokenizers import UnitTokenizer

    units = UnitTokenizer.from_pretrained(path)
    extractor = units.extractor.config()
    yield "kind", "unit tokenizer"
    yield "fingerprint", units.fingerprint
    yield (
        "features",
        ", ".join(f"{name} {value}" for name, value in extractor.items() if isinstance(value, str | int | float)),
    )
    yield from _spec_rows(units.spec)
    evidence = units.evidence
    if evidence:
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
    for label, use in held.use().items():
        yield f"use of {label}", use
    yield "failed", f"{len(store.failures()):,} recordings"


def _spec_rows(spec: TokenSpec) -> Iterator[Row]:
    yield "codebooks", ", ".join(f"{book.label} ({book.size})" for book in spec.codebooks)
    yield "clock", f"{spec.frame_rate:g} frames/s at {spec.sample_rate:,} Hz (hop {spec.hop_length})"
    yield "bitrate", f"{spec.bitrate:,.0f} bit/s"
