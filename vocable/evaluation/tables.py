"""An evaluation as Markdown: systems under every metric, what tokens cost and how they are used, what failed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from vocable.evaluation.results import Evaluation, Judged, System, TokenFigures
from vocable.files import legible
from vocable.metrics.coding import Rates
from vocable.metrics.runs import CodebookUse
from vocable.metrics.scoring import Summary

_LISTED = 5  # ids in a line on failures; evaluation.json has all of them
_RATES = {
    "raw": "raw",
    "order 0": "entropy0",
    "order 0, held out": "held_out0",
    "order 1, held out": "held_out1",
    "n-gram, held out": "language_model",
    "runs": "units",
    "runs and durations": "timed_units",
}


def markdown(evaluation: Evaluation) -> str:
    """All tables, with what they rest on."""
    parts = [
        f"# {_text(evaluation.title)}",
        _list(f"{label}: {value}" for label, value in evaluation.facts.items()),
        f"## Comparison\n\n{comparison(evaluation)}\n\n{_caption(evaluation)}",
        _tokens(evaluation.systems),
        f"## Systems\n\n{_list(map(_described, evaluation.systems[1:]))}",
        f"## Failures\n\n{_list(failures(evaluation)) or 'None.'}",
    ]
    if evaluation.commands:
        parts.append("## Made by\n\n```sh\n" + "\n".join(evaluation.commands) + "\n```")
    return legible("\n\n".join(part for part in parts if part) + "\n")


def comparison(evaluation: Evaluation) -> str:
    """A row for each system, the original first, then by bitrate: mean and interval under each metric, what failed."""
    heads = ["system", "bit/s", *map(_head, evaluation.metrics)]
    rows = [
        [
            system.name,
            "-" if system.bitrate is None else f"{system.bitrate:,.0f}",
            *(_cell(system.scores[metric.name].summary) for metric in evaluation.metrics),
        ]
        for system in by_bitrate(evaluation.systems)
    ]
    return _table(heads, rows)


def by_bitrate(systems: Iterable[System]) -> list[System]:
    """The original, then the others from few bits to many, then those whose bitrate nobody knows."""

    def place(system: System) -> tuple[int, float]:
        if system.kind == "original":
            return 0, 0.0
        return (2, 0.0) if system.bitrate is None else (1, system.bitrate)

    return sorted(systems, key=place)


def failures(evaluation: Evaluation) -> list[str]:
    """A line for each system and reason: the metrics, how many failed of how many, and which."""
    lines = [f"{name}: left out: {why}" for name, why in evaluation.left_out.items()]
    for system in evaluation.systems:
        # one recording that has no sound fails under all metrics alike: that is one line
        metrics: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
        for metric, column in system.scores.items():
            reasons: dict[str, list[str]] = defaultdict(list)
            for name, why in column.failures.items():
                reasons[why].append(name)
            for why, ids in reasons.items():
                metrics[why, tuple(ids)].append(metric)
        for (why, names), failed in metrics.items():
            which = "all metrics" if len(failed) == len(evaluation.metrics) > 1 else ", ".join(failed)
            told = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
            lines.append(f"{which}, {system.name}: {len(names)} of {len(evaluation.items)} failed: {why} ({told})")
    return lines


def _head(metric: Judged) -> str:
    return f"{metric.name} {'↑' if metric.higher_is_better else '↓'}" + (f" ({metric.unit})" if metric.unit else "")


def _cell(summary: Summary) -> str:
    failed = f", {summary.failed} failed" if summary.failed else ""
    return (_interval(summary) if summary.count else "-") + failed


def _interval(summary: Summary) -> str:
    """Mean (low to high), with as many decimals as the interval leaves meaning to."""
    if not math.isfinite(summary.mean):
        return "∞" if summary.mean > 0 else "-∞" if summary.mean < 0 else "-"
    if not math.isfinite(summary.low):
        return f"{summary.mean:.4g}"
    half = (summary.high - summary.low) / 2
    decimals = max(0, min(4, 1 - math.floor(math.log10(half)))) if half > 0 else 3
    mean, low, high = (f"{value:.{decimals}f}" for value in (summary.mean, summary.low, summary.high))
    return mean if low == high else f"{mean} ({low} to {high})"


def _caption(evaluation: Evaluation) -> str:
    metrics = "; ".join(f"{metric.name}: {metric.what}" for metric in evaluation.metrics)
    return _text(
        f"Mean over {len(evaluation.items):,} recordings (95 % bootstrap interval); ↑ higher is better, ↓ lower is. "
        f"What failed has no share in the mean. {metrics}."
    )


def _tokens(systems: Sequence[System]) -> str:
    told = [(system.name, system.tokens) for system in by_bitrate(systems) if system.tokens is not None]
    if not told:
        return ""
    costs = _table(
        ["system", "frames/s", *_RATES, "runs, pair-encoded"],
        [
            [name, f"{figures.frame_rate:g}", *_rates(figures.rates[-1]), f"{math.fsum(figures.pairs.values()):,.0f}"]
            for name, figures in told
        ],
    )
    largest: dict[str, tuple[str, TokenFigures]] = {}
    for name, figures in told:  # with bitrates that rise: of systems that share their codebooks the last has most
        largest[name.partition(" @ ")[0]] = name, figures
    rows = [[name, *_use(use, figures)] for name, figures in largest.values() for use in figures.use]
    heads = ["system", "codebook", "entries", "used", "perplexity", "entropy, share of most", "mean run", "PNMI"]
    used = _table([*heads, "phone purity", "cluster purity"], rows)
    return (
        f"## Tokens\n\nWhat they cost, bit/s, all codebooks together:\n\n{costs}\n\n"
        "Held out: each half of the recordings is coded by a model of the other. Runs: one token for each run of equal "
        f"codes.\n\nHow codebooks are used:\n\n{used}"
    )


def _rates(rates: Rates) -> list[str]:
    return [f"{getattr(rates, name):,.0f}" for name in _RATES.values()]


def _use(use: CodebookUse, figures: TokenFigures) -> list[str]:
    phones = figures.phones.get(use.label)
    told = (phones.pnmi, phones.phone_purity, phones.cluster_purity) if phones else ()
    return [
        use.label,
        f"{use.size:,}",
        f"{use.usage:.1%}",
        f"{use.perplexity:,.1f}",
        f"{use.normalized_entropy:.3f}",
        f"{use.mean_run:.2f}",
        *(f"{value:.3f}" for value in told),
        *["-"] * (3 - len(told)),
    ]


def _described(system: System) -> str:
    return f"{system.name}: " + ("; ".join(f"{label} {value}" for label, value in system.facts.items()) or "-")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(_text, line)) + " |" for line in lines)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_text(line)}" for line in lines)


def _text(text: str) -> str:
    """On one line, and nothing in it that Markdown takes for a table, a link or a tag."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return plain.translate(_MARKS)


_MARKS: Mapping[int, str] = str.maketrans({mark: f"\\{mark}" for mark in "|<>[]*`\\"})
