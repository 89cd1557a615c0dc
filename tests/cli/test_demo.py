"""The demo from beginning to end, and its page in a browser."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from tests.browser import assert_page_sound, open_page
from tests.cli.conftest import Run
from vocable import builtin
from vocable.presets import SAMPLES


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("work") / "demo"
    command = [sys.executable, "-m", "vocable", "demo", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (out / "index.html").as_uri()
    return out / "index.html"


def test_the_demo_leaves_everything_behind(page: Path) -> None:
    clips = list(SAMPLES.parent.glob("*.flac"))
    assert len(clips) >= 12
    for clip in clips:
        made, source = soundfile.info(page.parent / "wavs" / f"{clip.stem}.wav"), soundfile.info(clip)
        assert (made.frames, made.samplerate) == (source.frames, source.samplerate)
    assert page.stat().st_size < 8_000_000


def test_its_page_in_a_browser(page: Path) -> None:
    with open_page(page) as driver:
        assert_page_sound(driver)
        assert len(driver.find_elements("css selector", "audio")) >= 24


@pytest.mark.skipif(not builtin.installed(), reason="the built-in models are not in the package")
def test_it_leads_to_the_comparison_with_the_built_in_models(page: Path) -> None:
    comparison = page.parent / "comparison"
    assert '["Beside the built-in models","comparison/index.html"]' in page.read_text(encoding="utf-8")
    assert (comparison / "index.html").is_file()
    names = [system["name"] for system in json.loads((comparison / "evaluation.json").read_bytes())["systems"]]
    assert names[:3] == ["original", "log-mel", "vocable-units + vocable-vocoder"]
    assert sum(name.startswith("vocable-codec @ ") for name in names) == 2


def test_it_does_not_overwrite_unasked(page: Path, vocable: Run) -> None:
    code, _, err = vocable("demo", "--out", page.parent)
    assert code == 1
    assert "is there already" in err
