"""Pickles of arrays and k-means models, read by a machine that builds data and nothing else.

`pickletools.genops` says what a pickle would do; here only what makes data is done, on arrays and inert records. No
class is imported and nothing is called by name, so neither scikit-learn nor joblib is needed, and a hostile file is no
more than a refused one.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Literal

import numpy as np

from vocable.errors import ArtifactError

_MOST_STEPS = 100_000  # a k-means model takes a few hundred
_MOST_AXES = 32
_RESAVE = "if you trust the file, save its cluster_centers_ with numpy.save where it can be loaded"
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]")
_ESTIMATOR = re.compile(r"sklearn\.cluster\.(_kmeans|k_means_)\.(MiniBatch)?KMeans")
_WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
_OLD_WRAPPER = re.compile(r"joblib\.numpy_pickle(_compat)?\.Z?NDArrayWrapper")
# what a model may mention, and what is never more than a name here: settings, and the state of random generators
_INERT = re.compile(
    rf"{_ESTIMATOR.pattern}|{re.escape(_WRAPPER)}|numpy\.random\.[\w.]+|numpy\.ndarray|builtins\.object"
)
_RENAMED = {"numpy._core.": "numpy.core.", "copy_reg.": "copyreg.", "__builtin__.": "builtins."}


@dataclass
class Record:
    """An object of a class that is not imported: its name, and the fields that it would have."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def is_kmeans(self) -> bool:
        return _ESTIMATOR.fullmatch(self.name) is not None


def read_pickle(data: bytes) -> Any:
    """What a pickle, or a joblib dump with arrays in its stream, holds: plain values, arrays, and Records.

    ArtifactError if it mentions anything but arrays and k-means models, or is damaged.
    """
    try:
        return _plain(_Machine(data).run())
    except ArtifactError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError) as problem:
        raise ArtifactError(f"expected a pickle of arrays, got a damaged one ({str(problem)[:100]})") from problem


def _plain(value: Any) -> Any:
    """Arrays in place of what stood for them: at the top, and in the fields of a model or a dictionary, no deeper."""
    if isinstance(value, dict):
        return {key: _array(inner) for key, inner in value.items()}
    if isinstance(value, _Object) and value.array is None:
        return Record(value.name, {key: _array(inner) for key, inner in value.fields.items()})
    return _array(value)


