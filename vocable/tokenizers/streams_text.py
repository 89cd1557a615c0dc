"""Token streams as text: integers as fairseq writes them, one character an id as ESPnet does, or <u12><u7>."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vocable.errors import InputError
from vocable.tokenizers.streams import TokenStream
from vocable.tokenizers.streams_forms import require_whole

_SURROGATES = 0xD800, 0xE000  # code points that are no characters
_DIGITS = 18  # what int64 holds


class Spelling(ABC):
    """How ids become one line of text, without its end, and back."""

    name: ClassVar[str]

    @property
    def capacity(self) -> int:
        """How many ids have a spelling."""
        return int(10**_DIGITS)

    @abstractmethod
    def write(self, ids: np.ndarray) -> str: ...

    @abstractmethod
    def read(self, text: str) -> np.ndarray:
        """Ids [N] (int64). InputError for what `write` does not write."""


@dataclass(frozen=True)
class Integers(Spelling):
    """Integers with spaces between ("12 7 7"), as lines of fairseq's .km files and Kaldi's texts."""

    name: ClassVar[str] = "integers"

    def write(self, ids: np.ndarray) -> str:
        return " ".join(map(str, ids.tolist()))

    def read(self, text: str) -> np.ndarray:
        if re.fullmatch(rf"(?:[0-9]{{1,{_DIGITS}}}(?: [0-9]{{1,{_DIGITS}}})*)?", text) is None:
            raise InputError(f"expected integers with a space between, got {_shown(text)}")
        return np.array(text.split(), np.int64)


@dataclass(frozen=True)
class Characters(Spelling):
    """One character an id: chr(first + id). By default CJK ideographs, 20,992 of them, as ESPnet has it."""

    first: int = 0x4E00
    count: int = 0xA000 - 0x4E00

    name: ClassVar[str] = "characters"

    def __post_init__(self) -> None:
        require_whole("the first character", self.first, 0, 0x10FFFF)
        require_whole("the number of characters", self.count, 1, 0x110000 - self.first)
        if self.first < _SURROGATES[1] and self.first + self.count > _SURROGATES[0]:
            raise InputError(f"U+{self.first:04X} and {self.count} more hold surrogates, which are no characters")

    def write(self, ids: np.ndarray) -> str:
        return (ids + self.first).astype("<u4").tobytes().decode("utf-32-le")

    def read(self, text: str) -> np.ndarray:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)
        if ((points < self.first) | (points >= self.first + self.count)).any():
            raise InputError(f"expected characters of {self.count} from U+{self.first:04X} on, got {_shown(text)}")
        return points - self.first

    @property
    def capacity(self) -> int:
        return self.count


@dataclass(frozen=True)
class Tagged(Spelling):
    """Tags ("<u12><u7><u7>") as they are added to the vocabulary of a text model. prefix: what is before the number."""

    prefix: str = "u"

    name: ClassVar[str] = "tagged"

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, str) or re.search(r"[<>\s]|\d$", self.prefix):
            raise InputError(f"expected a prefix without brackets or spaces, no digit at its end, got {self.prefix!r}")

    def write(self, ids: np.ndarray) -> str:
        return "".join([f"<{self.prefix}{id}>" for id in ids.tolist()])

    def read(self, text: str) -> np.ndarray:
        tag = rf"<{re.escape(self.prefix)}([0-9]{{1,{_DIGITS}}})>"
        if re.fullmatch(rf"(?:{tag})*", text) is None:
            raise InputError(f"expected tags such as <{self.prefix}12>, got {_shown(text)}")
        return np.array(re.findall(tag, text), np.int64)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


@dataclass(frozen=True)
class TextStream:
    """A stream whose sequences are lines of text. InputError unless it is flat and each id has a spelling."""

    stream: TokenStream
    spelling: Spelling = Integers()

    def __post_init__(self) -> None:
        self.stream.form.require_flat("text")
        if self.stream.vocabulary > self.spelling.capacity:
            raise InputError(
                f"{self.stream.vocabulary:,} ids have no spelling as {self.spelling.capacity:,} {self.spelling.name}",
                hint="Characters(0xF0000, 131072), the private use areas, holds more",
            )

    def forward(self, codes: Any) -> str:
        """The line of codes [K, T] of one utterance."""
        return self.spelling.write(self.stream.forward(codes))

    def inverse(self, line: str) -> np.ndarray:
        """Codes [K, T] (int64) of a line. InputError for what `forward` does not write."""
        return self.stream.inverse(self.spelling.read(line))
