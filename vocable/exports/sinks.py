"""What the formats have in common: where rows go, and how text stays one word or one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import numpy as np

from vocable.exports.growing import GrowingFile, State
from vocable.exports.rows import Row

_EMPTY = "%"  # an id of no characters: a percent sign in one is encoded


class Sink(Protocol):
    """Takes rows one by one. Its state says how many of them, `rows`, a later run need not give it again."""

    def add(self, row: Row) -> None: ...

    def state(self) -> State:
        """Flushes what a later run can take up, and says what that is."""

    def finish(self) -> None:
        """Gives all files their names."""

    def close(self) -> None:
        """Lets go of all files, finished or not."""


class LineSink:
    """Text files that have a line for each row. lines: what each file says of it; heads: what it begins with."""

    def __init__(
        self, lines: Mapping[Path, Callable[[Row], str]], state: State, heads: Mapping[Path, str] | None = None
    ) -> None:
        self._lines, self._rows = lines, int(state.get("rows", 0))
        sizes = state.get("sizes", [0] * len(lines))
        self._files = {path: GrowingFile(path, size) for path, size in zip(lines, sizes, strict=True)}
        for path, head in (heads or {}).items():
            if not self._files[path].size:
                self._files[path].write(head.encode() + b"\n")

    def add(self, row: Row) -> None:
        """Appends a line to each file."""
        texts = {path: line(row) for path, line in self._lines.items()}
        for path, text in texts.items():
            self._files[path].write(text.encode("utf-8", "backslashreplace") + b"\n")
        self._rows += 1

    def state(self) -> State:
        """Rows and sizes of all files, which are flushed."""
        return {"rows": self._rows, "sizes": [file.flush() for file in self._files.values()]}

    def finish(self) -> None:
        """Names the files."""
        for file in self._files.values():
            file.finish()

    def close(self) -> None:
        """Lets go of the files, finished or not."""
        for file in self._files.values():
            file.close()


def integers(values: np.ndarray) -> str:
    """Integers as decimal numbers with spaces between."""
    return " ".join(map(str, values.tolist()))


def word(text: str) -> str:
    """The text without white space: this, what cannot be seen and % are percent-encoded; `text_of` is the inverse."""
    return "".join(_encoded(char) if _upsets(char) or char in " %" else char for char in text) or _EMPTY


def line_part(text: str) -> str:
    """The text with whatever could end a line or a column percent-encoded; spaces and % stay."""
    return "".join(_encoded(char) if _upsets(char) else char for char in text)


def text_of(written: str) -> str:
    """The text that `word` encoded."""
    return "" if written == _EMPTY else unquote(written, errors="surrogatepass")


def facts(row: Row) -> dict[str, Any]:
    """All that the store says of a recording beside its codes, as plain values for JSON."""
    entry = row.entry
    return {
        "id": entry.id,
        "samples": entry.samples,
        "path": entry.path,
        "source_samples": entry.source_samples,
        "source_rate": entry.source_rate,
        "checksum": entry.checksum,
        "fields": entry.fields,
    }


def _upsets(char: str) -> bool:
    return not (char.isprintable() or char == " ") or (char.isspace() and char != " ")


def _encoded(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))
