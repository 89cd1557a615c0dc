"""Sound through a compressed file is the sound that the tokenizer and its vocoder make of it, however it comes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import sing
from tests.tiny_codecs import tiny_config, tiny_tensors
from tests.tiny_own_codecs import random_codec, short_design
from tests.vocoders.test_units import small
from vocable import audio
from vocable.clock import Windows
from vocable.compression import Coding, Reader, compress, compress_file, compress_folder, decompress_file
from vocable.compression.files import decompress_folder
from vocable.compression.sound import sound_of
from vocable.corpus import Corpus
from vocable.errors import AudioError, InputError, OutputError, SpecError
from vocable.presets import inverter
from vocable.quantizers import KMeans
from vocable.tokenizers import LogMel, NeuralCodec, UnitTokenizer
from vocable.types import Audio, Tokens


@cache
def own(**changes: bool) -> NeuralCodec:
    """A causal codec of 100 frames a second at 8 kHz, cut into windows of half a second."""
    settings, tensors = random_codec(short_design(**{"causal": True, **changes}))
    codec = NeuralCodec(settings, tensors)
    return NeuralCodec(settings, tensors, windows=Windows(50, min(20, codec.net.context), codec.net.hop_length))


@cache
def published(name: str, frames: int) -> NeuralCodec:
    config, tensors = tiny_config(name), tiny_tensors(name)
    codec = NeuralCodec(config, tensors)
    if codec.net.longest is not None:
        return codec
    return NeuralCodec(config, tensors, windows=Windows(frames, min(10, codec.net.context), codec.net.hop_length))


@cache
def units() -> UnitTokenizer:
    torch.manual_seed(0)
    mel = LogMel()
    return UnitTokenizer(mel, [KMeans(mel.extract(voice(3.0)).utterance(0)[0][::7].clone())])


def voice(seconds: float, rate: int = 16000, channels: int = 1) -> Audio:
    waves = torch.from_numpy(np.stack([sing(seconds, rate, seed=seed) for seed in range(channels)]))
    return Audio.of([waves], rate)


class Spoken:
    """A recording in blocks of so many samples, as it comes from a microphone."""

    def __init__(self, sound: Audio, codec: NeuralCodec, block: int = 333) -> None:
        self.source_rate, self.source_samples = sound.sample_rate, 0
        self._sound, self._codec, self._block = sound, codec, block

    def __iter__(self) -> Iterator[np.ndarray]:
        wave = audio.conform(self._sound, self._codec.sample_rate, self._codec.channels).waveform(0).T.numpy()
        for first in range(0, len(wave), self._block):
            yield wave[first : first + self._block, 0] if wave.shape[1] == 1 else wave[first : first + self._block]
        self.source_samples = int(self._sound.lengths[0])


def heard(data: bytes, decoder: object, rate: int | None = None, *, live: bool = False) -> np.ndarray:
    return np.concatenate(list(sound_of(decoder, Reader(io.BytesIO(data)), rate, live=live)))  # type: ignore[arg-type]


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("name", ["own", "encodec-24k", "dac-16k", "encodec-48k"])
def test_a_codec_gives_its_own_codes_and_its_own_sound(name: str, live: bool) -> None:
    codec = own() if name == "own" else published(name, 20)
    sound = voice(1.31, codec.sample_rate, codec.channels)
    expected = codec.encode(sound)
    sink = io.BytesIO()
    compress(Spoken(sound, codec), codec, sink, Coding(block_seconds=0.3), live=live)
    codes = np.concatenate(list(Reader(io.BytesIO(sink.getvalue()))), axis=1)
    assert np.array_equal(codes, expected.utterance(0).numpy())
    again, decoded = heard(sink.getvalue(), codec, live=live), codec.decode(expected).waveform(0).numpy()
    decoded = decoded[0] if codec.channels == 1 else decoded.T
    assert again.shape == decoded.shape
    if live:
        np.testing.assert_allclose(again, decoded, atol=1e-5 * max(1.0, np.abs(decoded).max()))
    else:
        assert np.array_equal(again, decoded)


def test_the_first_codebooks_are_the_lower_bitrate() -> None:
    codec, sound = own(), voice(0.8, 8000)
    sinks = [io.BytesIO(), io.BytesIO()]
    for sink, count in zip(sinks, (3, 1), strict=True):
        compress(Spoken(sound, codec), codec, sink, Coding(count))
    expected = codec.decode(codec.encode(sound).take(["rvq0"])).waveform(0)[0].numpy()
    assert np.array_equal(heard(sinks[1].getvalue(), codec), expected)
    assert len(sinks[1].getvalue()) < 0.7 * len(sinks[0].getvalue())
    for count, tokenizer in ((4, codec), (1, units())):
        with pytest.raises(InputError, match="to keep the first"):
            compress(Spoken(sound, codec), tokenizer, io.BytesIO(), Coding(count))


def test_of_the_48_khz_codec_the_level_is_kept() -> None:
    codec, sink = published("encodec-48k", 20), io.BytesIO()
    sound = voice(0.5, 48000, 2)
    compress(Spoken(sound, codec), codec, sink, Coding(1))
    expected = codec.decode(codec.encode(sound).take(["rvq0", "scale"])).waveform(0).T.numpy()
    assert np.array_equal(heard(sink.getvalue(), codec), expected)


@pytest.mark.parametrize("rate", [8000, 24000])
def test_units_become_sound_by_a_vocoder(rate: int, tmp_path: Path) -> None:
    sound, vocoder = voice(2.3), small(units().spec, rate)
    audio.write(tmp_path / "a.flac", sound)
    compress_file(tmp_path / "a.flac", units(), tmp_path / "a.voc", Coding(block_seconds=0.4))
    decompress_file(tmp_path / "a.voc", vocoder, tmp_path / "a.wav", sample_rate=rate)
    expected = vocoder.decode(units().encode(audio.read(tmp_path / "a.flac"))).waveform(0)[0]
    again = audio.read(tmp_path / "a.wav").waveform(0)[0]
    assert len(again) == len(expected)
    np.testing.assert_allclose(again.numpy(), expected.clamp(-1, 1).numpy(), atol=1e-4)


def test_a_vocoder_of_some_layers_takes_them_and_refuses_other_tokenizers() -> None:
    vocoder = small(speakers=("ann",))
    spec = vocoder.spec.take(["L1", "L6"])
    codes = np.stack([np.arange(40) % 11, np.arange(40) % 3])
    from vocable.compression import Head, Writer

    sink = io.BytesIO()
    writer = Writer(sink, Head(spec, 16000, 15))
    writer.write(codes)
    writer.finish(12800 - 5)
    expected = vocoder.decode(Tokens.of([torch.from_numpy(codes)], spec, [12795])).waveform(0)[0].numpy()
    np.testing.assert_allclose(heard(sink.getvalue(), vocoder), expected, atol=1e-5)
    with pytest.raises(SpecError, match="expected tokens of tokenizer"):
        heard(sink.getvalue(), small(units().spec))
    with pytest.raises(SpecError, match="expected tokens of tokenizer"):
        heard(sink.getvalue(), own())


def test_spectral_units_are_inverted(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", voice(0.9))
    compress_file(tmp_path / "a.wav", units(), tmp_path / "a.voc", Coding(block_seconds=0.3))
    expected = inverter(units()).decode(units().encode(audio.read(tmp_path / "a.wav"))).waveform(0)[0].numpy()
    assert np.array_equal(heard((tmp_path / "a.voc").read_bytes(), inverter(units())), expected)


@pytest.mark.parametrize(("rate", "samples"), [(44100, 44101), (8000, 7999), (11025, 1), (22050, 30)])
def test_the_recording_has_its_own_rate_and_length_again(rate: int, samples: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sing(1.5, rate)[:samples], rate)
    compress_file(tmp_path / "a.wav", own(), tmp_path / "a.voc")
    decompress_file(tmp_path / "a.voc", own(), tmp_path / "b.flac")
    header = audio.info(tmp_path / "b.flac")
    assert (header.sample_rate, header.samples) == (rate, samples)


def test_damage_leaves_no_file_and_no_sound_of_it(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", voice(2.0, 8000))
    compress_file(tmp_path / "a.wav", own(), tmp_path / "a.voc", Coding(block_seconds=0.5))
    data = bytearray((tmp_path / "a.voc").read_bytes())
    whole = heard(bytes(data), own(), live=True)
    data[-60] ^= 4  # in the last of four blocks
    (tmp_path / "a.voc").write_bytes(data)
    with pytest.raises(AudioError, match=r"the block at 1\.5 s of the compressed file is damaged"):
        decompress_file(tmp_path / "a.voc", own(), tmp_path / "b.wav")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.voc", "a.wav"]
    given = []
    with pytest.raises(AudioError):
        for block in sound_of(own(), Reader(io.BytesIO(bytes(data))), live=True):
            given.append(block)
    before = np.concatenate(given)
    assert 8000 < len(before) <= 12000
    np.testing.assert_array_equal(before, whole[: len(before)])


def test_no_sound_and_a_full_disk_leave_no_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 8000)
    with pytest.raises(AudioError, match="no samples"):
        compress_file(tmp_path / "a.wav", own(), tmp_path / "a.voc")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    with pytest.raises(InputError, match="expected a compressed file, got nothing"):
        decompress_file(tmp_path / "b.voc", own(), tmp_path / "b.wav")


def test_folders_go_both_ways_and_name_what_failed(speech_folder: Path, tmp_path: Path) -> None:
    (speech_folder / "speaker0" / "broken.wav").write_bytes(b"RIFF")
    seen = []
    run = compress_folder(Corpus.of(speech_folder), own(), tmp_path / "voc", watcher=lambda p: seen.append(p.done))
    assert (run.done, run.failed, run.total) == (8, 1, 9)
    assert [failure.id for failure in run.failures] == ["speaker0/broken"]
    assert sorted(seen)[-1] == 8
    files = list((tmp_path / "voc").rglob("*.voc"))
    assert run.num_bytes == sum(path.stat().st_size for path in files)
    files[0].write_bytes(files[0].read_bytes()[:-1])
    run = decompress_folder(tmp_path / "voc", own(), tmp_path / "wavs", suffix=".flac")
    assert (run.done, run.failed) == (7, 1)
    assert "cut off" in run.failures[0].reason
    for path in (tmp_path / "wavs").rglob("*.flac"):
        (source,) = (speech_folder / path.parent.name).glob(f"{path.stem}.*")
        mine, theirs = audio.info(path), audio.info(source)
        assert (mine.sample_rate, mine.samples) == (theirs.sample_rate, theirs.samples)
    with pytest.raises(InputError, match="no compressed file"):
        decompress_folder(speech_folder, own(), tmp_path / "x")


def test_memory_of_long_sound_is_that_of_a_block() -> None:
    """Blocks leave while sound still comes: what is held does not grow."""
    codec, held = own(), []

    class Sink(io.BytesIO):
        def flush(self) -> None:
            held.append(spoken.given - len(held) * 4000)

    class Counted(Spoken):
        given = 0

        def __iter__(self) -> Iterator[np.ndarray]:
            for block in super().__iter__():
                self.given += len(block)
                yield block

    spoken = Counted(voice(6.0, 8000), codec, 400)
    compress(spoken, codec, Sink(), Coding(block_seconds=0.5), live=True)
    assert len(held) == 13
    assert max(held) < 12000


def test_an_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", voice(0.3, 8000))
    compress_file(tmp_path / "a.wav", own(), tmp_path / "a.voc")
    with pytest.raises((OutputError, InputError)):
        decompress_file(tmp_path / "a.voc", own(), tmp_path / "a.xyz")
