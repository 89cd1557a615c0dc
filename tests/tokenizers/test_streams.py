"""Token streams: every composition gives back what it was given; what is cut off, wrong or too large is told of."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vocable.errors import ArtifactError, InputError, SpecError
from vocable.store import Entry, TokenStore
from vocable.tokenizers.streams import (
    BPE,
    CoarseFirst,
    Collapse,
    Deduplicate,
    Delay,
    Flatten,
    Offset,
    Special,
    TokenStream,
    Transform,
    measure,
)
from vocable.types import Codebook, TokenSpec


def spec(*sizes: int, strides: tuple[int, ...] = ()) -> TokenSpec:
    pairs = zip(sizes, strides or (1,) * len(sizes), strict=True)
    books = tuple(Codebook(size, f"c{index}", stride) for index, (size, stride) in enumerate(pairs))
    return TokenSpec(16000, 320, books, "a" * 64)


def codes_of(spec: TokenSpec, frames: int, seed: int = 0, repeat: float = 0.5) -> np.ndarray:
    """Codes [K, T] with runs, every codebook's code held for its stride."""
    rng = np.random.default_rng(seed)
    grid = np.zeros((spec.num_codebooks, frames), np.int64)
    for row, book in zip(grid, spec.codebooks, strict=True):
        fresh = rng.integers(0, book.size, -(-frames // book.stride))
        for place in range(1, len(fresh)):
            fresh[place] = fresh[place - 1] if rng.random() < repeat else fresh[place]
        row[:] = np.repeat(fresh, book.stride)[:frames]
    return grid


@st.composite
def streams(draw: st.DrawFn) -> TokenStream:
    """Any composition of exact transforms: some of grids, a layout or none, special ids or none."""
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 300]), min_size=1, max_size=4))
    strides = tuple(draw(st.sampled_from([1, 1, 2, 5])) for _ in sizes[1:])
    stream = TokenStream(spec(*sizes, strides=(1, *strides)))
    for _ in range(draw(st.integers(0, 3))):
        count = len(stream.form.rows)
        delays = draw(st.one_of(st.just(()), st.tuples(*[st.integers(0, 4)] * count)))
        stream |= draw(st.sampled_from([Deduplicate(draw(st.integers(1, 4))), Delay(delays), Offset()]))
    layout = draw(st.sampled_from([None, Flatten(), CoarseFirst()]))
    if layout is None:
        return stream
    stream |= layout
    names = draw(st.sampled_from([(), ("pad",), ("pad", "bos", "eos", "sep"), ("eos",), ("bos",)]))
    return stream | Special(names) if names else stream


@given(streams(), st.integers(0, 40), st.integers(0, 99))
def test_any_composition_is_undone_exactly(stream: TokenStream, frames: int, seed: int) -> None:
    codes = codes_of(stream.spec, frames, seed)
    ids = stream.forward(codes)
    assert ids.dtype == np.int64 and ids.ndim == (1 if stream.flat else 2)
    assert stream.exact and np.array_equal(stream.inverse(ids), codes)
    if _tells_codebooks_apart(stream):
        assert np.array_equal(stream.inverse_prefix(ids), codes)
    assert ids.size == 0 or 0 <= ids.min() <= ids.max() < stream.vocabulary
    assert TokenStream.from_config(json.loads(json.dumps(stream.config()))) == stream


def _tells_codebooks_apart(stream: TokenStream) -> bool:
    """Whether it can be told where codebooks begin that come one after the other."""
    layout = next((at for at, part in enumerate(stream.transforms) if isinstance(part, CoarseFirst)), None)
    if layout is None:
        return True
    rows = stream._forms[layout].rows
    return all(before.end <= after.first for before, after in pairwise(rows))


@given(streams().filter(lambda stream: stream.flat), st.integers(0, 4), st.integers(0, 99))
def test_the_rate_is_what_comes_out_or_the_most(stream: TokenStream, tens: int, seed: int) -> None:
    codes = codes_of(stream.spec, 10 * tens + 10, seed)  # ten frames are whole strides of every codebook
    short, long = (len(stream.forward(codes[:, :frames])) for frames in (10 * tens, 10 * tens + 10))
    a_frame = stream.rate / stream.spec.frame_rate
    if stream.form.measured:
        # what delays add, and special ids; () delays the last of at most seven codebooks by six
        extra = sum(max(part.delays, default=6) for part in stream.transforms if isinstance(part, Delay))
        assert long <= a_frame * (10 * tens + 10 + extra) + len(stream.form.rows) + 2
    else:
        assert long - short == pytest.approx(10 * a_frame)


