"""Bad input on the command line: one clear line and a hint, the right exit code, nothing lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli.conftest import Run
from vocable.store import TokenStore


@pytest.fixture
def units(vocable: Run, speech_folder: Path, tmp_path: Path) -> Path:
    code, _, err = vocable("train", "kmeans", speech_folder, "--clusters", 16, "--out", tmp_path / "units")
    assert code == 0, err
    return tmp_path / "units"


def assert_refused(result: tuple[int, str, str], *words: str, code: int = 1) -> None:
    """Exit code, nothing on stdout, `error:` and at most one `hint:` line, with these words in them."""
    got, out, err = result
    lines = err.strip().splitlines()
    assert got == code, err
    assert out == ""
    assert lines[0].startswith("error: ")
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: ")), err
    assert "Traceback" not in err
    for word in words:
        assert word in err, err


def test_wrong_usage(vocable: Run, tmp_path: Path) -> None:
    assert_refused(vocable("tokenise"), "no such command", code=2)
    assert_refused(vocable("tokenize"), "CORPUS", code=2)
    assert_refused(
        vocable("train", "kmeans", tmp_path, "--clusters", "0", "--out", tmp_path / "u"), "--clusters", code=2
    )
    assert_refused(vocable("inspect", tmp_path / "nothing"), "does not exist", code=2)


def test_nothing_to_read(vocable: Run, units: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    options = ("--tokenizer", units, "--out", tmp_path / "tokens")
    assert_refused(vocable("tokenize", tmp_path / "empty", *options), "no audio in", "hint")
    assert_refused(vocable("tokenize", tmp_path / "nowhere", *options), "does not exist")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"path": "a.wav"}\n{oops\n')
    assert_refused(vocable("tokenize", broken, *options), "broken.jsonl:2")
    assert not (tmp_path / "tokens").exists()


def test_layers_and_clusters_that_cannot_be(vocable: Run, speech_folder: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "units")
    assert_refused(vocable("train", "kmeans", speech_folder, "--layers", "6", *out), "no layers")
    assert_refused(vocable("train", "kmeans", speech_folder, "--layers", "six", *out), "--layers", code=2)
    assert_refused(vocable("train", "kmeans", speech_folder, "--clusters", 100000, *out), "100000 clusters", "hint")
    assert not (tmp_path / "units").exists()


def test_nothing_is_overwritten_unasked(vocable: Run, speech_folder: Path, units: Path, tmp_path: Path) -> None:
    before = (units / "config.json").read_bytes()
    assert_refused(vocable("train", "kmeans", speech_folder, "--out", units), "is there already", "--overwrite")
    assert (units / "config.json").read_bytes() == before
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    assert_refused(vocable("tokenize", speech_folder, "--tokenizer", units, "--out", precious), "not a token store")
    command = ("tokenize", speech_folder, "--tokenizer", units, "--out", precious, "--overwrite")
    assert_refused(vocable(*command), "not a token store")
    assert (precious / "thesis.txt").read_text() == "years of work"


def test_tokens_of_another_tokenizer(vocable: Run, speech_folder: Path, units: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    vocable("tokenize", speech_folder, "--tokenizer", units, "--out", tokens)
    vocable("train", "kmeans", speech_folder, "--clusters", 17, "--out", tmp_path / "other")
    assert_refused(
        vocable("tokenize", speech_folder, "--tokenizer", tmp_path / "other", "--out", tokens),
        "holds tokens of",
        "hint",
    )
    assert_refused(
        vocable("resynthesize", tokens, "--tokenizer", tmp_path / "other", "--out", tmp_path / "w"),
        "expected tokens of",
    )
    assert len(TokenStore.open(tokens)) == 8
    code, _, err = vocable("tokenize", speech_folder, "--tokenizer", tmp_path / "other", "--out", tokens, "--overwrite")
    assert code == 0, err
    assert TokenStore.open(tokens).spec.codebooks[0].size == 17


def test_one_broken_file_among_many(vocable: Run, speech_folder: Path, units: Path, tmp_path: Path) -> None:
    bad = {
        "empty": b"",
        "text": b"this is no sound\n",
        "flac": (speech_folder / "speaker1" / "clip3.flac").read_bytes()[:9000],
    }
    (speech_folder / "bad").mkdir()
    for name, data in bad.items():
        (speech_folder / "bad" / f"{name}.{'flac' if name == 'flac' else 'wav'}").write_bytes(data)
    spoiled = np.full(16000, 0.1, np.float32)
    spoiled[5000] = np.nan
    soundfile.write(speech_folder / "bad" / "nan.wav", spoiled, 16000, subtype="FLOAT")
    soundfile.write(speech_folder / "bad" / "none.wav", np.zeros(0), 16000)

    tokens = tmp_path / "tokens"
    code, _, err = vocable("tokenize", speech_folder, "--tokenizer", units, "--out", tokens)
    assert code == 0
    assert "8 recordings tokenized" in err
    assert "5 recordings failed" in err
    lines = [json.loads(line) for line in (tokens / "failures.jsonl").read_text().splitlines()]
    reasons = {Path(line["path"]).stem: line["reason"] for line in lines}
    assert set(reasons) == {"empty", "text", "flac", "nan", "none"}
    assert "empty" in reasons["empty"]
    assert "finite" in reasons["nan"]

    # mended files are picked up by the next run, the others are tried again and stay listed
    shutil.copy(speech_folder / "speaker1" / "clip3.flac", speech_folder / "bad" / "flac.flac")
    code, _, err = vocable("tokenize", speech_folder, "--tokenizer", units, "--out", tokens)
    assert code == 0
    assert "1 recording tokenized, 8 done earlier" in err
    assert "4 recordings failed" in err
    assert len((tokens / "failures.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_damaged_artifact(vocable: Run, speech_folder: Path, units: Path, tmp_path: Path, name: str) -> None:
    data = bytearray((units / name).read_bytes())
    data[len(data) // 2] ^= 1
    (units / name).write_bytes(data)
    options = ("--tokenizer", units, "--out", tmp_path / "tokens")
    assert_refused(vocable("tokenize", speech_folder, *options), "hint")
    assert_refused(vocable("inspect", units), str(units))
    (units / name).unlink()
    assert_refused(vocable("tokenize", speech_folder, *options), "missing")


def test_damaged_shard(vocable: Run, speech_folder: Path, units: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    vocable("tokenize", speech_folder, "--tokenizer", units, "--out", tokens)
    (shard,) = TokenStore.open(tokens).shards()
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    for command in (("inspect", tokens), ("resynthesize", tokens, "--out", tmp_path / "wavs")):
        assert_refused(vocable(*command), shard.name, "remove that file")
    shard.unlink()
    code, _, err = vocable("tokenize", speech_folder, "--tokenizer", units, "--out", tokens)
    assert code == 0
    assert "8 recordings tokenized" in err
    assert TokenStore.open(tokens).shards() == [shard]
    assert shard.read_bytes() == whole


def test_hostile_ids_stay_inside(vocable: Run, speech_folder: Path, units: Path, tmp_path: Path) -> None:
    clip = str(speech_folder / "speaker0" / "clip0.wav")
    ids = [
        "../../escape",
        "/absolute",
        "new\nline",
        "quo\"te's",
        "<script>alert(1)</script>",
        "größe/привет",
        "..",
        "a/../b",
    ]
    manifest = tmp_path / "hostile.jsonl"
    manifest.write_text("".join(json.dumps({"path": clip, "id": name}) + "\n" for name in ids))
    tokens, wavs = tmp_path / "tokens", tmp_path / "deep" / "wavs"
    assert vocable("tokenize", manifest, "--tokenizer", units, "--out", tokens)[0] == 0
    assert vocable("resynthesize", tokens, "--out", wavs)[0] == 0
    assert sorted(TokenStore.open(tokens).ids()) == sorted(ids)
    made = [path for path in tmp_path.rglob("*.wav") if speech_folder not in path.parents]
    assert len(made) == len(ids)
    assert all(wavs in path.resolve().parents for path in made)


def test_resynthesis_into_a_folder_of_something_else(
    vocable: Run, speech_folder: Path, units: Path, tmp_path: Path
) -> None:
    vocable("tokenize", speech_folder, "--tokenizer", units, "--out", tmp_path / "tokens")
    assert_refused(vocable("resynthesize", tmp_path / "tokens", "--out", speech_folder), "something else")
    assert_refused(vocable("resynthesize", units, "--out", tmp_path / "wavs"), "not a token store")
