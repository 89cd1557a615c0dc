"""Codecs, models and presets through the commands that a newcomer would give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli.conftest import Run
from tests.tiny_codecs import write_tiny_codec
from tests.tiny_foreign import write_tiny_foreign
from tests.tiny_models import write_tiny_model
from vocable.store import TokenStore


def done(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert code == 0, err
    return out


def refused(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    assert (code > 0, out) == (True, "")
    assert err.startswith("error: ")
    for word in words:
        assert word in err


@pytest.mark.parametrize(("name", "channels"), [("encodec-24k", 1), ("encodec-48k", 2), ("dac-16k", 1)])
def test_a_codec_from_sound_to_tokens_to_sound(
    name: str, channels: int, speech_folder: Path, tmp_path: Path, vocable: Run
) -> None:
    model = write_tiny_codec(tmp_path / name, name)
    tokens, wavs = tmp_path / "tokens", tmp_path / "wavs"
    done(vocable("tokenize", speech_folder, "--tokenizer", model, "--out", tokens))
    assert "neural codec" in done(vocable("inspect", tokens / "tokenizer"))
    assert "holds" in done(vocable("inspect", tokens))
    done(vocable("resynthesize", tokens, "--out", wavs))
    for path in speech_folder.rglob("clip*"):
        made = soundfile.info(wavs / path.parent.name / f"{path.stem}.wav")
        source = soundfile.info(path)
        assert (made.frames, made.samplerate, made.channels) == (source.frames, source.samplerate, channels)


def test_fewer_codebooks_are_the_first_of_all(speech_folder: Path, tmp_path: Path, vocable: Run) -> None:
    model = write_tiny_codec(tmp_path / "codec")
    for count, out in ((None, "all"), (2, "two")):
        options = [] if count is None else ["--codebooks", count]
        done(vocable("tokenize", speech_folder, "--tokenizer", model, *options, "--out", tmp_path / out))
    everything = {entry.id: entry.codes for entry in TokenStore.open(tmp_path / "all")}
    for entry in TokenStore.open(tmp_path / "two"):
        np.testing.assert_array_equal(entry.codes, everything[entry.id][:2])
    saved = tmp_path / "all" / "tokenizer"
    refused(
        vocable("tokenize", speech_folder, "--tokenizer", saved, "--codebooks", 2, "--out", tmp_path / "x"), "codec"
    )
    refused(
        vocable("resynthesize", tmp_path / "two", "--tokenizer", saved, "--out", tmp_path / "w"), "expected tokens of"
    )


def test_units_of_latents_and_of_layers_before_their_residual(
    speech_folder: Path, tmp_path: Path, vocable: Run
) -> None:
    codec = write_tiny_codec(tmp_path / "mimi", "mimi")
    model = write_tiny_model(tmp_path / "wavlm", "wavlm", large=True)
    train = ("train", "kmeans", speech_folder, "--clusters", 8)
    done(vocable(*train, "--features", f"latents:{codec}", "--out", tmp_path / "latents"))
    done(
        vocable(*train, "--features", model, "--layers", "L2,2.pre,0-1", "--precision", "bf16", "--out", tmp_path / "u")
    )
    assert "L2 (8), L2.pre (8), L0 (8), L1 (8)" in done(vocable("inspect", tmp_path / "u"))
    for name in ("latents", "u"):
        done(vocable("tokenize", speech_folder, "--tokenizer", tmp_path / name, "--out", tmp_path / f"{name}-tokens"))
    told = done(vocable("inspect", tmp_path / "u", "--agreement", speech_folder))
    assert {line.split("  ")[0] for line in told.splitlines()} == {"fp32 fast", "bf16 exact", "bf16 fast"}
    assert "fp32 fast   L2 100.0000%" in told
    refused(vocable("inspect", tmp_path / "latents", "--agreement", speech_folder), "one way only")


def test_a_model_is_told_from_a_tokenizer(speech_folder: Path, tmp_path: Path, vocable: Run) -> None:
    model = write_tiny_foreign(tmp_path / "whisper", "whisper")
    assert "L0, L1, L2, L3, 32 wide" in done(vocable("inspect", model))
    refused(vocable("tokenize", speech_folder, "--tokenizer", model, "--out", tmp_path / "x"), "train kmeans CORPUS")
    codec = write_tiny_codec(tmp_path / "codec")
    refused(vocable("train", "kmeans", speech_folder, "--features", codec, "--out", tmp_path / "x"), "latents:MODEL")


def test_dmel_there_and_back(speech_folder: Path, tmp_path: Path, vocable: Run) -> None:
    done(vocable("tokenize", speech_folder, "--tokenizer", "dmel", "--out", tmp_path / "tokens"))
    assert "80: logmel.0 (16), logmel.1 (16), ... logmel.79 (16)" in done(vocable("inspect", tmp_path / "tokens"))
    done(vocable("resynthesize", tmp_path / "tokens", "--out", tmp_path / "wavs"))
    assert len(list((tmp_path / "wavs").rglob("*.wav"))) == 8


def test_presets_are_not_tokenizers_until_they_are_trained(speech_folder: Path, tmp_path: Path, vocable: Run) -> None:
    out = "--out", tmp_path / "x"
    untrained = vocable("tokenize", speech_folder, "--tokenizer", "hubert-base-l6-k100", *out)
    refused(untrained, "yet to be trained", "--preset hubert-base-l6-k100")
    refused(vocable("train", "kmeans", speech_folder, "--preset", "nonsense", *out), "nonsense")
    refused(vocable("tokenize", "-", "--stream", "--tokenizer", "dmel"), "causal codec")
    refused(
        vocable("tokenize", speech_folder, "--stream", "--tokenizer", "dmel"), "expected `vocable tokenize - --stream`"
    )
