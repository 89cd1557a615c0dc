"""A model hub on this disk: what has been fetched before is there without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def work_offline(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """From here on the hub is what lies in `cache`."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))


def fetched(cache: Path, name: str, folder: Path) -> None:
    """Puts a checkpoint where the hub's client keeps what it has fetched, at COMMIT."""
    place = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
