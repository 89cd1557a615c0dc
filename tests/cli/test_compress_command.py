from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.cli.conftest import Run
from tests.conftest import sing
from tests.stand_ins import copy_package, pack_parts, run_there, write_parts
from tests.tiny_own_codecs import random_codec, short_design
from tests.vocoders.test_units import small
from vocable import audio
from vocable.quantizers import KMeans
from vocable.tokenizers import LogMel, NeuralCodec, UnitTokenizer
from vocable.types import Audio


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """codec/, units/ of log-mel frames, and vocoder/ for them."""
    folder = tmp_path_factory.mktemp("models")
    NeuralCodec(*random_codec(short_design(causal=True))).save_pretrained(folder / "codec")
    units = UnitTokenizer(LogMel(), [KMeans(torch.linspace(-18, -2, 9)[:, None].repeat(1, 80))])
    units.save_pretrained(folder / "units")
    small(units.spec).save_pretrained(folder / "vocoder")
    return folder


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", sing(1.2, 16000), 16000)
    return tmp_path / "a.wav"


def test_a_file_there_and_back(vocable: Run, models: Path, recording: Path, tmp_path: Path) -> None:
    code, out, err = vocable("compress", recording, tmp_path / "a.voc", "--tokenizer", models / "codec")
    size = (tmp_path / "a.voc").stat().st_size
    assert (code, out) == (0, "")
    assert err == f"1.2 s in {size:,} bytes, {8 * size / 1.2:,.0f} bit/s, in {tmp_path / 'a.voc'}\n"
    code, out, err = vocable("decompress", tmp_path / "a.voc", tmp_path / "b.flac", "--tokenizer", models / "codec")
    assert (code, out) == (0, "")
    assert err == f"1.2 s at 16,000 Hz, 1 channel, in {tmp_path / 'b.flac'}\n"
    assert audio.info(tmp_path / "b.flac").samples == 19200


def test_options_decide_the_size(vocable: Run, models: Path, recording: Path, tmp_path: Path) -> None:
    sizes = []
    for number, options in enumerate([(), ("--codebooks", 1), ("--coder", "uniform"), ("--block", 0.1)]):
        path = tmp_path / f"{number}.voc"
        code, _, err = vocable("compress", recording, path, "--tokenizer", models / "codec", *options)
        assert code == 0, err
        assert vocable("decompress", path, tmp_path / f"{number}.wav", "--tokenizer", models / "codec")[0] == 0
        sizes.append(path.stat().st_size)
    assert sizes[1] < sizes[0] < sizes[3]


def test_units_with_a_vocoder_inverted_or_refused(vocable: Run, models: Path, recording: Path, tmp_path: Path) -> None:
    assert vocable("compress", recording, tmp_path / "a.voc", "--tokenizer", models / "units")[0] == 0
    for number, options in enumerate([("--vocoder", models / "vocoder"), ("--tokenizer", models / "units")]):
        code, _, err = vocable("decompress", tmp_path / "a.voc", tmp_path / f"{number}.wav", *options)
        assert code == 0, err
        assert audio.info(tmp_path / f"{number}.wav").samples == 19200
    code, _, err = vocable("decompress", tmp_path / "a.voc", tmp_path / "c.wav")
    assert code == 1
    assert err.startswith("error: expected codes of a built-in model, got those of tokenizer ")
    code, _, err = vocable("decompress", tmp_path / "a.voc", tmp_path / "c.wav", "--tokenizer", models / "codec")
    assert code == 1
    assert err.startswith("error: expected tokens of tokenizer ")
    assert not (tmp_path / "c.wav").exists()


