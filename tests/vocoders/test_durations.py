"""Durations of units: runs, whole frames whose errors do not add up, what a fit is worth, a vocoder that has them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.vocoders.test_units import PITCHED, SPEC, small, tokens
from vocable.errors import InputError, SpecError
from vocable.nets.durations import DurationPredictor, fit_durations, run_lengths, whole_frames
from vocable.store import Entry, TokenStore
from vocable.vocoders import Style, UnitVocoder
from vocable.vocoders.durations import Durations, with_durations

SIZE = 11


def spoken(count, *, seed=0, size=SIZE):
    """Codes [T] of recordings in which a unit lasts as its number and the next unit say."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        units = torch.randint(size, (60,), generator=generator)
        units = units[torch.cat([torch.tensor([True]), units[1:] != units[:-1]])]
        after = units.roll(-1) % 2
        rows.append(units.repeat_interleave(1 + units % 3 + 4 * after))
    return rows


@pytest.fixture(scope="module")
def fitted():
    return fit_durations(spoken(30), SIZE, steps=100)


def test_runs():
    units, counts = run_lengths(torch.tensor([7, 7, 7, 2, 7, 7, 0]))
    assert (units.tolist(), counts.tolist()) == ([7, 2, 7, 0], [3, 1, 2, 1])
    assert torch.equal(units.repeat_interleave(counts), torch.tensor([7, 7, 7, 2, 7, 7, 0]))
    assert run_lengths(torch.zeros(0, dtype=torch.int64))[0].numel() == 0


def test_errors_of_rounding_do_not_add_up():
    assert whole_frames(torch.full((1000,), 2.3)).sum() == 2300
    assert whole_frames(torch.tensor([1.4, 1.4, 1.4, 1.4, 1.4])).tolist() == [1, 2, 1, 2, 1]
    torch.manual_seed(0)
    durations = 1 + 5 * torch.rand(500, dtype=torch.float64)
    ends = whole_frames(durations).cumsum(0)
    assert (ends - durations.cumsum(0)).abs().max() <= 0.5


def test_no_unit_is_lost_and_longer_ones_make_up_for_it():
    assert whole_frames(torch.tensor([0.2, 0.2, 0.2, 5.4])).tolist() == [1, 1, 1, 3]
    assert (whole_frames(torch.full((9,), 0.01)) == 1).all()
    assert whole_frames(torch.zeros(0)).numel() == 0


def test_what_neighbours_say_is_learned(fitted):
    predictor, evidence = fitted
    assert evidence["units"] > 120
    assert evidence["error_of_means"] > 1.5  # half the units last four frames longer than the others
    assert evidence["error"] < 0.3
    units = torch.tensor([4, 3, 4, 6, 2])  # 4 before an odd unit: 1 + 1 + 4; 4 before an even one: 1 + 1
    found = predictor.frames(units)
    assert abs(int(found[0]) - 6) <= 1
    assert abs(int(found[2]) - 2) <= 1


def test_sums_come_out_right():
    """Where nothing can be known of a duration, the geometric mean is too little, and the sum must still be right."""
    generator = torch.Generator().manual_seed(0)
    units = [torch.arange(200) % SIZE for _ in range(12)]
    rows = [u.repeat_interleave(1 + 9 * torch.randint(2, u.shape, generator=generator)) for u in units]
    predictor, _ = fit_durations(rows, SIZE, steps=20)
    predicted = predictor.frames(torch.arange(2000) % SIZE)
    mean = sum(map(len, rows)) / sum(map(len, units))
    assert abs(float(predicted.double().mean()) - mean) < 0.1


def test_the_same_again_and_on_any_number_of_threads():
    some = spoken(6)
    first, evidence = fit_durations(some, SIZE, steps=5, seed=3)
    state = torch.get_rng_state()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        second, again = fit_durations(some, SIZE, steps=5, seed=3)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    assert evidence == again
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)
    other, _ = fit_durations(some, SIZE, steps=5, seed=4)
    assert not torch.equal(other.embedding.weight, first.embedding.weight)


def test_padding_says_nothing(fitted):
    predictor, _ = fitted
    units = torch.tensor([[1, 2, 3, 4]])
    padded = torch.tensor([[1, 2, 3, 4, 9, 9]])
    real = torch.tensor([[True] * 4 + [False] * 2])
    torch.testing.assert_close(predictor(padded, real)[:, :4], predictor(units))


