"""Units from text: round trips with export, files as other tools write them, lines that are wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exports.stores import SPEC, entries, make_store
from vocable.errors import InputError
from vocable.exports import export, import_tokens, stream_of
from vocable.exports.imports import stream_beside
from vocable.exports.sinks import line_part, text_of, word
from vocable.store import TokenStore
from vocable.tokenizers.streams import TokenStream

ONE = SPEC.take(["L6"])
UNITS = TokenStream(ONE)


@given(st.text(max_size=20), st.text(max_size=20))
def test_words_are_words_and_texts_again(text: str, other: str) -> None:
    written = word(text)
    assert text_of(written) == text
    assert written.split() == [written]
    assert (word(other) == written) == (other == text)
    assert len(f"{line_part(text)}|".splitlines()) == 1
    assert "\t" not in line_part(text)


@pytest.mark.parametrize("dedup", [False, True])
@pytest.mark.parametrize(("to", "name"), [("fairseq", "train.km"), ("kaldi", "text")])
def test_what_is_exported_comes_back(tmp_path: Path, to: str, name: str, dedup: bool) -> None:
    stream = stream_of(SPEC, dedup=dedup, layout="interleave")
    export(make_store(tmp_path / "tokens"), tmp_path / "out", to, stream=stream)
    known = stream_beside(tmp_path / "out" / name)
    assert known == stream
    run = import_tokens(tmp_path / "out" / name, tmp_path / "again", known)
    assert run.done == len(entries())
    back = {entry.id: entry for entry in TokenStore.open(tmp_path / "again")}
    assert back.keys() == {entry.id for entry in entries()}
    for entry in entries():
        assert np.array_equal(back[entry.id].codes, entry.codes)
        if to == "kaldi":
            assert back[entry.id].samples == entry.samples
    again = import_tokens(tmp_path / "out" / name, tmp_path / "again", known)
    assert (again.done, again.skipped) == (0, len(back))


def test_a_manifest_of_fairseq_gives_ids_paths_and_samples(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("/data\na/one.flac\t800\ntwo words.wav\t99999\n")
    (tmp_path / "train.km").write_text("1 2\r\n499 0 3")
    import_tokens(tmp_path / "train.km", tmp_path / "tokens", UNITS)
    one, two = sorted(TokenStore.open(tmp_path / "tokens"), key=lambda entry: entry.id)
    assert (one.id, one.path, one.samples, one.codes.tolist()) == ("a/one", "/data/a/one.flac", 800, [[1, 2]])
    assert (two.id, two.samples, two.codes.tolist()) == ("two words", ONE.num_samples(3), [[499, 0, 3]])


def test_units_alone_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "dev.km").write_text("1 2\n3\n")
    import_tokens(tmp_path / "dev.km", tmp_path / "tokens", UNITS)
    assert sorted(TokenStore.open(tmp_path / "tokens").ids()) == ["dev-000000000", "dev-000000001"]


def test_text_of_kaldi_keeps_ids_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("spk%20a 1 2\nb\t3 4 5\n")
    import_tokens(tmp_path / "text", tmp_path / "tokens", UNITS)
    assert {entry.id: entry.codes.tolist() for entry in TokenStore.open(tmp_path / "tokens")} == {
        "spk%20a": [[1, 2]],
        "b": [[3, 4, 5]],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2\na 3\n", "'a' again in line 2"),
        ("a 1 2\nb 3 x\n", "integers in line 2 of .*, got '3 x'"),
        ("a 1 99999999999999999999999\n", "integers in line 1"),
        ("a 1 500\n", "line 1 of .*500"),
        ("a 1 -1\n", "line 1 of .*-1"),
        ("a 1\n\nb 2\n", "an id and units in line 2"),
        ("a 1\nb \udcff\n", "UTF-8 in line 2"),
    ],
)
def test_lines_that_are_wrong_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "text").write_text(text, errors="surrogateescape")
    with pytest.raises(InputError, match=message):
        import_tokens(tmp_path / "text", tmp_path / "tokens", UNITS)
    assert not list(TokenStore.open(tmp_path / "tokens"))


def test_files_that_do_not_fit_each_other_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "train.km").write_text("1 2\n3\n")
    (tmp_path / "train.tsv").write_text("/data\na.flac\t800\n")
    with pytest.raises(InputError, match=r"expected 3 lines in .*train.tsv.*, got 2"):
        import_tokens(tmp_path / "train.km", tmp_path / "tokens", UNITS)
    (tmp_path / "train.tsv").write_text("/data\na.flac\t800\nb.flac 800\n")
    with pytest.raises(InputError, match=r"a path, a tab and samples in line 3"):
        import_tokens(tmp_path / "train.km", tmp_path / "tokens", UNITS)
    (tmp_path / "text").write_text("a 1\n")
    (tmp_path / "utt2num_samples").write_text("b 400\n")
    with pytest.raises(InputError, match="expected 'a' in line 1"):
        import_tokens(tmp_path / "text", tmp_path / "tokens", UNITS)
    (tmp_path / "utt2num_samples").unlink()
    (tmp_path / "durations").write_text("a 0\n")
    with pytest.raises(InputError, match="a positive duration"):
        import_tokens(tmp_path / "text", tmp_path / "tokens", UNITS)


def test_what_cannot_be_imported_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a file of units"):
        import_tokens(tmp_path / "none.km", tmp_path / "tokens", UNITS)
    (tmp_path / "text").write_text("a 1\n")
    with pytest.raises(InputError, match="units of one codebook, got L6, L9"):
        import_tokens(tmp_path / "text", tmp_path / "tokens", TokenStream(SPEC))
    with pytest.raises(InputError, match="a source among"):
        import_tokens(tmp_path / "text", tmp_path / "tokens", UNITS, source="csv")
    import_tokens(tmp_path / "text", tmp_path / "tokens", UNITS)
    with pytest.raises(ValueError, match="holds tokens of tokenizer"):
        import_tokens(tmp_path / "text", tmp_path / "tokens", TokenStream(replace(ONE, source="b" * 64)))
