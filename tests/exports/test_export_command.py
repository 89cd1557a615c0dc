"""`vocable export` and `vocable import-tokens`: from speech to files of other tools, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, vocable
from tests.exports.stores import SPEC, entries, make_store
from vocable.exports import FORMATS, LAYOUTS, PackedTokens
from vocable.store import TokenStore
from vocable.tokenizers.streams import Deduplicate, Flatten, Offset, TokenStream

__all__ = ["vocable"]


def test_the_choices_on_the_command_line_are_those_of_the_library() -> None:
    from vocable.cli import export

    assert tuple(export.FORMATS) == FORMATS
    assert list(LAYOUTS) == export.LAYOUTS


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return make_store(tmp_path / "tokens").path


def test_speech_to_fairseq_and_back(vocable: Run, tmp_path: Path, speech_folder: Path) -> None:
    store, km, again = tmp_path / "store", tmp_path / "km", tmp_path / "again"
    train = ("train", "kmeans", speech_folder, "--features", "mfcc", "--clusters", 8)
    code, _, err = vocable(*train, "--out", tmp_path / "units")
    assert code == 0, err
    assert vocable("tokenize", speech_folder, "--tokenizer", tmp_path / "units", "--out", store)[0] == 0
    code, out, err = vocable("export", store, "--to", "fairseq", "--dedup", "--out", km)
    assert (code, out) == (0, ""), err
    assert f"8 recordings exported, in {km}" in err
    code, out, err = vocable("import-tokens", km / "train.km", "--tokenizer", tmp_path / "units", "--out", again)
    assert (code, out) == (0, ""), err
    assert f"8 recordings imported, in {again}" in err
    wanted = {entry.id: entry.codes.tolist() for entry in TokenStore.open(store)}
    assert {entry.id: entry.codes.tolist() for entry in TokenStore.open(again)} == wanted
    code, _, err = vocable("resynthesize", again, "--out", tmp_path / "wavs")  # the tokenizer came along
    assert code == 0, err
    assert len(list((tmp_path / "wavs").rglob("*.wav"))) == 8


def test_a_stream_of_a_file(vocable: Run, tmp_path: Path, tokens: Path) -> None:
    stream = TokenStream(SPEC) | Deduplicate() | Offset() | Flatten()
    stream.save(tmp_path / "stream.json")
    packed = tmp_path / "packed"
    code, _, err = vocable("export", tokens, "--to", "packed", "--stream", tmp_path / "stream.json", "--out", packed)
    assert code == 0, err
    held, wanted = PackedTokens.open(packed), {entry.id: entry.codes for entry in entries()}
    for index, (name, _) in enumerate(held.utterances()):
        assert held.stream.inverse(held[index]).tolist() == wanted[name].tolist()


def test_wrong_use_is_told_of(vocable: Run, tmp_path: Path, tokens: Path) -> None:
    out = tmp_path / "out"
    code, _, err = vocable("export", tokens, "--to", "kaldi", "--out", out)
    assert (code, err.count("\n")) == (1, 2)
    assert "error: expected one sequence a recording for kaldi, got 2 codebooks" in err
    assert "hint: choose one with --codebooks L6, or make one of all with --flatten interleave" in err
    code, _, err = vocable("export", tokens, "--to", "kaldi", "--codebooks", "L7", "--out", out)
    assert (code, "no codebook 'L7' among L6, L9" in err) == (1, True)
    code, _, err = vocable("export", tmp_path, "--to", "kaldi", "--out", out)
    assert (code, "is not a token store" in err) == (1, True)
    code, _, err = vocable("export", tokens, "--to", "kaldi", "--stream", "x", "--dedup", "--out", out)
    assert (code, "--stream says all of it" in err) == (2, True)
    (tmp_path / "text").write_text("a 1 2\n")
    code, _, err = vocable("import-tokens", tmp_path / "text", "--out", out)
    assert (code, "nothing says what the units of" in err) == (1, True)
    code, _, err = vocable("import-tokens", tmp_path / "text", "--made-by", "x", "--out", out)
    assert (code, "--made-by and --units go together" in err) == (2, True)
    code, _, err = vocable("import-tokens", tmp_path / "text", "--like", tokens, "--out", out)
    assert (code, "hint: say which with --codebook" in err) == (1, True)


def test_units_of_somebody_else(vocable: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a 1 2\nb 499\n")
    made = ("--made-by", "hubert-base-l9-km500", "--units", 500)
    for name in ("one", "two"):
        code, _, err = vocable("import-tokens", tmp_path / "text", *made, "--out", tmp_path / name)
        assert code == 0, err
    one, two = (TokenStore.open(tmp_path / name) for name in ("one", "two"))
    assert one.spec == two.spec
    assert {entry.id: entry.codes.tolist() for entry in one} == {"a": [[1, 2]], "b": [[499]]}
    code, _, err = vocable("import-tokens", tmp_path / "text", *made, "--hop", 160, "--out", tmp_path / "one")
    assert (code, "holds tokens of tokenizer" in err) == (1, True)
