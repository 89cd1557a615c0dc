"""Models in the package: what their names mean, what is refused, and that they are used without being asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, vocable
from tests.stand_ins import copy_package, pack_parts, run_there, write_parts
from vocable import artifacts, builtin, load
from vocable.builtin import CODEC, ENCODER, NAMES, SUMS, UNITS, VOCODER, folder_of
from vocable.errors import ArtifactError
from vocable.presets import SAMPLES, find, vocoder_of
from vocable.recipes import presets
from vocable.testing import check_codec, check_tokenizer
from vocable.tokenizers import SSLExtractor
from vocable.vocoders import UnitVocoder

__all__ = ["vocable"]  # the fixture

packaged = pytest.mark.skipif(not builtin.installed(), reason="the built-in models are not in the package")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built-in")
    return pack_parts(write_parts(folder / "parts"), folder / "models")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    return copy_package(tmp_path_factory.mktemp("package"), models)


def test_a_bare_name_is_the_model_and_anything_else_is_not(models: Path) -> None:
    assert {name: folder_of(name, models=models) for name in NAMES} == {name: models / name for name in NAMES}
    for other in ("./vocable-units", "vocable-units/", Path("vocable-units"), "vocable", "someone/vocable-units", ""):
        assert folder_of(other, models=models) is None


@pytest.mark.parametrize("name", NAMES)
def test_beside_a_folder_of_its_name_it_means_neither(
    name: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(ArtifactError, match=f"{name} is a built-in model, and there is a folder {name} here") as told:
        folder_of(name, models=models)
    assert told.value.hint.startswith(f"name the folder ./{name};")
    assert folder_of(f"./{name}", models=models) is None


def test_what_cannot_be_had_is_said(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no revision main"):
        folder_of(UNITS, revision="main", models=models)
    with pytest.raises(ArtifactError, match="not in this installation") as told:
        folder_of(UNITS, models=tmp_path)
    assert "docs/models.md" in told.value.hint
    assert not builtin.installed(tmp_path)
    assert builtin.installed(models)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "unlisted", "no sums"])
def test_what_is_damaged_is_refused(damage: str, models: Path, tmp_path: Path) -> None:
    for path in (models / SUMS, *(models / CODEC).iterdir()):
        target = tmp_path / path.relative_to(models)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    weights, sums = tmp_path / CODEC / "model.safetensors", tmp_path / SUMS
    assert folder_of(CODEC, models=tmp_path) == tmp_path / CODEC
    if damage == "flip":
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "remove":
        weights.unlink()
    elif damage == "unlisted":
        sums.write_text("".join(line for line in sums.read_text().splitlines(True) if CODEC not in line))
    else:
        sums.unlink()
    with pytest.raises(ArtifactError, match=r"damaged or missing|cannot be read") as told:
        folder_of(CODEC, models=tmp_path)
    assert told.value.hint == "install vocable anew"


def test_the_vocoder_is_that_of_the_units(models: Path, tmp_path: Path) -> None:
    vocoder = UnitVocoder.from_pretrained(models / VOCODER)
    assert vocoder.spec.source == artifacts.read_fingerprint(models / UNITS)
    assert vocoder_of(vocoder.spec, models=models) == VOCODER
    assert vocoder_of(load(str(models / CODEC)).spec, models=models) is None
    assert vocoder_of(vocoder.spec, models=tmp_path) is None


EVERYWHERE = """
import sys
import vocable
assert "torch" not in sys.modules
from vocable import UnitVocoder, builtin
from vocable.presets import SAMPLES
from vocable.tokenizers import SSLExtractor
assert str(SAMPLES).startswith(sys.argv[1]), SAMPLES

units, codec = vocable.load("vocable-units"), vocable.load("vocable-codec")
vocoder = UnitVocoder.from_pretrained("vocable-vocoder")
assert units.fingerprint == vocoder.spec.source
speech = vocable.read(SAMPLES.parent / "af_heart-01.flac")
tokens = units.encode(speech)
assert vocoder.decode(tokens).samples.isfinite().all()
assert codec.decode(codec.encode(speech)).samples.isfinite().all()
encoder = SSLExtractor.from_pretrained("vocable-encoder", layers=[1, 2])
assert encoder.config() == units.extractor.config()
assert encoder.origin == units.extractor.origin == {"model": "vocable-encoder", "revision": None}
units.save_pretrained("again")
assert vocable.load("again").fingerprint == units.fingerprint
try:
    vocable.load("vocable-vocoder")
