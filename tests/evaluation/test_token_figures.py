"""Figures of tokens: the first codebooks alone, phones where there are some, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vocable.evaluation.systems import Part
from vocable.evaluation.token_figures import first_codebooks, token_figures
from vocable.store import Entry, TokenStore
from vocable.types import Codebook, TokenSpec

SPEC = TokenSpec(16000, 320, tuple(Codebook(size, f"rvq{k}") for k, size in enumerate((8, 6, 4))), "maker")


def store(path: Path, recordings: int, **fields: Any) -> TokenStore:
    made, random = TokenStore.create(path, SPEC), np.random.default_rng(0)
    for index in range(recordings):
        codes = np.stack([np.repeat(random.integers(book.size, size=40), 2) for book in SPEC.codebooks])
        made.append([Entry(f"r{index}", codes, 80 * 320, fields=fields)])
    return made


def test_first_codebooks_are_what_a_store_of_them_says(tmp_path: Path) -> None:
    whole = store(tmp_path, 4)
    figures, left_out = token_figures(whole)
    assert figures is not None and not left_out and not figures.phones
    alone, _ = token_figures(Part(whole, [0, 1], set(whole.ids())))
    cut = first_codebooks(figures, ("rvq0", "rvq1"))
    assert alone is not None and cut == alone
    assert [row.label for row in cut.rates] == ["rvq0", "rvq1", "all"]
    assert cut.rates[-1].raw == pytest.approx(SPEC.take([0, 1]).bitrate)
    assert set(cut.pairs) == {"rvq0", "rvq1"}


def test_one_recording_has_no_figures_and_says_so(tmp_path: Path) -> None:
    figures, left_out = token_figures(store(tmp_path, 1))
    assert figures is None
    assert "at least two recordings" in left_out["token figures"]


def test_phones(tmp_path: Path) -> None:
    figures, _ = token_figures(store(tmp_path / "two", 2, phones=[[0.8, "a"], [1.6, "b"]]))
    assert figures is not None and set(figures.phones) == {"rvq0", "rvq1", "rvq2"}
    assert 0 < figures.phones["rvq0"].pnmi < 1 and 0.5 <= figures.phones["rvq0"].phone_purity <= 1
    assert set(first_codebooks(figures, ("rvq0",)).phones) == {"rvq0"}
    for name, phones in {"one": [[1.6, "a"]], "odd": "hello"}.items():
        figures, left_out = token_figures(store(tmp_path / name, 2, phones=phones))
        assert figures is not None and not figures.phones and "expected" in left_out["phones"]
