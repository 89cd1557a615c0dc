"""`vocable probe`: the table on standard output, the figures where they were asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vocable.corpus import Corpus
from vocable.quantizers import KMeans
from vocable.tokenizers import LogMel, UnitTokenizer, tokenize


@pytest.fixture
def manifest(speech_folder: Path) -> Path:
    paths = sorted(speech_folder.rglob("clip*"))
    lines = [
        {
            "path": str(path.relative_to(speech_folder)),
            "who": path.parent.name,
            "text": "a b" if index % 2 else "ab",
            "split": "test" if index % 4 >= 2 else "train",
        }
        for index, path in enumerate(paths)
    ]
    (speech_folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return speech_folder / "m.jsonl"


@pytest.fixture
def tokens(manifest: Path, tmp_path: Path) -> Path:
    units = UnitTokenizer(LogMel(), [KMeans(torch.linspace(-18, -2, 9)[:, None].repeat(1, 80))])
    tokenize(Corpus.of(manifest), units, tmp_path / "tokens")
    return tmp_path / "tokens"


def test_table_and_figures_beside_the_features(vocable, tokens: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "probe.json"
    options = ("--label", "who", "--split", "split", "--seeds", 2, "--epochs", 2, "--workers", 1)
    code, text, err = vocable("probe", tokens, *options, "--features", manifest, "--out", out)
    assert code == 0, err
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("|")]
    assert rows == ["system", "---", "always speaker0", "tokens", "continuous logmel"]
    assert "tokens: seed 0, epoch 1 of 2, loss" in err and "recordings/s" in err
    values = json.loads(out.read_text())
    assert values["train"] == 4 and values["test"] == 4 and len(values["rows"]) == 3
    assert vocable("probe", tokens, *options, "--out", out)[0] == 1
    again = vocable("probe", tokens, *options, "--features", manifest, "--out", out, "--overwrite")
    assert again[:2] == (0, text)


def test_text_and_verification(vocable, tokens: Path) -> None:
    code, text, err = vocable("probe", tokens, "--ctc", "text", "--seeds", 1, "--epochs", 1)
    assert code == 0 and "character error rate" in text and "bilstm head" in text, err
    code, text, err = vocable("probe", tokens, "--verify", "who", "--split", "split", "--seeds", 1, "--epochs", 1)
    assert code == 0 and "equal error rate" in text and "xvector head" in text, err


def test_mistakes(vocable, tokens: Path, speech_folder: Path) -> None:
    assert vocable("probe", tokens)[0] == 2
    assert vocable("probe", tokens, "--label", "who", "--ctc", "text")[0] == 2
    assert vocable("probe", tokens, "--label", "who", "--split", "split", "--test", tokens)[0] == 2
    code, _, err = vocable("probe", tokens, "--label", "whom")
    assert code == 1 and "no recording has a field 'whom'" in err and "who" in err
    code, _, err = vocable(
        "probe", tokens, "--label", "who", "--split", "split", "--features", speech_folder / "speaker0"
    )
    assert code == 1 and "are not" in err
