"""TokenStream: the codes of an utterance as the sequence that a language model sees, and back.

    stream = TokenStream(spec) | Delay() | Offset() | Flatten() | Special()
    ids = stream.forward(codes)          # [K, T] -> [N]
    stream.inverse(ids)                  # the same codes, exactly

A stream is a spec and a list of transforms, all of them plain values: it is written as JSON and travels with an export,
a vocabulary or a language model. Every transform is undone exactly but `Collapse`, which forgets durations.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from vocable.errors import ArtifactError, InputError, SpecError
from vocable.files import write_atomic
from vocable.store import Entry, TokenStore
from vocable.tokenizers.bpe import BPE
from vocable.tokenizers.streams_flat import CoarseFirst, Flatten, Special
from vocable.tokenizers.streams_forms import Form, Row, Transform
from vocable.tokenizers.streams_grid import Collapse, Deduplicate, Delay, Offset
from vocable.types import TokenSpec

__all__ = [
    "BPE",
    "CoarseFirst",
    "Collapse",
    "Deduplicate",
    "Delay",
    "Flatten",
    "Form",
    "Measured",
    "Offset",
    "Row",
    "Special",
    "TokenStream",
    "Transform",
    "measure",
]

FORMAT = 1
_TRANSFORMS: dict[str, type[Transform]] = {
    kind.name: kind for kind in (Deduplicate, Collapse, Delay, Offset, Flatten, CoarseFirst, Special, BPE)
}
_WIDTHS = (np.uint16, np.uint32)


@dataclass(frozen=True)
class TokenStream:
    """Codes of a spec, through transforms in order. `stream | transform` is a stream with one more.

    spec: the codebooks that are in it, which may be some of a store's.
    """

    spec: TokenSpec
    transforms: tuple[Transform, ...] = ()

    def __post_init__(self) -> None:
        self.form  # noqa: B018 - transforms that cannot follow one another are told of here

    def __or__(self, transform: Transform) -> TokenStream:
        return TokenStream(self.spec, (*self.transforms, transform))

    @cached_property
    def _forms(self) -> tuple[Form, ...]:
        """The form before each transform, and that of what comes out."""
        forms = [Form.of(self.spec)]
        for transform in self.transforms:
            forms.append(transform.form(forms[-1]))
        return tuple(forms)

    @property
    def form(self) -> Form:
        """Which ids come out, row by row."""
        return self._forms[-1]

    @property
    def flat(self) -> bool:
        """Whether ids are a sequence [N] or still a grid [K, T]."""
        return self.form.flat

    @property
    def exact(self) -> bool:
        """Whether `inverse` gives back the codes themselves, or only without their durations."""
        return all(transform.exact for transform in self.transforms)

    @property
    def vocabulary(self) -> int:
        """All ids lie in 0..vocabulary-1; of a grid, those of all rows."""
        return self.form.vocabulary

    @property
    def special(self) -> dict[str, int]:
        """The ids that are no codes, by name."""
        return dict(self.form.special)

    @property
    def rate(self) -> float:
        """Ids per second of a long recording. Where runs or pairs of units become one (`form.measured`) it is the most
        that it can be, and `measure` says what it is.
        """
        return self.form.rate

    def forward(self, codes: Any) -> np.ndarray:
        """Ids (int64) of codes [K, T] of one utterance: [N] where the stream is flat.

        InputError for another shape, and for codes beyond their codebook.
        """
        ids = self._forms[0].check(self._forms[0].shaped(codes))
        for transform, given in zip(self.transforms, self._forms, strict=False):
            ids = transform.forward(ids, given)
        return ids

    def inverse(self, ids: Any) -> np.ndarray:
        """Codes [K, T] (int64) of ids. InputError for ids that are none of the stream's, or no whole frames."""
        codes = self.form.check(self.form.shaped(ids))
        for transform, given in self._backwards():
            codes = given.check(transform.inverse(codes, given))
        return codes

    def inverse_prefix(self, ids: Any) -> np.ndarray:
        """Codes [K, T] of the frames that are whole before the ids stop, or stop making sense; T may be 0.

        For what a language model says, which may be cut off anywhere.
        """
        codes = self.form.valid(self.form.shaped(ids))
        for transform, given in self._backwards():
            codes = given.valid(transform.inverse_prefix(codes, given))
        return codes

    def _backwards(self) -> Iterable[tuple[Transform, Form]]:
        return reversed(list(zip(self.transforms, self._forms, strict=False)))

    def rows(self, spec: TokenSpec) -> list[int]:
        """Where the stream's codebooks are among those of another spec, a store's. SpecError if they are not."""
        if not spec.covers(self.spec):
            wanted, come = (
                f"{', '.join(one.labels)} of tokenizer {one.source[:12]} at {one.frame_rate:g} frames/s"
                for one in (self.spec, spec)
            )
            hint = "use the tokens that the stream was made for, or make the stream anew"
            raise SpecError(f"expected tokens {wanted}, got {come}", hint=hint)
        return spec.indices(self.spec.labels)

    def read(self, store: TokenStore) -> Iterator[tuple[Entry, np.ndarray]]:
        """Every entry of a store with its ids, a shard in memory at a time. SpecError if the store holds others."""
        rows = self.rows(store.spec)
        for entry in store:
            yield entry, self.forward(entry.codes[rows])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smaller of uint16 and uint32 that holds every id. InputError if neither does."""
        for width in _WIDTHS:
            if self.vocabulary - 1 <= np.iinfo(width).max:
                return np.dtype(width)
        raise InputError(f"a vocabulary of {self.vocabulary:,} ids does not fit into uint32")

    def narrow(self, ids: np.ndarray, dtype: str | np.dtype[Any]) -> np.ndarray:
        """The ids as unsigned integers of a width. InputError if the vocabulary, not just these ids, does not fit."""
        width = np.dtype(dtype)
        if width.kind != "u" or self.vocabulary - 1 > np.iinfo(width).max:
            raise InputError(
                f"a vocabulary of {self.vocabulary:,} ids does not fit into {width}",
                hint="take a wider integer, fewer codebooks, or a smaller vocabulary",
            )
        return self.form.check(self.form.shaped(ids)).astype(width)

    def config(self) -> dict[str, Any]:
        """Plain values for JSON, of which `from_config` makes the same stream."""
        return {
            "format": FORMAT,
            "spec": self.spec.to_dict(),
            "transforms": [transform.config() for transform in self.transforms],
        }

    @classmethod
    def from_config(cls, config: Any) -> TokenStream:
        """The stream that `config` described. InputError if it is not understood."""
        try:
            if config["format"] != FORMAT:
                came = f"format {config['format']!r}, this version reads {FORMAT}"
                raise InputError(f"the stream is of {came}", hint="update vocable")
            return cls(TokenSpec.from_dict(config["spec"]), tuple(map(_transform, config["transforms"])))
        except (KeyError, TypeError, AttributeError, OverflowError) as problem:
            raise InputError(f"expected the configuration of a token stream ({problem!r})") from problem

    def save(self, path: str | os.PathLike[str], *, evidence: dict[str, Any] | None = None) -> None:
        """Writes a JSON file. evidence: how it was found and what it is worth, for who reads it."""
        body = {"kind": "token stream", "stream": self.config(), "evidence": evidence or {}}
        body["checksum"] = _checksum(body)
        write_atomic(Path(path), json.dumps(body).encode() + b"\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TokenStream:
        """The stream of a file, or of a folder with stream.json. ArtifactError if there is none or it is damaged."""
        return cls.from_config(_read(Path(path))["stream"])

    @staticmethod
    def evidence(path: str | os.PathLike[str]) -> dict[str, Any]:
        """What was saved beside a stream. ArtifactError as `load`."""
        return dict(_read(Path(path))["evidence"])


STREAM = "stream.json"


def _read(path: Path) -> dict[str, Any]:
    file = path / STREAM if path.is_dir() else path
    try:
        body = json.loads(file.read_bytes())
        claimed = body.pop("checksum")
        sound = body["kind"] == "token stream" and {"stream", "evidence"} <= set(body) and claimed == _checksum(body)
    except FileNotFoundError:
        raise ArtifactError(f"{file} is missing", hint="make a stream with `vocable train bpe`") from None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError, OSError):
        raise ArtifactError(f"{file} is not the configuration of a token stream") from None
    if not sound:
        raise ArtifactError(f"{file} is damaged: its checksum does not fit", hint="fetch or make it anew")
    return dict(body)


def _checksum(values: Any) -> str:
    return sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _transform(config: dict[str, Any]) -> Transform:
    values = {name: _frozen(value) for name, value in config.items()}
    name, version = values.pop("name"), values.pop("version")
    kind = _TRANSFORMS.get(name) if isinstance(name, str) else None
    if kind is None or version != kind.version:
        raise InputError(f"no transform {name!r} of version {version!r} is known", hint="update vocable")
    return kind(**values)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


@dataclass(frozen=True)
class Measured:
    """What a stream costs on recordings. bits_per_second: log2(vocabulary) bits an id."""

    recordings: int
    seconds: float
    tokens: int
    vocabulary: int

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def bits_per_second(self) -> float:
        return self.tokens_per_second * math.log2(self.vocabulary)


def measure(stream: TokenStream, store: TokenStore) -> Measured:
    """Reads every entry of a store once. InputError if it holds no sound, or the stream is not flat."""
    stream.form.require_flat("measure")
    recordings = samples = tokens = 0
    for entry, ids in stream.read(store):
        recordings, samples, tokens = recordings + 1, samples + entry.samples, tokens + ids.size
    if not samples:
        raise InputError(f"expected a store with recordings, got none in {store.path}")
    return Measured(recordings, samples / store.spec.sample_rate, tokens, stream.vocabulary)
