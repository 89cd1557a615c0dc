"""`vocable join`, and the other commands on what it makes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Run
from vocable.quantizers import KMeans
from vocable.store import TokenStore
from vocable.tokenizers import MFCC, JoinedTokenizer, LogMel, UnitTokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Units of cepstra, and of spectra through a short and a long window."""
    for name, extractor in (
        ("mfcc", MFCC()),
        ("short", LogMel(window_seconds=0.02)),
        ("long", LogMel(window_seconds=0.08)),
    ):
        centroids = torch.linspace(-18, -2, 9)[:, None].repeat(1, extractor.dim)
        UnitTokenizer(extractor, [KMeans(centroids)]).save_pretrained(tmp_path / name)
    return tmp_path


def test_join_inspect_tokenize_report(vocable: Run, folder: Path, speech_folder: Path) -> None:
    made, tokens = folder / "joined", folder / "tokens"
    code, out, err = vocable(
        "join", folder / "mfcc", folder / "short", folder / "long", "--names", "mfcc,short,long", "--out", made
    )
    assert (code, out) == (0, ""), err
    assert f"mfcc, short, long: 951 bit/s, in {made}" in err  # 3 codebooks x log2(9) bits x 100 Hz

    code, out, err = vocable("inspect", made)
    assert code == 0, err
    shown = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "joined tokenizer" in shown["kind"] and "mfcc (9), short (9), long (9)" in shown["codebooks"]
    assert "window_seconds 0.02" in shown["short: features"] and "window_seconds 0.08" in shown["long: features"]

    code, _, err = vocable("tokenize", speech_folder, "--tokenizer", made, "--out", tokens)
    assert code == 0, err
    assert "8 recordings tokenized" in err
    assert TokenStore.open(tokens).spec == JoinedTokenizer.from_pretrained(made).spec

    code, out, err = vocable("report", made, speech_folder)
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()] == ["codebook", "mfcc", "short", "long"]

    code, _, err = vocable("resynthesize", tokens, "--out", folder / "wavs")
    assert code == 1 and "joined" in err and not (folder / "wavs").exists()


def test_parts_that_cannot_be_joined(vocable: Run, folder: Path) -> None:
    out = folder / "joined"
    code, _, err = vocable("join", folder / "short", folder / "long", "--out", out)
    assert code == 1 and "got logmel in 2" in err and "--names" in err
    code, _, err = vocable("join", folder / "short", "dmel", "--out", out)
    assert code == 1 and "one clock" in err
    for names, options in (("a", ()), ("a,a", ()), ("a,b,c", ()), ("a,f0", ("--pitch",))):
        code, _, err = vocable("join", folder / "short", folder / "long", "--names", names, *options, "--out", out)
        assert code == 2 and "2 distinct names" in err
    assert not out.exists()


def test_what_is_there_is_kept_and_joins_are_no_parts(vocable: Run, folder: Path) -> None:
    out = folder / "joined"
    assert vocable("join", folder / "mfcc", folder / "short", "--out", out)[0] == 0
    before = (out / "config.json").read_bytes()
    code, _, err = vocable("join", folder / "mfcc", folder / "long", "--out", out)
    assert code == 1 and "is there already" in err and (out / "config.json").read_bytes() == before
    assert vocable("join", folder / "mfcc", folder / "long", "--out", out, "--overwrite")[0] == 0
    assert (out / "config.json").read_bytes() != before
    code, _, err = vocable("join", out, folder / "short", "--out", folder / "more")
    assert code == 2 and "got JoinedTokenizer" in err


def test_pitch_needs_its_extra(vocable: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "swift_f0", None)
    code, _, err = vocable("join", folder / "mfcc", "--pitch", "--out", folder / "joined")
    assert code == 1 and "hint: pip install 'vocable[pitch]'" in err
    assert not (folder / "joined").exists()


def test_pitch_beside_units(vocable: Run, folder: Path, speech_folder: Path) -> None:
    pytest.importorskip("swift_f0")
    made = folder / "joined"
    code, _, err = vocable("join", folder / "short", folder / "long", "--names", "a,b", "--pitch", "--out", made)
    assert code == 0, err
    assert JoinedTokenizer.from_pretrained(made).spec.labels == ("a", "b", "f0")
    code, out, err = vocable("inspect", made)
    assert code == 0 and "f0: features" in out, err
    code, _, err = vocable("tokenize", speech_folder, "--tokenizer", made, "--out", folder / "tokens")
    assert code == 0, err
    store = TokenStore.open(folder / "tokens")
    assert len({int(code) for entry in store for code in entry.codes[2]}) > 5
