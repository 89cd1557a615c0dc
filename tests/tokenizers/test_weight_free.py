"""Tokenizers without weights, and unit tokenizers over any quantizer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocable import audio
from vocable.clock import Windows
from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.metrics.reconstruction import stoi
from vocable.presets import SAMPLES, best_rq, dmel, inverter
from vocable.quantizers import KMeans, RandomProjection, ScalarBins
from vocable.store import TokenStore
from vocable.testing import check_long_audio, check_saving, check_tokenizer, check_vocoder, noise
from vocable.tokenizers.folder import tokenize
from vocable.tokenizers.spectral import MFCC, LogMel
from vocable.tokenizers.stacked import StackedMel
from vocable.tokenizers.units import UnitTokenizer, default_windows
from vocable.types import Audio, Features, Quantizer, Tokenizer
from vocable.vocoders.folder import resynthesize

MADE = {"dmel": dmel(), "best-rq": best_rq()}
by_name = pytest.mark.parametrize("name", list(MADE))


class TwoLayers:
    """Log-mel features twice, the second time with the sign turned."""

    sample_rate, hop_length, window, context, dim = 16000, 160, 1, 1, 20
    layers = ("L1", "L2")

    def __init__(self, longest: int | None = None) -> None:
        self.longest = longest
        self._mel = LogMel(num_bands=20)

    def extract(self, audio: Audio) -> Features:
        mel = self._mel.extract(audio)
        return Features(torch.cat([mel.frames, -mel.frames], dim=1), mel.lengths, 160, 16000)

    def config(self) -> dict[str, object]:
        return {"kind": "two-layers"}


@by_name
def test_the_laws(name: str, tmp_path: Path) -> None:
    tokenizer = MADE[name]
    assert isinstance(tokenizer, Tokenizer)
    check_tokenizer(tokenizer)
    check_saving(tokenizer, UnitTokenizer.from_pretrained, tmp_path / "units")
    windows = Windows(10, tokenizer.windows.context, tokenizer.spec.hop_length)
    check_long_audio(UnitTokenizer(tokenizer.extractor, tokenizer.quantizers, windows=windows), windows)


@by_name
@settings(max_examples=8)
@given(st.lists(st.integers(1, 20000), min_size=1, max_size=3), st.sampled_from([1, 2]))
def test_same_codes_in_any_batch_with_any_threads(name: str, lengths: list[int], threads: int) -> None:
    waves = [noise(length / 16000, 16000, index) for index, length in enumerate(lengths)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = MADE[name].encode(Audio.of(waves, 16000))
    finally:
        torch.set_num_threads(before)
    for index, wave in enumerate(waves):
        assert torch.equal(MADE[name].encode(Audio.of([wave], 16000)).utterance(0), together.utterance(index))


def test_they_are_what_the_papers_say() -> None:
    spec = MADE["dmel"].spec
    assert (spec.num_codebooks, spec.frame_rate, spec.bitrate) == (80, 40.0, 80 * 40 * 4)
    assert spec.labels[:2] == ("logmel.0", "logmel.1")
    spec = MADE["best-rq"].spec
    assert (spec.labels, spec.frame_rate, spec.bitrate) == (("stacked-mel",), 25.0, 25 * 13)


def test_dmel_is_the_bin_of_each_band() -> None:
    units, wave = MADE["dmel"], Audio.of([noise(0.5, 16000, 3)], 16000)
    bands = units.extractor.extract(wave).frames[0, 0].double()
    width = (-2.0 + 18.42) / 16
    by_hand = ((bands + 18.42) / width).floor().clamp(0, 15).long()
    assert torch.equal(units.encode(wave).codes[0].T, by_hand)


def test_its_bins_hold_the_bundled_speech() -> None:
    (bins,) = MADE["dmel"].quantizers
    assert isinstance(bins, ScalarBins)
    mel = MADE["dmel"].extractor
    assert isinstance(mel, LogMel)
    assert bins.low == pytest.approx(math.log(mel.floor), abs=1e-3)
    frames = torch.cat([mel.extract(clip).frames.flatten() for clip in clips()[::3]])
    assert frames.max().item() < bins.high
    assert bins.encode(frames[: len(frames) // 80 * 80].view(-1, 80)).unique().tolist() == list(range(16))


def test_dmel_speaks() -> None:
    units = MADE["dmel"]
    vocoder = inverter(units)
    scores = [stoi(clip, vocoder.decode(units.encode(clip))).mean for clip in clips()[:2]]
    assert min(scores) > 0.88
    sounds = [noise(seconds, 16000, 1) for seconds in (0.0001, 0.3, 0.11)]
    check_vocoder(vocoder, units.encode(Audio.of(sounds, 16000)))


def test_best_rq_uses_its_codebook() -> None:
    codes = torch.cat([MADE["best-rq"].encode(clip).codes[0, 0] for clip in clips()[::2]])
    shares = codes.bincount().double() / len(codes)
    shares = shares[shares > 0]
    assert 2 ** -(shares * shares.log2()).sum().item() > 100
    plain = UnitTokenizer(StackedMel(), [RandomProjection(320)])
    assert len(torch.cat([plain.encode(clip).codes[0, 0] for clip in clips()[::6]]).unique()) < 30


def test_another_seed_or_another_range_is_another_tokenizer() -> None:
    assert best_rq(1).fingerprint != best_rq(0).fingerprint == best_rq().fingerprint
    mel = LogMel(hop_length=400, window_seconds=0.05)
    assert UnitTokenizer(mel, [ScalarBins(80, low=-18.42, high=-1.0)]).fingerprint != dmel().fingerprint
    same = UnitTokenizer(mel, [ScalarBins(80, low=-18.42, high=-2.0)])
    assert same.fingerprint == dmel().fingerprint


def test_a_folder_goes_to_tokens_and_back(tmp_path: Path, speech_folder: Path) -> None:
    units, corpus = MADE["dmel"], Corpus.of(speech_folder)
    tokenize(corpus, units, tmp_path / "tokens")
    store = TokenStore.open(tmp_path / "tokens")
    assert store.spec == units.spec
    for entry in store:
        assert entry.codes.tolist() == units.encode(audio.read(entry.path)).utterance(0).tolist()
    assert resynthesize(store, inverter(units), tmp_path / "wavs").done == len(corpus) == 8


def test_random_projections_and_stacks_are_not_inverted() -> None:
    with pytest.raises(InputError, match="stacked-mel"):
        inverter(MADE["best-rq"])
    with pytest.raises(InputError, match="random projections"):
        inverter(UnitTokenizer(LogMel(), [RandomProjection(80)]))
    assert inverter(UnitTokenizer(MFCC(), [ScalarBins(39, low=-20.0, high=20.0)])).sample_rate == 16000


def test_every_layer_has_a_quantizer_of_its_own_kind() -> None:
    quantizers: list[Quantizer] = [
        KMeans(torch.randn(7, 20)),
        RandomProjection(20, projected=4, size=9, num_codebooks=2),
    ]
    units = UnitTokenizer(TwoLayers(), quantizers)
    assert [(book.label, book.size) for book in units.spec.codebooks] == [("L1", 7), ("L2.0", 9), ("L2.1", 9)]
    wave = Audio.of([noise(0.4, 16000, 2)], 16000)
    layers = TwoLayers().extract(wave).utterance(0)
    by_hand = torch.cat([quantizer.encode(layer) for quantizer, layer in zip(quantizers, layers, strict=True)], dim=1)
    assert torch.equal(units.encode(wave).codes[0].T, by_hand)


def test_windows_are_as_long_as_the_extractor_can_take() -> None:
    assert default_windows(TwoLayers()) == Windows(3000, 1, 160)
    assert default_windows(TwoLayers(1500)) == Windows(1498, 1, 160)
    assert default_windows(TwoLayers(9000)) == Windows(3000, 1, 160)
    with pytest.raises(InputError, match="no room"):
        default_windows(TwoLayers(2))
    for wave_frames in (1498, 1499, 5000):
        for window in default_windows(TwoLayers(1500)).cut(wave_frames * 160):
            assert -(-(window.stop - window.start) // 160) <= 1500


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="dimension 80"):
        UnitTokenizer(LogMel(), [ScalarBins(79, low=0.0, high=1.0)])
    with pytest.raises(InputError, match="each of 1 layers"):
        UnitTokenizer(LogMel(), [ScalarBins(80, low=0.0, high=1.0)] * 2)

    class Foreign:
        dim, codebook_sizes = 80, (3,)

        def encode(self, vectors: Tensor) -> Tensor:
            return vectors[..., :1].long()

        def decode(self, codes: Tensor) -> Tensor:
            return codes.float()

    with pytest.raises(InputError, match="Foreign"):
        UnitTokenizer(LogMel(), [Foreign()])


def clips() -> list[Audio]:
    return [audio.read(path, 16000) for path in sorted(SAMPLES.parent.glob("*.flac"))]
