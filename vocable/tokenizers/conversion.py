"""Checkpoints that hold only pytorch_model.bin, written anew as safetensors: read once, without running anything."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from vocable.errors import ArtifactError, OutputError
from vocable.files import new_directory, require_absent
from vocable.tokenizers.checkpoint import Checkpoint
from vocable.tokenizers.codebooks import is_dense, read_torch

_WHOLE, _INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_KEPT = ("config.json", "preprocessor_config.json")


def convert_checkpoint(model: str, out: Path, *, revision: str | None = None, overwrite: bool = False) -> int:
    """Writes config.json, preprocessor_config.json and model.safetensors; gives the number of tensors.

    model: a directory, or a hub id, of which the pickled weights are fetched. they are read
    with torch's `weights_only`, which builds tensors and nothing else.
    ArtifactError if a file is missing or damaged, or holds anything but tensors. OutputError if `out` is there.
    """
    require_absent(out, overwrite=overwrite)
    checkpoint = Checkpoint.open(model, revision=revision, pickles=True)
    tensors: dict[str, Tensor] = {}
    _ = checkpoint.config  # a directory without one is no model
    for name in _parts(checkpoint):
        tensors |= _read(checkpoint.folder / name)
    _write(out, checkpoint, tensors, overwrite=overwrite)
    return len(tensors)


def _parts(checkpoint: Checkpoint) -> list[str]:
    """The files with the weights: one, or as many as an index names."""
    if (checkpoint.folder / _WHOLE).is_file():
        return [_WHOLE]
    files = (checkpoint.read_json(_INDEX) or {}).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(f, str) and Path(f).name == f for f in files.values()):
        raise ArtifactError(
            f"{checkpoint.folder} holds no {_WHOLE}",
            hint="a model with safetensors needs no conversion: name it as it is",
        )
    return sorted(set(files.values()))


def _read(path: Path) -> dict[str, Tensor]:
    try:
        values = read_torch(path.read_bytes())
    except ArtifactError as problem:
        raise ArtifactError(f"{path}: {problem.message}", hint=problem.hint) from problem
    except OSError as problem:
        raise ArtifactError(f"{path} cannot be read: {problem.strerror}") from problem
    if not isinstance(values, dict) or not all(isinstance(tensor, Tensor) for tensor in values.values()):
        raise ArtifactError(f"{path} holds something else than tensors by name")
    # old checkpoints carry counters and positions as integers, which no network reads
    floating = {str(name): tensor for name, tensor in values.items() if tensor.is_floating_point()}
    if not all(is_dense(tensor) for tensor in floating.values()):
        raise ArtifactError(f"{path} holds a tensor that claims more numbers than are there")
    return {name: tensor.contiguous() for name, tensor in floating.items()}


def _write(out: Path, checkpoint: Checkpoint, tensors: dict[str, Tensor], *, overwrite: bool) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    kept = {name: values for name in _KEPT if (values := checkpoint.read_json(name)) is not None}
    with new_directory(out, overwrite=overwrite) as folder:
        for name, values in kept.items():
            (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        try:
            # copies, because safetensors refuses tensors that share memory
            save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "model.safetensors")
        except SafetensorError as problem:
            raise OutputError(f"cannot write {out}: {problem}", hint="is the disk full?") from problem
