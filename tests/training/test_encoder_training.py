"""An encoder in training: what it is shown and asked, what is saved, and how it goes on after an interruption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import sing
from tests.processes import run_processes
from vocable.audio import read
from vocable.clock import num_frames
from vocable.corpus import Corpus, Failure
from vocable.errors import InputError, SpecError
from vocable.nets.foreign_features import KaldiMel
from vocable.nets.masked_prediction import MaskedPrediction, standardized
from vocable.store import TokenStore
from vocable.tokenizers import MFCC, JoinedTokenizer, LogMel, UnitTokenizer, tokenize, train_kmeans
from vocable.tokenizers.folder import WindowTokenizer
from vocable.tokenizers.gathering import Reading
from vocable.tokenizers.ssl import SSLExtractor
from vocable.training.audio_cache import AudioCache
from vocable.training.clips import ClipCache
from vocable.training.crops import Crops
from vocable.training.encoder import EncoderDesign, TrainedEncoder, train_encoder
from vocable.training.encoder_frames import FrameCache
from vocable.training.encoder_task import EncoderTask, Masking
from vocable.training.regime import Regime
from vocable.training.reports import Report
from vocable.types import Audio

HOP, WINDOW = 320, 560
DESIGN = EncoderDesign(16, 2, 24, 0.1)
CROPS = Crops(3, 0.5)
REGIME = Regime(
    8, learning_rate=2e-3, warm_up=2, discriminators="none", ema=0.5, report_every=2, check_every=4, precision="fp32"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Six recordings, one of them shorter than a crop, one at another rate."""
    folder = tmp_path_factory.mktemp("speech")
    for index in range(5):
        rate = 24000 if index == 2 else 16000
        soundfile.write(folder / f"{index}.wav", sing(0.7 + 0.2 * index, rate, seed=index), rate)
    soundfile.write(folder / "short.wav", sing(0.15, seed=9), 16000)
    return Corpus.of(folder)


@pytest.fixture(scope="module")
def units(corpus: Corpus) -> JoinedTokenizer:
    return JoinedTokenizer([train_kmeans(corpus, MFCC(), 16), train_kmeans(corpus, LogMel(), 8)])


