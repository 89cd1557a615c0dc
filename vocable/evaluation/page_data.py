"""What an evaluation's page is told, as plain values for JSON: systems, scores, token figures, units over time."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from vocable.errors import VocableError
from vocable.evaluation.page_sounds import LONGEST, Clip, Sounds, ranking
from vocable.evaluation.results import Column, Evaluation, System, TokenFigures
from vocable.metrics.tokens import frame_centres
from vocable.store import TokenStore
from vocable.types import TokenSpec

ROWS = 8  # codebooks whose units are shown under a spectrogram


def page_data(evaluation: Evaluation) -> dict[str, Any]:
    """All that needs no sound. Nothing from outside is a key: names are values, in lists."""
    names = [system.name for system in evaluation.systems]
    told = "\0".join([evaluation.title, *names, *(item.id for item in evaluation.items)])
    return {
        "identity": sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:16],
        "title": evaluation.title,
        "facts": _pairs(evaluation.facts),
        "commands": list(evaluation.commands),
        "leftOut": _pairs(evaluation.left_out),
        "items": [
            {"id": item.id, "text": item.text, "speaker": item.speaker, "seconds": round(item.seconds, 3)}
            for item in evaluation.items
        ],
        "metrics": [
            {"name": metric.name, "what": metric.what, "unit": metric.unit, "higher": metric.higher_is_better}
            for metric in evaluation.metrics
        ],
        "systems": [_system(evaluation, system) for system in evaluation.systems],
    }


def _system(evaluation: Evaluation, system: System) -> dict[str, Any]:
    columns = [system.scores.get(metric.name) for metric in evaluation.metrics]
    return {
        "name": system.name,
        "kind": system.kind,
        "bitrate": _number(system.bitrate),
        "facts": _pairs(system.facts),
        "scores": [None if column is None else _column(column) for column in columns],
        "tokens": None if system.tokens is None else _tokens(system.tokens),
    }


def _column(column: Column) -> dict[str, Any]:
    summary = column.summary
    return {
        "values": [_number(value) for value in column.values],
        "mean": _number(summary.mean),
        "low": _number(summary.low),
        "high": _number(summary.high),
        "count": summary.count,
        "failed": summary.failed,
        "failures": _pairs(column.failures),
    }


def _tokens(tokens: TokenFigures) -> dict[str, Any]:
    phones = {label: asdict(figures) for label, figures in tokens.phones.items()}
    pairs = [(label, _number(value)) for label, value in tokens.pairs.items()]
    return {
        "rates": [_numbers(asdict(row)) for row in tokens.rates],
        "use": [_numbers({k: v for k, v in asdict(row).items() if k != "run_histogram"}) for row in tokens.use],
        "pairs": pairs,
        "phones": [(label, _numbers(figures)) for label, figures in phones.items()],
    }


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _number(value) if isinstance(value, float) else value for name, value in row.items()}


def _pairs(values: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in values.items()]


def _number(value: float | None) -> float | str | None:
    # JSON has no infinities, which go as text; five digits are more than anybody reads
    if value is None or math.isnan(value):
        return None
    return float(f"{value:.5g}") if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def sounds_data(sounds: Sounds, evaluation: Evaluation) -> dict[str, Any]:
    """What the page says of its players: coding, which items have some, and what cannot be read."""
    return {
        "coding": sounds.coding,
        "bitrate": _number(sounds.bitrate),
        "longest": LONGEST,
        "ranked": metric.name if (metric := ranking(evaluation)) else "",
        "clips": [_clip(index, clip) for index, clip in sorted(sounds.clips.items())],
        "missing": [*sounds.missing],
    }


def _clip(index: int, clip: Clip) -> dict[str, Any]:
    present = [number for number, sound in enumerate(clip.sounds) if sound is not None]
    return {"item": index, "rate": clip.rate, "systems": present}


def ribbons(evaluation: Evaluation, folder: Path, indices: Iterable[int], room: int) -> list[dict[str, Any]]:
    """Units over time of every system whose store is known: as many codebooks, from the first, as `room` bytes hold.

    Codes are little-endian integers of two bytes, or of four where a codebook is larger, in base64, a codebook after
    the other. What cannot be read is left out: it is an ornament of the page, and the store's own commands complain.
    """
    stores = [(number, store) for number, system in enumerate(evaluation.systems) if (store := _store(system, folder))]
    ids = {evaluation.items[index].id: index for index in indices}
    found = [_ribbon(number, store, ids, room // len(stores)) for number, store in stores]
    return [ribbon for ribbon in found if ribbon is not None]


def _store(system: System, folder: Path) -> tuple[TokenStore, tuple[str, ...]] | None:
    if system.store is None or system.tokens is None:
        return None
    try:
        store = TokenStore.open(folder / system.store)
    except (VocableError, OSError):
        return None
    labels = tuple(row.label for row in system.tokens.use)
    return (store, labels) if labels and set(labels) <= set(store.spec.labels) else None


def _ribbon(
    number: int, store: tuple[TokenStore, tuple[str, ...]], ids: Mapping[str, int], room: int
) -> dict[str, Any] | None:
    opened, labels = store
    spec = opened.spec
    places = spec.indices(labels[:ROWS])
    longest = spec.num_frames(round(LONGEST * spec.sample_rate))
    kind = "<u2" if max(spec.codebooks[place].size for place in places) <= 1 << 16 else "<u4"
    codes = {ids[entry.id]: entry.codes[places, :longest] for entry in opened if entry.id in ids}
    width = sum(row.shape[1] for row in codes.values()) * np.dtype(kind).itemsize * 4 // 3 + 12 * len(codes)
    rows = min(len(places), room // max(1, width))
    if not rows:
        return None
    return {
        "system": number,
        "labels": list(labels[:rows]),
        "bytes": int(kind[-1]),
        **_clock(spec),
        "codes": [(index, b64encode(row[:rows].astype(kind).tobytes()).decode()) for index, row in codes.items()],
    }


def _clock(spec: TokenSpec) -> dict[str, float]:
    """Seconds: where the first frame begins, and how long each is drawn."""
    step = spec.hop_length / spec.sample_rate
    return {"start": float(frame_centres(spec, 1)[0]) - step / 2, "step": step}
