from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import Run
from vocable.recipes import Preset, presets


def test_the_table_has_a_line_for_each(vocable: Run) -> None:
    code, out, err = vocable("presets")
    assert (code, err) == (0, "")
    header, *lines = out.splitlines()
    assert header.split() == ["NAME", "HZ", "CODEBOOKS", "BIT/S", "DOWNLOAD", "LICENCE"]
    assert [line.split()[0] for line in lines] == [preset.name for preset in presets()]
    assert max(len(line) for line in out.splitlines()) <= 100
    (mimi,) = (line for line in lines if line.startswith("mimi "))
    assert mimi.split() == ["mimi", "12.5", "32", "x", "2048", "4,400", "kyutai/mimi", "CC", "BY", "4.0"]
    # a column begins at one place
    start = header.index("DOWNLOAD")
    assert all(line[start - 1] == " " and line[start] != " " for line in lines)


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_one_is_shown_with_its_command(vocable: Run, preset: Preset) -> None:
    code, out, err = vocable("presets", preset.name)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].endswith(preset.command)
    assert max(len(line) for line in out.splitlines()) <= 100


def test_layers_are_shown_where_there_are_some(vocable: Run) -> None:
    assert "layers        3, 7, 12, 18, 23\n" in vocable("presets", "wavlm-large-k1000")[1]
    assert "layers" not in vocable("presets", "dmel")[1]


def test_a_built_in_model_says_that_it_is_here_and_what_it_learned_from(vocable: Run) -> None:
    out = vocable("presets", "vocable-units")[1]
    assert "download      none, in the package\n" in out
    assert "learned from  recordings under CC0" in out
    assert "learned from" not in vocable("presets", "mimi")[1]


def test_an_unknown_name_is_one_line_and_a_hint(vocable: Run) -> None:
    code, out, err = vocable("presets", "encodec")
    assert (code, out) == (1, "")
    assert (
        err
        == "error: expected the name of a preset, got 'encodec'\nhint: did you mean encodec-24khz or encodec-48khz?\n"
    )


def test_listing_loads_no_model_library() -> None:
    program = (
        "import sys\nfrom vocable.cli.presets import command\ncommand([], standalone_mode=False)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
