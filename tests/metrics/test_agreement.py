"""Agreement counts equal codes of every frame that can be read, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vocable.audio import read
from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.metrics.agreement import agreement
from vocable.quantizers import KMeans
from vocable.tokenizers import LogMel, UnitTokenizer


def units(*, moved: int | None = None, size: int = 9) -> UnitTokenizer:
    """Entries from quiet to loud; one of them may be where no frame is."""
    table = torch.linspace(-18, -2, size)[:, None].repeat(1, 80)
    if moved is not None:
        table[moved] = 1e4
    return UnitTokenizer(LogMel(), [KMeans(table)])


def test_shares_are_those_of_the_whole_recordings(speech_folder: Path) -> None:
    mine, other = units(), units(moved=4)
    (speech_folder / "broken.wav").write_bytes(b"RIFF")
    found = agreement(Corpus.of(speech_folder), mine, {"same": units(), "other": other}, workers=1)
    paths = [path for path in sorted(speech_folder.rglob("clip*")) if path.is_file()]
    codes = [(mine.encode(read(path)).codes, other.encode(read(path)).codes) for path in paths]
    frames = sum(one.shape[-1] for one, _ in codes)
    equal = sum(int((one == two).sum()) for one, two in codes)
    assert 0 < equal < frames
    assert found["same"].share == {"logmel": 1.0}
    assert found["other"].frames == frames
    assert found["other"].share == {"logmel": equal / frames}


def test_other_codebooks_are_refused(speech_folder: Path) -> None:
    with pytest.raises(InputError, match="expected other to have the codebooks"):
        agreement(Corpus.of(speech_folder), units(), {"other": units(size=10)})
