"""What a metric is: how it is computed, in which unit, which way is better, and what decides its values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vocable.errors import MissingDependencyError
from vocable.metrics.reconstruction import Scores
from vocable.types import Audio

_DECIDING = (".json", ".txt", ".model", ".safetensors", ".pt")


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: `function` of original and resynthesis, both mono and at one rate.

    unit: empty where there is none. needs: the pip extra that it takes, if any. version: grows whenever values change.
    library: the package that computes it, whose release is part of what the values are.
    level_free: whether a change of level leaves the score as it is, up to what a judge of pitch or quality makes of it.
    against_text: of a metric that compares with what was said, the function of one text per item and the resynthesis;
        its `function` knows no text, and fails.
    weights: the file or folder of a network, whose content is part of what the values are.
    install: the command that installs the library, where no extra does.
    """

    name: str
    function: Callable[[Audio, Audio], Scores]
    unit: str
    higher_is_better: bool
    what: str
    needs: str | None = None
    version: int = 1
    library: str | None = None
    level_free: bool = False
    against_text: Callable[[Sequence[str], Audio], Scores] | None = None
    weights: Path | None = None
    install: str = ""

    @property
    def identity(self) -> str:
        """Name, version, the library's release and, in place of a path, a checksum: equal identities, equal scores."""
        name = f"{self.name.partition(':')[0]}:{content(self.weights)[:16]}" if self.weights else self.name
        return f"{name}/{self.version}" + (f"/{self.library}-{release(self.library)}" if self.library else "")

    @property
    def installed(self) -> bool:
        """Whether the package that computes it is there."""
        return self.library is None or release(self.library) != "missing"

    def require(self) -> None:
        """MissingDependencyError if the package that computes it is not installed."""
        if not self.installed:
            raise MissingDependencyError(
                f"{self.name} is computed by the package {self.library}, which is not installed",
                hint=self.install or (f"pip install 'vocable[{self.needs}]'" if self.needs else ""),
            )


def release(library: str) -> str:
    """The installed version of a package, "missing" if there is none."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "missing"


def content(path: Path) -> str:
    """SHA-256 over a file, or over names and contents of the files of a folder that decide what a network answers."""
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.suffix in _DECIDING)
    return _content(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=16)
def _content(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = sha256()
    for file, size, _ in files:
        digest.update(f"{file.name}\n{size}\n".encode(errors="surrogateescape"))
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