@pytest.fixture(scope="module")
def clips(corpus: Corpus, units: JoinedTokenizer, tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    work = tmp_path_factory.mktemp("work")
    tokenize(corpus, units, work / "tokens")
    audio = AudioCache.create(work / "audio", corpus, 16000)
    audio.fill(corpus)
    return ClipCache.create(work / "clips", audio, TokenStore.open(work / "tokens"), HOP)


@pytest.fixture(scope="module")
def cache(clips: ClipCache, tmp_path_factory: pytest.TempPathFactory) -> FrameCache:
    return FrameCache.create(tmp_path_factory.mktemp("frames"), clips, bands=80, window=WINDOW)


def network(sizes: tuple[int, ...] = (16, 8), dropout: float = 0.0) -> MaskedPrediction:
    torch.manual_seed(0)
    return MaskedPrediction(DESIGN.values(), sizes, dropout=dropout)


def task(cache: FrameCache, **options: Any) -> EncoderTask:
    everything = range(len(cache.stretches))
    return EncoderTask(network(), cache, everything, everything, crops=CROPS, **{"masking": Masking(), **options})


def test_frames_are_the_encoders_and_codes_those_of_their_middle(clips: ClipCache, cache: FrameCache) -> None:
    assert [stretch.id for stretch in cache.stretches] == [clip.id for clip in clips.clips]
    for index, stretch in enumerate(cache.stretches):
        wave = clips.audio.crop(clips.clips[index].recording, 0, clips.clips[index].recording.samples)
        assert stretch.frames == num_frames(len(wave), HOP, WINDOW)
        mel, codes = cache.crop(index, 0, stretch.frames + 2)
        due = KaldiMel(80, 16000)(torch.from_numpy(wave)[None])[0, : 2 * stretch.frames].numpy()
        assert np.abs(mel[:-4] - due).max() < 4e-3
        assert not mel[-4:].any()
        assert (codes[-2:] == -1).all()
        told = clips.codes(index)
        for t in range(stretch.frames):  # frames of the targets last 160 samples
            assert np.array_equal(codes[t], told[:, min((2 * t + 1) * HOP // 2 // 160, told.shape[1] - 1)])
        again = cache.crop(index, 3, 4)
        assert np.array_equal(again[0], mel[6:14])
        assert np.array_equal(again[1], codes[3:7])


def test_long_recordings_come_in_stretches(units: JoinedTokenizer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", sing(61.0), 16000)
    corpus = Corpus.of(tmp_path / "long.wav")
    tokenize(corpus, units, tmp_path / "tokens")
    audio = AudioCache.create(tmp_path / "audio", corpus, 16000)
    audio.fill(corpus)
    clips = ClipCache.create(tmp_path / "clips", audio, TokenStore.open(tmp_path / "tokens"), HOP)
    cache = FrameCache.create(tmp_path / "frames", clips, bands=80, window=WINDOW)
    assert [stretch.frames for stretch in cache.stretches] == [1500, 1500, num_frames(976000, HOP, WINDOW) - 3000]
    codes = np.concatenate([cache.crop(n, 0, stretch.frames)[1] for n, stretch in enumerate(cache.stretches)])
    places, _ = clips.grid.sources(0, len(codes))
    assert np.array_equal(codes, clips.codes(0)[:, places].T)


def test_frames_are_made_once_and_anew_for_others(clips: ClipCache, tmp_path: Path) -> None:
    first = FrameCache.create(tmp_path / "frames", clips, bands=80, window=WINDOW)
    made = (first.path / "mel.f16").stat().st_mtime_ns
    again = FrameCache.create(tmp_path / "frames", clips, bands=80, window=WINDOW)
    assert (again.path / "mel.f16").stat().st_mtime_ns == made
    other = FrameCache.create(tmp_path / "frames", clips, bands=40, window=WINDOW)
    assert other.identity != first.identity
    assert other.crop(0, 0, 3)[0].shape == (6, 40)


def test_a_batch_is_a_function_of_its_arguments(cache: FrameCache) -> None:
    one, other = task(cache), task(cache)
    first = one.batch(5, rank=0, world=2)
    one.batch(6, rank=0, world=2)
    for again in (one.batch(5, rank=0, world=2), other.batch(5, rank=0, world=2)):
        assert all(torch.equal(first[name], again[name]) for name in first)
    for strange in (one.batch(5, rank=1, world=2), one.batch(4, rank=0, world=2)):
        assert not torch.equal(first["mel"], strange["mel"])
    assert {name: list(tensor.shape) for name, tensor in first.items()} == {
        "mel": [3, 50, 80],
        "codes": [3, 25, 2],
        "masked": [3, 25],
        "factors": [3],
    }


def test_spans_are_hidden_everywhere_alike() -> None:
    masked = Masking(0.08, 10).draw(np.random.default_rng(0), 4000, 30)
    due = 1 - 0.92**10
    assert np.abs(masked.mean(0) - due).max() < 0.04
    inner = masked[:, 10:-10]
    assert not (inner[:, 1:-1] & ~inner[:, :-2] & ~inner[:, 2:]).any()  # no frame is hidden alone
    factors = Masking(warp=1.2).factors(np.random.default_rng(0), 4000)
    assert factors.min() >= 1 / 1.2 - 1e-6
    assert factors.max() <= 1.2 + 1e-6
    assert abs(np.log(factors).mean()) < 0.01


def test_a_crop_is_standardized_as_the_extractor_does(clips: ClipCache, cache: FrameCache) -> None:
    """Whatever the recording's own mean and variance, the network sees what it would see of the crop alone."""
    recording = clips.clips[0].recording
    first, frames = 4, 20
    wave = clips.audio.crop(recording, first * HOP, (frames - 1) * HOP + WINDOW)
    due = KaldiMel(80, 16000)(torch.from_numpy(wave)[None])[:, : 2 * frames]
    mel = torch.from_numpy(cache.crop(0, first, frames)[0]).float()[None]
    got = standardized(torch.nn.functional.pad(mel, (0, 0, 0, 6)), torch.tensor([2 * frames]))
    assert not got[:, 2 * frames :].any()
    assert (got[:, : 2 * frames] - due).abs().max() < 0.02


def train(
    corpus: Corpus, units: WindowTokenizer, work: Path, regime: Regime = REGIME, **options: Any
) -> TrainedEncoder:
    given = {"design": DESIGN, "regime": regime, "crops": CROPS, **options}
    return train_encoder(corpus, units, work, **given)


def test_learns_what_is_there_and_tells_of_it(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    reports: list[Report] = []
    regime = replace(REGIME, steps=60, learning_rate=1e-2, report_every=20, check_every=30)
    design = EncoderDesign(16, 2, 24, 0.0)
    trained = train(corpus, units, tmp_path, regime, design=design, on_report=reports.append)
    assert [report.step for report in reports] == [20, 30, 40, 60]
    assert reports[-1].losses["seen loss"] < 0.8 * reports[0].losses["seen loss"]
    assert reports[-1].losses["seen accuracy"] > reports[0].losses["seen accuracy"]
    assert reports[1].figures.keys() == {"loss", "accuracy", "seen loss", "seen accuracy"}
    assert trained.evidence["recordings"] == 5
    assert trained.evidence["targets"]["source"] == units.spec.source
    assert [entry["step"] for entry in trained.evidence["curve"]] == [30, 60]


def test_what_is_saved_is_transformers_and_ours(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    import transformers

    train(corpus, units, tmp_path / "work").save_pretrained(tmp_path / "encoder")
    model = transformers.AutoModel.from_pretrained(tmp_path / "encoder").eval()
    features = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "encoder")
    ours = SSLExtractor.from_pretrained(str(tmp_path / "encoder"))
    assert ours.layers == ("L0", "L1", "L2")
    wave = read(next(iter(corpus)).path, 16000).waveform(0)[0]
    frames = ours.extract(Audio.of([wave], 16000))
    prepared = features(wave.numpy(), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        theirs = model(prepared["input_features"], output_hidden_states=True).hidden_states
    count = int(frames.lengths[0])
    assert count == num_frames(len(wave), HOP, WINDOW)
    for layer, states in enumerate(theirs):
        assert (frames.frames[0, layer] - states[0, :count]).abs().max() < 2e-4


def test_units_of_its_layers_teach_the_next(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    first = train(corpus, units, tmp_path / "first")
    first.save_pretrained(tmp_path / "encoder", half=True)
    first.save_pretrained(tmp_path / "whole")
    half, whole = (tmp_path / name / "model.safetensors" for name in ("encoder", "whole"))
    assert whole.stat().st_size - half.stat().st_size == pytest.approx(2 * first.weights, abs=200)
    extractor = SSLExtractor.from_pretrained(str(tmp_path / "encoder"), layers=[1, 2])
    own = train_kmeans(corpus, extractor, 6)
    assert own.spec.labels == ("L1", "L2")
    second = train(corpus, own, tmp_path / "second")
    assert second.evidence["targets"]["labels"] == ["L1", "L2"]


def test_goes_on_to_the_same_weights(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    whole = train(corpus, units, tmp_path / "whole")

    def stop(report: Report) -> None:
        if report.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(corpus, units, tmp_path / "parts", on_report=stop)
    parts = train(corpus, units, tmp_path / "parts")
    assert parts.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(parts.tensors[name], whole.tensors[name]) for name in whole.tensors)
    assert parts.evidence["curve"] == whole.evidence["curve"]
    other = train(corpus, units, tmp_path / "other", replace(REGIME, seed=1))
    assert not all(torch.equal(other.tensors[name], whole.tensors[name]) for name in whole.tensors)


def test_refuses_what_is_not_its_own(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    train(corpus, units, tmp_path / "work")
    for changed in ({"masking": Masking(seen=0.5)}, {"design": EncoderDesign(16, 1, 24)}, {"crops": Crops(2, 0.5)}):
        with pytest.raises(InputError, match="another training"):
            train(corpus, units, tmp_path / "work", **changed)
    strange: UnitTokenizer = train_kmeans(corpus, MFCC(), 4)
    with pytest.raises(SpecError, match="holds tokens of tokenizer"):
        train(corpus, strange, tmp_path / "work")
    with pytest.raises(InputError, match="all of them shorter"):
        train(corpus, units, tmp_path / "short", crops=Crops(2, 60.0))
    with pytest.raises(InputError, match=r"a warp of 1 to 1\.6"):
        Masking(warp=3.0)


def test_a_training_that_diverges_says_so(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the training diverged at step \d"):
        train(corpus, units, tmp_path, replace(REGIME, learning_rate=1e30))


def test_what_cannot_be_read_is_left_out(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"nothing of the kind")
    failures: list[Failure] = []
    mixed = Corpus([*corpus, *Corpus.of(tmp_path / "bad.wav")])
    trained = train(mixed, units, tmp_path / "work", reading=Reading(on_failure=failures.append))
    assert [failure.id for failure in failures] == ["bad"]
    assert trained.evidence["recordings"] == 5


def test_two_processes_train_one_encoder(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    units.save_pretrained(tmp_path / "units")
    script = tmp_path / "job.py"
    script.write_text(
        f"""
import json, sys
from hashlib import sha256
from vocable.artifacts import hash_tensors
from vocable.corpus import Corpus
from vocable.distributed import from_environment
from vocable.tokenizers import load
from vocable.training.crops import Crops
from vocable.training.encoder import EncoderDesign, train_encoder
from vocable.training.regime import Regime
with from_environment() as processes:
    regime = Regime(4, warm_up=2, discriminators="none", report_every=2, check_every=2, precision="fp32")
    trained = train_encoder(Corpus.of({str(next(iter(corpus)).path.parent)!r}), load({str(tmp_path / "units")!r}),
        __import__("pathlib").Path({str(tmp_path / "work")!r}), design=EncoderDesign(16, 2, 24, 0.0), regime=regime,
        crops=Crops(2, 0.5), processes=processes)
    print(json.dumps([trained.evidence["processes"], hash_tensors(trained.tensors)]))
"""
    )
    done = run_processes([str(script)], 2)
    assert [code for code, _, _ in done] == [0, 0], [errors for _, _, errors in done]
    first, second = (json.loads(out) for _, out, _ in done)
    assert first == second
    assert first[0] == 2
