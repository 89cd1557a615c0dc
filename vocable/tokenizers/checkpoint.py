"""Models as others publish them: JSON and safetensors files in a directory or on the hub. No code of theirs is run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocable import builtin
from vocable.errors import ArtifactError

_CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_FILES = (_CONFIG, "preprocessor_config.json", _WEIGHTS, _INDEX, "model-*.safetensors")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_ABSENT = "name a directory with config.json, or a hub id; units saved with --bundle carry their model inside"
_PICKLES = ("pytorch_model*.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Checkpoint:
    """A directory of config.json and model.safetensors, whole or in shards with an index.

    model, revision: where it was found: a hub id and its commit; an absolute path, or the name of a built-in model, and
        None.
    """

    folder: Path
    model: str
    revision: str | None

    @classmethod
    def open(cls, model: str, *, revision: str | None = None, pickles: bool = False) -> Checkpoint:
        """The checkpoint of a local directory, of the name of a built-in model, or of a hub id.

        What is on the hub is fetched first, and pinned to its commit.

        pickles: fetch pickled weights instead of safetensors; nothing here opens them.

        ArtifactError if there is no such directory and the hub does not give it.
        """
        packaged = builtin.folder_of(model, revision=revision)
        if packaged is not None:
            return cls(packaged, model, None)
        folder = Path(model).expanduser()
        if folder.is_dir():
            return cls(folder, str(folder.resolve()), None)
        if not _HUB_ID.fullmatch(model):
            raise ArtifactError(f"{model} is not a directory", hint=_ABSENT)
        folder = _fetch(model, revision, (_CONFIG, _FILES[1], *_PICKLES) if pickles else _FILES)
        return cls(folder, model, folder.name)

    @property
    def config(self) -> dict[str, Any]:
        """The values of config.json."""
        found = self.read_json(_CONFIG)
        if found is None:
            raise ArtifactError(f"{self.folder / _CONFIG} is missing", hint="is this the directory of a model?")
        return found

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The object in a JSON file, None if the file is not there. ArtifactError if it holds anything else."""
        path = self.folder / name
        try:
            values = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as problem:
            raise ArtifactError(f"{path} is not JSON", hint="fetch the file again") from problem
        if not isinstance(values, dict):
            raise ArtifactError(f"{path} is not a JSON object", hint="fetch the file again")
        return values

    @cached_property
    def files(self) -> dict[str, str]:
        """The file of each tensor, by the tensor's name."""
        index = self.read_json(_INDEX)
        if index is None:
            with _reader(self._weights_path()) as tensors:
                return dict.fromkeys(tensors.keys(), _WEIGHTS)
        files = index.get("weight_map")
        if not isinstance(files, dict) or not all(isinstance(f, str) and Path(f).name == f for f in files.values()):
            raise ArtifactError(f"{self.folder / _INDEX} does not map tensors to files", hint="fetch the file again")
        return files

    def read(self, names: Mapping[str, str]) -> dict[str, Tensor]:
        """The tensors of these names as float32, renamed to the mapping's keys; of the others nothing is read.

        ArtifactError if a tensor or its file is missing, damaged, or not made of floating-point numbers.
        """
        missing = [name for name in names.values() if name not in self.files]
        if missing:
            raise ArtifactError(f"{self.folder} lacks the tensor {missing[0]}" + _and_more(missing))
        found = {}
        for file in sorted({self.files[name] for name in names.values()}):
            with _reader(self.folder / file) as tensors:
                for key, name in names.items():
                    if self.files[name] == file:
                        found[key] = _float32(tensors.get_tensor(name), f"{name} in {self.folder / file}")
        return found

    def _weights_path(self) -> Path:
        path = self.folder / _WEIGHTS
        if not path.exists():
            raise ArtifactError(
                f"{self.model} has no {_WEIGHTS}, and pickled weights are not opened",
                hint=f"if it has a pytorch_model.bin, `vocable import {self.model} --out NEW` converts it safely",
            )
        return path


def _fetch(model: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    at = f" at revision {revision}" if revision else ""
    try:
        with _no_progress_bars():
            return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns)))
    except (OSError, ValueError) as problem:
        raise ArtifactError(
            f"{model}{at} is neither a directory here nor a model that the hub gives ({type(problem).__name__})",
            hint="check the name, or fetch it where there is a network and name the local directory",
        ) from problem


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()


@contextmanager
def _reader(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as tensors:
            yield tensors
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing", hint="fetch it again, or name another directory") from None
    except SafetensorError as problem:
        raise ArtifactError(f"{path} is damaged: {problem}", hint="fetch the file again") from problem


def _float32(tensor: Tensor, name: str) -> Tensor:
    if not tensor.is_floating_point():
        raise ArtifactError(f"{name} holds {tensor.dtype}, expected floating-point numbers")
    # a copy: what is mapped from the file would change, or crash the process, with the file
    return tensor.to(torch.float32, copy=True)


def _and_more(missing: list[str]) -> str:
    return f" and {len(missing) - 1} more" if len(missing) > 1 else ""
