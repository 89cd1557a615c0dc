"""The token store: round trips, other readers, damage of every byte, two writers, failures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocable import store as store_module
from vocable.corpus import Failure
from vocable.errors import InputError, SpecError, StoreError
from vocable.store import Entry, TokenStore
from vocable.types import Codebook, TokenSpec

SPEC = TokenSpec(16000, 320, (Codebook(500, "L6"), Codebook(100, "L9", stride=2)), "a" * 64, window=400)
SIZES = (1, 2, 255, 256, 257, 65535, 65536, 65537, 1 << 31)


def entry(name: str = "u", frames: int = 5, spec: TokenSpec = SPEC, seed: int = 0, **more: object) -> Entry:
    """An entry with random codes, the largest among them."""
    rng = np.random.default_rng(seed)
    codes = np.zeros((spec.num_codebooks, frames), np.int64)
    for row, book in zip(codes, spec.codebooks, strict=True):
        fresh = rng.integers(0, book.size, -(-frames // book.stride))
        fresh[-1] = book.size - 1
        row[:] = np.repeat(fresh, book.stride)[:frames]
    return Entry(name, codes, spec.num_samples(frames), **more)  # type: ignore[arg-type]


def same(one: Entry, other: Entry) -> bool:
    return np.array_equal(one.codes, other.codes) and replace(one, codes=other.codes) == other


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore.create(tmp_path / "tokens", SPEC)


labels = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda label: label not in store_module._COLUMNS
)
specs = st.builds(
    TokenSpec,
    sample_rate=st.just(16000),
    hop_length=st.integers(1, 400),
    codebooks=st.lists(
        st.builds(Codebook, size=st.sampled_from(SIZES), label=labels, stride=st.integers(1, 4)),
        min_size=1,
        max_size=4,
        unique_by=lambda book: book.label,
    ).map(tuple),
    source=st.just("f" * 64),
    window=st.integers(1, 500),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=40)
@given(specs, st.lists(st.tuples(texts, st.integers(1, 40)), min_size=1, max_size=5, unique_by=lambda pair: pair[0]))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, spec: TokenSpec, shapes: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("store") / "tokens"
    entries = [
        entry(name, frames, spec, index, path=f"/x/{name}", source_samples=7, source_rate=8000, fields={"t": [name]})
        for index, (name, frames) in enumerate(shapes)
    ]
    written = TokenStore.create(folder, spec)
    written.append(entries[:2])
    written.append(entries[2:])
    read = TokenStore.open(folder)
    assert read.spec == spec
    by_id = {found.id: found for found in read}
    assert by_id.keys() == set(read.ids()) == {name for name, _ in shapes}
    assert all(same(by_id[wanted.id], wanted) for wanted in entries)
    for wanted in entries:
        tokens = by_id[wanted.id].tokens(spec)
        assert tokens.codes[0].tolist() == wanted.codes.tolist()


@pytest.mark.parametrize(
    ("size", "kind"), list(zip(SIZES, ["uint8"] * 4 + ["uint16"] * 3 + ["uint32"] * 2, strict=True))
)
def test_codes_are_as_small_as_their_codebook_allows(tmp_path: Path, size: int, kind: str) -> None:
    spec = replace(SPEC, codebooks=(Codebook(size, "x"),))
    written = TokenStore.create(tmp_path / "tokens", spec)
    written.append([entry(spec=spec)])
    (found,) = written
    assert found.codes.dtype == kind
    assert found.codes.max() == size - 1


def test_other_programs_read_the_shards_as_they_are(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import duckdb
    import pandas as pd
    import pyarrow.parquet as pq

    entries = [entry("a/1", 7, path="/a 1.wav", fields={"text": "Привет"}), entry("b'2", 4, seed=1)]
    store.append(entries[:1])
    store.append(entries[1:])
    pattern = str(store.path / "data" / "*.parquet")
    codes = {item.id: item.codes for item in entries}

    table = pq.read_table(store.path / "data")
    assert str(table.schema.field("L6").type) == "list<element: uint16>"
    assert str(table.schema.field("L9").type) == "list<element: uint8>"
    head = json.loads(table.schema.metadata[b"vocable"])
    assert head["format"] == 1
    assert TokenSpec.from_dict(head["spec"]) == SPEC

    frame = pd.read_parquet(store.path / "data")
    for name, frames, six, nine in zip(frame["id"], frame["frames"], frame["L6"], frame["L9"], strict=True):
        assert frames == len(six) == codes[name].shape[1]
        assert six.tolist() == codes[name][0].tolist()
        assert nine.tolist() == codes[name][1, ::2].tolist()

    rows = duckdb.sql(f"select id, len(L6), L6[1], fields from '{pattern}' order by id").fetchall()
    assert rows == [("a/1", 7, codes["a/1"][0, 0], '{"text": "Привет"}'), ("b'2", 4, codes["b'2"][0, 0], "{}")]


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_datasets_reads_the_shards(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    store.append([entry("a", 7)])
    pattern = str(store.path / "data" / "*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=pattern, cache_dir=str(tmp_path / "cache"), split="train")
    assert loaded[0]["L6"] == entry("a", 7).codes[0].tolist()
    assert loaded[0]["id"] == "a"


def flips(data: bytes, step: int) -> list[bytes]:
    """The data with one byte changed, at every step-th place, and at each of the first and last sixteen."""
    places = sorted({*range(0, len(data), step), *range(16), *range(len(data) - 16, len(data))})
    return [data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :] for place in places]


def test_a_flipped_byte_of_a_shard_is_refused(store: TokenStore) -> None:
    store.append([entry("a", 3)])
    (shard,) = store.shards()
    sound = shard.read_bytes()
    for damaged in [*flips(sound, 7), *(sound[:length] for length in range(0, len(sound), 211)), sound + b"\0"]:
        shard.write_bytes(damaged)
        with pytest.raises(StoreError, match="damaged") as caught:
            store.ids()
        assert "remove that file" in caught.value.hint
    for reading in (lambda: list(store), lambda: len(store)):
        with pytest.raises(StoreError, match="damaged"):
            reading()


def test_every_flipped_byte_of_the_head_is_refused(store: TokenStore) -> None:
    head = store.path / "_store.json"
    sound = head.read_bytes()
    for damaged in [*flips(sound, 1), *(sound[:length] for length in range(0, len(sound) - 2, 9)), sound + b"x"]:
        head.write_bytes(damaged)
        with pytest.raises(StoreError):
            TokenStore.open(store.path)
    with pytest.raises(StoreError):
        TokenStore.create(store.path, SPEC)
    head.write_bytes(sound)
    assert TokenStore.open(store.path).spec == SPEC


@pytest.mark.parametrize(
    "become", ["missing", "a folder", "a loop", "null", "[]", "{}", '{"checksum": 1}', "[" * 100000]
)
def test_a_head_that_is_none_is_refused(store: TokenStore, become: str) -> None:
    head = store.path / "_store.json"
    head.unlink()
    if become == "a folder":
        head.mkdir()
    elif become == "a loop":
        head.symlink_to(head)
    elif become != "missing":
        head.write_text(become)
    with pytest.raises(StoreError) as caught:
        TokenStore.open(store.path)
    assert len(str(caught.value)) < 300


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "nowhere", tmp_path, tmp_path / "file", tmp_path / "no\0name"):
        with pytest.raises(StoreError):
            TokenStore.open(place)
    for place in (tmp_path, tmp_path / "file"):
        for overwrite in (False, True):
            with pytest.raises(StoreError, match="is not a token store"):
                TokenStore.create(place, SPEC, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_later_format_is_refused(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "FORMAT", 2)
    with pytest.raises(StoreError, match="of format 1, this version reads 2"):
        TokenStore.open(store.path)


def test_what_a_kill_leaves_is_passed_over(store: TokenStore) -> None:
    store.append([entry("a")])
    data = store.shards()[0].read_bytes()
    (store.path / "data" / ".part-abc").write_bytes(data[: len(data) // 2])
    assert store.ids() == ["a"]
    assert len(list(store)) == 1


def test_a_store_killed_at_its_creation_is_created_again(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / ".part-abc").write_text('{"for')
    TokenStore.create(tmp_path / "tokens", SPEC).append([entry()])
    assert TokenStore.open(tmp_path / "tokens").ids() == ["u"]


def test_two_writers_of_one_utterance_count_once(store: TokenStore) -> None:
    again = TokenStore.create(store.path, SPEC)
    store.append([entry("a"), entry("b", seed=1)])
    again.append([entry("b", seed=1), entry("c", seed=2)])
    again.append([entry("a"), entry("b", seed=1)])
    assert len(store.shards()) == 2, "the same shard is the same file"
    assert sorted(store.ids()) == sorted(found.id for found in store) == ["a", "b", "c"]
    assert len(store) == 3
    store.append([])
    assert len(store.shards()) == 2


def test_the_same_entries_make_the_same_bytes(tmp_path: Path) -> None:
    names = []
    for place in ("one", "two"):
        written = TokenStore.create(tmp_path / place, SPEC)
        written.append([entry("a", fields={"x": 1}), entry("b")])
        names.append([shard.name for shard in written.shards()])
    assert names[0] == names[1]


def test_a_store_of_other_tokens_is_refused_or_replaced_when_told(store: TokenStore) -> None:
    store.append([entry()])
    store.note_failure(Failure("x", "x.wav", "empty"))
    (store.path / "mine.txt").write_text("")
    other = replace(SPEC, source="b" * 64)
    with pytest.raises(SpecError, match="holds tokens of tokenizer aaaaaaaaaaaa, not of bbbbbbbbbbbb") as caught:
        TokenStore.create(store.path, other)
    assert "--overwrite" in caught.value.hint
    assert TokenStore.create(store.path, SPEC).ids() == ["u"]
    (store.path / "mine.txt").unlink()
    new = TokenStore.create(store.path, other, overwrite=True)
    assert (new.ids(), new.failures(), new.spec) == ([], [], other)


def test_a_shard_of_another_store_is_refused(store: TokenStore, tmp_path: Path) -> None:
    for change in ({"source": "b" * 64}, {"codebooks": (Codebook(500, "L7"),)}):
        other = TokenStore.create(tmp_path / str(change), replace(SPEC, **change))
        other.append([entry(spec=other.spec)])
        (shard,) = other.shards()
        strayed = store.path / "data" / shard.name
        strayed.parent.mkdir(exist_ok=True)
        shard.rename(strayed)
        for reading in (store.ids, lambda: list(store)):
            with pytest.raises(StoreError, match="other tokens than its store"):
                reading()
        strayed.unlink()


@pytest.mark.parametrize(
    "codes",
    [
        np.zeros((2, 4), np.int64),
        np.zeros((1, 5), np.int64),
        np.zeros(5, np.int64),
        np.array([[0, 0, 500, 0, 0], [0] * 5]),
        np.array([[0, 0, -1, 0, 0], [0] * 5]),
        np.zeros((2, 5)),
        np.array([[0] * 5, [1, 2, 3, 3, 4]]),
    ],
    ids=["frames", "codebooks", "axes", "beyond", "negative", "float", "stride"],
)
def test_entries_that_do_not_fit_are_refused_before_anything_is_written(store: TokenStore, codes: np.ndarray) -> None:
    with pytest.raises(InputError, match="'bad'"):
        store.append([entry("good"), replace(entry("bad"), codes=codes)])
    assert store.shards() == []


def test_a_codebook_cannot_take_the_name_of_a_column(tmp_path: Path) -> None:
    for label in ("id", "frames", "fields"):
        with pytest.raises(InputError, match="cannot be labelled"):
            TokenStore.create(tmp_path / "x", replace(SPEC, codebooks=(Codebook(5, label),)))
    assert list(tmp_path.iterdir()) == []


def test_stray_bytes_in_paths_and_fields_are_kept_as_escapes(store: TokenStore) -> None:
    store.append([entry(path="/x\udcff.wav", fields={"text": "\ud800"})])
    (found,) = store
    assert found.path == "/x\\udcff.wav"
    assert found.fields == {"text": "\ud800"}


def test_long_recordings_are_read_in_little_memory(store: TokenStore) -> None:
    import tracemalloc

    store.append([entry(str(i), 100_000, seed=i) for i in range(10)])
    tracemalloc.start()
    for found in store:
        assert found.codes.shape == (2, 100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6, "ten recordings have 2 million codes"


def test_failures_are_remembered_until_settled(store: TokenStore) -> None:
    assert store.failures() == []
    odd = Failure("a\n\u2028\x85'<b>", "/x\udcff.wav", "cut\u2029off")
    store.note_failure(odd)
    store.note_failure(Failure("b", "b.wav", "first"))
    store.note_failure(Failure("b", "b.wav", "second"))
    assert store.failures() == [odd, Failure("b", "b.wav", "second")]
    assert len((store.path / "failures.jsonl").read_bytes().splitlines()) == 3
    store.settle_failures({"b", "z"})
    assert store.failures() == [odd]
    store.settle_failures({odd.id})
    assert not (store.path / "failures.jsonl").exists()
    store.settle_failures(set())


def test_a_line_cut_off_anywhere_loses_only_itself(store: TokenStore) -> None:
    store.note_failure(Failure("a", "a.wav", "damaged"))
    whole = (store.path / "failures.jsonl").read_bytes()
    line = json.dumps({"id": "ж", "path": "ж.wav", "reason": "empty"}, ensure_ascii=False).encode()
    for length in range(len(line)):
        (store.path / "failures.jsonl").write_bytes(whole + line[:length])
        assert [failure.id for failure in store.failures()] == ["a"]
        store.settle_failures(set())
        store.note_failure(Failure("c", "c.wav", "later"))
        assert [failure.id for failure in store.failures()] == ["a", "c"]


@pytest.mark.parametrize("line", ["[]", "3", "null", '{"id": "x"}', '{"id": [], "path": "", "reason": ""}', "\xff"])
def test_lines_that_are_no_failures_are_passed_over(store: TokenStore, line: str) -> None:
    (store.path / "failures.jsonl").write_bytes(line.encode("latin-1") + b"\n")
    store.note_failure(Failure("a", "a.wav", "damaged"))
    assert store.failures() == [Failure("a", "a.wav", "damaged")]
