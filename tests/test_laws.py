"""The laws of the house over every component there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_models import write_tiny_model
from vocable import testing
from vocable.artifacts import load
from vocable.clock import Windows
from vocable.corpus import Corpus
from vocable.errors import SpecError
from vocable.metrics import reconstruction
from vocable.presets import inverter
from vocable.quantizers import KMeans, fit_kmeans
from vocable.tokenizers import MFCC, LogMel, SSLExtractor, UnitTokenizer
from vocable.types import Audio, FeatureExtractor, Tokens

NAMES = ("logmel", "logmel-50Hz", "mfcc", "mfcc-50Hz", "hubert-base", "hubert-large")


@pytest.fixture(scope="session")
def extractors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FeatureExtractor]:
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "base", seed=1)
    write_tiny_model(folder / "large", seed=2, large=True)
    return {
        "logmel": LogMel(),
        "logmel-50Hz": LogMel(hop_length=320),
        "mfcc": MFCC(),
        "mfcc-50Hz": MFCC(hop_length=320),
        "hubert-base": SSLExtractor.from_pretrained(str(folder / "base"), layers=[1, 0, 2]),
        "hubert-large": SSLExtractor.from_pretrained(str(folder / "large"), layers=[2]),
    }


@pytest.fixture(scope="session")
def tokenizers(extractors: dict[str, FeatureExtractor]) -> dict[str, UnitTokenizer]:
    """Codebooks of 12 entries on frames of noise, with windows short enough for the tests to meet several."""
    made = {}
    for name, extractor in extractors.items():
        noise = testing.noise(3.0, extractor.sample_rate, seed=42)
        layers = extractor.extract(Audio.of([noise], extractor.sample_rate)).utterance(0)
        quantizers = [fit_kmeans(layer, 12)[0] for layer in layers]
        windows = Windows(40, extractor.context, extractor.hop_length, extractor.window)
        made[name] = UnitTokenizer(extractor, quantizers, windows=windows)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_extractors(extractors: dict[str, FeatureExtractor], name: str) -> None:
    testing.check_extractor(extractors[name])


@pytest.mark.parametrize("name", [name for name in NAMES if "hubert" not in name])
def test_windows_of_spectral_features_are_exact(extractors: dict[str, FeatureExtractor], name: str) -> None:
    testing.check_exact_windows(extractors[name])


@pytest.mark.parametrize("name", NAMES)
def test_tokenizers(tokenizers: dict[str, UnitTokenizer], name: str) -> None:
    testing.check_tokenizer(tokenizers[name])
    testing.check_long_audio(_wide(tokenizers[name]), tokenizers[name].windows) if "hubert" not in name else None


def _wide(tokenizer: UnitTokenizer) -> UnitTokenizer:
    """The same tokenizer with its usual windows: for spectral features they may not matter."""
    return UnitTokenizer(tokenizer.extractor, tokenizer.quantizers)


@pytest.mark.parametrize("name", NAMES)
def test_saving(tokenizers: dict[str, UnitTokenizer], name: str, tmp_path: Path) -> None:
    testing.check_saving(tokenizers[name], UnitTokenizer.from_pretrained, tmp_path / "units")


@pytest.mark.parametrize("name", NAMES)
def test_one_flipped_weight_is_another_tokenizer(tokenizers: dict[str, UnitTokenizer], name: str) -> None:
    tokenizer = tokenizers[name]
    first, *others = tokenizer.quantizers
    bits = first.centroids.clone().view(torch.int32)
    bits[3, 5] ^= 1
    altered = UnitTokenizer(tokenizer.extractor, [KMeans(bits.view(torch.float32)), *others], windows=tokenizer.windows)
    assert altered.fingerprint != tokenizer.fingerprint
    rewindowed = replace(tokenizer.windows, frames=41)
    assert (
        UnitTokenizer(tokenizer.extractor, tokenizer.quantizers, windows=rewindowed).fingerprint
        != tokenizer.fingerprint
    )


@pytest.mark.parametrize("name", ["hubert-base", "hubert-large"])
def test_bundled_weights_are_the_same_tokenizer(
    tokenizers: dict[str, UnitTokenizer], name: str, tmp_path: Path
) -> None:
    tokenizers[name].save_pretrained(tmp_path / "bundle", bundle=True)
    assert load(tmp_path / "bundle", "units").extra
    again = UnitTokenizer.from_pretrained(tmp_path / "bundle")
    assert again.fingerprint == tokenizers[name].fingerprint


@given(seconds=st.floats(0.001, 4.0), seed=st.integers(0, 1000))
@pytest.mark.parametrize("name", NAMES)
def test_codes_are_those_of_the_windows(
    tokenizers: dict[str, UnitTokenizer], name: str, seconds: float, seed: int
) -> None:
    tokenizer = tokenizers[name]
    wave = testing.noise(seconds, 16000, seed)
    whole = tokenizer.encode(Audio.of([wave], 16000)).utterance(0)
    parts = []
    for window in tokenizer.windows.cut(len(wave)):
        (part,) = tokenizer.encode_windows([wave[window.start : window.stop]])
        parts.append(part[:, window.skip : window.skip + window.frames])
    assert torch.equal(torch.cat(parts, dim=1), whole)


@given(st.lists(st.integers(1, 30000), min_size=1, max_size=5), st.randoms())
@pytest.mark.parametrize("name", NAMES)
def test_no_batch_and_no_order_matter(
    tokenizers: dict[str, UnitTokenizer], name: str, lengths: list[int], random: object
) -> None:
    tokenizer = tokenizers[name]
    waves = [testing.noise(length / 16000, 16000, index) for index, length in enumerate(lengths)]
    order = sorted(range(len(waves)), key=lambda index: random.random())  # type: ignore[attr-defined]
    together = tokenizer.encode(Audio.of([waves[index] for index in order], 16000))
    for row, index in enumerate(order):
        alone = tokenizer.encode(Audio.of([waves[index]], 16000)).utterance(0)
        assert torch.equal(together.utterance(row), alone)


@pytest.mark.parametrize("name", NAMES)
def test_no_thread_count_matters(tokenizers: dict[str, UnitTokenizer], name: str) -> None:
    wave = Audio.of([testing.noise(3.0, 16000, 9)], 16000)
    before = torch.get_num_threads()
    codes = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            codes.append(tokenizers[name].encode(wave).codes)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*codes)


def test_quantizers() -> None:
    points = torch.randn(400, 7, generator=torch.Generator().manual_seed(0))
    quantizer = fit_kmeans(points, 30)[0]
    testing.check_quantizer(quantizer)
    testing.check_fixed_points(quantizer)


@pytest.mark.parametrize("name", ["logmel", "logmel-50Hz", "mfcc", "mfcc-50Hz"])
def test_vocoders(tokenizers: dict[str, UnitTokenizer], name: str) -> None:
    tokenizer = tokenizers[name]
    waves = [testing.noise(seconds, 16000, seed) for seed, seconds in enumerate((0.00007, 0.2, 1.03))]
    tokens = tokenizer.encode(Audio.of(waves, 16000))
    vocoder = inverter(tokenizer)
    testing.check_vocoder(vocoder, tokens)
    stranger = Tokens(tokens.codes, tokens.lengths, replace(tokens.spec, source="someone else"), tokens.samples)
    with pytest.raises(SpecError, match="expected tokens of tokenizer"):
        vocoder.decode(stranger)


@pytest.mark.parametrize(
    ("metric", "higher_is_better"),
    [
        (reconstruction.stoi, True),
        (reconstruction.estoi, True),
        (reconstruction.si_sdr, True),
        (reconstruction.mel_distance, False),
    ],
)
def test_metrics(metric: Callable[..., reconstruction.Scores], higher_is_better: bool) -> None:
    testing.check_metric(metric, higher_is_better=higher_is_better)


def test_the_folder_gives_the_codes_of_the_library(
    tokenizers: dict[str, UnitTokenizer], speech_folder: Path, tmp_path: Path
) -> None:
    from vocable import read
    from vocable.store import TokenStore
    from vocable.tokenizers import tokenize

    for name, tokenizer in tokenizers.items():
        tokenize(Corpus.of(speech_folder), tokenizer, tmp_path / name, workers=1)
        for entry in TokenStore.open(tmp_path / name):
            codes = tokenizer.encode(read(entry.path)).utterance(0)
            assert torch.equal(entry.tokens(tokenizer.spec).utterance(0), codes), (name, entry.id)


def test_a_broken_law_is_told() -> None:
    class Leaky(LogMel):
        def extract(self, audio: Audio):  # type: ignore[no-untyped-def]
            features = super().extract(audio)
            return replace(features, frames=features.frames + 1e-6 * len(audio))

    with pytest.raises(testing.LawBrokenError, match="law 2 is broken"):
        testing.check_extractor(Leaky())
