"""What the README shows is what happens."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import hub
from tests.cli.conftest import Run, vocable
from tests.tiny_codecs import write_tiny_codec
from tests.tiny_models import rewrite_json, rewrite_tensors, write_tiny_model
from vocable import audio
from vocable.presets import SAMPLES
from vocable.store import TokenStore

__all__ = ["vocable"]  # the fixture

ROOT = Path(__file__).parents[1]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


def deep_model(folder: Path) -> Path:
    """A model of nine blocks: the tiny one's second again and again."""

    def deepen(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        second = {name: tensor for name, tensor in tensors.items() if ".layers.2." in name}
        return tensors | {name.replace(".2.", f".{n}."): t.clone() for n in range(3, 9) for name, t in second.items()}

    write_tiny_model(folder)
    rewrite_json(folder / "config.json", num_hidden_layers=9)
    rewrite_tensors(folder, deepen)
    return folder


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of speech in the current directory; of the models named only tiny likenesses are on the hub."""
    (tmp_path / "speech").mkdir()
    for clip in sorted(SAMPLES.parent.glob("af_*.flac")):
        shutil.copy(clip, tmp_path / "speech")
    lines = [json.loads(line) for line in SAMPLES.read_text(encoding="utf-8").splitlines()]
    told = [json.dumps(line | {"path": str(SAMPLES.parent / line["path"])}) for line in lines]
    (tmp_path / "speech.jsonl").write_text("\n".join(told), encoding="utf-8")
    audio.write(tmp_path / "speech" / "a.wav", audio.read(SAMPLES.parent / "af_heart-02.flac"))
    hub.fetched(tmp_path / "hub", "facebook/hubert-base-ls960", deep_model(tmp_path / "hubert"))
    hub.fetched(tmp_path / "hub", "facebook/encodec_24khz", write_tiny_codec(tmp_path / "encodec", "encodec-24k"))
    hub.fetched(tmp_path / "hub", "kyutai/mimi", write_tiny_codec(tmp_path / "mimi", "mimi"))
    hub.work_offline(monkeypatch, tmp_path / "hub")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command(newcomer: Path, vocable: Run) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("vocable ")]
    assert len(commands) == 30
    for command in commands:
        shortened = re.sub(
            r"--minutes \d+", "--steps 2 --batch 2", command
        )  # as shown it would take as long as it says
        code, _, err = vocable(*shlex.split(shortened, comments=True)[1:])
        assert code == 0, err
    for folder in ("wavs", "encodec-wavs", "vocoder-wavs", "fast-wavs"):
        assert len(list((newcomer / folder).rglob("*.wav"))) == 6
    assert "<svg" in (newcomer / "report.html").read_text(encoding="utf-8")
    assert TokenStore.open(newcomer / "encodec-tokens").spec.num_codebooks == 4
    assert TokenStore.open(newcomer / "dmel-tokens").spec.num_codebooks == 80


def test_the_python_blocks(newcomer: Path) -> None:
    train, stream = blocks("python")
    scope: dict[str, Any] = {}
    exec(train, scope)
    assert (newcomer / "units" / "model.safetensors").is_file()
    assert scope["tokens"].codes.shape[:2] == (1, 1)
    exec(stream, scope)
    assert scope["codes"].shape[0] == scope["codec"].spec.num_codebooks


def test_every_link_leads_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_test_command_is_what_ci_runs() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert any("make test" in block for block in blocks("sh"))
