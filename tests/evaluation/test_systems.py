"""What is compared: names, codebooks that are decoded, folders of sounds, parts of a store."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vocable.errors import InputError, SpecError, StoreError
from vocable.evaluation import SoundSystem, TokenSystem
from vocable.evaluation.systems import Part, require_distinct
from vocable.files import inside
from vocable.presets import inverter
from vocable.quantizers import KMeans, ProductKMeans, ResidualKMeans
from vocable.store import Entry, TokenStore
from vocable.tokenizers import LogMel, UnitTokenizer
from vocable.types import Codebook, TokenSpec


def centroids(count: int, seed: int = 0, dim: int = 80) -> torch.Tensor:
    """Spectra from soft to loud; for other seeds than 0 what may be added to them."""
    around = torch.linspace(-16, -4, count)[:, None] if seed == 0 else 0.0
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)) + around


def system(name: str = "units", sizes: tuple[int, ...] = (8,), codebooks: int | None = None) -> TokenSystem:
    books = [centroids(size, seed) for seed, size in enumerate(sizes)]
    quantizer = ResidualKMeans(books) if len(books) > 1 else KMeans(books[0])
    units = UnitTokenizer(LogMel(), [quantizer])
    return TokenSystem(name, units, inverter(units), codebooks=codebooks)


def test_names_say_what_it_is() -> None:
    whole = system(sizes=(8, 4))
    assert whole.name == "units" and [one.name for one in whole.at([2, 1, 2])] == ["units @ 2", "units @ 1"]
    other = TokenSystem("units", whole.tokenizer, whole.vocoder, "voice", 1)
    assert other.name == "units + voice @ 1"


def test_only_counts_that_can_be_decoded() -> None:
    whole = system(sizes=(8, 4, 4))
    assert [one.spec.labels for one in whole.at([1, 3, 7])] == [
        ("logmel.0",),
        ("logmel.0", "logmel.1", "logmel.2"),
    ]
    assert whole.at([]) == [whole] and whole.at([7]) == [whole]
    single = system()
    assert single.at([1]) == [single]
    halves = UnitTokenizer(LogMel(), [ProductKMeans([centroids(4, seed, 40) for seed in (0, 1)])])
    grouped = TokenSystem("halves", halves, inverter(halves))
    assert [one.name for one in grouped.at([1, 2])] == ["halves @ 2"]
    with pytest.raises(InputError, match="1 to 3 codebooks of units, got 4"):
        system(sizes=(8, 4, 4), codebooks=4).require()


def test_a_level_goes_with_any_number_of_codebooks() -> None:
    books = (Codebook(16, "rvq0"), Codebook(16, "rvq1"), Codebook(256, "scale", stride=150))
    stereo = SimpleNamespace(spec=TokenSpec(48000, 320, books, "maker"))
    assert TokenSystem("codec", stereo, stereo, codebooks=1).spec.labels == ("rvq0", "scale")
    assert TokenSystem("codec", stereo, stereo).kept == [0, 1, 2]


def test_a_vocoder_of_other_tokens_is_refused() -> None:
    with pytest.raises(SpecError, match="expected tokens of tokenizer"):
        TokenSystem("units", system().tokenizer, system(sizes=(9,)).vocoder).require()


def test_names_are_distinct() -> None:
    require_distinct([system(), system("others"), SoundSystem("opus", Path())])
    with pytest.raises(InputError, match="distinct names, got 'units' for 2"):
        require_distinct([system(), SoundSystem("units", Path())])
    with pytest.raises(InputError, match="distinct names, got 'original'"):
        require_distinct([SoundSystem("original", Path())])
    with pytest.raises(InputError, match="one tokenizer called 'units', got two"):
        require_distinct([system(sizes=(8, 4), codebooks=1), system(sizes=(8, 5), codebooks=2)])
    with pytest.raises(InputError, match="at least one system"):
        require_distinct([])


def test_sounds_are_found_by_the_suffix_of_most(tmp_path: Path) -> None:
    ids = ["a", "deep/b", "../c", "d"]
    for name, suffix in [("a", ".wav"), ("a", ".opus"), ("deep/b", ".opus"), ("../c", ".opus"), ("x", ".txt")]:
        path = inside(tmp_path / "made", name, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert SoundSystem("opus", tmp_path / "made").find(ids) == (".opus", {"a", "deep/b", "../c"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


def test_folders_without_a_sound_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder of sounds for opus"):
        SoundSystem("opus", tmp_path / "nowhere").find(["a"])
    with pytest.raises(InputError, match="no sound of opus") as caught:
        SoundSystem("opus", tmp_path).find(["a"])
    assert str(tmp_path / "a.wav") in caught.value.hint
    (tmp_path / "b.flac").touch()
    with pytest.raises(InputError, match="no sound of opus"):
        SoundSystem("opus", tmp_path).find(["a"])


def test_a_part_of_a_store_is_what_the_smaller_store_would_be(tmp_path: Path) -> None:
    spec = system(sizes=(8, 4, 4)).tokenizer.spec
    store = TokenStore.create(tmp_path, spec)
    random = np.random.default_rng(0)
    entries = [
        Entry(name, np.stack([random.integers(book.size, size=50) for book in spec.codebooks]), 8000) for name in "abc"
    ]
    store.append(entries)
    part = Part(store, [0, 2], {"a", "c", "elsewhere"})
    assert part.ids() == ["a", "c"] and len(part) == 2
    assert part.spec == spec.take([0, 2])
    for entry, whole in zip(part, [entries[0], entries[2]], strict=True):
        assert entry.id == whole.id and np.array_equal(entry.codes, whole.codes[[0, 2]])
        assert entry.tokens(part.spec).spec == part.spec
    with pytest.raises(StoreError, match="expected a whole store"):
        part.append(entries)
