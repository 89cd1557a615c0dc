"""Sound files in and out: every format, odd rates, odd names, damage; streams against the whole."""

from __future__ import annotations

import math
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocable import audio
from vocable.audio import AudioStream, checksum, conform, encoded, info, read, resample, resample_blocks, write
from vocable.clock import Windows, resampled_length
from vocable.errors import AudioError, InputError, OutputError
from vocable.types import Audio

RATES = (8000, 11025, 12345, 16000, 22050, 24000, 44100, 48000, 96000, 192000)


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Quiet noise [n, C]."""
    return (0.1 * np.random.default_rng(seed).standard_normal((samples, channels))).astype(np.float32)


def wave_of(path: Path, sample_rate: int | None = None) -> np.ndarray:
    return read(path, sample_rate).samples[0, 0].numpy()


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "au", "w64", "caf"])
def test_lossless_formats_keep_every_sample(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    written = noise(4321)
    write(path, Audio.of([torch.from_numpy(written[:, 0])], 22050))
    assert info(path).samples == 4321
    assert info(path).sample_rate == 22050
    assert info(path).seconds == pytest.approx(4321 / 22050)
    back = wave_of(path)
    assert back.dtype == np.float32
    assert np.abs(back - written[:, 0]).max() < 2 / (1 << 15)


# these codecs keep the length exactly through libsndfile: ogg and opus by their last granule, mp3 by its LAME tag
@pytest.mark.parametrize(("suffix", "rate"), [("ogg", 44100), ("opus", 48000), ("opus", 16000), ("mp3", 44100)])
def test_lossy_formats_keep_the_length_and_the_sound(tmp_path: Path, suffix: str, rate: int) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(rate + 77) / rate).astype(np.float32)
    write(tmp_path / f"x.{suffix}", Audio.of([torch.from_numpy(tone)], rate))
    back = wave_of(tmp_path / f"x.{suffix}")
    assert len(back) == len(tone)
    middle = slice(rate // 4, rate // 2)
    assert np.corrcoef(back[middle], tone[middle])[0, 1] > 0.99


def test_an_mp3_with_a_tag_in_front_is_an_mp3(tmp_path: Path) -> None:
    write(tmp_path / "x.mp3", Audio.of([torch.from_numpy(noise(20000)[:, 0])], 16000))
    tag = b"ID3\x04\x00\x00\x00\x00\x07\x76" + bytes(7 * 128 + 0x76)
    (tmp_path / "tagged.mp3").write_bytes(tag + (tmp_path / "x.mp3").read_bytes())
    np.testing.assert_array_equal(wave_of(tmp_path / "tagged.mp3"), wave_of(tmp_path / "x.mp3"))


@pytest.mark.parametrize("channels", [2, 3, 8, 16])
def test_channels_are_averaged_the_same_way_from_a_file_and_from_a_tensor(tmp_path: Path, channels: int) -> None:
    many = noise(70001, channels)
    soundfile.write(tmp_path / "x.wav", many, 16000, subtype="FLOAT")
    mono = read(tmp_path / "x.wav").samples
    np.testing.assert_allclose(mono[0, 0].numpy(), many.mean(axis=1, dtype=np.float64), atol=1e-7)
    for tensor in (torch.from_numpy(many).T, torch.from_numpy(many).T.contiguous()):
        assert torch.equal(conform(Audio.of([tensor], 16000), 16000).samples, mono)


@pytest.mark.parametrize("rate", RATES)
def test_any_rate_becomes_the_wanted_rate(tmp_path: Path, rate: int) -> None:
    samples = noise(rate // 2 + 13)
    soundfile.write(tmp_path / "x.wav", samples, rate, subtype="FLOAT")
    back = wave_of(tmp_path / "x.wav", 16000)
    assert len(back) == math.floor((rate // 2 + 13) * 16000 / rate + 0.5)
    given = samples[:, 0] if rate == 16000 else soxr.resample(samples[:, 0], rate, 16000)
    shared = min(len(back), len(given))
    np.testing.assert_array_equal(back[:shared], given[:shared])
    assert torch.equal(resample(read(tmp_path / "x.wav"), 16000).samples[0, 0], torch.from_numpy(back))


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_a_sample_or_two_at_a_high_rate_are_still_audio(tmp_path: Path, samples: int) -> None:
    soundfile.write(tmp_path / "x.wav", noise(samples), 192000)
    assert len(wave_of(tmp_path / "x.wav", 16000)) == 1
    assert len(wave_of(tmp_path / "x.wav")) == samples


@settings(max_examples=40)
@given(
    st.integers(1, 20000),
    st.sampled_from([*RATES, 7919, 44056]),
    st.sampled_from([*RATES, 15999]),
    st.lists(st.integers(0, 20000), max_size=6),
)
def test_a_resampled_stream_is_the_resampled_whole_to_the_bit(
    samples: int, source: int, target: int, edges: list[int]
) -> None:
    wave = noise(samples)[:, 0]
    blocks = np.split(wave, sorted(min(edge, samples) for edge in edges))
    streamed = np.concatenate(list(resample_blocks(blocks, source, target)))
    np.testing.assert_array_equal(streamed, np.concatenate(list(resample_blocks([wave], source, target))))
    whole = resample(Audio.of([torch.from_numpy(wave)], source), target)
    np.testing.assert_array_equal(streamed, whole.samples[0, 0].numpy())
    assert len(streamed) == (samples if source == target else resampled_length(samples, source, target))


@given(st.integers(1, 5000), st.sampled_from(RATES), st.sampled_from(RATES), st.integers(-3, 3))
def test_a_resampled_stream_can_be_told_its_length(samples: int, source: int, target: int, more: int) -> None:
    if source != target:
        length = max(1, resampled_length(samples, source, target) + more)
        blocks = resample_blocks(np.array_split(noise(samples)[:, 0], 3), source, target, length=length)
        assert sum(map(len, blocks)) == length


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_channels_are_kept_copied_or_averaged(tmp_path: Path, channels: int) -> None:
    soundfile.write(tmp_path / "x.wav", noise(30001, channels), 44100, subtype="FLOAT")
    streamed = np.concatenate(list(AudioStream(tmp_path / "x.wav", 16000, 2)))
    whole, _ = soundfile.read(tmp_path / "x.wav", dtype="float32", always_2d=True)
    audio_there = Audio.of([torch.from_numpy(whole.T.copy())], 44100)
    assert streamed.shape == (resampled_length(30001, 44100, 16000), 2)
    np.testing.assert_array_equal(streamed.T, conform(audio_there, 16000, 2).samples[0].numpy())
    np.testing.assert_array_equal(streamed.T, read(tmp_path / "x.wav", 16000, 2).samples[0].numpy())
    assert np.array_equal(streamed[:, 0], streamed[:, 1]) == (channels != 2)


def test_windows_of_stereo_hold_both_channels(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", noise(9000, 2), 16000, subtype="FLOAT")
    whole = np.concatenate(list(AudioStream(tmp_path / "x.wav", channels=2)))
    for window, samples in Windows(10, 3, 160, 400).stream(AudioStream(tmp_path / "x.wav", channels=2)):
        np.testing.assert_array_equal(samples, whole[window.start : window.stop])


def test_blocks_do_not_change_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "x.flac", noise(50001, 2), 44100)
    whole = wave_of(tmp_path / "x.flac", 16000)
    for block in (1000, 4097, 50000, 50001):
        monkeypatch.setattr(audio, "_BLOCK", block)
        np.testing.assert_array_equal(wave_of(tmp_path / "x.flac", 16000), whole)


def test_a_stream_counts_the_samples_of_the_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", noise(44100, 2), 44100)
    stream = AudioStream(tmp_path / "x.wav", 16000)
    assert sum(map(len, stream)) == 16000
    assert (stream.source_samples, stream.source_rate, stream.sample_rate) == (44100, 44100, 16000)


def test_half_an_hour_streams_in_little_memory(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "x.flac", "w", 16000, 1) as file:
        minute = (noise(16000 * 60)[:, 0] * 0.1).astype(np.float32)
        for _ in range(30):
            file.write(minute)
    tracemalloc.start()
    stream = AudioStream(tmp_path / "x.flac", 8000)
    pieces = sum(1 for _ in Windows(1500, 10, 160, 200).stream(stream))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pieces == 60
    assert peak < 10e6, "the recording alone would be 115 MB"


def test_checksum_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert checksum(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


NAMES = [b"a\nb.wav", b"q'\"`$.wav", b"<script>.wav", "\U0001f600 \u0416.wav".encode(), b"stray \xff\xfe.wav", b"-.wav"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_only_names(tmp_path: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    write(path, Audio.of([torch.from_numpy(noise(100)[:, 0])], 16000))
    assert len(wave_of(path)) == 100
    assert [os.fsencode(child.name) for child in tmp_path.iterdir()] == [name]


def damaged(folder: Path, kind: str) -> Path:
    """A path at which there is no sound, each kind in its own way."""
    path = folder / "x.wav"
    soundfile.write(path, noise(16000), 16000, subtype="FLOAT" if kind.startswith("not ") else "PCM_16")
    sound = path.read_bytes()
    if kind == "no samples":
        soundfile.write(path, noise(0), 16000)
    elif kind == "infinite":
        soundfile.write(path, np.array([0, np.inf, 0], np.float32), 16000, subtype="FLOAT")
    elif kind == "NaN at the end":
        soundfile.write(path, np.append(noise(100000), np.nan), 16000, subtype="FLOAT")
    elif kind == "beyond float32":
        soundfile.write(path, np.array([1e300]), 16000, subtype="DOUBLE")
    elif kind == "cut flac":
        path = folder / "x.flac"
        soundfile.write(path, noise(100000), 16000)
        path.write_bytes(path.read_bytes()[:50000])
    elif kind == "missing":
        path.unlink()
    elif kind == "NUL in the name":
        return folder / "x\0.wav"
    elif kind in {"directory", "loop", "broken link", "pipe"}:
        path.unlink()
        make = {"directory": path.mkdir, "pipe": lambda: os.mkfifo(path)}
        make.get(kind, lambda: path.symlink_to(path if kind == "loop" else folder / "nowhere"))()
    else:
        contents = {"empty": b"", "one byte": b"R", "text": b"hello, I am no sound\n" * 99, "header": sound[:20]}
        path.write_bytes((contents | {"zeros": bytes(1000), "raw": sound[44:]})[kind])
    return path.rename(folder / "x.raw") if kind == "raw" else path


DAMAGES = [
    *("no samples", "infinite", "NaN at the end", "beyond float32", "cut flac", "missing", "NUL in the name"),
    *("directory", "loop", "broken link", "pipe", "empty", "one byte", "text", "header", "zeros", "raw"),
]


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_an_audio_error_of_one_line(tmp_path: Path, kind: str) -> None:
    with np.errstate(over="ignore"):
        path = damaged(tmp_path, kind)
    with pytest.raises(AudioError) as caught:
        read(path, 8000)
    assert 10 < len(str(caught.value)) < 120
    assert kind not in {"pipe", "directory", "empty", "no samples"} or kind in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_an_audio_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", noise(100), 16000)
    (tmp_path / "x.wav").chmod(0)
    with pytest.raises(AudioError, match="Permission denied"):
        read(tmp_path / "x.wav")


def test_a_wav_cut_in_its_samples_is_as_long_as_it_is(tmp_path: Path) -> None:
    """Its header cannot be told from that of a recording streamed to disk, where the length is never filled in."""
    soundfile.write(tmp_path / "x.wav", noise(1000), 16000)
    (tmp_path / "x.wav").write_bytes((tmp_path / "x.wav").read_bytes()[: 44 + 500])
    assert len(wave_of(tmp_path / "x.wav")) == 250


def test_bad_files_leave_no_descriptor_open(tmp_path: Path) -> None:
    bad, good = damaged(tmp_path, "text"), tmp_path / "good.wav"
    soundfile.write(good, noise(100), 16000)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(AudioError):
            info(bad)
        info(good)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_conform_refuses_what_is_no_audio() -> None:
    for waves in ([torch.zeros(0)], [torch.ones(5), torch.zeros(0)], [torch.tensor([0.0, float("nan")])]):
        with pytest.raises(AudioError):
            conform(Audio.of(waves, 16000), 16000)
    with pytest.raises(AudioError):
        conform(Audio(torch.zeros(0, 1, 5), torch.zeros(0, dtype=torch.int64), 16000), 16000)


def test_conform_ignores_what_lies_in_the_padding() -> None:
    padded = Audio(torch.tensor([[[0.1, 0.2, float("nan")]]]), torch.tensor([2]), 16000)
    assert conform(padded, 16000).samples.tolist() == [[[pytest.approx(0.1), pytest.approx(0.2)]]]


def test_writing_clips_and_never_wraps(tmp_path: Path) -> None:
    write(tmp_path / "x.wav", Audio.of([torch.tensor([2.0, -2.0, 0.0])], 16000))
    assert wave_of(tmp_path / "x.wav").tolist() == pytest.approx([1, -1, 0], abs=1e-4)


def test_writing_what_cannot_be_written(tmp_path: Path) -> None:
    one = Audio.of([torch.zeros(100)], 44100)
    with pytest.raises(InputError, match="audio suffix"):
        write(tmp_path / "x.txt", one)
    with pytest.raises(InputError, match="batch of one"):
        write(tmp_path / "x.wav", Audio.of([torch.zeros(5)] * 2, 16000))
    with pytest.raises(OutputError, match="44100 Hz"):
        write(tmp_path / "x.opus", one)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def blocks():
        yield noise(1000)[:, 0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audio.write_blocks(tmp_path / "x.wav", blocks(), 16000)
    assert list(tmp_path.iterdir()) == []


def test_sound_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "x.flac").write_bytes(encoded(Audio.of([torch.from_numpy(noise(500)[:, 0])], 16000)))
    assert np.abs(wave_of(tmp_path / "x.flac") - noise(500)[:, 0]).max() < 2 / (1 << 15)
