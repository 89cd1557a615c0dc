"""Saved models: a folder with config.json and model.safetensors, a fingerprint, and no code.

The fingerprint is a SHA-256 over what decides the output (kind, configuration, every tensor's bytes) and over nothing
else, so the same tokenizer has the same fingerprint wherever it lies. Whatever is damaged is refused on loading.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocable import builtin
from vocable.errors import ArtifactError, InputError, OutputError
from vocable.files import new_directory, write_atomic

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Artifact:
    """What is saved.

    kind: what the configuration describes ("units").
    config: plain JSON values that, with the tensors, decide every output.
    tensors: the learned values; `extra` tensors travel with them but are identified by the config already
        (the weights of a bundled extractor, named there by their hash), so they are not part of the fingerprint.
    origin: where external weights are found. evidence: how the fit went. Neither changes an output.
    """

    kind: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    extra: dict[str, Tensor] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        digest = sha256(_canonical({"kind": self.kind, "config": self.config, "weights": hash_tensors(self.tensors)}))
        return digest.hexdigest()


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, dtype, shape and bytes of every tensor, in the order of their names."""
    digest = sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(_canonical([name, str(tensor.dtype), list(tensor.shape)]))
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def halved(artifact: Artifact) -> Artifact:
    """The same with float32 numbers as near as 16 bits hold them: another artifact, with a fingerprint of its own.

    InputError for numbers beyond 65504.
    """
    extra = _rounded(artifact.extra)
    # the configuration names them by their hash
    names = {hash_tensors(artifact.extra): hash_tensors(extra)} if extra else {}
    config = _renamed(artifact.config, names)
    return replace(artifact, config=config, tensors=_rounded(artifact.tensors), extra=extra)


def _rounded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    narrow = (torch.float32, torch.float16)
    found = {name: t.half().float() if t.dtype in narrow else t for name, t in tensors.items()}
    for name, tensor in found.items():
        if tensor.is_floating_point() and not bool((tensor.isfinite() | ~tensors[name].isfinite()).all()):
            raise InputError(f"expected numbers of at most 65504 in {name}, which is what 16 bits hold")
    return found


def _renamed(values: Any, names: Mapping[str, str]) -> Any:
    if isinstance(values, dict):
        return {key: _renamed(value, names) for key, value in values.items()}
    if isinstance(values, list):
        return [_renamed(value, names) for value in values]
    return names.get(values, values) if isinstance(values, str) else values


def write_state(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """The state of a training in one safetensors file, whole or not at all. OutputError if it cannot be written."""
    from safetensors.torch import save

    # copies, because safetensors refuses tensors that share memory
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomic(path, save(whole, metadata=dict(header)))


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of what `write_state` wrote. ArtifactError if it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as problem:
        raise ArtifactError(f"{path} is damaged: {problem}", hint="delete it to begin again") from problem


def save(artifact: Artifact, path: str | os.PathLike[str], *, half: bool = False, overwrite: bool = False) -> None:
    """Writes the folder, whole or not at all.

    half: as `halved`, in 16 bits; what is loaded holds float32 again, of the same values.
    OutputError if it is there and `overwrite` is not given, or if it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    artifact = halved(artifact) if half else artifact
    body = {
        "format": FORMAT,
        "kind": artifact.kind,
        "fingerprint": artifact.fingerprint,
        "config": artifact.config,
        "origin": artifact.origin,
        "evidence": artifact.evidence,
        "extra": hash_tensors(artifact.extra),
    } | ({"half": True} if half else {})
    body["checksum"] = sha256(_canonical(body)).hexdigest()
    tensors = {f"model.{name}": tensor for name, tensor in artifact.tensors.items()}
    tensors |= {f"extra.{name}": tensor for name, tensor in artifact.extra.items()}
    if half:
        tensors = {name: t.half() if t.dtype == torch.float32 else t for name, t in tensors.items()}
    text = json.dumps(body, indent=1, ensure_ascii=False) + "\n"
    with new_directory(Path(path), overwrite=overwrite) as folder:
        try:
            # copies, because safetensors refuses tensors that share memory
            save_file(
                {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, folder / WEIGHTS
            )
        except SafetensorError as problem:
            raise OutputError(f"cannot write {path}: {problem}", hint="is the disk full?") from problem
        # a path may hold what UTF-8 cannot: its escape is what JSON writes for it, too
        (folder / CONFIG).write_text(text, encoding="utf-8", errors="backslashreplace")


def load(place: str | os.PathLike[str], kind: str, *, revision: str | None = None) -> Artifact:
    """Reads a folder, a built-in model by its name, or a hub id such as "someone/units" at a revision.

    ArtifactError if anything is not as saved.
    """
    folder = locate(place, revision=revision)
    body = _read_config(folder)
    if body["kind"] != kind:
        raise ArtifactError(f"expected {kind} in {folder}, got {body['kind']}")
    tensors = read_tensors(folder / WEIGHTS)
    if body.get("half"):
        tensors = {name: t.float() if t.dtype == torch.float16 else t for name, t in tensors.items()}
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "extra": {}}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest] = tensor
    artifact = Artifact(kind, body["config"], groups["model"], groups["extra"], body["origin"], body["evidence"])
    sound = artifact.fingerprint == body["fingerprint"] and hash_tensors(artifact.extra) == body["extra"]
    if len(groups) > 2 or not sound:
        raise ArtifactError(f"{folder / WEIGHTS} is damaged: its tensors are not those that were saved", hint=_ANEW)
    return artifact


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. ArtifactError if it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ArtifactError(f"{path} is missing", hint=_ANEW)
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as problem:
        raise ArtifactError(f"{path} is damaged: {problem}", hint=_ANEW) from problem


def locate(place: str | os.PathLike[str], *, revision: str | None = None) -> Path:
    """The local folder of an artifact; a hub id is fetched first (config.json and model.safetensors alone)."""
    packaged = builtin.folder_of(place, revision=revision)
    if packaged is not None:
        return packaged
    folder = Path(place)
    if folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(str(place)):
        raise ArtifactError(f"{place} is not a folder", hint="make one with `vocable train kmeans`")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(place), revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as problem:
        message = f"{place} is neither a folder nor a model that the hub gives"
        raise ArtifactError(message, hint="check the name, or fetch it where there is a network") from problem


def read_kind(folder: Path) -> str:
    """The kind of the artifact in a folder, checked. ArtifactError if there is none."""
    return str(_read_config(folder)["kind"])


def read_fingerprint(folder: Path) -> str:
    """The fingerprint that an artifact claims, without a look at its weights. ArtifactError if there is none."""
    return str(_read_config(folder)["fingerprint"])


_ANEW = "fetch or make the artifact anew"


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        body = json.loads(path.read_bytes())
        claimed = body.pop("checksum")
        sound = sha256(_canonical(body)).hexdigest() == claimed
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing", hint="is this the folder of an artifact?") from None
    except OSError as problem:
        raise ArtifactError(f"{path} cannot be read: {problem.strerror}") from problem
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise ArtifactError(f"{path} is not the configuration of a vocable artifact", hint=_ANEW) from None
    if not sound:
        raise ArtifactError(f"{path} is damaged: its checksum does not fit", hint=_ANEW)
    if body["format"] != FORMAT:
        raise ArtifactError(
            f"{folder} is of format {body['format']}, this version reads format {FORMAT}", hint="update vocable"
        )
    return dict(body)


def _canonical(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
