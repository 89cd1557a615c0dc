"""What goes with a recommendation: its rule, its limits, the commands that follow from it, and the tokenizer itself."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vocable.corpus import Corpus
from vocable.evaluation.choose_candidates import Candidate
from vocable.evaluation.choose_results import Row
from vocable.evaluation.choose_scores import PNMI, Question
from vocable.evaluation.choose_sweep import Fit, Source
from vocable.files import write_atomic
from vocable.tokenizers import UnitTokenizer
from vocable.tokenizers.ssl import SSLExtractor
from vocable.types import FeatureExtractor

UNITS, MANIFEST = "units", "train.jsonl"


def rule(question: Question) -> str:
    """How the choice is made, in one sentence."""
    how = f"by the 95 % interval of the difference, paired bootstrap over {len(question.split.test):,} test recordings"
    return (
        f"Rule: of the candidates whose {question.measure} is not worse than the best one's by more than chance "
        f"({how}), the one with the fewest bit/s; among equals the one with fewer units, then with the better score."
    )


def unknown(rows: Sequence[Row], bounds: Sequence[Row], best: int, chosen: int, question: Question) -> tuple[str, ...]:
    """What the recommendation does not know, most weighty first."""
    return (*_of_this(rows, bounds, rows[best], rows[chosen], question), *_of_any(question))


def _of_this(rows: Sequence[Row], bounds: Sequence[Row], best: Row, chosen: Row, question: Question) -> Iterator[str]:
    higher = question.higher_is_better
    rates = sorted({row.bitrate or 0.0 for row in rows})
    if question.baseline is not None and not _beats(best, question.baseline[1], higher=higher):
        yield (
            f"No candidate is better than guessing ({question.baseline[0]}) by more than chance: "
            "the recommendation is merely the cheapest."
        )
    if len(rates) > 1 and chosen.bitrate == rates[0]:
        yield "The cheapest tried is recommended; even fewer units may do."
    if len(rates) > 1 and best.bitrate == rates[-1]:
        yield "The best is the most expensive tried; more units may do better."
    reached, sign = {row.place: row.score.value for row in bounds}, 1 if higher else -1
    if any(sign * (row.score.value - reached[row.place]) > 0 for row in rows if row.place in reached):
        yield "Some units pass the features they are made of, which a small network finds harder: no strict bound."


def _of_any(question: Question) -> Iterator[str]:
    if question.measure == PNMI:
        yield "Phones were asked for alone, nothing of words, voices or melody."
    else:
        yield "A probe is a small network, not your model, which may hear more in the same tokens or need more of them."
    yield (
        "Chance is that of the recordings in the test; what another seed of a fit or of a probe would change is not in "
        "the intervals, and the best of many candidates is flattered a little."
    )
    if not question.split.rule.startswith("field "):
        yield "The test was drawn at random: its voices and rooms may be those of the training. --split names another."
    yield "How tokens sound when they are made audio again was not asked."


def _beats(row: Row, guess: float, *, higher: bool) -> bool:
    return row.score.low > guess if higher else row.score.high < guess


def commands(
    candidate: Candidate, source: Source, out: Path, corpus: Sequence[str], *, seed: int, again: str
) -> tuple[str, ...]:
    """To use the tokenizer at once, to make it again, and to run the sweep again if `again` says how."""
    use = ["vocable", "tokenize", *(corpus or ("CORPUS",)), "--tokenizer", str(out / UNITS), "--out", "tokens/"]
    train = ["vocable", "train", "kmeans", str(out / MANIFEST), "--features", candidate.features]
    train += [*_settings(source.extractor, candidate.layer), "--clusters", str(candidate.size)]
    if candidate.quantizing.codebooks > 1:
        train += ["--codebooks", str(candidate.quantizing.codebooks), "--structure", candidate.quantizing.kind]
    train += ["--sample-frames", str(source.sample_frames), "--seed", str(seed), "--out", "units/"]
    return (shlex.join(use), shlex.join(train), *([again] if again else []))


def _settings(extractor: FeatureExtractor, layer: str) -> list[str]:
    if not isinstance(extractor, SSLExtractor):
        return []
    revision = extractor.origin.get("revision")
    told = ["--layers", layer.removeprefix("L"), *(["--revision", revision] if revision else [])]
    told += ["--precision", extractor.precision] if extractor.precision != "fp32" else []
    told += ["--mode", extractor.mode] if extractor.mode != "exact" else []
    return told + (["--normalize-layers"] if extractor.normalize_layers else [])


def units(candidate: Candidate, source: Source, fit: Fit, learnt_from: Sequence[str], *, seed: int) -> UnitTokenizer:
    """The tokenizer of a candidate, with an extractor of its layer alone."""
    seen = source.frames.count(learnt_from)
    evidence: dict[str, Any] = {
        "recordings": len(learnt_from),
        "failed": 0,
        "audio_seconds": round(seen / source.frame_rate, 3),
        "frames_seen": seen,
        "frames_used": min(seen, source.sample_frames),
        "seed": seed,
        "fits": dict(zip(candidate.labels, fit.evidence, strict=True)),
    }
    return UnitTokenizer(_narrowed(source.extractor, candidate.layer), [fit.quantizer], evidence=evidence)


def _narrowed(extractor: FeatureExtractor, layer: str) -> FeatureExtractor:
    """The same features of one layer: a model reads no more of its weights than that needs."""
    if extractor.layers == (layer,) or not isinstance(extractor, SSLExtractor):
        return extractor
    return SSLExtractor.from_pretrained(
        str(extractor.origin["model"]),
        layers=[layer],
        revision=extractor.origin.get("revision"),
        device=str(extractor.device),
        precision=extractor.precision,
        mode=extractor.mode,
        normalize_layers=extractor.normalize_layers,
    )


def write_manifest(path: Path, corpus: Corpus, ids: Sequence[str]) -> None:
    """The recordings that the codebooks were fitted on, as a manifest."""
    chosen = set(ids)
    lines = [{"path": str(u.path.resolve()), "id": u.id, **_rest(u.fields)} for u in corpus if u.id in chosen]
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def _rest(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in {"path", "id"}}
