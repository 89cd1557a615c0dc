"""Sound and codes side by side on disk: the same bytes however they came there, and crops that are aligned."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import sing
from vocable.audio import read
from vocable.corpus import Corpus, Failure, Piece
from vocable.errors import ArtifactError, InputError
from vocable.progress import Progress
from vocable.store import TokenStore
from vocable.tokenizers import MFCC, UnitTokenizer, tokenize, train_kmeans
from vocable.training.audio_cache import AudioCache
from vocable.training.clips import ClipCache

HOP = 240  # of crops, at 24 kHz


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> UnitTokenizer:
    folder = tmp_path_factory.mktemp("noise")
    soundfile.write(folder / "a.wav", sing(3.0, seed=7), 16000)
    return train_kmeans(Corpus.of(folder), MFCC(), 16)


def filled(path: Path, corpus: Corpus, rate: int = 16000) -> AudioCache:
    cache = AudioCache.create(path, corpus, rate)
    cache.fill(corpus)
    return cache


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_sound_is_that_of_the_files(speech_folder: Path, tmp_path: Path) -> None:
    corpus = Corpus.of(speech_folder)
    cache = filled(tmp_path / "audio", corpus)
    files = {utterance.id: read(utterance.path, 16000).waveform(0)[0].numpy() for utterance in corpus}
    recordings = cache.recordings()
    assert [recording.id for recording in recordings] == sorted(files)
    for recording in recordings:
        wave = files[recording.id]
        assert recording.samples == len(wave)
        whole = cache.crop(recording, 0, len(wave) + 5)
        assert not whole[-5:].any()
        assert np.abs(whole[:-5] - wave).max() <= 0.5 / 32768 + 1e-9
        assert np.array_equal(cache.crop(recording, 100, 77), whole[100:177])
        assert not cache.crop(recording, len(wave) + 3, 9).any()
    assert (
        cache.expected_bytes == (tmp_path / "audio" / "samples.i16").stat().st_size == 2 * sum(map(len, files.values()))
    )


def test_a_16_bit_file_at_the_same_rate_is_kept_bit_for_bit(tmp_path: Path) -> None:
    wave = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", wave, 16000, "PCM_16")
    cache = filled(tmp_path / "audio", Corpus.of(tmp_path / "a.wav"))
    assert np.array_equal(np.fromfile(tmp_path / "audio" / "samples.i16", "<i2"), wave)
    assert np.array_equal(cache.crop(cache.recordings()[0], 0, 5000) * 32768, wave.astype(np.float32))


def test_a_long_recording_comes_in_pieces(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", sing(41.3, 8000), 8000, "PCM_16")
    cache = filled(tmp_path / "audio", Corpus.of(tmp_path / "long.wav"), 8000)
    assert np.array_equal(
        np.fromfile(cache.path / "samples.i16", "<i2"), soundfile.read(tmp_path / "long.wav", dtype="int16")[0]
    )


class Killed(BaseException):
    pass


def test_a_killed_run_goes_on_to_the_same_bytes(
    speech_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Corpus.of(speech_folder)
    whole = filled(tmp_path / "whole", corpus)
    monkeypatch.setattr("vocable.training.audio_cache._COMMIT_SECONDS", 0.0)

    def kill(progress: Progress) -> None:
        if progress.done == 3:
            raise Killed

    cache = AudioCache.create(tmp_path / "killed", corpus, 16000)
    with pytest.raises(Killed):
        cache.fill(corpus, watcher=kill)
    assert len(cache.recordings()) == 3
    progress = AudioCache.create(tmp_path / "killed", corpus, 16000).fill(corpus, workers=2)
    assert (progress.done, progress.skipped, progress.failed) == (5, 3, 0)
    assert contents(tmp_path / "killed") == contents(whole.path)


def test_what_is_not_finished_is_not_there(
    speech_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording that breaks off after its first piece leaves its place empty."""
    corpus = Corpus.of(speech_folder)

    def pieces(self: Corpus, *args: object, **options: object) -> list[Piece | Failure]:
        first = next(iter(self))
        piece = Piece(first, 0, np.ones(50, np.float32), 0, 50)
        return [piece, Failure(first.id, str(first.path), "broke off")]

    monkeypatch.setattr(Corpus, "pieces", pieces)
    cache = AudioCache.create(tmp_path / "audio", corpus, 16000)
    failures: list[Failure] = []
    assert cache.fill(corpus, on_failure=failures.append).failed == 1
    assert cache.recordings() == []
    assert [failure.reason for failure in failures] == ["broke off"]


