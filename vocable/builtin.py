"""Models that come with the package, by name: folders in it, checked before they are read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from vocable.errors import ArtifactError

MODELS = Path(__file__).parent / "models"
"""Where they lie."""

ENCODER, UNITS, VOCODER, CODEC = "vocable-encoder", "vocable-units", "vocable-vocoder", "vocable-codec"
NAMES = (ENCODER, UNITS, VOCODER, CODEC)
"""ENCODER gives the features of UNITS, and VOCODER makes sound of these."""

SUMS = "SHA256SUMS"
"""The file beside the models that `sha256sum --check` reads."""


def folder_of(place: str | os.PathLike[str], *, revision: str | None = None, models: Path = MODELS) -> Path | None:
    """The folder of the built-in model of this name, None for any other place.

    Only the bare name is one: "./vocable-units", "vocable-units/" and a `Path` are folders of the user's. Where the
    working directory has a folder of that name, the name could mean either, and means neither.
    models: where built-in models lie.
    ArtifactError for such a folder, for a revision, and if the model is not in this installation or is damaged.
    """
    if not isinstance(place, str) or place not in NAMES:
        return None
    folder = models / place
    if Path(place).is_dir():
        raise ArtifactError(
            f"{place} is a built-in model, and there is a folder {place} here",
            hint=f"name the folder ./{place}; for the built-in model, work in another directory",
        )
    if revision is not None:
        raise ArtifactError(f"{place} is built in and has no revision {revision}", hint="leave the revision out")
    if not folder.is_dir():
        raise ArtifactError(
            f"{place} is not in this installation of vocable", hint="docs/models.md says how it is trained"
        )
    _check(folder, _sums(models))
    return folder


def installed(models: Path = MODELS) -> bool:
    """Whether all of them are there."""
    return all((models / name).is_dir() for name in NAMES)


def sums_of(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a model, by their names below its parent."""
    files = (path for path in sorted(folder.iterdir()) if path.is_file())
    return {f"{folder.name}/{path.name}": sha256(path.read_bytes()).hexdigest() for path in files}


def _sums(models: Path) -> dict[str, str]:
    """The sums that were written when the models were packed. ArtifactError if there are none."""
    try:
        lines = (models / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise ArtifactError(f"{models / SUMS} cannot be read: {problem}", hint=_ANEW) from problem
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _check(folder: Path, told: Mapping[str, str]) -> None:
    expected = {name: digest for name, digest in told.items() if name.startswith(f"{folder.name}/")}
    found = {name: digest for name, digest in sums_of(folder).items() if name in expected}
    if not expected or found != expected:
        wrong = sorted(name for name in expected if found.get(name) != expected[name])
        raise ArtifactError(f"{folder.parent / (wrong or [folder.name])[0]} is damaged or missing", hint=_ANEW)


_ANEW = "install vocable anew"
