"""vocable train vq, rvq, fsq, gumbel and the like, from options to units."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from vocable.cli import train_quantizer
from vocable.tokenizers import UnitTokenizer

SHORT = ("--steps", "4", "--batch", "32", "--workers", "0", "--device", "cpu")


def command(name: str) -> click.Command:
    found: click.Command = getattr(train_quantizer, name)
    return found


@pytest.mark.parametrize(
    ("name", "options", "sizes"),
    [
        ("vq", ("--size", "8"), [8]),
        ("rvq", ("--size", "8", "--codebooks", "4", "--groups", "2", "--features", "logmel"), [8] * 4),
        ("rvq", ("--size", "8", "--codebooks", "3", "--masked", "2", "--no-dropout"), [8] * 3),
        ("simvq", ("--size", "8", "--latent", "6"), [8]),
        ("fsq", ("--levels", "5,4"), [20]),
        ("fsq", ("--levels", "4,2", "--codebooks", "2"), [8, 8]),
        ("lfq", ("--size", "8", "--codebooks", "2"), [8, 8]),
        ("gumbel", ("--size", "8"), [8, 8]),
    ],
)
def test_units_come_out(
    speech_folder: Path, tmp_path: Path, name: str, options: tuple[str, ...], sizes: list[int]
) -> None:
    out = tmp_path / "units"
    arguments = [str(speech_folder), "--out", str(out), *SHORT, *options]
    result = CliRunner().invoke(command(name), arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    units = UnitTokenizer.from_pretrained(out)
    assert [book.size for book in units.spec.codebooks] == sizes
    assert f"units {units.fingerprint[:12]}" in result.output
    assert "step 0 of 4, error" in result.output
    assert "usage" in result.output


def test_the_same_command_goes_on(speech_folder: Path, tmp_path: Path) -> None:
    arguments = [str(speech_folder), *SHORT, "--levels", "3,3", "--checkpoints", str(tmp_path / "states"), "--out"]
    first = CliRunner().invoke(command("fsq"), [*arguments, str(tmp_path / "a")], catch_exceptions=False)
    second = CliRunner().invoke(command("fsq"), [*arguments, str(tmp_path / "b")], catch_exceptions=False)
    assert "step 0" in first.output
    assert "step 0" not in second.output
    assert first.output.splitlines()[-1].split()[1] == second.output.splitlines()[-1].split()[1]


@pytest.mark.parametrize("name", ["vq", "rvq", "simvq", "fsq", "lfq", "gumbel"])
def test_help_has_an_example(name: str) -> None:
    result = CliRunner().invoke(command(name), ["--help"])
    assert f"vocable train {name} speech/" in result.output
    assert "--checkpoints" in result.output


def test_wrong_usage_is_told(speech_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = [str(speech_folder), "--out", str(tmp_path / "units"), *SHORT]
    for name, options, message in (
        ("fsq", ["--levels", "8,x"], "such as 8,5,5,5"),
        ("rvq", ["--groups", "2", "--masked", "2"], "exclude each other"),
        ("vq", ["--steps", "0"], "--steps"),
    ):
        result = CliRunner().invoke(command(name), [*common, *options])
        assert result.exit_code == 2
        assert message in result.output
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = CliRunner().invoke(command("vq"), common)
    assert result.exit_code == 2
    assert "without torchrun" in result.output
    assert not (tmp_path / "units").exists()
