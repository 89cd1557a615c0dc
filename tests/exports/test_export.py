"""Exports: what other libraries read of them, the same bytes after any stop, ids of any make, bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exports.stores import IDS, SPEC, bytes_of, entries, make_store
from vocable.errors import InputError, OutputError, SpecError, StoreError
from vocable.exports import FORMATS, export, stream_of
from vocable.progress import Progress
from vocable.store import TokenStore
from vocable.tokenizers.streams import TokenStream
from vocable.types import Codebook

WANTED = {entry.id: entry for entry in entries()}
FLAT = stream_of(SPEC, layout="interleave")


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return make_store(tmp_path / "tokens")


def collapsed(codes: np.ndarray) -> np.ndarray:
    """Frames [K, R] that differ from the one before."""
    keep = [t == 0 or (codes[:, t] != codes[:, t - 1]).any() for t in range(codes.shape[1])]
    return codes[:, keep]


class Stop:
    """Interrupts an export after so many recordings."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, progress: Progress) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("to", FORMATS)
def test_a_stopped_export_ends_with_the_same_bytes(tmp_path: Path, store: TokenStore, to: str) -> None:
    stream = stream_of(SPEC, dedup=True, layout="interleave")
    options: dict[str, Any] = {"stream": stream, "split": "subset", "shard_bytes": 700}
    export(store, tmp_path / "whole", to, **options)
    for after in (0, 8):
        folder = tmp_path / f"stopped{after}"
        with pytest.raises(KeyboardInterrupt):
            export(store, folder, to, watcher=Stop(after), checkpoint_seconds=0, **options)
        assert bytes_of(folder).keys() != bytes_of(tmp_path / "whole").keys()
        run = export(store, folder, to, **options)
        assert run.done + run.skipped == len(IDS)
        assert bytes_of(folder) == bytes_of(tmp_path / "whole")
    again = export(store, tmp_path / "whole", to, **options)
    assert (again.done, again.skipped) == (0, len(IDS))


@pytest.mark.parametrize("to", ["fairseq", "webdataset", "packed"])
def test_an_export_killed_while_files_get_their_names_goes_on(tmp_path: Path, store: TokenStore, to: str) -> None:
    options: dict[str, Any] = {"stream": FLAT, "shard_bytes": 700}
    export(store, tmp_path / "whole", to, **options)
    with pytest.raises(KeyboardInterrupt):
        export(store, tmp_path / "killed", to, watcher=Stop(5), checkpoint_seconds=0, **options)
    for hidden in (tmp_path / "killed").glob(".part-*"):
        hidden.rename(hidden.with_name(hidden.name.removeprefix(".part-")))
    export(store, tmp_path / "killed", to, **options)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("to", FORMATS)
def test_nothing_is_written_outside(tmp_path: Path, store: TokenStore, to: str) -> None:
    before = bytes_of(tmp_path)
    export(store, tmp_path / "inner" / "out", to, stream=FLAT)
    assert {name for name in bytes_of(tmp_path).keys() - before.keys() if not name.startswith("inner/out/")} == set()


def test_fairseq_lines_stand_beside_each_other(tmp_path: Path, store: TokenStore) -> None:
    export(store, tmp_path / "out", "fairseq", stream=stream_of(SPEC, codebooks=["L9"], dedup=True))
    read = {
        suffix: (tmp_path / f"out/train.{suffix}").read_text().splitlines() for suffix in ("tsv", "km", "dur", "ids")
    }
    order = [entry.id for entry in store]
    assert [len(lines) for lines in read.values()] == [len(order) + 1, len(order), len(order), len(order)]
    for name, units, lasting, row in zip(order, read["km"], read["dur"], read["tsv"][1:], strict=True):
        codes = WANTED[name].codes[[1]]
        assert np.repeat(list(map(int, units.split())), list(map(int, lasting.split()))).tolist() == codes[0].tolist()
        assert list(map(int, units.split())) == collapsed(codes)[0].tolist()
        place, samples = row.split("\t")
        entry = WANTED[name]
        assert int(samples) == (entry.source_samples if entry.path else entry.samples)
        assert place == entry.path or "\n" in entry.path or not entry.path or not entry.path.isprintable()


def test_kaldi_ids_are_one_word_each(tmp_path: Path, store: TokenStore) -> None:
    export(store, tmp_path / "out", "kaldi", stream=FLAT)
    lines = (tmp_path / "out" / "text").read_text().splitlines()
    assert len({line.split()[0] for line in lines}) == len(lines) == len(IDS)
    assert "speaker%201/clip%202" in {line.split()[0] for line in lines}
    assert all(part.isdecimal() for line in lines for part in line.split()[1:])