except vocable.VocableError as problem:
    assert "--vocoder vocable-vocoder" in problem.hint
"""


def test_names_work_wherever_models_are_named(package: Path, tmp_path: Path) -> None:
    done = run_there(package, "-c", EVERYWHERE, package, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_commands_take_them_unasked(package: Path, tmp_path: Path) -> None:
    clip = package / "vocable" / "samples" / "af_heart-01.flac"
    done = run_there(package, "-m", "vocable", "tokenize", clip, "--out", "tokens", "--workers", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == "no --tokenizer: taking vocable-units, which is built in"
    done = run_there(package, "-m", "vocable", "resynthesize", "tokens", "--out", "wavs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no --vocoder: taking vocable-vocoder, which is built in" in done.stderr
    assert len(list((tmp_path / "wavs").rglob("*.wav"))) == 1


def test_unasked_they_are_not_taken_for_a_folder(vocable: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vocable-units").mkdir()
    code, _, err = vocable("tokenize", SAMPLES, "--out", "tokens")
    assert (code, (tmp_path / "tokens").exists()) == (1, False)
    assert "error: vocable-units is a built-in model, and there is a folder vocable-units here\n" in err


COMPARE = """
import sys
from pathlib import Path
from vocable.corpus import Corpus
from vocable.demo import compare
from vocable.presets import SAMPLES
from vocable.quantizers import KMeans
from vocable.tokenizers import LogMel, UnitTokenizer
import torch
corpus = Corpus(list(Corpus.of(SAMPLES))[:1])
mel = LogMel()
found = compare(corpus, UnitTokenizer(mel, [KMeans(torch.randn(5, mel.dim))]), Path("out"), say=print)
print([system.name for system in found.systems])
print([judged.name for judged in found.metrics])
"""


def test_the_comparison_has_them_side_by_side(package: Path, tmp_path: Path) -> None:
    done = run_there(package, "-c", COMPARE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *said, systems, judges = done.stdout.splitlines()
    ours = ["original", "log-mel", "vocable-units + vocable-vocoder", "vocable-codec @ 4", "vocable-codec @ 8"]
    assert systems in (str(ours), str([*ours, "opus @ 6000"]))
    assert bool(said) != ("opus" in systems)
    assert "stoi" in judges
    assert "vocable-codec @ 4" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_the_parser_says_what_streams(vocable: Run) -> None:
    code, _, err = vocable("tokenize", "-", "--stream")
    assert code == 2
    assert "expected a --tokenizer that streams" in err


@packaged
def test_the_table_of_presets_tells_what_is_in_the_package() -> None:
    told = {preset.name: preset for preset in presets() if preset.kind == "built-in"}
    assert list(told) == [UNITS, CODEC]
    for name, preset in told.items():
        spec = load(name).spec
        assert (spec.sample_rate, spec.hop_length) == (preset.sample_rate, preset.hop_length)
        assert tuple(book.size for book in spec.codebooks) == find(name).codebooks


@packaged
def test_what_is_in_the_package_fits_and_is_small() -> None:
    sizes = [path.stat().st_size for path in builtin.MODELS.rglob("*") if path.is_file()]
    assert max(sizes) <= 16_000_000 and sum(sizes) <= 48_000_000
    units = load(UNITS)
    vocoder = UnitVocoder.from_pretrained(VOCODER)
    vocoder.require(units.spec)
    assert SSLExtractor.from_pretrained(ENCODER, layers=list(units.extractor.layers)).dim == units.extractor.dim


@packaged
@pytest.mark.parametrize("name", [UNITS, CODEC])
def test_the_laws_hold_for_them(name: str) -> None:
    model = load(name)
    check_tokenizer(model)
    if name == CODEC:
        check_codec(model)
