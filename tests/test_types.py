"""The values: what they hold, what they refuse, and the contract between tokens and those who read them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vocable
from vocable.errors import InputError, SpecError
from vocable.types import Audio, Codebook, Features, Tokens, TokenSpec

books = st.lists(
    st.builds(Codebook, size=st.integers(1, 1 << 20), label=st.text(max_size=5), stride=st.integers(1, 4)),
    min_size=1,
    max_size=4,
    unique_by=lambda book: book.label,
).map(tuple)
specs = st.builds(
    TokenSpec,
    sample_rate=st.integers(1, 200000),
    hop_length=st.integers(1, 2000),
    codebooks=books,
    source=st.text("0123456789abcdef", min_size=64, max_size=64),
    window=st.integers(1, 3000),
)
SPEC = TokenSpec(16000, 320, (Codebook(500, "L6"), Codebook(100, "L9", stride=2)), "a" * 64, window=400)


def test_importing_vocable_imports_nothing_heavy() -> None:
    code = "import sys, vocable; print(*[m for m in ('torch','numpy','transformers','pyarrow') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_public_names_are_all_there_and_no_others() -> None:
    assert sorted(vocable.__all__) == sorted({*vocable._HOME_OF, "__version__"})
    assert dir(vocable) == sorted(vocable.__all__)
    assert vocable.TokenSpec is TokenSpec
    with pytest.raises(AttributeError, match="nonsense"):
        _ = vocable.nonsense


def test_numbers_of_a_spec() -> None:
    assert SPEC.num_codebooks == 2
    assert SPEC.labels == ("L6", "L9")
    assert SPEC.frame_rate == 50
    assert SPEC.bitrate == pytest.approx(50 * math.log2(500) + 25 * math.log2(100))
    assert SPEC.num_frames(16000) == 49
    assert SPEC.num_samples(49) == 48 * 320 + 400


@given(specs, st.integers(1, 5000))
def test_samples_that_frames_stand_for_make_these_frames_again(spec: TokenSpec, frames: int) -> None:
    assert spec.num_frames(spec.num_samples(frames)) == frames
    assert spec.num_samples(0) == 0


@given(specs)
def test_a_spec_survives_json(spec: TokenSpec) -> None:
    assert TokenSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("codebooks"),
        lambda d: d.pop("source"),
        lambda d: d.update(more=1),
        lambda d: d["codebooks"][0].pop("size"),
        lambda d: d["codebooks"][0].update(more=1),
        lambda d: d.update(codebooks=3),
        lambda d: d.update(sample_rate="fast"),
        lambda d: d.update(hop_length=0),
        lambda d: d.update(codebooks=[]),
    ],
)
def test_a_damaged_spec_is_refused(damage) -> None:
    values = json.loads(json.dumps(SPEC.to_dict()))
    damage(values)
    with pytest.raises(InputError):
        TokenSpec.from_dict(values)


@pytest.mark.parametrize("bad", [{"sample_rate": 0}, {"hop_length": -1}, {"window": 0}, {"codebooks": ()}])
def test_a_spec_without_sense_is_refused(bad: dict) -> None:
    with pytest.raises(InputError):
        replace(SPEC, **bad)


def test_codebooks_need_entries_strides_and_distinct_labels() -> None:
    for size, stride in ((0, 1), (5, 0)):
        with pytest.raises(InputError, match="size >= 1 and stride >= 1"):
            Codebook(size, "x", stride)
    with pytest.raises(InputError, match="distinct labels"):
        replace(SPEC, codebooks=(Codebook(5, "x"), Codebook(6, "x")))


def test_taking_codebooks_by_label_or_index_in_the_order_given() -> None:
    assert SPEC.take(["L9", 0]).labels == ("L9", "L6")
    for bad in (["L7"], [2], [-1], [], ["L6", 0]):
        with pytest.raises(InputError):
            SPEC.take(bad)


@given(specs, st.data())
def test_a_spec_covers_any_subset_of_itself_and_nothing_else(spec: TokenSpec, data: st.DataObject) -> None:
    some = data.draw(st.lists(st.sampled_from(range(spec.num_codebooks)), min_size=1, unique=True))
    assert spec.covers(spec.take(some))
    spec.require(spec.take(some))
    for other in (
        replace(spec, source="b" * 64),
        replace(spec, hop_length=spec.hop_length + 1),
        replace(spec, sample_rate=spec.sample_rate + 1),
        replace(spec, window=spec.window + 1),
        replace(spec, codebooks=(*spec.codebooks, Codebook(5, "another"))),
        replace(spec, codebooks=(Codebook(spec.codebooks[0].size + 1, spec.labels[0]),)),
    ):
        assert not spec.covers(other)
        with pytest.raises(SpecError) as caught:
            spec.require(other)
        assert caught.value.hint


def test_a_batch_of_audio_is_padded_with_zeros_and_given_back_without() -> None:
    waves = [torch.ones(3), torch.full((1, 5), 2.0)]
    audio = Audio.of(waves, 8000)
    assert audio.samples.shape == (2, 1, 5)
    assert audio.samples[0, 0].tolist() == [1, 1, 1, 0, 0]
    assert [audio.waveform(i).shape for i in range(len(audio))] == [(1, 3), (1, 5)]
    assert audio.seconds.tolist() == pytest.approx([3 / 8000, 5 / 8000])


@pytest.mark.parametrize("waves", [[], [torch.ones(2, 3), torch.ones(1, 3)]])
def test_a_batch_needs_one_channel_count(waves: list) -> None:
    with pytest.raises(InputError, match="channel count"):
        Audio.of(waves, 8000)


@pytest.mark.parametrize(
    "lengths",
    [torch.tensor([6]), torch.tensor([-1]), torch.tensor([1, 1]), torch.tensor([1.0]), torch.tensor(1)],
    ids=["beyond", "negative", "two", "float", "scalar"],
)
def test_lengths_must_fit(lengths: torch.Tensor) -> None:
    with pytest.raises(InputError, match="lengths"):
        Audio(torch.zeros(1, 1, 5), lengths, 16000)
    with pytest.raises(InputError, match="lengths"):
        Features(torch.zeros(1, 2, 5, 9), lengths, 320, 16000)


def test_axes_must_fit() -> None:
    with pytest.raises(InputError, match="3 axes"):
        Audio(torch.zeros(1, 5), torch.tensor([5]), 16000)
    with pytest.raises(InputError, match="4 axes"):
        Features(torch.zeros(1, 5, 2), torch.tensor([5]), 320, 16000)


def test_features_of_one_utterance() -> None:
    features = Features(torch.zeros(2, 3, 7, 4), torch.tensor([7, 2]), 320, 16000)
    assert features.utterance(1).shape == (3, 2, 4)


def test_tokens_know_how_many_samples_they_stand_for() -> None:
    codes = [torch.ones(2, 3, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.int64)]
    tokens = Tokens.of(codes, SPEC, [1040, 7])
    assert tokens.lengths.tolist() == [3, 1]
    assert tokens.utterance(1).shape == (2, 1)
    assert Tokens.of(codes, SPEC).samples.tolist() == [1040, 400]
    assert tokens.take(["L9"]).spec.labels == ("L9",)
    assert len(Tokens.of([], SPEC)) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"samples": torch.tensor([1039])},
        {"samples": torch.tensor([0])},
        {"samples": torch.tensor([1040, 1040])},
        {"samples": torch.tensor(1040)},
        {"samples": torch.tensor([1040.0])},
        {"codes": torch.ones(1, 1, 3, dtype=torch.int64)},
        {"codes": torch.ones(1, 2, 3)},
        {"codes": torch.ones(1, 2, 3, dtype=torch.int32)},
        {"lengths": torch.tensor([2])},
    ],
)
def test_tokens_without_sense_are_refused(change: dict) -> None:
    good = {"codes": torch.ones(1, 2, 3, dtype=torch.int64), "lengths": torch.tensor([3])}
    good |= {"spec": SPEC, "samples": torch.tensor([1040])}
    Tokens(**good)
    with pytest.raises(InputError):
        Tokens(**good | change)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (3, 3)])
def test_codes_of_another_number_of_codebooks_are_not_spread_over_all(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected codes"):
        Tokens.of([torch.ones(shape, dtype=torch.int64)], SPEC)