def _array(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.value
    return value.array if isinstance(value, _Object) and value.array is not None else value


def array_of(data: bytes | bytearray, dtype: np.dtype[Any], shape: tuple[int, ...], *, fortran: bool) -> np.ndarray:
    """The array in the bytes, without a copy. ValueError unless they are exactly its bytes."""
    if array_bytes(dtype, shape) != len(data):
        raise ValueError(f"{len(data)} bytes for an array {list(shape)} of {dtype}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def array_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """How many bytes an array takes. ValueError if the shape is none."""
    if len(shape) > _MOST_AXES or not all(isinstance(size, int) and 0 <= size < 2**48 for size in shape):
        raise ValueError("an array of an impossible shape")
    return math.prod(shape) * dtype.itemsize


@dataclass(frozen=True)
class _Name:
    """A class or function that the pickle mentions."""

    name: str


@dataclass
class _DType:
    code: Any
    align: Any = False
    copy: Any = True
    order: Literal["<", ">", "="] = "="

    def set_state(self, state: Any, stream: BytesIO) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="

    def dtype(self) -> np.dtype[Any]:
        if not isinstance(self.code, str) or not _DTYPE.fullmatch(code := self.code.lstrip("<>=|")):
            raise ArtifactError("expected an array of numbers, got one of something else")
        return np.dtype(code).newbyteorder(self.order)


@dataclass
class _Array:
    """An array whose values follow later, in its state."""

    value: np.ndarray | None = None

    def set_state(self, state: Any, stream: BytesIO) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(data, str | bytes | bytearray):
            raise ArtifactError("expected an array of numbers, got one of objects")
        self.value = array_of(_octets(data), dtype.dtype(), shape, fortran=bool(fortran))


@dataclass
class _Object(Record):
    array: np.ndarray | None = None

    def set_state(self, state: Any, stream: BytesIO) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            self.fields.update(part if isinstance(part, dict) else {})
        if self.name == _WRAPPER:
            self.array = self._read(stream)

    def _read(self, stream: BytesIO) -> np.ndarray:
        """The array that joblib writes behind its wrapper: since 1.2 after a byte that counts the padding."""
        dtype, shape = self.fields["dtype"].dtype(), self.fields["shape"]
        if self.fields.get("numpy_array_alignment_bytes") is not None:
            stream.read(stream.read(1)[0])
        data = stream.read(array_bytes(dtype, shape))
        return array_of(data, dtype, shape, fortran=self.fields["order"] == "F")


def _octets(value: Any) -> bytes | bytearray:
    """Python 2 wrote bytes as strings."""
    return value.encode("latin-1") if isinstance(value, str) else value


def _scalar(dtype: _DType, data: Any = b"") -> Any:
    return array_of(_octets(data), dtype.dtype(), (1,), fortran=False)[0].item()


def _from_buffer(data: Any, dtype: _DType, shape: tuple[int, ...], order: str) -> _Array:
    return _Array(array_of(_octets(data), dtype.dtype(), shape, fortran=order == "F"))


def _encode(text: str, codec: str) -> bytes:
    if codec not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unknown spelling")
    return text.encode("latin-1")


def _object(kind: _Name, *_: Any) -> _Object:
    if not _INERT.fullmatch(kind.name):
        raise ArtifactError(f"expected arrays and k-means settings, found {kind.name}")
    return _Object(kind.name)


def _dict(pairs: Any = ()) -> dict[Any, Any]:
    return _fill({}, [part for pair in pairs for part in pair])


def _fill(target: dict[Any, Any], flat: list[Any]) -> dict[Any, Any]:
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        if not isinstance(key, str):  # of nested tuples, or of chosen numbers, hashing can take for ever
            raise ValueError(f"a key of type {type(key).__name__}")
        target[key] = value
    return target


_BUILDERS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _DType,
    "numpy.core.multiarray._reconstruct": lambda kind, shape, code: _Array(),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _object,
    "collections.OrderedDict": _dict,
    "builtins.bytes": lambda: b"",
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_LITERAL = re.compile(r"(SHORT_)?(BIN)?(INT|STRING|BYTES|UNICODE|FLOAT)\d?|LONG[14]?|BYTEARRAY8")


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, data: bytes) -> None:
        self._stream = BytesIO(data)
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(self._stream)):
            if count > _MOST_STEPS:
                raise ValueError(f"more than {_MOST_STEPS} steps")
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise EOFError("it has no end")

    def _step(self, name: str, argument: Any) -> None:
        if _LITERAL.fullmatch(name):
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise ArtifactError(f"expected arrays and k-means settings, found the pickle instruction {name}")

    def mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def collect(self, _: Any) -> None:
        self._stack.append(self._since_mark())

    def collect_tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._since_mark()))

    def collect_dict(self, _: Any) -> None:
        self._stack.append(_fill({}, self._since_mark()))

    def short_tuple(self, count: int) -> None:
        self._stack.append(tuple(self._last(count)))

    def extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise TypeError("items for what is no list")
        target.extend(items)

    def set_items(self, flat: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise TypeError("items for what is no dictionary")
        _fill(target, flat)

    def remember(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def recall(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def mention(self, name: str) -> None:
        """Puts a name on the stack, if it is one that may be mentioned."""
        for old, new in _RENAMED.items():
            name = new + name.removeprefix(old) if name.startswith(old) else name
        if _OLD_WRAPPER.fullmatch(name):
            raise ArtifactError(
                "expected a dump of joblib 0.10 or later, got one that keeps its arrays in files of their own",
                hint=_RESAVE,
            )
        if name not in _BUILDERS and not _INERT.fullmatch(name):
            raise ArtifactError(f"expected arrays and k-means settings, found {name[:100]}", hint=_RESAVE)
        self._stack.append(_Name(name))

    def mention_pushed(self, _: Any) -> None:
        self.mention(".".join(self._last(2)))

    def construct(self, _: Any) -> None:
        named, arguments = self._last(2)
        build = _BUILDERS.get(named.name)
        self._stack.append(build(*arguments) if build else _object(named))

    def set_state(self, _: Any) -> None:
        state = self._stack.pop()
        self._stack[-1].set_state(state, self._stream)

    def _since_mark(self) -> list[Any]:
        return self._last(len(self._stack) - self._marks.pop())

    def _last(self, count: int) -> list[Any]:
        if count < 0 or count > len(self._stack):
            raise IndexError("its stack is empty")
        start = len(self._stack) - count
        items, self._stack[start:] = self._stack[start:], []
        return items


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": _Machine.mark,
    "LIST": _Machine.collect,
    "TUPLE": _Machine.collect_tuple,
    "DICT": _Machine.collect_dict,
    "TUPLE1": lambda machine, _: machine.short_tuple(1),
    "TUPLE2": lambda machine, _: machine.short_tuple(2),
    "TUPLE3": lambda machine, _: machine.short_tuple(3),
    "APPEND": lambda machine, _: machine.extend(machine._last(1)),
    "APPENDS": lambda machine, _: machine.extend(machine._since_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine._last(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine._since_mark()),
    "PUT": _Machine.remember,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.remember,
    "GET": _Machine.recall,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "GLOBAL": lambda machine, name: machine.mention(name.replace(" ", ".", 1)),
    "STACK_GLOBAL": _Machine.mention_pushed,
    "REDUCE": _Machine.construct,
    "NEWOBJ": _Machine.construct,
    "BUILD": _Machine.set_state,
}
