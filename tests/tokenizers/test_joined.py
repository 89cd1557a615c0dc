"""Several unit tokenizers as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tiny_models import write_tiny_model
from tests.tokenizers.test_pitch import Listening, extractor_with
from vocable.artifacts import load as load_artifact
from vocable.clock import Windows
from vocable.corpus import Corpus
from vocable.errors import ArtifactError, InputError
from vocable.metrics.layers import layer_report
from vocable.presets import dmel, inverter
from vocable.quantizers import KMeans, PitchBins, fit_kmeans, fit_residual
from vocable.store import TokenStore
from vocable.testing import check_long_audio, check_saving, check_tokenizer, noise
from vocable.tokenizers import MFCC, JoinedTokenizer, LogMel, SSLExtractor, UnitTokenizer, load, tokenize
from vocable.types import Audio, FeatureExtractor, Tokenizer


def units_of(extractor: FeatureExtractor, size: int = 12, **options: object) -> UnitTokenizer:
    layers = extractor.extract(Audio.of([noise(2.0, extractor.sample_rate, 42)], extractor.sample_rate)).utterance(0)
    return UnitTokenizer(extractor, [fit_kmeans(layer, size)[0] for layer in layers])


@pytest.fixture(scope="module")
def mfcc() -> UnitTokenizer:
    return units_of(MFCC())


@pytest.fixture(scope="module")
def short() -> UnitTokenizer:
    return units_of(LogMel(window_seconds=0.02), 16)


@pytest.fixture(scope="module")
def long() -> UnitTokenizer:
    extractor = LogMel(window_seconds=0.08)
    frames = extractor.extract(Audio.of([noise(2.0, 16000, 42)], 16000)).utterance(0)[0]
    return UnitTokenizer(extractor, [fit_residual(frames, [8, 4])[0]])


@pytest.fixture(scope="module")
def joined(mfcc: UnitTokenizer, short: UnitTokenizer, long: UnitTokenizer) -> JoinedTokenizer:
    return JoinedTokenizer({"mfcc": mfcc, "short": short, "long": long})


def test_the_laws(joined: JoinedTokenizer, tmp_path: Path) -> None:
    assert isinstance(joined, Tokenizer)
    check_tokenizer(joined)
    check_saving(joined, JoinedTokenizer.from_pretrained, tmp_path / "joined")
    check_long_audio(joined, Windows(20, joined.windows.context, 160))


def test_spectra_at_several_resolutions_are_layers(
    joined: JoinedTokenizer, mfcc: UnitTokenizer, short: UnitTokenizer, long: UnitTokenizer
) -> None:
    assert joined.spec.labels == ("mfcc", "short", "long.0", "long.1")
    assert [book.size for book in joined.spec.codebooks] == [12, 16, 8, 4]
    audio = Audio.of([noise(1.0, 16000, 1), noise(0.3, 16000, 2)], 16000)
    tokens = joined.encode(audio)
    assert tokens.codes.shape == (2, 4, 100)
    for part, labels in ((mfcc, ["mfcc"]), (short, ["short"]), (long, ["long.0", "long.1"])):
        assert torch.equal(tokens.take(labels).codes, part.encode(audio).codes)
    assert tokens.take(["long.0", "mfcc"]).spec.labels == ("long.0", "mfcc")
    assert joined.spec.covers(tokens.take(["short"]).spec)


def test_recordings_of_several_windows_run_in_common_ones(mfcc: UnitTokenizer, short: UnitTokenizer) -> None:
    joined = JoinedTokenizer([mfcc, UnitTokenizer(short.extractor, short.quantizers, windows=Windows(50, 9, 160))])
    assert joined.windows == Windows(50, 9, 160)
    audio = Audio.of([noise(1.7, 16000, 3)], 16000)
    assert torch.equal(joined.encode(audio).codes, JoinedTokenizer([mfcc, short]).encode(audio).codes)
    assert joined.fingerprint != JoinedTokenizer([mfcc, short]).fingerprint


def test_labels_stay_without_names_and_must_differ(
    mfcc: UnitTokenizer, short: UnitTokenizer, long: UnitTokenizer
) -> None:
    assert JoinedTokenizer([short, mfcc]).spec.labels == ("logmel", "mfcc")
    with pytest.raises(InputError, match="distinct layers, got mfcc in 2") as collision:
        JoinedTokenizer([mfcc, mfcc])
    assert "--names" in collision.value.hint
    with pytest.raises(InputError, match="got logmel in 2"):  # logmel beside logmel.0 and logmel.1
        JoinedTokenizer([short, mfcc, long])


def test_order_names_and_windows_are_part_of_the_fingerprint(mfcc: UnitTokenizer, short: UnitTokenizer) -> None:
    joins = [
        JoinedTokenizer([mfcc, short]),
        JoinedTokenizer([short, mfcc]),
        JoinedTokenizer({"a": mfcc, "b": short}),
        JoinedTokenizer({"b": mfcc, "a": short}),
        JoinedTokenizer([mfcc, short], windows=Windows(100, 5, 160)),
        JoinedTokenizer([mfcc]),
    ]
    assert len({join.fingerprint for join in joins} | {mfcc.fingerprint}) == 7
    assert JoinedTokenizer([mfcc, short]).fingerprint == joins[0].fingerprint
    bits = mfcc.quantizers[0].centroids.clone().view(torch.int32)  # type: ignore[attr-defined]
    bits[3, 5] ^= 1
    altered = UnitTokenizer(mfcc.extractor, [KMeans(bits.view(torch.float32))])
    assert JoinedTokenizer([altered, short]).fingerprint != joins[0].fingerprint


def test_what_cannot_be_joined(mfcc: UnitTokenizer, short: UnitTokenizer) -> None:
    with pytest.raises(InputError, match="at least one"):
        JoinedTokenizer([])
    with pytest.raises(InputError, match="expected one clock"):
        JoinedTokenizer([mfcc, dmel()])
    with pytest.raises(InputError, match="got JoinedTokenizer"):
        JoinedTokenizer([JoinedTokenizer([mfcc]), short])  # type: ignore[list-item]
    for name in ("", "a.b", "a b"):
        with pytest.raises(InputError, match="names of letters"):
            JoinedTokenizer({name: mfcc, "b": short})


def test_pitch_beside_units(mfcc: UnitTokenizer) -> None:
    pitch = UnitTokenizer(extractor_with(Listening()), [PitchBins()])
    joined = JoinedTokenizer([mfcc, pitch])
    check_tokenizer(joined)
    assert joined.spec.labels == ("mfcc", "f0")
    assert (joined.windows.frames, joined.windows.context) == (3000, pitch.extractor.context)
    audio = Audio.of([noise(1.0, 16000, 4)], 16000)
    tokens = joined.encode(audio)
    assert len(tokens.take(["f0"]).codes.unique()) > 3
    assert torch.equal(tokens.take(["f0"]).codes, pitch.encode(audio).codes)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, UnitTokenizer]:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("ab"):
        write_tiny_model(folder / name, seed=seed)
    return {name: units_of(SSLExtractor.from_pretrained(str(folder / name), layers=[1, 2])) for name in "ab"}


def test_layers_of_models(models: dict[str, UnitTokenizer], tmp_path: Path) -> None:
    joined = JoinedTokenizer(models)
    assert joined.spec.labels == ("a-L1", "a-L2", "b-L1", "b-L2")
    assert (joined.spec.window, joined.windows.context) == (models["a"].spec.window, models["a"].extractor.context)
    check_tokenizer(joined)
    joined.save_pretrained(tmp_path / "bundle", bundle=True)
    assert {name[:2] for name in load_artifact(tmp_path / "bundle", "joined").extra} == {"0.", "1."}
    joined.save_pretrained(tmp_path / "light")
    for place in ("bundle", "light"):
        again = load(str(tmp_path / place))
        assert isinstance(again, JoinedTokenizer)
        assert again.fingerprint == joined.fingerprint
        assert [part.fingerprint for part in again.parts] == [part.fingerprint for part in models.values()]


def test_windows_leave_room_in_parts_that_take_no_more(mfcc: UnitTokenizer) -> None:
    class Bounded(MFCC):
        longest = 100

    bounded = units_of(Bounded())
    assert bounded.windows == Windows(90, 5, 160)
    wide = UnitTokenizer(mfcc.extractor, mfcc.quantizers, windows=Windows(3000, 20, 160))
    names = {"bounded": bounded, "wide": wide}
    assert JoinedTokenizer(names).windows == Windows(60, 20, 160)
    with pytest.raises(InputError, match="no room"):
        JoinedTokenizer({**names, "wide": UnitTokenizer(mfcc.extractor, mfcc.quantizers, windows=Windows(9, 50, 160))})


def test_a_damaged_folder_is_refused(joined: JoinedTokenizer, mfcc: UnitTokenizer, tmp_path: Path) -> None:
    mfcc.save_pretrained(tmp_path / "units")
    with pytest.raises(ArtifactError, match="expected joined"):
        JoinedTokenizer.from_pretrained(tmp_path / "units")
    joined.save_pretrained(tmp_path / "joined")
    weights = tmp_path / "joined" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(ArtifactError, match="damaged"):
        JoinedTokenizer.from_pretrained(tmp_path / "joined")


def test_a_corpus_into_a_store_and_a_report(joined: JoinedTokenizer, speech_folder: Path, tmp_path: Path) -> None:
    from vocable import read

    corpus = Corpus.of(speech_folder)
    tokenize(corpus, joined, tmp_path / "tokens", workers=1)
    store = TokenStore.open(tmp_path / "tokens")
    for entry in store:
        assert torch.equal(entry.tokens(store.spec).utterance(0), joined.encode(read(entry.path)).utterance(0))
    assert load(str(store.tokenizer_path)).fingerprint == joined.fingerprint
    rows = layer_report(joined, corpus).rows
    assert [row.label for row in rows] == list(joined.spec.labels)
    for part, found in zip(joined.parts, (rows[:1], rows[1:2], rows[2:]), strict=True):
        alone = layer_report(part, corpus).rows
        assert [replace(row, label="") for row in found] == [replace(row, label="") for row in alone]


def test_no_inversion_without_weights(joined: JoinedTokenizer) -> None:
    with pytest.raises(InputError, match="joined ones of mfcc, short"):
        inverter(joined)
