from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vocable.errors import InputError
from vocable.quantizers import PitchBins, quantizer_config, quantizer_from, quantizer_tensors
from vocable.testing import check_fixed_points, check_quantizer
from vocable.types import Quantizer

BINS = PitchBins()


def voiced(hz: float) -> Tensor:
    return torch.tensor([[math.log2(hz), 1.0]])


def test_the_laws() -> None:
    for bins in (BINS, PitchBins(low=65.4, octaves=3, bins_per_octave=12), PitchBins(octaves=1, bins_per_octave=1)):
        assert isinstance(bins, Quantizer)
        check_quantizer(bins)
        check_fixed_points(bins)


@pytest.mark.parametrize(
    # a quarter semitone above 50 Hz is 50.727 Hz; 100 Hz is an octave, 48 bins, above; 192 bins end at 800 Hz
    ("hz", "code"),
    [(50.01, 1), (50.72, 1), (50.74, 2), (99.9, 48), (100.1, 49), (799.0, 192), (801.0, 192), (2000.0, 192), (30.0, 1)],
)
def test_codes_by_hand(hz: float, code: int) -> None:
    assert BINS.encode(voiced(hz)).tolist() == [[code]]


def test_there_are_192_bins_and_one_for_no_pitch() -> None:
    assert BINS.codebook_sizes == (193,)
    assert BINS.encode(torch.tensor([[0.0, 0.0], [math.log2(200), 0.0], [math.log2(200), 0.49]])).flatten().sum() == 0
    assert BINS.decode(torch.tensor([[0]])).tolist() == [[0.0, 0.0]]
    octaves, voicing = BINS.decode(torch.tensor([[49]]))[0].tolist()
    assert voicing == 1.0
    assert 2**octaves == pytest.approx(100 * 2 ** (0.125 / 12), rel=1e-6)


def test_every_code_is_the_code_of_its_centre() -> None:
    codes = torch.arange(193)[:, None]
    assert torch.equal(BINS.encode(BINS.decode(codes)), codes)


@given(st.floats(50, 799.9), st.sampled_from([(3,), (2, 5), ()]))
def test_pitch_comes_back_to_half_a_bin_in_any_shape(hz: float, shape: tuple[int, ...]) -> None:
    vectors = voiced(hz)[0].expand(*shape, 2)
    decoded = BINS.decode(BINS.encode(vectors))
    assert decoded.shape == vectors.shape and decoded.dtype == torch.float32
    assert 1200 * float((decoded - vectors)[..., 0].abs().max()) <= 12.5 + 0.01


@pytest.mark.parametrize(
    ("semitones", "moved"), [(1, [0, 5, 104, 192]), (-1, [0, 1, 96, 188]), (0.3, [0, 2, 101, 192])]
)
def test_shifts_by_hand(semitones: float, moved: list[int]) -> None:
    codes = torch.tensor([0, 1, 100, 192])
    assert BINS.shifted(codes, semitones).tolist() == moved
    assert BINS.shifted(codes.view(2, 2), semitones).tolist() == [moved[:2], moved[2:]]
    assert codes.tolist() == [0, 1, 100, 192]


def test_shifts_far_beyond_the_ends_stay_voiced() -> None:
    assert BINS.shifted(torch.tensor([0, 7]), -1000).tolist() == [0, 1]
    assert BINS.shifted(torch.tensor([0, 7]), 1000).tolist() == [0, 192]


def test_saved_and_read_again() -> None:
    bins = PitchBins(low=60.0, octaves=3, bins_per_octave=24)
    assert quantizer_tensors(bins, "codebooks.f0") == {}
    again = quantizer_from(json.loads(json.dumps(quantizer_config(bins))), {}, "codebooks.f0")
    assert quantizer_config(again) == quantizer_config(bins)
    assert again.codebook_sizes == (73,)


@pytest.mark.parametrize("vectors", [torch.zeros(3, 1), torch.zeros(3, 2).long(), torch.tensor([[torch.nan, 1.0]])])
def test_vectors_that_do_not_fit_are_refused(vectors: Tensor) -> None:
    with pytest.raises(InputError, match="vectors"):
        BINS.encode(vectors)


@pytest.mark.parametrize(
    "codes", [torch.zeros(3, 2).long(), torch.zeros(3, 1), torch.tensor([[193]]), torch.tensor([[-1]])]
)
def test_codes_that_do_not_fit_are_refused(codes: Tensor) -> None:
    with pytest.raises(InputError, match="codes"):
        BINS.decode(codes)


def test_shifts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="codes"):
        BINS.shifted(torch.tensor([193]), 1)
    with pytest.raises(InputError, match="semitones"):
        BINS.shifted(torch.tensor([1]), math.nan)


@pytest.mark.parametrize("settings", [{"low": 0.0}, {"low": math.inf}, {"octaves": 0}, {"bins_per_octave": 0}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match="positive"):
        PitchBins(**settings)  # type: ignore[arg-type]
