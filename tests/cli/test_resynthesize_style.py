"""`vocable resynthesize --vocoder` with voices, pitch, speed, layers and durations, and `vocable report --vocoder`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import sing
from tests.vocoders.test_units import small
from vocable.corpus import Corpus
from vocable.nets.durations import DurationPredictor
from vocable.quantizers import KMeans
from vocable.store import TokenStore
from vocable.tokenizers import LogMel, UnitTokenizer, tokenize
from vocable.vocoders.durations import Durations


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """Two recordings, units, tokens/, and vocoders: of two voices in vocoder/, with durations besides in lasting/."""
    folder = tmp_path_factory.mktemp("room")
    lines = []
    for number, speaker in enumerate(("ann", "bo")):
        soundfile.write(folder / f"{speaker}.wav", sing(0.7, 16000, seed=number), 16000)
        lines.append({"path": f"{speaker}.wav", "id": speaker, "speaker": speaker, "text": f"<b>{speaker}</b>"})
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    units = UnitTokenizer(LogMel(), [KMeans(torch.linspace(-18, -2, 9)[:, None].repeat(1, 80))])
    units.save_pretrained(folder / "units")
    tokenize(Corpus.of(folder / "m.jsonl"), units, folder / "tokens")
    vocoder = small(units.spec, speakers=("ann", "bo"))
    vocoder.save_pretrained(folder / "vocoder")
    predictor = DurationPredictor(9).eval()
    torch.nn.init.constant_(predictor.usual, 1.0)
    vocoder.lasting(Durations("logmel", predictor)).save_pretrained(folder / "lasting")
    return folder


@pytest.fixture
def resynthesize(vocable, room, tmp_path):
    """Options -> the folder of sounds; fails if the command does."""

    def run(*options: object, vocoder: str = "vocoder", name: str = "out") -> Path:
        code, _, err = vocable(
            "resynthesize", room / "tokens", "--vocoder", room / vocoder, "--out", tmp_path / name, *options
        )
        assert code == 0, err
        return tmp_path / name

    return run


def sound(folder: Path, name: str) -> np.ndarray:
    return soundfile.read(folder / f"{name}.wav", dtype="float32")[0]


def test_own_voice_another_voice_and_speed(resynthesize) -> None:
    own, bo = resynthesize(name="own"), resynthesize("--speaker", "bo", name="bo")
    assert len(sound(own, "ann")) == len(sound(bo, "ann")) == 11200
    assert (sound(own, "bo") == sound(bo, "bo")).all()
    assert (sound(own, "ann") != sound(bo, "ann")).any()
    assert len(sound(resynthesize("--speed", 1.4, name="fast"), "ann")) == 8000
    assert (sound(resynthesize("--layers", " logmel", name="layer"), "ann") == sound(own, "ann")).all()


def test_precision_is_another_sound(resynthesize, vocable, room) -> None:
    fine, coarse = resynthesize(name="fine"), resynthesize("--precision", "bf16", name="coarse")
    assert (sound(fine, "ann") != sound(coarse, "ann")).any()
    assert np.abs(sound(fine, "ann") - sound(coarse, "ann")).max() < 0.05
    code, _, err = vocable("resynthesize", room / "tokens", "--vocoder", room / "vocoder", "--out", coarse)
    assert code == 1 and "something else" in err


def test_the_voice_of_a_recording(vocable, resynthesize, room, monkeypatch) -> None:
    monkeypatch.setattr("vocable.vocoders.voices._BATCH", 1)
    monkeypatch.setattr("vocable.vocoders.voices.fit_voice.__kwdefaults__", {"steps": 2, "seed": 0})
    made = resynthesize("--speaker", room / "bo.wav")
    first = sound(made, "ann")
    resynthesize("--speaker", room / "bo.wav")  # the same voice: the folder is still of this kind
    assert (sound(resynthesize("--speaker", "bo", name="bo"), "ann") != first).any()
    code, _, err = vocable(
        *("resynthesize", room / "tokens", "--vocoder", room / "vocoder", "--speaker", room / "ann.wav"),
        *("--out", made),
    )
    assert code == 1 and "something else" in err


def test_predicted_durations(resynthesize, room) -> None:
    made = resynthesize("--predict-durations", vocoder="lasting")
    for entry in TokenStore.open(room / "tokens"):
        runs = 1 + int((np.diff(entry.codes[0].astype(int)) != 0).sum())
        assert len(sound(made, entry.id)) == 160 * round(runs * np.e)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--speaker", "dee"], ["'dee'", "it knows ann, bo"]),
        (["--f0-shift", "2"], ["pitch", "vocable join"]),
        (["--f0-shift", "nan"], ["semitones"]),
        (["--layers", "L6"], ["layers among logmel, got L6"]),
        (["--speed", "0"], ["--speed"]),
        (["--speed", "inf"], ["speed"]),
        (["--predict-durations"], ["learned durations", "--durations"]),
        (["--tokenizer", "units"], ["leave --tokenizer out"]),
    ],
)
def test_options_that_do_not_fit(vocable, room, tmp_path, options, words) -> None:
    code, out, err = vocable(
        "resynthesize", room / "tokens", "--vocoder", room / "vocoder", "--out", tmp_path / "out", *options
    )
    assert code in (1, 2) and out == "" and err.startswith("error: "), err
    assert all(word in err for word in words), err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--speaker", "ann"], "learned voices"),
        (["--predict-durations"], "learned durations"),
        (["--precision", "bf16"], "--vocoder"),
    ],
)
def test_what_needs_a_trained_vocoder(vocable, room, tmp_path, options, word) -> None:
    code, _, err = vocable("resynthesize", room / "tokens", "--out", tmp_path / "out", *options)
    assert code in (1, 2) and word in err
    assert not (tmp_path / "out").exists()


def test_a_vocoder_that_is_none(vocable, room, tmp_path) -> None:
    for place in (room / "units", tmp_path / "nothing"):
        code, _, err = vocable("resynthesize", room / "tokens", "--vocoder", place, "--out", tmp_path / "out")
        assert code == 1 and str(place) in err
    assert not (tmp_path / "out").exists()


def test_report_on_a_vocoder(vocable, room, tmp_path) -> None:
    page = tmp_path / "page.html"
    command = ("report", room / "tokens", "--vocoder", room / "vocoder", "--out", page)
    code, out, err = vocable(*command)
    assert (code, out) == (0, ""), err
    assert str(page) in err
    assert "<b>ann" not in page.read_text()
    assert '"layers":[["logmel",1.0]]' in page.read_text()
    assert vocable(*command)[0] == 1  # nothing is overwritten
    assert vocable(*command, "--overwrite")[0] == 0
    for wrong in (command[:4], (*command, "speech/"), ("report", room / "units")):
        assert vocable(*wrong)[0] == 2
