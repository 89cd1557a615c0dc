"""Formats of one array a recording: .npy files as SpeechBrain keeps them, and tars as WebDataset reads them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vocable.exports.growing import GrowingFile, State
from vocable.exports.rows import Content, Row
from vocable.exports.sinks import LineSink, facts
from vocable.files import inside

_SUFFIX = ".npy"
_END = bytes(2 * tarfile.BLOCKSIZE)  # of a tar


def array_bytes(row: Row, content: Content) -> bytes:
    """A .npy file of ids [N] where there is one sequence, else [T, K]; int32, or int64 if they need it."""
    return _npy(row.ids.T.astype("<i4" if content.vocabulary <= 1 << 31 else "<i8"))


class ArraySink:
    """`arrays/<id>.npy` and `manifest.jsonl`, which says whose each is.

    An id that is no plain path is percent-encoded; `durations/<id>.npy` [T] lies beside if deduplicated.
    """

    def __init__(self, out: Path, split: str, content: Content, state: State) -> None:
        self._folder, self._content = out / split, content
        self._manifest = LineSink({self._folder / "manifest.jsonl": self._line}, state)

    def add(self, row: Row) -> None:
        """Writes the array, and then its line."""
        _put(self._place(row, "arrays"), array_bytes(row, self._content))
        if row.durations is not None:
            _put(self._place(row, "durations"), _npy(row.durations.astype("<i4")))
        self._manifest.add(row)

    def state(self) -> State:
        """That of the manifest: arrays are there whole or not at all."""
        return self._manifest.state()

    def finish(self) -> None:
        """Names the manifest."""
        self._manifest.finish()

    def close(self) -> None:
        """Lets go of the manifest, finished or not."""
        self._manifest.close()

    def _place(self, row: Row, folder: str) -> Path:
        return inside(self._folder / folder, row.id, _SUFFIX)

    def _line(self, row: Row) -> str:
        file = self._place(row, "arrays").relative_to(self._folder).as_posix()
        return json.dumps({**facts(row), "file": file})


class TarSink:
    """`train-000000.tar` and on, each closed by the recording that makes it `shard_bytes` long or longer.

    Every recording is a member `000000000.npy`, its array, and `000000000.json`, its id and all that is known of it;
    `000000000.durations.npy` [T] if deduplicated. Keys are numbers because WebDataset cuts names at dots.
    """

    def __init__(self, out: Path, split: str, content: Content, state: State, *, shard_bytes: int) -> None:
        self._out, self._stem, self._content, self._shard_bytes = out, split or "train", content, shard_bytes
        self._rows, self._shard = int(state.get("rows", 0)), int(state.get("shard", 0))
        self._file = GrowingFile(self._path(), int(state.get("size", 0)))

    def add(self, row: Row) -> None:
        """Appends the members of a row, to a new shard if the last is long enough."""
        if self._file.size >= self._shard_bytes:
            self.finish()
            self._shard += 1
            self._file = GrowingFile(self._path())
        for suffix, data in self._members(row):
            self._file.write(_member(f"{self._rows:09d}.{suffix}", data))
        self._rows += 1

    def state(self) -> State:
        """Rows, the shard they reach to, and its bytes, which are flushed."""
        return {"rows": self._rows, "shard": self._shard, "size": self._file.flush()}

    def finish(self) -> None:
        """Closes the last shard."""
        self._file.write(_END)
        self._file.write(bytes(-self._file.size % tarfile.RECORDSIZE))
        self._file.finish()

    def close(self) -> None:
        """Lets go of the last shard, finished or not."""
        self._file.close()

    def _members(self, row: Row) -> Iterator[tuple[str, bytes]]:
        yield "npy", array_bytes(row, self._content)
        if row.durations is not None:
            yield "durations.npy", _npy(row.durations.astype("<i4"))
        yield "json", json.dumps(facts(row)).encode()

    def _path(self) -> Path:
        return self._out / f"{self._stem}-{self._shard:06d}.tar"


def _member(name: str, data: bytes) -> bytes:
    info = tarfile.TarInfo(name)  # dated 1970 and owned by nobody: the same bytes whoever writes them, and when
    info.size = len(data)
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _put(path: Path, data: bytes) -> None:
    """A file that is there whole or not at all, as `write_atomic`; but syncing each would cost more than all else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".part-{path.name}")
    hidden.write_bytes(data)
    hidden.replace(path)


def _npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()
