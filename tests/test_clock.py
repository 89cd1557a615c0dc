"""Time: frames against real convolutions, windows cut and streamed, lengths after resampling."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given
from hypothesis import strategies as st

from vocable.clock import FrameGrid, Windows, num_frames, resampled_length
from vocable.errors import InputError

HUBERT = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))  # kernel, stride

windows = st.builds(
    Windows,
    frames=st.integers(1, 7),
    context=st.integers(0, 5),
    hop_length=st.integers(1, 6),
    window=st.integers(1, 17),
)


def convolved(num_samples: int, layers: tuple[tuple[int, int], ...]) -> int:
    signal = torch.zeros(1, 1, num_samples)
    for kernel, stride in layers:
        signal = torch.nn.functional.conv1d(signal, torch.zeros(1, 1, kernel), stride=stride)
    return signal.shape[-1]


@given(st.integers(400, 40000))
def test_frames_are_those_of_hubert(num_samples: int) -> None:
    assert num_frames(num_samples, 320, 400) == convolved(num_samples, HUBERT)


def test_frames_of_hubert_at_every_edge() -> None:
    for num_samples in (399, 400, 719, 720, 721, 1039, 1040):
        expected = convolved(max(num_samples, 400), HUBERT)
        assert num_frames(num_samples, 320, 400) == expected


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=4), st.integers(0, 300))
def test_frames_are_those_of_any_stack_of_convolutions(layers: list[tuple[int, int]], beyond: int) -> None:
    hop, field = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * hop
        hop *= stride
    assert num_frames(field + beyond, hop, field) == convolved(field + beyond, tuple(layers))


@given(st.integers(1, 100000), st.integers(1, 1000))
def test_frames_of_a_padded_front_end_are_the_started_hops(num_samples: int, hop: int) -> None:
    assert num_frames(num_samples, hop) == -(-num_samples // hop)


def test_a_clip_shorter_than_a_frame_is_one_frame() -> None:
    assert num_frames(1, 320, 400) == num_frames(399, 320, 400) == 1


@pytest.mark.parametrize("num_samples", [0, -1])
def test_no_samples_have_no_frames(num_samples: int) -> None:
    with pytest.raises(InputError, match="at least one sample"):
        num_frames(num_samples, 320)


@given(st.integers(1, 10**9), st.integers(1, 400000), st.integers(1, 400000))
def test_resampled_length_is_rounded_half_up(samples: int, source: int, target: int) -> None:
    exact = Fraction(samples * target, source)
    assert resampled_length(samples, source, target) == max(1, int(exact + Fraction(1, 2)))


@given(st.integers(200, 5000), st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000]))
def test_resampled_length_is_what_soxr_gives_but_for_one(samples: int, source: int) -> None:
    given_back = len(soxr.resample(np.zeros(samples, np.float32), source, 16000))
    assert abs(resampled_length(samples, source, 16000) - given_back) <= 1


@given(windows, st.integers(1, 200))
def test_windows_keep_every_frame_once(windows: Windows, num_samples: int) -> None:
    cut = list(windows.cut(num_samples))
    kept = [window.start // windows.hop_length + window.skip + i for window in cut for i in range(window.frames)]
    assert kept == list(range(num_frames(num_samples, windows.hop_length, windows.window)))


@given(windows, st.integers(1, 200))
def test_a_window_alone_has_its_frames_and_their_context(windows: Windows, num_samples: int) -> None:
    total = num_frames(num_samples, windows.hop_length, windows.window)
    for index, window in enumerate(windows.cut(num_samples)):
        first = index * windows.frames
        wanted = range(max(0, first - windows.context), min(total, first + windows.frames + windows.context))
        length = window.stop - window.start
        assert window.start == wanted.start * windows.hop_length
        assert window.stop <= num_samples
        assert num_frames(length, windows.hop_length, windows.window) == len(wanted)
        assert window.skip == first - wanted.start
        if wanted.stop == total:
            assert window.stop == num_samples, "the samples after the last frame are heard, too"


@given(windows, st.integers(1, 200), st.data())
def test_a_stream_is_cut_like_the_whole(windows: Windows, num_samples: int, data: st.DataObject) -> None:
    samples = np.arange(num_samples, dtype=np.float32)
    edges = sorted(data.draw(st.lists(st.integers(0, num_samples), max_size=8)))
    blocks = np.split(samples, edges)  # some of them empty
    streamed = list(windows.stream(blocks))
    assert [window for window, _ in streamed] == list(windows.cut(num_samples))
    for window, piece in streamed:
        np.testing.assert_array_equal(piece, samples[window.start : window.stop])


def test_a_stream_yields_before_it_ends_and_forgets_what_is_past() -> None:
    windows = Windows(frames=10, context=2, hop_length=100, window=150)
    asked = 0

    def blocks():
        nonlocal asked
        for _ in range(1000):
            asked += 1
            yield np.zeros(100, np.float32)

    for index, (window, piece) in enumerate(windows.stream(blocks())):
        if index < 90:
            assert asked <= 10 * (index + 1) + 2 + 3, "no more is read than the window needs"
        assert len(piece) == window.stop - window.start <= 14 * 100 + 150 + 100


def test_a_stream_of_nothing_is_refused() -> None:
    with pytest.raises(InputError):
        list(Windows(10, 2, 100).stream([]))


@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 400), st.integers(1, 60), st.integers(0, 50))
def test_frame_grid_looks_where_the_middle_of_a_frame_is(source_rate, source_hop, rate, hop, first):
    grid = FrameGrid(source_rate, source_hop, rate, hop)
    indices, phases = grid.sources(first, first + 5)
    for frame, index, phase in zip(range(first, first + 5), indices, phases, strict=True):
        middle = Fraction(2 * frame + 1, 2) * hop / rate * source_rate / source_hop  # in source frames
        assert index == math.floor(middle)
        assert phase == pytest.approx(float(middle - index), abs=1e-6)
    count = grid.within(first)
    assert all(index < first for index in grid.sources(0, count)[0])
    assert grid.sources(count, count + 1)[0][0] >= first
