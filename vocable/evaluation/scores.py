"""Scores of all systems on the same recordings; what has no sound counts as failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vocable.corpus import Utterance
from vocable.evaluation.results import Column
from vocable.files import inside
from vocable.metrics.reconstruction import Scores
from vocable.metrics.scoring import score_pairs, summarize_scores
from vocable.progress import Watcher, unwatched


@dataclass(frozen=True)
class Sounds:
    """Where the sounds of a system are: files of one suffix in a folder, or for None the recordings themselves.

    missing: id -> why there is none.
    """

    folder: Path | None
    suffix: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)

    def of(self, utterance: Utterance) -> Path:
        """The sound file of a recording."""
        return utterance.path if self.folder is None else inside(self.folder, utterance.id, self.suffix)


def score_systems(
    utterances: Sequence[Utterance],
    systems: Mapping[str, Sounds],
    metrics: Iterable[str],
    *,
    workers: int = 0,
    cache: Path | None = None,
    max_shift: float = 0.0,
    watcher: Watcher = unwatched,
) -> dict[str, dict[str, Column]]:
    """A column for each system and metric, in the order of the recordings; options and errors as of `score_pairs`."""
    # recording by recording, so that what a judge keeps of an original is still there for the next system
    keys = {
        (name, utterance.id): f"{number}/{utterance.id}"
        for utterance in utterances
        for number, (name, sounds) in enumerate(systems.items())
        if utterance.id not in sounds.missing
    }
    by_id = {utterance.id: utterance for utterance in utterances}
    pairs = [(key, by_id[one].path, systems[name].of(by_id[one])) for (name, one), key in keys.items()]
    scored = score_pairs(
        pairs,
        metrics,
        texts={key: str(by_id[one].fields.get("text") or "") for (_, one), key in keys.items()},
        workers=workers,
        cache=cache,
        max_shift=max_shift,
        watcher=watcher,
    )
    places = {key: place for place, key in enumerate(keys)}
    ids = list(by_id)
    return {
        name: {metric: _column(name, ids, part.scores, places, sounds.missing) for metric, part in scored.items()}
        for name, sounds in systems.items()
    }


def _column(
    system: str,
    ids: Sequence[str],
    scores: Scores,
    places: Mapping[tuple[str, str], int],
    missing: Mapping[str, str],
) -> Column:
    """The scores of one system out of those of all."""
    failures = {
        index: missing.get(one) or scores.failures[places[system, one]]
        for index, one in enumerate(ids)
        if one in missing or places[system, one] in scores.failures
    }
    # what has no score may stand anywhere: it has no share in anything
    rows = torch.tensor([places.get((system, one), 0) for one in ids], dtype=torch.int64)
    values, weights = scores.values[rows], None if scores.weights is None else scores.weights[rows]
    return Column(
        values=tuple(None if index in failures else value for index, value in enumerate(values.tolist())),
        failures={ids[index]: why for index, why in failures.items()},
        summary=summarize_scores(Scores(values, failures, weights)),
    )
