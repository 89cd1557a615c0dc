"""Agreement counts equal codes of every frame that can be read, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import sing
from vocable.audio import read, write
from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.metrics.agreement import agreement
from vocable.quantizers import KMeans
from vocable.quantizers.residual import ResidualKMeans
from vocable.tokenizers import LogMel, UnitTokenizer
from vocable.types import Audio


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


def test_each_codebook_has_a_share_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", Audio.of([torch.as_tensor(sing(1.0))], 16000))
    first, second = (torch.linspace(low, high, 4)[:, None].repeat(1, 80) for low, high in ((-18, -2), (0, 3)))
    moved = second.clone()
    moved[2] = 1e4  # only the second codebook is another
    mine, other = (UnitTokenizer(LogMel(), [ResidualKMeans([first, book])]) for book in (second, moved))
    found = agreement(Corpus.of(tmp_path), mine, {"other": other})["other"]
    codes = [tokenizer.encode(read(tmp_path / "a.wav")).codes[0] for tokenizer in (mine, other)]
    shares = (codes[0] == codes[1]).float().mean(dim=1).tolist()
    assert list(found.share) == list(mine.spec.labels) and len(found.share) == 2
    assert list(found.share.values()) == pytest.approx(shares)
    assert shares[0] == 1 and 0 < shares[1] < 1


def test_other_codebooks_are_refused(speech_folder: Path) -> None:
    with pytest.raises(InputError, match="expected other to have the codebooks"):
        agreement(Corpus.of(speech_folder), units(), {"other": units(size=10)})
