"""`vocable choose`: the recommendation on standard output, units, figures and page where they were asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def manifest(speech_folder: Path) -> Path:
    lines = [
        {
            "path": str(path.relative_to(speech_folder)),
            "who": path.parent.name,
            "split": "test" if index % 4 >= 2 else "train",
            "ipa": [[0.2, "a"], [0.4, "b"]],
        }
        for index, path in enumerate(sorted(speech_folder.rglob("clip*")))
    ]
    (speech_folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return speech_folder / "m.jsonl"


QUICK = ("--split", "split", "--clusters", "2,4", "--seeds", 1, "--epochs", 2, "--workers", 1)


def test_recommends_and_goes_on(vocable, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "choice"
    options = ("choose", manifest, "--label", "who", "--features", "mfcc", *QUICK, "--out", out)
    code, text, err = vocable(*options)
    assert code == 0, err
    assert text.startswith("Take mfcc, kmeans, ") and "| recommended |" in text and "Not known:" in text
    assert "1 of 3: mfcc, kmeans, 2 units: " in err and " left" in err
    assert {path.name for path in out.iterdir()} == {"units", "work", "choice.json", "choice.html", "train.jsonl"}
    commands = json.loads((out / "choice.json").read_text())["commands"]
    assert commands[0].startswith(f"vocable tokenize {manifest} --tokenizer {out}/units")
    assert commands[2].startswith("vocable choose ") and commands[2] in (out / "choice.html").read_text()
    again = vocable(*options)
    assert again[:2] == (0, text) and again[2].count("(from before)") == 3
    code, _, err = vocable("tokenize", manifest, "--tokenizer", out / "units", "--out", tmp_path / "tokens")
    assert code == 0, err
    # the other command makes the same units
    words = commands[1].split()
    code, _, err = vocable(*words[1:-1], tmp_path / "again")
    assert code == 0, err
    fingerprints = {
        json.loads((folder / "config.json").read_text())["fingerprint"]
        for folder in (out / "units", tmp_path / "again")
    }
    assert len(fingerprints) == 1


def test_phones(vocable, manifest: Path, tmp_path: Path) -> None:
    code, text, err = vocable(
        "choose", manifest, "--phones", "ipa", *QUICK, "--quantizers", "kmeans,product:2", "--out", tmp_path / "c"
    )
    assert code == 0 and "PNMI" in text and "bound" not in text, err
    assert "not tried: product:2 of mfcc" in err and "logmel, product:2, 2 units each" in err


def test_mistakes(vocable, manifest: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "c")
    assert vocable("choose", manifest, *out)[0] == 2
    assert vocable("choose", manifest, "--label", "who", "--ctc", "who", *out)[0] == 2
    assert vocable("choose", manifest, "--label", "who", "--clusters", "many", *out)[0] == 2
    assert vocable("choose", manifest, "--label", "who", "--layers", "6", *out)[0] == 2
    code, _, err = vocable("choose", manifest, "--label", "whom", *out)
    assert code == 1 and "no recording has a field 'whom'" in err and "hint: its manifest knows" in err
    code, _, err = vocable("choose", manifest, "--label", "who", "--quantizers", "vq", *out)
    assert code == 1 and "expected a quantizer such as kmeans" in err
    code, _, err = vocable("choose", manifest, "--phones", *out)
    assert code == 1 and "no recording has a field 'phones'" in err
    assert not (tmp_path / "c").exists()


def test_a_layer_that_does_not_exist(vocable, manifest: Path, tmp_path: Path) -> None:
    from tests.tiny_models import write_tiny_model

    model = write_tiny_model(tmp_path / "model")
    options = ("--features", model, "--layers", "L2,L9", "--label", "who", "--out", tmp_path / "c")
    code, _, err = vocable("choose", manifest, *options)
    assert code == 1 and "9" in err and "error: " in err