def test_what_cannot_be_fitted():
    with pytest.raises(InputError, match="two recordings"):
        fit_durations([torch.tensor([1, 1, 2]), torch.zeros(0, dtype=torch.int64)], SIZE)
    with pytest.raises(InputError, match="codes from 0 to 10"):
        fit_durations([torch.tensor([1, 11]), torch.tensor([2])], SIZE)


def filled(path, spec=SPEC, rows=None):
    """A store whose first codebook holds what was spoken."""
    store = TokenStore.create(path, spec)
    entries = []
    for number, codes in enumerate(rows or spoken(8)):
        count = spec.num_samples(len(codes))
        whole = tokens(spec, (count,), seed=number).utterance(0)
        whole[0] = codes
        entries.append(Entry(f"{number}", whole.numpy(), count, source_samples=count * 3 // 2, source_rate=24000))
    store.append(entries)
    return store


def test_a_vocoder_lengthens_units_and_keeps_it_when_saved(tmp_path):
    vocoder, store = small(), filled(tmp_path / "tokens")
    with pytest.raises(InputError, match="learned durations"):
        vocoder.lengthen(torch.tensor([1]))
    lasting = with_durations(vocoder, store, "L1", steps=20)
    assert vocoder.durations is None
    assert lasting.fingerprint != vocoder.fingerprint
    units = run_lengths(torch.from_numpy(next(iter(store)).codes[0].astype("int64")))[0]
    made = lasting.lengthen(units)
    assert made.spec == SPEC.take(["L1"])
    assert torch.equal(run_lengths(made.utterance(0)[0])[0], units)
    assert torch.equal(vocoder.decode(made).samples, lasting.decode(made).samples)

    lasting.save_pretrained(tmp_path / "vocoder")
    again = UnitVocoder.from_pretrained(tmp_path / "vocoder")
    assert again.fingerprint == lasting.fingerprint
    assert again.durations.layer == "L1"
    assert again.evidence["durations"] == lasting.evidence["durations"]
    assert torch.equal(again.lengthen(units).codes, made.codes)
    assert len(lasting.lengthen(units[:0]).utterance(0)[0]) == 0
    for wrong in (torch.tensor([11]), torch.tensor([-1]), units[None]):
        with pytest.raises(InputError, match="units"):
            lasting.lengthen(wrong)


def test_layers_that_cannot_have_durations(tmp_path):
    store = filled(tmp_path / "tokens")
    with pytest.raises(InputError, match="got L3") as caught:
        with_durations(small(), store, "L3")
    assert "L1, L6" in caught.value.hint
    with pytest.raises(InputError, match="got none"):
        with_durations(small(), store)
    with pytest.raises(InputError, match="pitch"):
        with_durations(small(PITCHED), filled(tmp_path / "pitched", PITCHED), "L1")
    other = filled(tmp_path / "other", replace(SPEC, source="another"))
    with pytest.raises(SpecError, match="another"):
        with_durations(small(), other, "L1")


def test_a_style_of_predicted_durations():
    predictor = DurationPredictor(11).eval()
    torch.nn.init.constant_(predictor.usual, 2.5)  # e^2.5 = 12.18 frames of each unit
    durations = Durations("L1", predictor)
    spec, codes = SPEC.take(["L1"]), tokens(SPEC.take(["L1"]), (32000,)).utterance(0)
    count = len(run_lengths(codes[0])[0])
    entry = Entry("a", codes.numpy(), 32000, source_samples=48000, source_rate=24000)
    made = Style(durations=durations).entry(entry, spec)
    frames = round(count * 2.718281828**2.5)
    assert made.codes.shape == (1, frames)
    assert (made.samples, made.source_samples) == (frames * 320, frames * 480)
    half = Style(durations=durations, speed=2.0).entry(entry, spec)
    assert half.samples == frames * 160
    with pytest.raises(SpecError, match="the layer L1 alone") as caught:
        Style(durations=durations).require(small(), SPEC)
    assert "--layers L1" in caught.value.hint
    with pytest.raises(SpecError, match="without pitch"):
        Style(durations=durations).require(small(PITCHED), PITCHED.take(["L1", "f0"]))
