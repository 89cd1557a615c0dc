"""What an evaluation found, in plain values: recordings, metrics, systems and their scores; to JSON and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vocable.errors import ArtifactError
from vocable.files import write_atomic
from vocable.metrics.coding import Rates
from vocable.metrics.runs import CodebookUse
from vocable.metrics.scoring import Summary

FORMAT = 1
NAME = "evaluation.json"
_INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True)
class Item:
    """A recording of the corpus; text and speaker are empty where the manifest says nothing."""

    id: str
    path: str
    seconds: float
    text: str = ""
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A metric that was taken: see `vocable.metrics.catalogue.Metric`."""

    name: str
    what: str
    unit: str
    higher_is_better: bool
    identity: str


@dataclass(frozen=True, slots=True)
class Column:
    """Scores of one system under one metric: values in the order of the items, None where one failed; id -> why."""

    values: tuple[float | None, ...]
    failures: Mapping[str, str]
    summary: Summary


@dataclass(frozen=True, slots=True)
class Phones:
    """What one codebook says of time-aligned phones, 0 to 1 each."""

    pnmi: float
    phone_purity: float
    cluster_purity: float


@dataclass(frozen=True, slots=True)
class TokenFigures:
    """Tokens of a system over the corpus: cost and use of each codebook, in order; `rates` ends with "all".

    frame_rate: Hz. pairs: bit/s after pair encoding (BPE), by codebook, empty where it was not tried. phones: by
    codebook, empty where the manifest has no phones.
    """

    frame_rate: float
    rates: tuple[Rates, ...]
    use: tuple[CodebookUse, ...]
    pairs: Mapping[str, float] = field(default_factory=dict)
    phones: Mapping[str, Phones] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class System:
    """One way from recordings to sound.

    kind: "original" is the recordings themselves, what metrics say of perfection; "tokens" a tokenizer and its vocoder;
    "sounds" files that another program made. bitrate: raw bit/s, None for the original or where it is unknown.
    sounds: the folder of its sound files, relative to the evaluation's; None for the original. suffix: of those files,
    each named after its item's id (`vocable.files.inside`). facts: label -> value, to be shown. scores: by metric.
    store: that of its tokens, relative to the evaluation's folder; others may share it. None for what has no tokens.
    """

    name: str
    kind: Literal["original", "tokens", "sounds"]
    bitrate: float | None
    sounds: str | None
    suffix: str
    facts: Mapping[str, str]
    tokens: TokenFigures | None
    scores: Mapping[str, Column]
    store: str | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A whole comparison: the original is the first system. facts: of corpus, machine and versions, to be shown.

    left_out: id -> why, of recordings that could not be read at all, and that no system is judged on.
    """

    title: str
    items: tuple[Item, ...]
    metrics: tuple[Judged, ...]
    systems: tuple[System, ...]
    facts: Mapping[str, str]
    commands: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Writes evaluation.json into the folder, whole or not at all."""
        told = _plain({"format": FORMAT, **asdict(self)})
        write_atomic(folder / NAME, json.dumps(told, indent=1, allow_nan=False).encode())

    @classmethod
    def load(cls, folder: Path) -> Evaluation:
        """Reads what `save` wrote. ArtifactError if it is none."""
        try:
            told = json.loads((folder / NAME).read_bytes(), parse_constant=_refused)
            if told["format"] != FORMAT:
                raise ValueError(f"format {told['format']}")
            return cls(
                title=told["title"],
                items=tuple(Item(**item) for item in told["items"]),
                metrics=tuple(Judged(**metric) for metric in told["metrics"]),
                systems=tuple(_system(system) for system in told["systems"]),
                facts=told["facts"],
                commands=tuple(told["commands"]),
                left_out=told["left_out"],
            )
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise ArtifactError(f"expected an evaluation in {folder}, got {problem}") from problem


def _system(told: dict[str, Any]) -> System:
    tokens, scores = told.pop("tokens"), told.pop("scores")
    return System(
        **told,
        tokens=_tokens(tokens) if tokens else None,
        scores={name: _column(column) for name, column in scores.items()},
    )


def _tokens(told: dict[str, Any]) -> TokenFigures:
    return TokenFigures(
        frame_rate=told["frame_rate"],
        rates=tuple(Rates(**row) for row in told["rates"]),
        use=tuple(CodebookUse(**row | {"run_histogram": tuple(row["run_histogram"])}) for row in told["use"]),
        pairs=told["pairs"],
        phones={label: Phones(**figures) for label, figures in told["phones"].items()},
    )


def _column(told: dict[str, Any]) -> Column:
    summary: dict[str, Any] = {
        name: math.nan if value is None else _number(value) for name, value in told["summary"].items()
    }
    return Column(tuple(map(_number, told["values"])), told["failures"], Summary(**summary))


def _number(value: Any) -> Any:
    return _INFINITE.get(value, value) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """JSON has no infinities, which go as text, and no NaN, which goes as null."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _refused(name: str) -> float:
    raise ValueError(name)
