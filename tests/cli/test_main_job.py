"""The three jobs from the command line, as a user does them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from tests.cli.conftest import Run
from vocable.store import TokenStore
from vocable.tokenizers import UnitTokenizer


@pytest.fixture
def units(vocable: Run, speech_folder: Path, tmp_path: Path) -> Path:
    code, _, err = vocable("train", "kmeans", speech_folder, "--clusters", 20, "--out", tmp_path / "units")
    assert code == 0, err
    return tmp_path / "units"


def test_train_tokenize_resynthesize(vocable: Run, speech_folder: Path, units: Path, tmp_path: Path) -> None:
    tokens, wavs = tmp_path / "tokens", tmp_path / "wavs"
    code, out, err = vocable("tokenize", speech_folder, "--tokenizer", units, "--out", tokens)
    assert (code, out) == (0, ""), err
    assert "8 recordings tokenized" in err

    modes = {path.name: path.stat().st_mode & 0o777 for path in (*units.iterdir(), *tokens.rglob("*.*"))}
    (tmp_path / "plain").touch()
    assert set(modes.values()) == {(tmp_path / "plain").stat().st_mode & 0o777}, modes
    store = TokenStore.open(tokens)
    assert sorted(store.ids()) == sorted(f"speaker{i % 2}/clip{i}" for i in range(8))
    assert store.spec == UnitTokenizer.from_pretrained(units).spec

    code, _, err = vocable("resynthesize", tokens, "--out", wavs)
    assert code == 0, err
    for entry in store:
        source, made = soundfile.info(entry.path), soundfile.info(wavs / f"{entry.id}.wav")
        assert (made.frames, made.samplerate, made.channels) == (source.frames, source.samplerate, 1)
        assert np.abs(soundfile.read(wavs / f"{entry.id}.wav")[0]).max() > 0.01

    code, _, err = vocable("resynthesize", tokens, "--out", wavs)
    assert code == 0
    assert "0 recordings resynthesized, 8 done earlier" in err


def test_a_second_run_does_only_what_is_missing(vocable: Run, speech_folder: Path, units: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    vocable("tokenize", speech_folder / "speaker0", "--tokenizer", units, "--out", tokens)
    moved = speech_folder / "speaker0" / "new.wav"
    moved.write_bytes((speech_folder / "speaker1" / "clip3.flac").read_bytes())
    code, _, err = vocable("tokenize", speech_folder / "speaker0", "--tokenizer", units, "--out", tokens)
    assert code == 0
    assert "1 recording tokenized, 4 done earlier" in err
    assert len(TokenStore.open(tokens)) == 5


def test_manifests_lists_and_standard_input(
    vocable: Run, speech_folder: Path, units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, listing = speech_folder / "some.jsonl", speech_folder / "more.txt"
    manifest.write_text(json.dumps({"path": "speaker0/clip0.wav", "id": "zero", "text": "größe", "n": [1, 2]}) + "\n")
    listing.write_text("speaker1/clip1.flac\n\n")
    lines = [
        f"{speech_folder}/speaker0/clip2.wav\n",
        '{"path": "' + f"{speech_folder}/speaker1/clip3.flac" + '", "id": "three"}\n',
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(lines)))
    code, _, err = vocable("tokenize", manifest, listing, "-", "--tokenizer", units, "--out", tmp_path / "tokens")
    assert code == 0, err
    entries = {entry.id: entry for entry in TokenStore.open(tmp_path / "tokens")}
    assert set(entries) == {"zero", "speaker1/clip1", f"{speech_folder}/speaker0/clip2", "three"}
    assert entries["zero"].fields == {"text": "größe", "n": [1, 2]}


def test_the_store_is_plain_parquet(vocable: Run, speech_folder: Path, units: Path, tmp_path: Path) -> None:
    vocable("tokenize", speech_folder, "--tokenizer", units, "--out", tmp_path / "tokens")
    table = pq.read_table(tmp_path / "tokens" / "data")
    assert table.num_rows == 8
    head = json.loads(table.schema.metadata[b"vocable"])
    assert head["spec"]["source"] == UnitTokenizer.from_pretrained(units).fingerprint
    assert str(table.schema.field("mfcc").type) == "list<element: uint8>"
    assert [len(codes) for codes in table["mfcc"].to_pylist()] == table["frames"].to_pylist()


def test_inspect_tells_kinds_apart(vocable: Run, speech_folder: Path, units: Path, tmp_path: Path) -> None:
    vocable("tokenize", speech_folder, "--tokenizer", units, "--out", tmp_path / "tokens")
    fingerprint = UnitTokenizer.from_pretrained(units).fingerprint
    code, out, _ = vocable("inspect", units)
    assert code == 0
    assert "unit tokenizer" in out
    assert fingerprint in out
    assert "8 recordings" in out
    code, out, _ = vocable("inspect", tmp_path / "tokens")
    assert code == 0
    assert "token store" in out
    assert fingerprint in out
    code, out, _ = vocable("inspect", speech_folder / "speaker1" / "clip3.flac")
    assert code == 0
    assert "44,100 Hz" in out


def test_same_seed_same_units_whatever_the_workers(vocable: Run, speech_folder: Path, tmp_path: Path) -> None:
    prints = []
    for name, workers in (("a", 0), ("b", 2)):
        options = ("--features", "logmel", "--clusters", 30, "--workers", workers, "--memory", 0.0001)
        code, _, err = vocable("train", "kmeans", speech_folder, *options, "--out", tmp_path / name)
        assert code == 0, err
        prints.append(UnitTokenizer.from_pretrained(tmp_path / name).fingerprint)
    assert prints[0] == prints[1]
