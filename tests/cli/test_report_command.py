"""`vocable report`: the table on standard output, the page where it was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vocable.quantizers import KMeans
from vocable.tokenizers import LogMel, UnitTokenizer


@pytest.fixture
def units(tmp_path: Path) -> Path:
    UnitTokenizer(LogMel(), [KMeans(torch.linspace(-18, -2, 9)[:, None].repeat(1, 80))]).save_pretrained(tmp_path / "u")
    return tmp_path / "u"


def test_table_and_page(vocable, units: Path, speech_folder: Path, tmp_path: Path) -> None:
    manifest, page = speech_folder / "m.jsonl", tmp_path / "report.html"
    manifest.write_text(json.dumps({"path": "speaker0/clip0.wav", "ipa": [[0.2, "a"], [0.3, "b"]]}))
    code, out, err = vocable("report", units, manifest, "--labels", "ipa", "--out", page, "--workers", 1)
    assert code == 0, err
    head, row = out.splitlines()
    assert head.startswith("codebook  units  explained") and head.endswith("cluster purity")
    assert row.split()[:2] == ["logmel", "9"]
    assert "--labels ipa" in page.read_text() and str(page) in err
    code, _, err = vocable("report", units, manifest, "--out", page)
    assert code == 1 and "is there already" in err
    assert vocable("report", units, manifest, "--out", page, "--overwrite")[0] == 0


def test_without_labels_and_with_a_broken_file(vocable, units: Path, speech_folder: Path) -> None:
    (speech_folder / "broken.wav").write_bytes(b"RIFF")
    code, out, err = vocable("report", units, speech_folder)
    assert code == 0 and "PNMI" not in out
    assert "left out: " in err and "broken.wav" in err