def test_json_lines_hold_all_that_the_store_does(tmp_path: Path, store: TokenStore) -> None:
    export(store, tmp_path / "out", "jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [entry.id for entry in store]
    for row in rows:
        entry = WANTED[row["id"]]
        assert row["codes"] == {"L6": entry.codes[0].tolist(), "L9": entry.codes[1].tolist()}
        assert row["fields"] == entry.fields
        assert (row["samples"], row["path"], row["checksum"]) == (entry.samples, entry.path, entry.checksum)


def test_arrays_are_found_by_their_manifest(tmp_path: Path, store: TokenStore) -> None:
    export(store, tmp_path / "out", "npy", split="subset")
    found = {}
    for split in ("dev-clean", "test"):
        for line in (tmp_path / "out" / split / "manifest.jsonl").read_text().splitlines():
            row = json.loads(line)
            found[row["id"]] = np.load(tmp_path / "out" / split / row["file"])
            assert row["fields"]["subset"] == split
    assert found.keys() == WANTED.keys()
    assert all(np.array_equal(found[name], entry.codes.T) for name, entry in WANTED.items())
    assert (tmp_path / "out" / "dev-clean" / "arrays" / "speaker 1" / "clip 2.npy").is_file()


@pytest.mark.filterwarnings("ignore")
def test_webdataset_reads_the_tars(tmp_path: Path, store: TokenStore) -> None:
    import webdataset

    export(store, tmp_path / "out", "webdataset", stream=stream_of(SPEC, dedup=True), shard_bytes=6000)
    tars = sorted(str(path) for path in (tmp_path / "out").glob("*.tar"))
    assert len(tars) > 1
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode())
    assert [sample["json"]["id"] for sample in samples] == [entry.id for entry in store]
    for sample in samples:
        codes = WANTED[sample["json"]["id"]].codes
        assert np.array_equal(sample["npy"].T, collapsed(codes))
        assert np.array_equal(np.repeat(sample["npy"].T, sample["durations.npy"], axis=1), codes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("flat", [False, True])
def test_hugging_face_datasets_reads_the_folder(
    tmp_path: Path, store: TokenStore, monkeypatch: pytest.MonkeyPatch, flat: bool
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    stream = FLAT if flat else TokenStream(SPEC)
    export(store, tmp_path / "out", "huggingface", stream=stream, split="subset", shard_bytes=300)
    assert len(list((tmp_path / "out" / "data").glob("dev_clean-*.parquet"))) > 1
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"dev_clean", "test"}
    rows = [row for part in loaded.values() for row in part]
    assert {row["id"] for row in rows} == WANTED.keys()
    for row in rows:
        entry = WANTED[row["id"]]
        ids = stream.forward(entry.codes)
        assert row["tokens"] == ids.tolist() if flat else [row["L6"], row["L9"]] == ids.tolist()
        assert json.loads(row["fields"]) == entry.fields
        assert (row["samples"], row["checksum"]) == (entry.samples, entry.checksum)


def test_one_sequence_is_asked_for_where_the_format_holds_one(tmp_path: Path, store: TokenStore) -> None:
    for to in ("fairseq", "kaldi", "packed"):
        with pytest.raises(InputError, match=r"one sequence a recording for .*, got 2 codebooks") as caught:
            export(store, tmp_path / "out", to)
        assert "--codebooks L6" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_stays(tmp_path: Path, store: TokenStore) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("words")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is no export"):
            export(store, tmp_path / "mine", "jsonl", overwrite=overwrite)
    export(store, tmp_path / "out", "jsonl")
    with pytest.raises(OutputError, match="another export"):
        export(store, tmp_path / "out", "npy")
    export(store, tmp_path / "out", "npy", overwrite=True)
    assert not (tmp_path / "out" / "train.jsonl").exists()
    store.append([replace(entries()[0], id="one more")])
    with pytest.raises(OutputError, match="another export"):
        export(store, tmp_path / "out", "npy")


def test_bad_input_is_told_of(tmp_path: Path, store: TokenStore) -> None:
    with pytest.raises(InputError, match="has no field 'language'"):
        export(store, tmp_path / "a", "jsonl", split="language")
    with pytest.raises(InputError, match="letters, digits"):
        export(store, tmp_path / "b", "jsonl", split="text")
    with pytest.raises(InputError, match="expected a format among"):
        export(store, tmp_path / "c", "csv")
    with pytest.raises(InputError, match="expected a layout among"):
        stream_of(SPEC, layout="random")
    with pytest.raises(SpecError):
        export(store, tmp_path / "d", "jsonl", stream=TokenStream(replace(SPEC, source="b" * 64)))
    with pytest.raises(InputError, match="got none in"):
        export(TokenStore.create(tmp_path / "empty", SPEC), tmp_path / "e", "jsonl")
    made = make_store(tmp_path / "named", replace(SPEC, codebooks=(Codebook(500, "L6"), Codebook(9, "durations"))))
    with pytest.raises(InputError, match="cannot be labelled durations"):
        export(made, tmp_path / "f", "huggingface", stream=stream_of(made.spec, dedup=True))


def test_damage_and_other_shards_are_told_of(tmp_path: Path, store: TokenStore) -> None:
    def append(progress: Progress) -> None:
        store.append([replace(entries()[0], id=f"late {progress.done}")])

    with pytest.raises(StoreError, match="has changed while"):
        export(store, tmp_path / "a", "jsonl", watcher=append)
    shard = store.shards()[-1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(StoreError, match="is damaged"):
        export(store, tmp_path / "b", "jsonl")


def test_an_unfinished_file_that_lost_bytes_is_told_of(tmp_path: Path, store: TokenStore) -> None:
    with pytest.raises(KeyboardInterrupt):
        export(store, tmp_path / "out", "jsonl", checkpoint_seconds=0, watcher=Stop(5))
    (tmp_path / "out" / ".part-train.jsonl").write_bytes(b"{}")
    with pytest.raises(OutputError, match="shorter than"):
        export(store, tmp_path / "out", "jsonl")
