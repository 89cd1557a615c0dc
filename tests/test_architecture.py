"""docs/architecture.md names every file of the package, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def named_files() -> set[str]:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"```text\nvocable/\n(.*?)```", text, flags=re.DOTALL)
    named, folder = set(), ""
    for line in tree.splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()  # type: ignore[union-attr]
        if name.endswith("/"):
            folder = name
            continue
        named.add(name if len(indent) == 2 else folder + name)
    return named


def test_the_tree_is_the_package() -> None:
    package = ROOT / "vocable"
    files = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.suffix != ".flac"
        and path.parents[1].name != "models"
    }
    assert named_files() == files


def test_files_stay_of_a_readable_size() -> None:
    long = {
        path.name: n for path in (ROOT / "vocable").rglob("*.py") if (n := len(path.read_text().splitlines())) > 350
    }
    assert not long
