"""Files that are there whole or not at all, and paths that never leave the folder they were meant for."""

from __future__ import annotations

import os
import shutil
import string
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Lock

from vocable.errors import OutputError

_SAFE = frozenset(string.ascii_letters + string.digits + "-_.,+=@ ")
_LONGEST_NAME = 200  # bytes; file systems allow 255, and a suffix has to fit
_LONGEST_PATH = 2000  # bytes under the root; systems allow 4096 with it
_PART = ".part-"  # what is not finished begins so
_ASKING = Lock()


def write_atomic(path: Path, data: bytes) -> None:
    """Writes the file under a temporary name, syncs it, renames it: a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_PART)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        publish(Path(name), path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_at(file: int, data: bytes, place: int) -> None:
    """Writes all of the data into an open file, from byte `place` on."""
    left = memoryview(data)
    while left:
        written = os.pwrite(file, left, place)
        left, place = left[written:], place + written


def publish(temporary: Path, path: Path) -> None:
    """Gives a finished temporary file its name and the usual permissions."""
    temporary.chmod(0o666 & ~_umask())
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def new_directory(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill that takes its name when the block ends without an error, in place of an old one if allowed.

    OutputError, before anything is done, if something is there and `overwrite` is not given.
    """
    require_absent(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{_PART}{path.name[:50]}-"))
    try:
        yield work
        work.chmod(0o777 & ~_umask())
        for file in work.iterdir():  # some writers keep what they write to themselves
            if file.is_file():
                file.chmod(0o666 & ~_umask())
        if path.exists() or path.is_symlink():
            old = work.with_name(work.name + "-old")
            path.rename(old)
            work.rename(path)
            remove(old)
        else:
            work.rename(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def require_absent(path: Path, *, overwrite: bool = False) -> None:
    """OutputError if something other than an empty folder is at the path and may not be overwritten."""
    if not overwrite and not is_vacant(path):
        raise OutputError(f"{path} is there already", hint="name another --out, or replace it with --overwrite")


def is_vacant(path: Path) -> bool:
    """Whether nothing is at the path, or a folder with nothing in it but what a killed write left."""
    if path.is_dir():
        return all(child.name.startswith(_PART) for child in path.iterdir())
    return not (path.exists() or path.is_symlink())


def _umask() -> int:
    with _ASKING:  # it can only be read by changing it: for a moment, to a strict one, and never by two threads at once
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there; of a link only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def inside(root: Path, identifier: str, suffix: str) -> Path:
    """The path under `root` for an utterance id of any make; different ids get different paths.

    Slashes make folders. Whatever could leave the root or upset a shell or a file system is percent-encoded, and what
    is too long ends in a hash. No id's file is another's folder.
    """
    *folders, name = [_safe_name(part) for part in identifier.split("/")]
    folders = [folder + "%" if folder.endswith(suffix) else folder for folder in folders]
    if len("/".join([*folders, name]).encode()) > _LONGEST_PATH:
        folders, name = [], _shortened("%2F".join([*folders, name]))
    return root.joinpath(*folders, name + suffix)


def legible(text: str) -> str:
    """The text with whatever UTF-8 cannot hold (stray bytes of a file name) spelled as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _safe_name(part: str) -> str:
    name = "".join(map(_encoded, part)) or "%"
    return _shortened("%2E" + name[1:] if name.startswith(".") else name)


def _encoded(char: str) -> str:
    if char in _SAFE or (char.isalnum() and not char.isascii()):
        return char
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def _shortened(name: str) -> str:
    data = name.encode()
    if len(data) <= _LONGEST_NAME:
        return name
    # no encoded character begins with %-, so no short name looks like this
    return data[: _LONGEST_NAME - 34].decode(errors="ignore") + "%-" + sha256(data).hexdigest()[:32]
