"""Pickled weights become safetensors with the same numbers; a pickle that holds anything else is refused, not run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import hub
from tests.tiny_models import write_tiny_model
from vocable.errors import ArtifactError, OutputError
from vocable.tokenizers import SSLExtractor
from vocable.tokenizers.conversion import convert_checkpoint


def pickled(folder: Path, *, shards: int = 1) -> tuple[Path, dict[str, torch.Tensor]]:
    """A model as transformers once saved it, in one file or in several with an index."""
    tensors = load_file(write_tiny_model(folder) / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = ["pytorch_model.bin"] if shards == 1 else [f"pytorch_model-{i + 1}-of-{shards}.bin" for i in range(shards)]
    homes = {name: names[index % shards] for index, name in enumerate(tensors)}
    for file in names:
        torch.save({name: tensor for name, tensor in tensors.items() if homes[name] == file}, folder / file)
    if shards > 1:
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": homes}))
    return folder, tensors


@pytest.mark.parametrize("shards", [1, 3])
def test_the_numbers_stay_the_same(tmp_path: Path, shards: int) -> None:
    folder, tensors = pickled(tmp_path / "old", shards=shards)
    with pytest.raises(ArtifactError, match="pickled weights are not opened") as refused:
        SSLExtractor.from_pretrained(str(folder))
    assert f"vocable import {folder}" in refused.value.hint
    assert convert_checkpoint(str(folder), tmp_path / "new") == len(tensors)
    found = load_file(tmp_path / "new" / "model.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    with pytest.raises(OutputError):
        convert_checkpoint(str(folder), tmp_path / "new")


def test_a_hub_id_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, tensors = pickled(tmp_path / "old")
    hub.fetched(tmp_path / "hub", "someone/old", folder)
    hub.work_offline(monkeypatch, tmp_path / "hub")
    assert convert_checkpoint("someone/old", tmp_path / "new") == len(tensors)
    assert SSLExtractor.from_pretrained(str(tmp_path / "new"), layers=[1]).layers == ("L1",)


class Runs:
    """What pickle would call while reading."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("content", [{"w": Runs()}, Runs(), {"w": "text"}, [torch.ones(2)]])
def test_anything_but_tensors_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any
) -> None:
    folder, _ = pickled(tmp_path / "old")
    monkeypatch.chdir(tmp_path)
    torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(ArtifactError):
        convert_checkpoint(str(folder), tmp_path / "new")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("data", [b"", b"junk", pickle.dumps({"w": 1})[:-1]])
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes) -> None:
    folder, _ = pickled(tmp_path / "old")
    (folder / "pytorch_model.bin").write_bytes(data)
    with pytest.raises(ArtifactError):
        convert_checkpoint(str(folder), tmp_path / "new")


def test_an_index_does_not_lead_elsewhere(tmp_path: Path) -> None:
    folder, _ = pickled(tmp_path / "old")
    (folder / "pytorch_model.bin").rename(tmp_path / "outside.bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"w": "../outside.bin"}}))
    with pytest.raises(ArtifactError, match=r"holds no pytorch_model\.bin"):
        convert_checkpoint(str(folder), tmp_path / "new")
