"""What tokens cost, how they are used, what they say of phones: all figures of a store, or of its first codebooks."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import fields, replace

from vocable.errors import InputError
from vocable.evaluation.results import Phones, TokenFigures
from vocable.metrics.coding import Rates, bitrates, pair_encodings
from vocable.metrics.runs import codebook_use
from vocable.metrics.tokens import Contingency, cluster_purity, phone_purity, phone_tables, pnmi
from vocable.store import TokenStore

VOCABULARY = 4096  # entries of the pair encoding; of codebooks beyond 2,048, twice as many as they have
ALL = "all"
_RATES = tuple(part.name for part in fields(Rates) if part.name != "label")


def token_figures(store: TokenStore, *, labels: str = "phones") -> tuple[TokenFigures | None, dict[str, str]]:
    """The figures of a store, and which of them there are not, and why.

    None for fewer than two recordings, of which one half codes the other. Phones where recordings have them, in the
    field `labels` of the manifest.
    """
    try:
        rates, use = bitrates(store), codebook_use(store)
        vocabulary = max(VOCABULARY, *(2 * book.size for book in store.spec.codebooks))
        pairs = {row.label: row.bits_per_second for row in pair_encodings(store, vocabulary)}
    except InputError as problem:
        return None, {"token figures": problem.message}
    left_out, phones = {}, {}
    try:
        tables = dict(zip(store.spec.labels, phone_tables(store, labels=labels), strict=True))
        phones = {label: _phones(table) for label, table in tables.items() if table}
    except InputError as problem:
        left_out["phones"] = problem.message
    return TokenFigures(store.spec.frame_rate, tuple(rates), tuple(use), pairs, phones), left_out


def first_codebooks(figures: TokenFigures, labels: Collection[str]) -> TokenFigures:
    """The figures of some of the codebooks: theirs, and the rates of all of these together."""
    rows = [row for row in figures.rates if row.label in labels]
    total = Rates(ALL, **{name: math.fsum(getattr(row, name) for row in rows) for name in _RATES})
    return replace(
        figures,
        rates=(*rows, total),
        use=tuple(row for row in figures.use if row.label in labels),
        pairs={label: value for label, value in figures.pairs.items() if label in labels},
        phones={label: value for label, value in figures.phones.items() if label in labels},
    )


def _phones(table: Contingency) -> Phones:
    return Phones(pnmi(table), phone_purity(table), cluster_purity(table))
