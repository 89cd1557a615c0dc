"""The table of models in docs/models.md is what a run gives: every family, and what held for it."""

from __future__ import annotations

from pathlib import Path

from scripts import models_table
from vocable.nets.codecs import FAMILIES as CODECS
from vocable.nets.foreign import FAMILIES as FOREIGN
from vocable.nets.ssl_config import FAMILIES as NATIVE
from vocable.testing import LawBrokenError


def test_the_document_says_what_a_run_gives(tmp_path: Path) -> None:
    text = models_table.DOCUMENT.read_text(encoding="utf-8")
    made = models_table.table(tmp_path)
    assert models_table.document(text, made) == text, "run `python -m scripts.models_table`"
    assert "no:" not in made


def test_every_family_has_a_row() -> None:
    native = {family for family, *_ in models_table.NATIVE.values()}
    assert native == set(NATIVE) - {"mert_model"}, "MERT is HuBERT at another rate"
    assert len({*FOREIGN}) <= len(models_table.FOREIGN)
    assert {variant.split("-")[0] for variant, _ in models_table.CODECS.values()} == set(CODECS)


def test_a_broken_law_would_be_told() -> None:
    def check(component: object) -> None:
        raise LawBrokenError("law 2 is broken")

    assert models_table.held(check, None) == "no: law 2 is broken"
