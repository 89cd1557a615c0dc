"""`vocable train vocoder`: from a folder of sound to a vocoder that speaks, again and again, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile

from tests.cli.conftest import Run
from tests.conftest import sing
from vocable.corpus import Corpus
from vocable.nets.durations import fit_durations
from vocable.tokenizers import MFCC, train_kmeans
from vocable.vocoders.units import UnitVocoder

SHORT = ("--preset", "tiny", "--batch", 2, "--crop-seconds", 0.2, "--workers", 0, "--device", "cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """speech/ of three clips with a manifest, units/ made of them."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "speech").mkdir()
    lines = []
    for index in range(3):
        soundfile.write(folder / "speech" / f"{index}.wav", sing(0.6 + 0.2 * index, seed=index), 16000)
        lines.append({"path": f"speech/{index}.wav", "speaker": "ab"[index % 2]})
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    train_kmeans(Corpus.of(folder / "speech"), MFCC(), 16).save_pretrained(folder / "units")
    return folder


def train(vocable: Run, place: Path, out: Path, *options: object) -> tuple[int, list[str]]:
    command = ("train", "vocoder", place / "train.jsonl", "--tokenizer", place / "units", "--out", out)
    code, output, err = vocable(*command, *SHORT, *options)
    assert output == ""
    return code, err.splitlines()


def test_sound_comes_out_of_tokens(vocable: Run, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "vocoder"
    options = ("--steps", 2, "--speakers", "speaker", "--init-from-centroids", "--learning-rate", 0.001, "--seed", 3)
    code, lines = train(vocable, place, out, *options)
    assert code == 0, lines
    assert lines[0] == f"sound {out}.work/audio: 0.0732 MiB at 16000 Hz"
    assert lines[1].startswith("step 2 (100%, 0.0 min): ")
    assert "held out: mel " in lines[1]
    vocoder = UnitVocoder.from_pretrained(out)
    assert lines[2].endswith(f"; vocoder {vocoder.fingerprint[:12]} of mfcc at 16000 Hz in {out}")
    assert lines[3].endswith(f"rm -r {out}.work")
    assert vocoder.speakers == ("a", "b")
    code, told, _ = vocable("inspect", out)
    assert code == 0
    assert vocoder.fingerprint in told
    assert "voices       a, b\n" in told
    code, _, err = vocable("tokenize", place / "speech", "--tokenizer", out, "--out", tmp_path / "no")
    assert code != 0
    assert err == (
        f"error: expected units or a codec, got a vocoder in {out}\n"
        f"hint: a vocoder turns tokens into sound: `vocable resynthesize TOKENS --vocoder {out}`\n"
    )
    assert vocoder.evidence["regime"]["steps"] == 2
    assert (vocoder.evidence["regime"]["seed"], vocoder.evidence["crops"]) == (3, {"batch": 2, "seconds": 0.2})

    code, _, err = vocable(
        "tokenize", place / "train.jsonl", "--tokenizer", place / "units", "--out", tmp_path / "tokens"
    )
    assert code == 0, err
    command = ("resynthesize", tmp_path / "tokens", "--vocoder", out, "--speaker", "a", "--out", tmp_path / "wavs")
    code, _, err = vocable(*command)
    assert code == 0, err
    for path in sorted((place / "speech").iterdir()):
        assert soundfile.info(tmp_path / "wavs" / "speech" / path.name).frames == soundfile.info(path).frames


def test_the_same_command_goes_on(vocable: Run, place: Path, tmp_path: Path) -> None:
    out, work = tmp_path / "vocoder", ("--work", tmp_path / "work")
    code, lines = train(vocable, place, out, "--steps", 1, "--resume")
    assert code == 2
    assert f"a checkpoint to resume from, got none in {out}.work" in lines[0]
    assert train(vocable, place, out, "--steps", 1, *work)[0] == 0
    first = UnitVocoder.from_pretrained(out).fingerprint
    code, lines = train(vocable, place, out, "--steps", 1, *work)
    assert code == 1
    assert lines[0] == f"error: {out} is there already"
    code, lines = train(vocable, place, out, "--steps", 1, *work, "--resume", "--overwrite")
    assert code == 0
    assert not any(line.startswith("step") for line in lines)
    assert UnitVocoder.from_pretrained(out).fingerprint == first
    code, lines = train(vocable, place, tmp_path / "more", "--steps", 2, *work)
    assert code == 0
    assert any(line.startswith("step 2") for line in lines)
    code, lines = train(vocable, place, tmp_path / "other", "--steps", 1, *work, "--seed", 1)
    assert code == 1
    assert f"error: {tmp_path / 'work' / 'checkpoint.safetensors'} is the state of another training" in lines
    assert not (tmp_path / "other").exists()


def test_another_rate_generator_and_recordings_to_judge_by(
    vocable: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vocable.vocoders.durations.fit_durations",
        lambda sequences, size, *, steps, **options: fit_durations(sequences, size, steps=2, **options),
    )
    options = ("--steps", 1, "--sample-rate", 22050, "--generator", "hifigan", "--no-layer-dropout", "--durations")
    code, lines = train(vocable, place, tmp_path / "vocoder", *options, "--validate", place / "speech" / "2.wav")
    assert code == 0, lines
    vocoder = UnitVocoder.from_pretrained(tmp_path / "vocoder")
    assert vocoder.sample_rate == 22050
    assert vocoder.decoder.config()["generator"]["kind"] == "hifigan"
    assert vocoder.durations is not None
    assert vocoder.durations.layer == "mfcc"
    assert vocoder.evidence["judged"] == ["2"]
    assert vocoder.evidence["layer_dropout"] is False


def test_bad_input_is_told_in_a_line(vocable: Run, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "vocoder"
    for options, code, message in (
        (("--steps", 1, "--minutes", 1), 2, "one of --steps and --minutes, got both"),
        (("--steps", 1, "--speakers", "voice"), 1, "expected recordings with a field 'voice' for --speakers, got none"),
        (("--steps", 1, "--crop-seconds", 60), 1, "expected as much sound as one crop to train on"),
        (("--steps", 1, "--tokens", place / "units"), 1, "is not a token store"),
        (("--steps", 1, "--sample-rate", 12345), 2, "--sample-rate"),
        (
            ("--steps", 1, "--durations-layer", "L9"),
            1,
            "expected a layer of one codebook to learn durations of, got L9",
        ),
        (("--steps", 1, "--work", place / "speech"), 1, "is not the work of a training of a vocoder"),
    ):
        got, lines = train(vocable, place, out, *options)
        assert got == code, lines
        assert any(message in line for line in lines), lines
        assert lines[-1].startswith(("hint: ", "error: "))
        assert not out.exists()
    train_kmeans(Corpus.of(place / "speech"), MFCC(), 4).save_pretrained(tmp_path / "others")
    vocable("tokenize", place / "speech", "--tokenizer", tmp_path / "others", "--out", tmp_path / "tokens")
    code, lines = train(vocable, place, out, "--steps", 1, "--tokens", tmp_path / "tokens")
    assert code == 1
    assert lines[0].startswith(f"error: {tmp_path / 'tokens'} holds tokens of tokenizer ")
    assert sorted(path.name for path in (place / "speech").iterdir()) == ["0.wav", "1.wav", "2.wav"]