def test_broken_recordings_are_told_and_tried_again(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", sing(0.5), 16000)
    (tmp_path / "bad.wav").write_bytes(b"nothing of the kind")
    corpus = Corpus.of(tmp_path / "good.wav", tmp_path / "bad.wav")
    cache = AudioCache.create(tmp_path / "audio", corpus, 16000)
    for done in (1, 0):
        failures: list[Failure] = []
        assert cache.fill(corpus, on_failure=failures.append).done == done
        assert [failure.id for failure in failures] == ["bad"]
    assert [recording.id for recording in cache.recordings()] == ["good"]
    with pytest.raises(InputError, match="no readable recording"):
        AudioCache.create(tmp_path / "none", Corpus.of(tmp_path / "bad.wav"), 16000)


def test_caches_of_others_are_refused(speech_folder: Path, tmp_path: Path) -> None:
    corpus = Corpus.of(speech_folder)
    filled(tmp_path / "audio", corpus)
    with pytest.raises(InputError, match="holds audio at 16000 Hz, not at 24000 Hz"):
        AudioCache.create(tmp_path / "audio", corpus, 24000)
    with pytest.raises(InputError, match="another corpus"):
        AudioCache.create(tmp_path / "audio", Corpus.of(speech_folder / "speaker0"), 16000)
    with pytest.raises(InputError, match="another corpus"):
        AudioCache.open(tmp_path / "audio").fill(Corpus.of(speech_folder / "speaker0"))
    with pytest.raises(ArtifactError, match="no cache of audio"):
        AudioCache.create(speech_folder, corpus, 16000)
    (tmp_path / "audio" / "recordings.jsonl").write_text("")
    with pytest.raises(ArtifactError, match="damaged"):
        AudioCache.open(tmp_path / "audio")


@pytest.fixture
def clips(speech_folder: Path, tmp_path: Path, units: UnitTokenizer) -> ClipCache:
    corpus = Corpus.of(speech_folder)
    tokenize(corpus, units, tmp_path / "tokens")
    audio = filled(tmp_path / "audio", corpus, 24000)
    return ClipCache.create(tmp_path / "clips", audio, TokenStore.open(tmp_path / "tokens"), HOP)


def test_crops_are_those_of_the_grid(clips: ClipCache, tmp_path: Path) -> None:
    entries = {entry.id: entry for entry in TokenStore.open(tmp_path / "tokens")}
    assert [clip.id for clip in clips.clips] == sorted(entries)
    for index, clip in enumerate(clips.clips):
        entry = entries[clip.id]
        assert (clip.samples, clip.frames) == (entry.samples, entry.codes.shape[1])
        assert np.array_equal(clips.codes(index), entry.codes)
        frames = clips.num_frames(index)
        assert frames == -(-clip.recording.samples // HOP)
        codes, phase, samples = clips.crop(index, 0, frames + 4)
        assert (codes.shape, phase.shape, samples.shape) == ((1, frames + 4), (frames + 4,), ((frames + 4) * HOP,))
        for t in range(frames + 4):  # the middle of frame t, in frames of the tokens
            middle = (t + 0.5) * HOP / 24000 * 16000 / units_hop(clips)
            assert codes[0, t] == entry.codes[0, min(int(middle), clip.frames - 1)]
            assert phase[t] == pytest.approx(middle % 1, abs=1e-5)
        assert not samples[clip.recording.samples :].any()
        part = clips.crop(index, 5, 7)
        for got, due in zip(part, (codes[:, 5:12], phase[5:12], samples[5 * HOP : 12 * HOP]), strict=True):
            assert np.array_equal(got, due)


def units_hop(clips: ClipCache) -> int:
    return clips.spec.hop_length


def test_threads_see_the_same_crops(clips: ClipCache) -> None:
    places = [(index, first) for index in range(len(clips.clips)) for first in range(0, 40, 3)]
    alone = [clips.crop(index, first, 20) for index, first in places]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda place: clips.crop(*place, 20), places))
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_codes_are_made_once_and_anew_when_there_are_others(
    clips: ClipCache, tmp_path: Path, units: UnitTokenizer
) -> None:
    store = TokenStore.open(tmp_path / "tokens")
    before, made = contents(clips.path), (clips.path / "codes.bin").stat().st_mtime_ns
    again = ClipCache.create(clips.path, clips.audio, store, HOP)
    assert (clips.path / "codes.bin").stat().st_mtime_ns == made
    assert again.identity == clips.identity

    gone = clips.clips[2].id
    corpus = Corpus([u for u in Corpus.of(tmp_path / "speech") if u.id != gone])
    tokenize(corpus, units, tmp_path / "fewer")
    fewer = ClipCache.create(clips.path, clips.audio, TokenStore.open(tmp_path / "fewer"), HOP)
    assert gone not in [clip.id for clip in fewer.clips]
    assert fewer.identity != clips.identity
    tokenize(Corpus.of(tmp_path / "speech"), units, tmp_path / "fewer")  # the same entries, in other shards
    whole = ClipCache.create(clips.path, clips.audio, TokenStore.open(tmp_path / "fewer"), HOP)
    assert whole.identity == clips.identity
    after = contents(clips.path)
    assert all(after[name] == before[name] for name in ("clips.jsonl", "codes.bin"))


def test_recordings_whose_tokens_are_of_another_file_are_left_out(
    clips: ClipCache, tmp_path: Path, units: UnitTokenizer
) -> None:
    path = tmp_path / "speech" / "speaker0" / "clip0.wav"
    soundfile.write(path, -soundfile.read(path)[0], 16000)
    audio = filled(tmp_path / "other", Corpus.of(tmp_path / "speech"), 24000)
    changed = ClipCache.create(tmp_path / "changed", audio, TokenStore.open(tmp_path / "tokens"), HOP)
    assert {clip.id for clip in clips.clips} - {clip.id for clip in changed.clips} == {"speaker0/clip0"}


def test_codes_of_another_tokenizer_are_refused(clips: ClipCache, tmp_path: Path) -> None:
    store = TokenStore.create(tmp_path / "strange", replace(clips.spec, source="another"))
    with pytest.raises(InputError, match="another tokenizer"):
        ClipCache.create(clips.path, clips.audio, store, HOP)
    with pytest.raises(InputError, match="sound and tokens, got none"):
        ClipCache.create(tmp_path / "new", clips.audio, store, HOP)