@given(streams(), st.integers(1, 30), st.integers(0, 99), st.data())
def test_a_sequence_cut_anywhere_gives_the_first_frames(
    stream: TokenStream, frames: int, seed: int, data: st.DataObject
) -> None:
    codes = codes_of(stream.spec, frames, seed)
    ids = stream.forward(codes)
    cut = ids[..., : data.draw(st.integers(0, ids.shape[-1]))]
    if not _tells_codebooks_apart(stream):
        with pytest.raises(InputError, match="where each begins"):
            stream.inverse_prefix(cut)
        return
    found = stream.inverse_prefix(cut)
    assert found.shape[1] <= frames and np.array_equal(found, codes[:, : found.shape[1]])


@given(streams(), st.lists(st.integers(-3, 1300), max_size=60))
def test_nonsense_is_an_error_or_is_left_out(stream: TokenStream, ids: list[int]) -> None:
    rows = len(stream.form.rows)
    array = np.array(ids, np.int64) if stream.flat else np.array(ids[: len(ids) // rows * rows]).reshape(rows, -1)
    array = array.astype(np.int64)
    try:
        found = stream.inverse(array)
        assert stream._forms[0].check(found) is found
    except InputError as problem:
        assert problem.message
    if _tells_codebooks_apart(stream):
        found = stream.inverse_prefix(array)
        assert stream._forms[0].check(found) is found


def test_layouts_are_those_of_the_papers() -> None:
    codes = np.array([[0, 1, 2], [3, 4, 5]])
    stream = TokenStream(spec(10, 20))
    assert (stream | Flatten()).forward(codes).tolist() == [0, 3, 1, 4, 2, 5]
    assert (stream | CoarseFirst()).forward(codes).tolist() == [0, 1, 2, 3, 4, 5]
    assert (stream | Delay()).forward(codes).tolist() == [[0, 1, 2, 10], [20, 3, 4, 5]]
    assert (stream | Delay((2, 0))).forward(codes).tolist() == [[10, 10, 0, 1, 2], [3, 4, 5, 20, 20]]
    assert (stream | Offset() | Flatten()).forward(codes).tolist() == [0, 13, 1, 14, 2, 15]
    assert (stream | Offset() | Flatten()).vocabulary == 30
    special = stream | Offset() | CoarseFirst() | Special(("pad", "bos", "eos", "sep"))
    assert special.forward(codes).tolist() == [1, 4, 5, 6, 17, 18, 19, 2]
    assert special.special == {"pad": 0, "bos": 1, "eos": 2, "sep": 3} and special.vocabulary == 34


def test_runs_become_units_and_durations() -> None:
    codes = np.array([[7, 7, 7, 7, 7, 2, 2, 7]], np.uint8)
    stream = TokenStream(spec(10)) | Deduplicate(4)
    assert stream.forward(codes).tolist() == [[7, 7, 2, 7], [3, 0, 1, 0]]  # the run of five is one of four and one
    assert (stream | Offset() | Flatten()).forward(codes).tolist() == [7, 13, 7, 10, 2, 11, 7, 10]
    units = TokenStream(spec(10)) | Collapse() | Flatten()
    assert not units.exact and units.forward(codes).tolist() == [7, 2, 7]
    assert units.forward(units.inverse([7, 2, 7])).tolist() == [7, 2, 7]
    both = np.array([[1, 1, 1], [5, 6, 6]])
    assert (TokenStream(spec(10, 10)) | Collapse()).forward(both).tolist() == [[1, 1], [5, 6]]


def test_a_code_that_lasts_comes_once() -> None:
    stream = TokenStream(spec(10, 10, strides=(1, 3))) | Offset() | Flatten()
    codes = np.array([[0, 1, 2, 3], [5, 5, 5, 6]])
    assert stream.forward(codes).tolist() == [0, 15, 1, 2, 3, 16]
    assert stream.rate == pytest.approx(50 * 4 / 3)
    with pytest.raises(InputError, match="a code for every frame"):
        TokenStream(spec(10, strides=(2,))) | Flatten()


@pytest.mark.parametrize(
    ("stream", "codes", "message"),
    [
        (TokenStream(spec(10)), [[3, 10]], r"id 10 at place 1 is none of c0 \(0..9\)"),
        (TokenStream(spec(10)), [[-1]], "id -1 at place 0"),
        (TokenStream(spec(10)), [3, 1], r"expected codes \[K=1, T\], got shape \[2\]"),
        (TokenStream(spec(10, 10)), [[3, 1]], r"got shape \[1, 2\]"),
        (TokenStream(spec(10)), [[0.5]], "of integers, got float64"),
    ],
)
def test_codes_that_do_not_fit(stream: TokenStream, codes: list[list[int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stream.forward(codes)


@pytest.mark.parametrize(
    ("transforms", "ids", "message"),
    [
        ((Flatten(),), [0, 1, 2], "3 ids are no whole frames of 2 codebooks"),
        ((CoarseFirst(),), [0, 1, 2], "3 ids are no whole frames of 2 codebooks"),
        ((Offset(), Flatten()), [0, 3], "id 3 at place 0 is none of c1"),
        ((Offset(), Flatten()), [0, 30], "id 30 at place 1 is none of the sequence"),
        ((Flatten(), Special()), [4, 5], "begins with 1 and ends with 2"),
        ((Flatten(), Special()), [1], "begins with 1 and ends with 2"),
        ((Flatten(), Special()), [1, 3, 0, 2], "id -3 at place 1 is none of the sequence"),
        ((Delay(),), [[1, 1], [1, 1]], "must hold 10 where nothing is, got 1"),
        ((Delay((3, 0)),), [[1, 1], [1, 1]], "at least 3 columns, got 2"),
    ],
)
def test_sequences_that_cannot_be_undone(transforms: tuple[Transform, ...], ids: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TokenStream(spec(10, 10), transforms).inverse(ids)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TokenStream(spec(10)) | Special(), "expects a flat sequence"),
        (lambda: TokenStream(spec(10)) | Flatten() | Offset(), "got a flat sequence"),
        (lambda: TokenStream(spec(10)) | Flatten() | Special() | Special(), "special ids already"),
        (lambda: TokenStream(spec(10)) | Delay((1, 2)), "a delay for each of 1 codebooks"),
        (lambda: Delay((-1,)), "a delay must be an integer in 0"),
        (lambda: Deduplicate(0), "the longest run"),
        (lambda: Deduplicate(True), "the longest run"),
        (lambda: Special(("a", "a")), "distinct names"),
        (lambda: Special(()), "distinct names"),
        (lambda: BPE(4, ((0, 4),)), r"a merge of \[0, 4\] where there are 4 tokens"),
        (lambda: TokenStream(spec(10)) | Flatten() | BPE(4, ((0, 1),)), r"ids 0..3, got 0..9"),
        (lambda: TokenStream(spec(4)) | Flatten() | Special() | BPE(4, ()), "put Special|no special ids before"),
        (lambda: BPE(1, tuple((id, id) for id in range(40))), "at most 256 units"),
    ],
)
def test_what_cannot_be_composed(build: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()  # type: ignore[operator]


def test_what_a_language_model_says() -> None:
    stream = TokenStream(spec(10, 10)) | Offset() | Flatten() | Special()
    said = [1, 3, 13, 4, 14, 5, 2, 0, 0]  # a frame is not whole, then the end, then padding
    assert stream.inverse_prefix(said).tolist() == [[0, 1], [0, 1]]
    assert stream.inverse_prefix([3, 13, 13, 4]).tolist() == [[0], [0]]  # a fine code where a coarse one belongs
    assert stream.inverse_prefix([]).shape == (2, 0) and stream.inverse_prefix([1]).shape == (2, 0)
    delayed = TokenStream(spec(10, 10)) | Delay()
    assert delayed.inverse_prefix([[0, 1, 2], [10, 3, 4]]).tolist() == [[0, 1], [3, 4]]
    assert delayed.inverse_prefix([[0, 1, 2], [9, 3, 4]]).shape == (2, 0)
    stages = TokenStream(spec(10, 10)) | Offset() | CoarseFirst()
    assert stages.inverse_prefix([0, 1, 2, 13, 14]).tolist() == [[0, 1], [3, 4]]
    assert stages.inverse_prefix([0, 1, 2]).shape == (2, 0)
    assert stages.inverse_prefix([0, 11, 2, 13]).tolist() == [[0], [1]]


def test_widths() -> None:
    stream = TokenStream(spec(65000)) | Flatten()
    assert stream.dtype == np.uint16
    narrow = stream.narrow(stream.forward([[0, 64999]]), "uint16")
    assert narrow.dtype == np.uint16 and narrow.tolist() == [0, 64999]
    exactly = TokenStream(spec(65536)) | Flatten()
    assert exactly.dtype == np.uint16
    wide = exactly | Special(("pad",))
    assert wide.dtype == np.uint32
    with pytest.raises(InputError, match="65,537 ids does not fit into uint16"):
        wide.narrow(wide.forward([[0]]), "uint16")
    with pytest.raises(InputError, match="does not fit into int64"):
        wide.narrow(wide.forward([[0]]), "int64")
    with pytest.raises(InputError, match="does not fit into uint32"):
        assert (TokenStream(spec(1 << 31, 1 << 31, 2)) | Offset()).dtype


def test_saved_and_loaded(tmp_path: Path) -> None:
    stream = TokenStream(spec(10, 10)) | Deduplicate(9) | Delay((0, 1, 2)) | Offset() | Flatten() | Special(("pad",))
    path = tmp_path / "stream.json"
    stream.save(path, evidence={"seconds": 3})
    assert TokenStream.load(path) == stream == TokenStream.load(tmp_path)
    assert TokenStream.evidence(path) == {"seconds": 3}
    assert pickle.loads(pickle.dumps(stream)) == stream
    path.write_text(path.read_text().replace('"longest": 9', '"longest": 8'))
    with pytest.raises(ArtifactError, match="damaged"):
        TokenStream.load(path)
    for text in ("", "[]", "{}", '{"checksum": 1}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ArtifactError):
            TokenStream.load(path)
    with pytest.raises(ArtifactError, match="missing"):
        TokenStream.load(tmp_path / "none.json")


def _broken(config: dict[str, object]) -> Iterator[object]:
    yield from (None, [], {}, {**config, "format": 2}, {**config, "transforms": 3}, {**config, "spec": {}})
    for step in ({}, {"name": "x", "version": 1}, {"name": "delay", "version": 2}, {"name": ["delay"], "version": 1}):
        yield {**config, "transforms": [step]}
    for more in ({"delays": "ab"}, {"delays": [1.5]}, {"delays": [[]]}, {"unknown": 1}, {"delays": None}):
        yield {**config, "transforms": [{"name": "delay", "version": 1, **more}]}
    for merges in ([[0]], [["a", "b"]], [[0, True]], 5, [[0, -1]], [5]):
        steps = [{"name": "flatten", "version": 1}, {"name": "bpe", "version": 1, "size": 10, "merges": merges}]
        yield {**config, "transforms": steps}


def test_configurations_that_are_none() -> None:
    for config in _broken(TokenStream(spec(10)).config()):
        with pytest.raises(InputError):
            TokenStream.from_config(config)


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    made = spec(10, 20, 30)
    store = TokenStore.create(tmp_path / "tokens", made)
    counts = (50, 1, 100)
    store.append(Entry(f"u{n}", codes_of(made, n, seed=n), made.num_samples(n)) for n in counts)
    return store


def test_a_stream_reads_the_codebooks_that_are_its_own(store: TokenStore) -> None:
    stream = TokenStream(store.spec.take(["c2", "c0"])) | Offset() | Flatten()
    found = {entry.id: ids for entry, ids in stream.read(store)}
    entry = next(iter(store))
    assert found[entry.id].tolist() == (entry.codes[[2, 0]].astype(int) + np.array([[0], [30]])).T.ravel().tolist()
    cost = measure(stream, store)
    assert (cost.recordings, cost.tokens) == (3, 302)
    assert cost.tokens_per_second == pytest.approx(100) == stream.rate
    assert cost.bits_per_second == pytest.approx(100 * math.log2(40))
    assert measure(TokenStream(store.spec.take([0])) | Collapse() | Flatten(), store).tokens_per_second < 50
    other = TokenStream(TokenSpec(16000, 320, (Codebook(10, "c0"),), "b" * 64)) | Flatten()
    with pytest.raises(SpecError, match="expected tokens c0 of tokenizer bbbbbbbbbbbb"):
        next(other.read(store))


def test_empty_stores_and_tensors(tmp_path: Path) -> None:
    stream = TokenStream(spec(10)) | Flatten()
    with pytest.raises(InputError, match="expected a store with recordings"):
        measure(stream, TokenStore.create(tmp_path / "tokens", spec(10)))
    assert stream.forward(torch.tensor([[1, 2]])).tolist() == [1, 2]
    assert stream.forward(np.zeros((1, 0))).tolist() == []
