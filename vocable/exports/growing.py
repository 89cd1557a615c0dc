"""A file written from start to end that a later run takes up where an earlier one noted that it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vocable.errors import OutputError
from vocable.files import publish

State = dict[str, Any]  # plain JSON values: from where a later run goes on
CHANGED = "remove it, or start again with --overwrite"


class GrowingFile:
    """Bytes appended under a hidden name; `finish` gives the file its own.

    size: bytes that an earlier run noted; what lies beyond them is written anew. OutputError if they are not there.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path, self.size = path, size
        self._hidden = path.with_name(f".part-{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if size and path.exists() and not self._hidden.exists():
            path.rename(self._hidden)  # finished, but not all that belongs to it
        self._file = self._hidden.open("r+b" if size and self._hidden.exists() else "w+b")
        if self._file.seek(0, os.SEEK_END) < size:
            self._file.close()
            raise OutputError(f"{path} is shorter than an earlier run left it", hint=CHANGED)
        self._file.truncate(size)
        self._file.seek(size)

    def write(self, data: bytes) -> None:
        """Appends."""
        self._file.write(data)
        self.size += len(data)

    def flush(self) -> int:
        """Hands all bytes to the system, which `os.sync` has write them; returns how many there are."""
        self._file.flush()
        return self.size

    def finish(self) -> None:
        """Gives the file its name."""
        self.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        publish(self._hidden, self.path)

    def close(self) -> None:
        """Lets go of the file, finished or not."""
        self._file.close()
