"""What the README shows is what happens."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run, vocable
from vocable import audio
from vocable.presets import SAMPLES

__all__ = ["vocable"]  # the fixture

ROOT = Path(__file__).parents[1]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of speech in the current directory."""
    (tmp_path / "speech").mkdir()
    for clip in sorted(SAMPLES.parent.glob("af_*.flac")):
        shutil.copy(clip, tmp_path / "speech")
    audio.write(tmp_path / "speech" / "a.wav", audio.read(SAMPLES.parent / "af_heart-02.flac"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_three_jobs(newcomer: Path, vocable: Run) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("vocable ")]
    assert len(commands) == 3
    for command in commands:
        code, _, err = vocable(*shlex.split(command)[1:])
        assert code == 0, err
    assert len(list((newcomer / "wavs").rglob("*.wav"))) == 6


def test_the_python_block(newcomer: Path) -> None:
    (code,) = blocks("python")
    scope: dict[str, object] = {}
    exec(code, scope)
    assert (newcomer / "units" / "model.safetensors").is_file()
    assert scope["tokens"].codes.shape[:2] == (1, 1)  # type: ignore[attr-defined]


def test_every_link_leads_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_test_command_is_what_ci_runs() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert any("make test" in block for block in blocks("sh"))
