"""Judges in folders as transformers saves them: nothing is fetched, none of a folder's code run, nothing unpickled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vocable.errors import ArtifactError
from vocable.tokenizers.checkpoint import Checkpoint

_HINT = "it takes config.json, model.safetensors, and the files of its tokenizer and feature extractor"
_TRAINING_ONLY = "masked_spec_embed"  # which published checkpoints lack


def architecture(folder: Path) -> str:
    """The class that was saved, as config.json names it. ArtifactError if that is missing or not JSON."""
    named = Checkpoint.open(str(folder)).config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else "no architecture"


def network_of(kind: Any, folder: Path) -> Any:
    """A network of transformers with all its weights, in float32, to be used. ArtifactError if any are missing."""
    settings = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    network, told = loaded(kind, folder, **settings)
    # what is missing has been made up at random
    if missing := sorted(name for name in told["missing_keys"] if not name.endswith(_TRAINING_ONLY)):
        raise ArtifactError(f"{folder} lacks {len(missing)} tensors, {missing[0]} among them", hint=_HINT)
    return network.eval()


def loaded(kind: Any, folder: Path, **settings: Any) -> Any:
    """What a class of transformers makes of a folder. ArtifactError if it cannot."""
    from safetensors import SafetensorError

    try:
        with _no_progress_bars():
            return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **settings)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as problem:
        why = next(iter(str(problem).splitlines()), type(problem).__name__)
        raise ArtifactError(f"{folder} cannot be loaded: {why}", hint=_HINT) from problem


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    bars: Any = logging
    were_enabled = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if were_enabled:
            bars.enable_progress_bar()
