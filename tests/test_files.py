"""Files that are whole or not at all, and paths for ids of any make."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vocable.errors import OutputError
from vocable.files import inside, is_vacant, legible, new_directory, remove, require_absent, write_atomic

ids = st.text(
    st.one_of(st.characters(exclude_categories=[]), st.sampled_from("./\\%-a \0\n'\"<>~$\udcff")), max_size=40
)
hostile = [
    *("", ".", "..", "/", "//", "../../etc/passwd", "/etc/passwd", "a/../../b", "a/./b", "a//b", "a/", "~", "~root"),
    *("\0", "a\0b", "a\nb", "a\rb", "a'b", 'a"b', "<script>alert(1)</script>", "$(rm -rf)", "-rf", "a\\..\\b", "C:\\x"),
    *(
        "%2E",
        "%",
        "%%",
        "%25",
        ".part-x",
        ".hidden",
        "\ud800",
        "\udcff",
        "😀",
        "\ud83d\ude00",
        "Привет",
        "é",
        "e\u0301",
    ),
    *(
        "x" * 300,
        "x" * 5000,
        "ж" * 300,
        "a/" * 3000,
        "../" * 3000,
        "a" * 200,
        "a" * 201,
        "a.wav",
        "a.wav/b",
        "a.wav%/b",
    ),
]


@settings(max_examples=300)
@given(ids)
def test_paths_stay_inside_whatever_the_id(name: str) -> None:
    root = Path("/out/tokens")
    path = inside(root, name, ".wav")
    assert Path(os.path.normpath(path)) == path, "nothing to resolve"
    assert path.is_relative_to(root)
    assert path != root
    assert path.name.endswith(".wav")
    for part in path.relative_to(root).parts:
        assert len(part.encode()) <= 255
        assert not part.startswith(".")
        assert all(char.isalnum() or char in "-_.,+=@ %" for char in part)
    assert len(os.fsencode(path)) < 3000


@settings(max_examples=500)
@given(ids, ids)
@example("a", "a.wav/b")
@example("a.wav%/b", "a.wav/b")
@example("\ud83d\ude00", "😀")
@example("a/", "a/%")
def test_different_ids_get_paths_that_can_lie_side_by_side(one: str, other: str) -> None:
    if one != other:
        first, second = inside(Path("/r"), one, ".wav"), inside(Path("/r"), other, ".wav")
        assert first != second
        assert first not in second.parents
        assert second not in first.parents


def test_hostile_ids_all_at_once_on_a_real_file_system(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "out"
    for name in hostile:
        write_atomic(inside(root, name, ".wav"), name.encode("utf-8", "surrogatepass"))
    for name in hostile:
        assert inside(root, name, ".wav").read_bytes() == name.encode("utf-8", "surrogatepass")
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_a_shortened_name_cannot_be_forged() -> None:
    long = inside(Path("/r"), "x" * 300, "").name
    assert len(long) == 200
    for forged in (long, long.replace("%-", "%"), long.replace("%-", "-")):
        assert inside(Path("/r"), forged, "").name != long


def test_ordinary_ids_keep_their_names() -> None:
    for name in ("speaker1/clip 2", "a-b_c.d,e+f=g@h", "Голос/запись1", "声/音"):
        assert inside(Path("/r"), name, ".wav") == Path(f"/r/{name}.wav")


@given(st.text(st.characters(exclude_categories=[])))
def test_legible_text_can_be_written_and_is_else_untouched(text: str) -> None:
    shown = legible(text)
    shown.encode("utf-8")
    if not any(0xD800 <= ord(char) < 0xE000 for char in text):
        assert shown == text


def test_write_atomic_replaces_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["c.bin"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"")
        with new_directory(tmp_path / "folder"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("broken", ["vocable.files.os.fsync", "pathlib.Path.replace", "pathlib.Path.chmod"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    write_atomic(path, b"old")
    monkeypatch.setattr(broken, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
import torch
from vocable.artifacts import Artifact, save
from vocable.audio import write
from vocable.files import write_atomic
from vocable.store import Entry, TokenStore
from vocable.types import Audio, Codebook, TokenSpec

store = TokenStore(Path("store"), TokenSpec(16000, 320, (Codebook(65536, "L6"),), "f"))
codes = np.random.default_rng(0).integers(0, 65536, (1, 30_000))
noise = Audio.of([torch.randn(200_000)], 16000)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for action in (
    lambda: write_atomic(Path("file"), bytes(100_000)),
    lambda: save(Artifact("x", {}, {"w": torch.zeros(9000)}), "artifact", overwrite=True),
    lambda: store.append([Entry("a", codes, 30_000 * 320)]),
    *(lambda suffix=suffix: write(f"sound.{suffix}", noise) for suffix in ("wav", "flac", "ogg", "mp3", "opus")),
):
    try:
        action()
    except OSError as problem:
        print(problem)
"""


def test_a_full_disk_is_an_error_and_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    old = ["artifact", "file", "sound.flac", "sound.mp3", "sound.ogg", "sound.opus", "sound.wav"]
    for name in old:
        (tmp_path / name).write_bytes(b"old")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert ran.stderr == ""
    assert len(ran.stdout.splitlines()) == 8
    assert all("File too large" in line for line in ran.stdout.splitlines())
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == old
    assert all((tmp_path / name).read_bytes() == b"old" for name in old)


def test_a_new_directory_appears_when_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with new_directory(path) as folder:
        (folder / "x").write_text("1")
        assert not path.exists()
    assert [p.name for p in path.iterdir()] == ["x"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("what", ["folder", "file", "link", "dangling link"])
def test_what_is_there_is_replaced_only_when_told(tmp_path: Path, what: str) -> None:
    path, aside = tmp_path / "out", tmp_path / "aside"
    aside.mkdir()
    (aside / "precious").write_text("1")
    if what == "folder":
        path.mkdir()
        (path / "old").write_text("1")
    elif what == "file":
        path.write_text("1")
    else:
        path.symlink_to(aside if what == "link" else tmp_path / "nowhere")
    with pytest.raises(OutputError, match="there already") as caught, new_directory(path):
        pytest.fail("the work must not begin")
    assert "--overwrite" in caught.value.hint
    with new_directory(path, overwrite=True) as folder:
        (folder / "new").write_text("1")
    assert [p.name for p in path.iterdir()] == ["new"]
    assert (aside / "precious").exists(), "of a link only the link is replaced"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["aside", "out"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failed_directory_leaves_what_was_there(tmp_path: Path, overwrite: bool) -> None:
    path = tmp_path / "out"
    path.mkdir()
    if overwrite:
        (path / "old").write_text("1")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt), new_directory(path, overwrite=overwrite) as folder:
        (folder / "new").write_text("1")
        raise KeyboardInterrupt
    assert sorted(tmp_path.rglob("*")) == before


def test_vacancy(tmp_path: Path) -> None:
    assert is_vacant(tmp_path / "absent")
    assert is_vacant(tmp_path)
    (tmp_path / ".part-leftover").write_text("cut off by a kill")
    assert is_vacant(tmp_path)
    require_absent(tmp_path)
    (tmp_path / "file").write_text("")
    assert not is_vacant(tmp_path)
    assert not is_vacant(tmp_path / "file")
    require_absent(tmp_path, overwrite=True)


def test_removing(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "x").mkdir(parents=True)
    (tmp_path / "link").symlink_to(target)
    remove(tmp_path / "link")
    assert target.exists()
    remove(target)
    remove(target)
    assert list(tmp_path.iterdir()) == []
