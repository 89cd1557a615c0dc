"""`vocable train kmeans` with its options: a cache, samples, structures, several processes."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run
from tests.processes import run_processes
from vocable.quantizers.standardized import Standardized
from vocable.tokenizers import UnitTokenizer


def fingerprint(path: Path) -> str:
    return UnitTokenizer.from_pretrained(path).fingerprint


def test_a_cache_is_stated_filled_and_used_again(vocable: Run, speech_folder: Path, tmp_path: Path) -> None:
    options = ("--features", "logmel", "--clusters", 20, "--cache", tmp_path / "cache")
    code, _, err = vocable("train", "kmeans", speech_folder, *options, "--out", tmp_path / "a")
    assert code == 0, err
    lines = err.splitlines()
    assert lines[0].startswith(f"cache {tmp_path / 'cache'}: 0.147 MiB")
    assert lines[0].endswith("MiB in fp16, 0 of 8 recordings there")
    assert lines[-2].startswith("wall time: features ")
    assert "clustering logmel" in lines[-2]
    code, _, err = vocable("train", "kmeans", speech_folder, *options, "--out", tmp_path / "b")
    assert code == 0
    assert "8 of 8 recordings there" in err
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")

    code, _, err = vocable(
        "train", "kmeans", speech_folder / "speaker0", *options[-2:], "--features", "logmel", "--out", tmp_path / "c"
    )
    assert code == 1
    assert err.splitlines()[0] == f"error: {tmp_path / 'cache'} is the cache of another corpus"
    code, _, err = vocable("train", "kmeans", speech_folder, "--cache", speech_folder, "--out", tmp_path / "c")
    assert code == 1
    assert err.splitlines()[0] == f"error: {speech_folder} is no feature cache"


def test_ways_of_holding_frames_exclude_one_another(vocable: Run, speech_folder: Path, tmp_path: Path) -> None:
    ways = [("--memory", 2), ("--sample-frames", 100), ("--cache", tmp_path / "cache")]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        code, _, err = vocable("train", "kmeans", speech_folder, *ways[one], *ways[other], "--out", tmp_path / "units")
        assert code == 2
        assert "one of --memory, --sample-frames and --cache" in err
    assert not (tmp_path / "cache").exists()


def test_structures_and_fits(vocable: Run, speech_folder: Path, tmp_path: Path) -> None:
    fit = ("--schedule", "progressive", "--init", "k-means||", "--restarts", 2, "--sample-frames", 400, "--seed", 3)
    books = ("--codebooks", 2, "--structure", "product", "--features", "logmel", "--clusters", 8)
    code, _, err = vocable("train", "kmeans", speech_folder, *fit, *books, "--out", tmp_path / "units")
    assert code == 0, err
    units = UnitTokenizer.from_pretrained(tmp_path / "units")
    assert units.spec.labels == ("logmel.0", "logmel.1")
    made = units.evidence["fits"]["logmel.1"]
    assert (made["schedule"], made["init"], len(made["restarts"]), made["seed"]) == ("progressive", "k-means||", 2, 3)
    assert units.evidence["frames_used"] == 400
    assert "logmel.1: objective" in err


def test_recordings_left_out_are_told(vocable: Run, speech_folder: Path, tmp_path: Path) -> None:
    (speech_folder / "bad.wav").write_bytes(b"nothing of the kind")
    code, _, err = vocable("train", "kmeans", speech_folder, "--clusters", 8, "--out", tmp_path / "units")
    assert code == 0
    assert f"left out: {speech_folder / 'bad.wav'}: not a readable sound file" in err
    code, _, err = vocable("train", "kmeans", speech_folder / "bad.wav", "--out", tmp_path / "none")
    assert code == 1
    assert [line.split(": ")[0] for line in err.splitlines()] == ["left out", "error", "hint"]


def test_unknown_kinds_of_training(vocable: Run) -> None:
    code, _, err = vocable("train", "magic")
    assert code == 2
    assert "no such command 'magic'" in err
    code, out, _ = vocable("train", "--help")
    assert code == 0
    assert "kmeans" in out


def test_two_processes_and_one_voice(vocable: Run, speech_folder: Path, tmp_path: Path) -> None:
    options = ["--features", "logmel", "--clusters", "20", "--sample-frames", "300"]
    command = ["-m", "vocable", "train", "kmeans", str(speech_folder), *options, "--out", str(tmp_path / "two")]
    (code, _, err), (other, out, silence) = run_processes(command, 2)
    assert (code, other, out, silence) == (0, 0, "", ""), err
    vocable("train", "kmeans", speech_folder, *options, "--out", tmp_path / "one")
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")


def test_standardized_units_are_reported_tokenized_and_heard(vocable: Run, speech_folder: Path, tmp_path: Path) -> None:
    options = ("--clusters", 12, "--standardize", "--out", tmp_path / "units")
    code, _, err = vocable("train", "kmeans", speech_folder, *options)
    assert code == 0, err
    units = UnitTokenizer.from_pretrained(tmp_path / "units")
    assert isinstance(units.quantizers[0], Standardized)
    code, out, err = vocable("report", tmp_path / "units", speech_folder)
    assert code == 0, err
    row = out.splitlines()[1].split()
    assert row[:2] == ["mfcc", "12"]
    assert 0 < float(row[2].rstrip("%")) <= 100
    code, _, err = vocable("tokenize", speech_folder, "--tokenizer", tmp_path / "units", "--out", tmp_path / "tokens")
    assert code == 0, err
    code, _, err = vocable(
        "resynthesize", tmp_path / "tokens", "--tokenizer", tmp_path / "units", "--out", tmp_path / "s"
    )
    assert code == 0, err
    code, _, err = vocable("train", "kmeans", speech_folder, "--standardize", "--spherical", "--out", tmp_path / "b")
    assert code == 1
    assert err.splitlines()[0] == "error: expected spherical or standardized clustering, got both"