def test_folders(vocable: Run, models: Path, speech_folder: Path, tmp_path: Path) -> None:
    codec = ("--tokenizer", models / "codec")
    code, _, err = vocable("compress", speech_folder, tmp_path / "voc", *codec)
    assert code == 0, err
    assert "8 recordings compressed" in err
    (tmp_path / "voc" / "speaker0" / "clip0.voc").write_bytes(b"\x89VCB\x01")
    code, _, err = vocable(
        "decompress", tmp_path / "voc", tmp_path / "wavs", "--format", "flac", "--rate", 16000, *codec
    )
    assert code == 1
    assert "7 recordings decompressed" in err
    assert "clip0.voc: expected a whole compressed file, got one cut off in the head" in err
    assert "error: 1 recording of 8 failed" in err
    assert {audio.info(path).sample_rate for path in (tmp_path / "wavs").rglob("*.flac")} == {16000}


def test_a_pipe_there_and_back(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Raw sound in, raw sound out; what lies between is a file like any other."""
    samples = (sing(1.0, 8000) * 32767).round().astype("<i2")
    codec = NeuralCodec.from_saved(models / "codec")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(samples.tobytes())))
    path = tmp_path / "a.voc"
    assert vocable_binary(monkeypatch, capfdbinary, "compress", "-", path, "--tokenizer", models / "codec")[0] == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    code, out = vocable_binary(monkeypatch, capfdbinary, "decompress", "-", "-", "--tokenizer", models / "codec")
    assert code == 0
    wave = torch.from_numpy(samples.astype(np.float32) / 32768)
    expected = codec.decode(codec.encode(Audio.of([wave], 8000))).waveform(0)[0] * 32768
    np.testing.assert_allclose(np.frombuffer(out, "<i2"), expected.round().clamp(-32768, 32767).numpy(), atol=1)


def vocable_binary(
    monkeypatch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[bytes], *arguments: object
) -> tuple[int, bytes]:
    from vocable.cli import main

    monkeypatch.setattr("sys.argv", ["vocable", *map(str, arguments)])
    captured.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0), captured.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compress", "none.wav", "x.voc"), "none.wav does not exist"),
        (("compress", ".", "-"), "expected one recording to write to standard output"),
        (("compress", "a.wav", "a.wav"), "a.wav is there already"),
        (("compress", "a.wav", "x.voc", "--rate", 8000), "--rate and --encoding go with sound on standard input"),
        (("decompress", "none.voc", "x.wav"), "expected a compressed file, got nothing at none.voc"),
        (("decompress", "a.wav", "x.wav"), "expected a file of `vocable compress`, got something else"),
        (("decompress", "a.wav", "a.wav"), "a.wav is there already"),
        (("decompress", ".", "-"), "expected one file for standard output"),
        (("decompress", "a.wav", "x.wav", "--vocoder", "v", "--tokenizer", "t"), "--vocoder needs no tokenizer"),
    ],
)
def test_what_does_not_go_is_told_in_a_line(
    vocable: Run, recording: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], message: str
) -> None:
    monkeypatch.chdir(recording.parent)
    code, out, err = vocable(*arguments)
    assert code in {1, 2}
    assert out == ""
    assert message in err
    assert len(err.splitlines()) <= 2
    assert [path.name for path in recording.parent.iterdir()] == ["a.wav"]


def test_without_a_name_both_ways_take_what_is_built_in(
    tmp_path_factory: pytest.TempPathFactory, recording: Path, tmp_path: Path
) -> None:
    """The codec to compress with, and for codes of the built-in units the vocoder that belongs to them."""
    folder = tmp_path_factory.mktemp("built-in")
    package = copy_package(folder / "package", pack_parts(write_parts(folder / "parts"), folder / "models"))
    script = """
from vocable.cli import cli
for line in (
    "compress a.wav codec.voc",
    "decompress codec.voc codec.wav",
    "compress a.wav units.voc --tokenizer vocable-units",
    "decompress units.voc units.wav",
):
    cli.main(line.split(), prog_name="vocable", standalone_mode=False)
"""
    done = run_there(package, "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("codec", "units"):
        assert audio.info(tmp_path / f"{name}.wav").samples == audio.info(recording).samples
