"""`vocable evaluate`: systems out of names, a table on standard output, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Run
from vocable.evaluation import Evaluation
from vocable.nets.unit_decoder import UnitDecoder
from vocable.quantizers import KMeans, ResidualKMeans
from vocable.tokenizers import LogMel, UnitTokenizer
from vocable.vocoders import UnitVocoder, design


def centroids(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 80, generator=torch.Generator().manual_seed(seed)) - 8


@pytest.fixture
def place(speech_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """units/, other/ and residual/ beside speech/, and a vocoder/ of the units."""
    folder = speech_folder.parent
    units = UnitTokenizer(LogMel(), [KMeans(centroids(8, 0))])
    units.save_pretrained(folder / "units")
    UnitTokenizer(LogMel(), [KMeans(centroids(9, 1))]).save_pretrained(folder / "deep" / "units")
    residual = ResidualKMeans([centroids(8, 2), centroids(4, 3)])
    UnitTokenizer(LogMel(), [residual]).save_pretrained(folder / "residual")
    torch.manual_seed(0)
    vocoder = UnitVocoder(UnitDecoder(design("tiny", units.spec, 16000)), units.spec, 16000)
    vocoder.save_pretrained(folder / "voice")
    monkeypatch.chdir(folder)
    return folder


QUICK = ("--metrics", "mel", "--workers", 0, "--items", 2)


def test_table_and_files(vocable: Run, place: Path) -> None:
    options = ("--tokenizer", "units", "--vocoder", "voice", "--tokenizer", "more=residual", "--codebooks", "1,2")
    code, out, err = vocable("evaluate", "speech", *options, *QUICK, "--out", "out")
    assert code == 0, err
    systems = [line.split(" | ")[0].removeprefix("| ") for line in out.splitlines()]
    assert systems == ["system", "---", "original", "units + voice", "more @ 1", "more @ 2"]
    assert "page in out/index.html" in err
    found = Evaluation.load(place / "out")
    assert found.systems[1].facts["vocoder"] == "voice" and len(found.items) == 2
    assert found.commands[0].startswith("vocable evaluate speech --tokenizer units")
    assert vocable("evaluate", "speech", *options, *QUICK, "--out", "out")[:2] == (0, out)


def test_sounds_of_another_program(vocable: Run, place: Path) -> None:
    code, out, err = vocable("evaluate", "speech", "--sounds", "same=speech@6000", *QUICK, "--out", "out")
    assert code == 0 and "| same | 6,000 | 0, 1 failed |" in out, err
    assert "mel, same: 1 of 2 failed: no sound file (speaker0/clip2)" in err  # a .wav where most others are .flac
    (place / "odd@12").mkdir()
    code, _, err = vocable("evaluate", "speech", "--sounds", "same=odd@12", *QUICK, "--out", "out2")
    assert code == 1 and "no sound of same in odd@12" in err


def test_default_metrics_may_be_among_others(vocable: Run, place: Path) -> None:
    options = ("--metrics", "default,mel", "--items", 1, "--workers", 0)
    code, out, err = vocable("evaluate", "speech", "--sounds", "x=speech", *options, "--out", "out")
    assert code == 0, err
    heads = out.splitlines()[0]
    assert heads.count("mel ↓") == 1 and "si_sdr ↑" in heads and "stoi ↑" in heads


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), 2, "expected a --tokenizer or --sounds"),
        (("--tokenizer", "units", "--metrics", "mel,loudness"), 1, "no metric 'loudness'"),
        (("--tokenizer", "units", "--tokenizer", "deep/units"), 2, "units is there twice"),
        (("--tokenizer", "units", "--sounds", "units=speech"), 1, "distinct names, got 'units'"),
        (("--tokenizer", "units", "--codebooks", "1,b"), 2, "expected --codebooks as in 1,2,4"),
        (("--tokenizer", "units", "--codebooks", "0"), 2, "at least 1"),
        (("--tokenizer", "units", "--codebooks", "1"), 2, "no --tokenizer here can be decoded by so many"),
        (("--tokenizer", "best-rq"), 1, "nothing decodes tokens of best-rq"),
        (("--tokenizer", "residual", "--vocoder", "voice"), 2, "vocoder voice fits no --tokenizer here"),
        (("--tokenizer", "units", "--vocoder", "residual"), 1, "residual"),
        (("--sounds", "opus"), 2, "expected --sounds as in"),
        (("--sounds", "opus=speech@fast"), 2, "expected a number of bit/s"),
        (("--sounds", "opus=speech@-1"), 2, "expected a number of bit/s"),
        (("--sounds", "opus=nowhere"), 1, "expected a folder of sounds for opus"),
        (("--sounds", "opus=units"), 1, "no sound of opus in units"),
    ],
)
def test_mistakes(vocable: Run, place: Path, options: tuple[str, ...], code: int, words: str) -> None:
    metrics = () if "--metrics" in options else ("--metrics", "mel")
    found, out, err = vocable("evaluate", "speech", *options, *metrics, "--out", "out", "--workers", 0)
    assert (found, out) == (code, "") and words in err, err
    assert err.startswith("error: ") and "Traceback" not in err
    assert not (place / "out").exists()


def test_nothing_readable(vocable: Run, place: Path) -> None:
    for path in (place / "speech").rglob("clip*"):
        path.write_bytes(b"this is no sound")
    code, out, err = vocable("evaluate", "speech", "--tokenizer", "units", "--out", "out")
    assert (code, out) == (1, "") and "no recording of 8 could be read" in err
    assert vocable("evaluate", "nowhere", "--tokenizer", "units", "--out", "out")[0] == 1
    assert not (place / "out").exists()


def test_another_tokenizer_under_its_name(vocable: Run, place: Path) -> None:
    assert vocable("evaluate", "speech", "--tokenizer", "units", *QUICK, "--out", "out")[0] == 0
    code, _, err = vocable("evaluate", "speech", "--tokenizer", "deep/units", *QUICK, "--out", "out")
    assert code == 1 and "holds tokens of tokenizer" in err and "--overwrite" in err
    code, _, err = vocable("evaluate", "speech", "--tokenizer", "deep/units", *QUICK, "--out", "out", "--overwrite")
    assert code == 0, err
