from __future__ import annotations

import io
import json
import os
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.cli.conftest import Run
from tests.tiny_codecs import tiny_config, tiny_tensors, write_tiny_codec
from vocable.audio import resample
from vocable.cli.stream import stream_pcm
from vocable.errors import AudioError, InputError
from vocable.testing import noise
from vocable.tokenizers import UnitTokenizer
from vocable.tokenizers.codec import NeuralCodec
from vocable.tokenizers.spectral import LogMel
from vocable.types import Audio


@cache
def codec(name: str = "encodec-24k") -> NeuralCodec:
    return NeuralCodec(tiny_config(name), tiny_tensors(name))


def pcm(samples: Tensor) -> bytes:
    return (samples * 32768).round().clamp(-32768, 32767).numpy().astype("<i2").tobytes()


def streamed(data: bytes, sample_rate: int = 24000, encoding: str = "s16le") -> tuple[list[dict[str, Any]], Tensor]:
    """The lines, and all of their codes [K, T]."""
    sink = io.StringIO()
    frames = stream_pcm(codec(), io.BytesIO(data), sink, sample_rate=sample_rate, encoding=encoding)
    lines = [json.loads(line) for line in sink.getvalue().splitlines()]
    codes = torch.tensor([frame for line in lines for frame in line["codes"]]).T
    assert codes.shape[1] == frames
    return lines, codes


@pytest.mark.parametrize("encoding", ["s16le", "f32le"])
def test_the_codes_are_those_of_the_recording(encoding: str) -> None:
    samples = torch.from_numpy(np.frombuffer(pcm(noise(2.0, 24000, 1)), "<i2") / np.float32(32768)).float()
    data = pcm(samples) if encoding == "s16le" else samples.numpy().astype("<f4").tobytes()
    lines, codes = streamed(data, encoding=encoding)
    assert torch.equal(codes, codec().encode(Audio.of([samples], 24000)).utterance(0))
    assert len(lines) > 1
    assert [line["frame"] for line in lines] == [
        sum(len(line["codes"]) for line in lines[:i]) for i in range(len(lines))
    ]


@pytest.mark.parametrize("sample_rate", [16000, 44100])
def test_other_rates_are_resampled_as_files_are(sample_rate: int) -> None:
    samples = torch.from_numpy(np.frombuffer(pcm(noise(1.3, sample_rate, 1)), "<i2") / np.float32(32768)).float()
    expected = codec().encode(resample(Audio.of([samples], sample_rate), 24000)).utterance(0)
    assert torch.equal(streamed(pcm(samples), sample_rate)[1], expected)


def test_codes_come_while_the_sound_still_does() -> None:
    """The second half is written only when codes of the first were seen; samples come in halves, too."""
    data, seen = pcm(noise(1.0, 24000, 2)), threading.Event()
    end, start = os.pipe()

    class Sink(io.StringIO):
        def flush(self) -> None:
            seen.set()

    def speak() -> None:
        with os.fdopen(start, "wb", buffering=0) as pipe:
            for at in range(0, 24001, 999):
                pipe.write(data[at : min(at + 999, 24001)])
            assert seen.wait(30)
            pipe.write(data[24001:])

    speaker = threading.Thread(target=speak)
    speaker.start()
    sink = Sink()
    with os.fdopen(end, "rb") as source:
        frames = stream_pcm(codec(), source, sink, sample_rate=24000, encoding="s16le")
    speaker.join()
    assert frames == 75
    assert json.loads(sink.getvalue().splitlines()[0])["frame"] == 0


@pytest.mark.parametrize(("data", "message"), [(b"", "got none"), (b"\x00" * 641, "an end in the middle of a sample")])
def test_no_sound_or_half_a_sample_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        streamed(data)


def test_nan_and_an_unknown_encoding_are_errors() -> None:
    with pytest.raises(AudioError, match="finite"):
        streamed(np.array([0.1, np.nan], "<f4").tobytes(), encoding="f32le")
    with pytest.raises(InputError, match="expected an encoding among s16le, f32le, got 'u8'"):
        streamed(b"\x00\x00", encoding="u8")


def test_units_name_the_windowed_mode() -> None:
    from vocable.quantizers import KMeans

    mel = LogMel()
    units = UnitTokenizer(mel, [KMeans(torch.randn(4, mel.dim))])
    with pytest.raises(InputError, match="expected a causal codec") as problem:
        stream_pcm(units, io.BytesIO(b""), io.StringIO(), sample_rate=16000, encoding="s16le")
    assert "tokenize a file" in problem.value.hint


def test_the_command_prints_codes_and_nothing_else(
    vocable: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, samples = write_tiny_codec(tmp_path / "mimi", "mimi"), noise(0.5, 24000, 4)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(samples.numpy().astype("<f4").tobytes())))
    code, out, err = vocable("tokenize", "-", "--stream", "--encoding", "f32le", "--tokenizer", folder)
    assert (code, err) == (0, "")
    codes = torch.tensor([frame for line in out.splitlines() for frame in json.loads(line)["codes"]]).T
    whole = NeuralCodec.from_pretrained(str(folder)).encode(Audio.of([samples], 24000))
    assert torch.equal(codes, whole.utterance(0))
