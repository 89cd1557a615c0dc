"""Corpora: every kind of source, ids, pieces from any number of workers, bad recordings among good ones, batches."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from vocable import audio
from vocable.clock import Windows
from vocable.corpus import Corpus, Facts, Failure, Piece, Utterance, batches
from vocable.errors import InputError

WINDOWS = Windows(frames=20, context=3, hop_length=160, window=200)


def record(path: Path, samples: int = 3000, rate: int = 16000, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        wave = 0.1 * np.random.default_rng(seed).standard_normal(samples)
        soundfile.write(file, wave.astype(np.float32), rate, format=path.suffix[1:].upper())
    return path


def ids(*sources: str | os.PathLike[str]) -> list[str]:
    return [utterance.id for utterance in Corpus.of(*sources)]


def contents(corpus: Corpus, workers: int = 0) -> set[tuple]:
    items = corpus.pieces(16000, WINDOWS, workers=workers)
    return {
        (item.utterance.id, item.index, item.skip, item.frames, item.samples.tobytes(), item.facts)
        if isinstance(item, Piece)
        else item
        for item in items
    }


def test_a_folder_is_searched_through_and_ids_are_relative(tmp_path: Path) -> None:
    for name in ("b/2.wav", "b/1.FLAC", "a.wav", "c.d/e.f.wav", "b/.hidden.wav", "notes.txt", "x.wav/inner.wav"):
        if name.endswith(("wav", "FLAC")):
            record(tmp_path / name)
        else:
            (tmp_path / name).write_text("nothing")
    assert ids(tmp_path) == ["a", "b/1", "b/2", "c.d/e.f", "x.wav/inner"]


def test_links_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    record(tmp_path / "speech" / "a.wav")
    record(tmp_path / "elsewhere" / "b.wav")
    (tmp_path / "speech" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "speech")
    (tmp_path / "speech" / "self").symlink_to(".")
    assert ids(tmp_path / "speech") == ["a", "link/b"]


def test_a_file_a_list_and_a_manifest(tmp_path: Path) -> None:
    one, two = record(tmp_path / "one.wav"), record(tmp_path / "deep" / "two.flac")
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfone.wav\r\n\r\n  deep/two.flac \n")
    lines = [{"path": "one.wav", "id": "first", "text": "hi\u2028there\x85"}, {"path": str(two), "n": [1]}]
    manifest = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "all.jsonl").write_text(manifest, encoding="utf-8")
    assert ids(one) == ["one"]
    assert ids(tmp_path / "list.txt") == ["one", "deep/two"]
    first, second = Corpus.of(tmp_path / "all.jsonl")
    assert first == Utterance("first", one, {"text": "hi\u2028there\x85"})
    assert second == Utterance(str(two.with_suffix("")), two, {"n": [1]})
    assert ids(tmp_path / "list.txt", tmp_path / "all.jsonl") == ["one", "deep/two", "first", second.id]


def test_lines_from_standard_input() -> None:
    corpus = Corpus.of_lines(["a.wav\n", '{"path": "b.wav", "id": "x/../y"}\n', "\n"], Path("/data"))
    assert list(corpus) == [Utterance("a", Path("/data/a.wav")), Utterance("x/../y", Path("/data/b.wav"))]


@pytest.mark.parametrize(
    "line",
    [
        *('{"path": "a.wav"', '{"path": 5}', '{"id": "x"}', '{"path": "a.wav", "id": 7}', '{"path": ""}', "{}"),
        *('{"path": "/"}', '{"path": "."}', '{"path": ["a.wav"]}', '{"path": "a", "x": ' + "[" * 100000, "{" * 9, "/"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "m.jsonl").write_text(f'{{"path": "good.wav"}}\n\n{line}\n')
    with pytest.raises(InputError, match=r"m\.jsonl:3: expected") as caught:
        Corpus.of(tmp_path / "m.jsonl")
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value).replace(str(tmp_path), "")


def test_sources_without_audio(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9.wav\n")
    (tmp_path / "none").mkdir()
    for source, message in [
        ("none", "no audio in"),
        ("empty.txt", "no recording"),
        ("latin.txt", "cannot be read"),
        ("nowhere", "does not exist"),
        ("no\0where", "does not exist"),
    ]:
        with pytest.raises(InputError, match=message):
            Corpus.of(tmp_path / source)


def test_two_recordings_of_one_id_are_refused(tmp_path: Path) -> None:
    record(tmp_path / "a" / "x.wav"), record(tmp_path / "b" / "x.wav")
    with pytest.raises(InputError, match="share the id 'x'"):
        Corpus.of(tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputError, match="share the id"):
        Corpus.of_lines(['{"path": "1.wav", "id": "i"}', '{"path": "2.wav", "id": "i"}'])
    assert ids(tmp_path) == ["a/x", "b/x"]


def test_ids_can_be_written_whatever_bytes_a_name_holds(tmp_path: Path) -> None:
    for name in (b"\xff", b"\xfe", "\u0436\U0001f600".encode(), b"<script>", b"a\nb'\""):
        record(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name + b".wav")))
    found = Corpus.of(tmp_path)
    assert len({utterance.id.encode() for utterance in found}) == 5
    (odd,) = Corpus.of_lines(['{"path": "a.wav", "id": "\\ud800"}'])
    odd.id.encode()
    assert all(isinstance(item, Piece) for item in found.pieces(16000, WINDOWS))


def test_taking_out_what_is_done(tmp_path: Path) -> None:
    corpus = Corpus(Utterance(name, Path(name)) for name in "abc")
    assert [utterance.id for utterance in corpus.without({"b", "z"})] == ["a", "c"]
    assert len(corpus) == 3


def test_pieces_are_the_windows_of_the_recording(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav", samples=22050, rate=22050)
    whole = audio.read(path, 16000).samples[0, 0].numpy()
    pieces = list(Corpus.of(path).pieces(16000, WINDOWS))
    cut = list(WINDOWS.cut(len(whole)))
    assert len(pieces) == len(cut) > 3
    for index, (piece, window) in enumerate(zip(pieces, cut, strict=True)):
        assert (piece.index, piece.skip, piece.frames) == (index, window.skip, window.frames)
        np.testing.assert_array_equal(piece.samples, whole[window.start : window.stop])
    assert [piece.facts for piece in pieces[:-1]] == [None] * (len(cut) - 1)
    assert pieces[-1].facts == Facts(16000, 22050, 22050, audio.checksum(path))


def test_any_number_of_workers_gives_the_same(speech_folder: Path) -> None:
    (speech_folder / "bad.wav").write_text("no sound")
    (speech_folder / "empty.wav").write_bytes(b"")
    corpus = Corpus.of(speech_folder)
    alone = contents(corpus)
    assert len(alone) > 20
    assert sum(isinstance(item, Failure) for item in alone) == 2
    assert contents(corpus, 1) == contents(corpus, 2) == alone
    assert contents(Corpus([]), 2) == set()


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_recordings_fail_alone_and_the_rest_is_whole(tmp_path: Path, workers: int) -> None:
    bad = tmp_path / "bad"
    cut = record(bad / "cut.flac", samples=200000)
    cut.write_bytes(cut.read_bytes()[:100000])
    late = np.append(np.zeros(100000), np.nan).astype(np.float32)
    soundfile.write(bad / "nan.wav", late, 16000, subtype="FLOAT")
    (bad / "text.wav").write_text("no sound")
    (bad / "folder.wav").mkdir()
    (bad / "gone.wav").symlink_to("nowhere")
    (bad / "loop.wav").symlink_to("loop.wav")
    os.mkfifo(bad / "pipe.wav")
    good = [record(tmp_path / "good" / f"{i}.wav", seed=i) for i in range(4)]
    paths = [*bad.iterdir(), bad / "absent.wav", *good]
    lines = [json.dumps({"path": str(path), "id": path.name}) for path in paths]
    lines.insert(3, json.dumps({"path": "a\0b.wav", "id": "nul"}))
    items = list(Corpus.of_lines(lines).pieces(16000, WINDOWS, workers=workers))
    failed = {item.id: item.reason for item in items if isinstance(item, Failure)}
    assert failed.keys() == {path.name for path in paths} - {path.name for path in good} | {"nul"}
    assert all(reason and "\n" not in reason for reason in failed.values())
    done = {item.utterance.id for item in items if isinstance(item, Piece) and item.facts}
    assert done == {path.name for path in good}


def test_an_unforeseen_error_is_a_failure_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(_: object) -> str:
        raise ZeroDivisionError("what\never")

    monkeypatch.setattr(audio, "checksum", odd)
    *pieces, failure = Corpus.of(record(tmp_path / "a.wav", samples=8000)).pieces(16000, WINDOWS)
    assert failure == Failure("a", str(tmp_path / "a.wav"), "ZeroDivisionError: what ever")
    assert all(piece.facts is None for piece in pieces)


@pytest.mark.parametrize("depth", [50, 900])
def test_what_a_manifest_says_comes_along_however_deep(tmp_path: Path, depth: int) -> None:
    record(tmp_path / "a.wav")
    line = '{"path": "a.wav", "x": ' + "[" * depth + "]" * depth + "}"
    corpus = Corpus.of_lines([line], tmp_path)
    (utterance,) = corpus
    (piece,) = corpus.pieces(16000, WINDOWS, workers=1)
    assert piece.utterance is utterance


def test_reading_does_not_touch_the_users_random_numbers(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    before = torch.get_rng_state()
    contents(Corpus.of(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 120), st.integers(1, 20))
def test_batches_lose_nothing_and_keep_to_the_bound(lengths: list[int], bound: int, lookahead: int) -> None:
    utterance = Utterance("u", Path("u"))
    pieces = [Piece(utterance, i, np.zeros(n, np.float32), 0, 1) for i, n in enumerate(lengths)]
    drawn = 0

    def draw() -> Iterator[Piece]:
        nonlocal drawn
        for piece in pieces:
            drawn += 1
            yield piece

    given_back: list[int] = []
    for batch in batches(draw(), max_samples=bound, lookahead=lookahead):
        assert len(batch) == 1 or len(batch) * max(len(piece.samples) for piece in batch) <= bound
        given_back += [piece.index for piece in batch]
        assert drawn - len(given_back) < lookahead, "no more wait than may"
    assert sorted(given_back) == list(range(len(lengths)))


def test_batches_hold_pieces_of_like_length() -> None:
    utterance = Utterance("u", Path("u"))
    pieces = [Piece(utterance, i, np.zeros(10 if i % 2 else 1000, np.float32), 0, 1) for i in range(40)]
    found = list(batches(iter(pieces), max_samples=5000, lookahead=40))
    assert all(len({len(piece.samples) for piece in batch}) == 1 for batch in found)
    assert [len(batch) for batch in found] == [5, 5, 5, 5, 20]


def test_batches_give_every_thread_as_many_pieces() -> None:
    utterance = Utterance("u", Path("u"))
    pieces = [Piece(utterance, i, np.zeros(1000, np.float32), 0, 1) for i in range(40)]
    assert [len(batch) for batch in batches(iter(pieces), max_samples=11000, multiple=4)] == [8] * 5
    assert [len(batch) for batch in batches(iter(pieces), max_samples=3000, multiple=4)] == [3] * 13 + [1]
