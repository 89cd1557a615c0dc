"""Saved models: round trips, fingerprints, and every kind of damage refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vocable import artifacts
from vocable.artifacts import (
    Artifact,
    halved,
    hash_tensors,
    load,
    locate,
    read_fingerprint,
    read_kind,
    read_tensors,
    save,
)
from vocable.errors import ArtifactError, InputError, OutputError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
configs = st.dictionaries(st.text(max_size=6), json_values, max_size=4)


def artifact() -> Artifact:
    tensors = {
        "L6.centroids": torch.arange(12.0).reshape(3, 4),
        "scalar": torch.tensor(3.0),
        "none": torch.zeros(0, 4),
        "bytes": torch.arange(3, dtype=torch.uint8),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "flag": torch.tensor([True]),
    }
    config = {"layers": ["L6"], "low": 1.5e-7, "name": "é\n", "deep": {"a": [None, True]}}
    return Artifact("units", config, tensors, {"w": torch.ones(2)}, {"path": "/x"}, {"objective": [2.0, 1.5]})


def same(one: Artifact, other: Artifact) -> bool:
    return replace(one, tensors={}, extra={}) == replace(other, tensors={}, extra={}) and all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)
        for a, b in ((one.tensors, other.tensors), (one.extra, other.extra))
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(artifact(), tmp_path / "a")
    assert same(load(tmp_path / "a", "units"), artifact())
    assert load(tmp_path / "a", "units").fingerprint == artifact().fingerprint
    assert read_kind(tmp_path / "a") == "units"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["config.json", "model.safetensors"]


def in_16_bits() -> Artifact:
    """Numbers that 16 bits do not hold, and bundled ones, which the configuration names by their hash."""
    tensors = artifact().tensors | {"third": torch.tensor([1 / 3, 1e-9, -65504.0]), "16": torch.ones(2).half()}
    bundled = {"w": torch.tensor([0.1, 0.7])}
    return replace(artifact(), config={"model": {"weights": hash_tensors(bundled)}}, tensors=tensors, extra=bundled)


def test_half_is_another_artifact_with_the_values_that_are_stored(tmp_path: Path) -> None:
    save(in_16_bits(), tmp_path / "a", half=True)
    stored, loaded = read_tensors(tmp_path / "a" / "model.safetensors"), load(tmp_path / "a", "units")
    assert stored["model.third"].dtype == stored["extra.w"].dtype == torch.float16
    assert stored["model.bytes"].dtype == torch.uint8
    assert loaded.tensors["third"].dtype == torch.float32
    assert torch.equal(loaded.tensors["third"], stored["model.third"].float())
    assert same(loaded, halved(in_16_bits()))
    assert loaded.config["model"]["weights"] == hash_tensors(loaded.extra)
    assert loaded.fingerprint == read_fingerprint(tmp_path / "a") == halved(in_16_bits()).fingerprint
    assert loaded.fingerprint != in_16_bits().fingerprint
    # it is what it is in 32 bits, too
    save(loaded, tmp_path / "b")
    assert load(tmp_path / "b", "units").fingerprint == loaded.fingerprint


def test_numbers_too_large_for_half_are_refused(tmp_path: Path) -> None:
    large = replace(artifact(), tensors={"w": torch.tensor([1.0, 65536.0])})
    with pytest.raises(InputError, match="at most 65504 in w"):
        save(large, tmp_path / "a", half=True)
    assert not (tmp_path / "a").exists()


@given(configs, configs)
def test_any_json_survives(tmp_path_factory: pytest.TempPathFactory, config: dict, evidence: dict) -> None:
    given_in = replace(artifact(), config=config, evidence=evidence)
    folder = tmp_path_factory.mktemp("artifact") / "a"
    save(given_in, folder)
    assert same(load(folder, "units"), given_in)


def test_tensors_that_share_memory_and_views_are_saved(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": whole, "b": whole, "row": whole[1], "turned": whole.T}
    save(replace(artifact(), tensors=tensors, extra={"a": whole}), tmp_path / "a")
    assert hash_tensors(load(tmp_path / "a", "units").tensors) == hash_tensors(tensors)


def test_a_place_with_stray_bytes_in_its_name_is_kept(tmp_path: Path) -> None:
    save(replace(artifact(), origin={"path": "x\udcff Ж"}), tmp_path / "a")
    assert load(tmp_path / "a", "units").origin == {"path": "x\udcff Ж"}
    assert "Ж" in (tmp_path / "a" / "config.json").read_text(encoding="utf-8")


def test_what_decides_the_output_decides_the_fingerprint() -> None:
    base = artifact()
    bits = base.tensors["L6.centroids"].clone().view(torch.int32)
    bits[1, 2] ^= 1
    changed = [
        replace(base, kind="other"),
        replace(base, config=base.config | {"low": 1.5000001e-7}),
        replace(base, config=base.config | {"more": None}),
        replace(base, tensors=base.tensors | {"L6.centroids": bits.view(torch.float32)}),
        replace(base, tensors=base.tensors | {"L6.centroids": base.tensors["L6.centroids"].reshape(4, 3)}),
        replace(base, tensors=base.tensors | {"L6.centroids": base.tensors["L6.centroids"].double()}),
        replace(base, tensors={f"{name}_": tensor for name, tensor in base.tensors.items()}),
        replace(base, tensors=base.tensors | {"none": torch.zeros(4, 0)}),
    ]
    prints = {other.fingerprint for other in [base, *changed]}
    assert len(prints) == 1 + len(changed)


def test_nothing_else_decides_the_fingerprint() -> None:
    base = artifact()
    turned = dict(reversed(base.tensors.items())) | {"L6.centroids": base.tensors["L6.centroids"].T.contiguous().T}
    for other in (
        replace(base, extra={}),
        replace(base, origin={"path": "elsewhere"}),
        replace(base, evidence={}),
        replace(base, tensors=turned),
        replace(base, config=dict(reversed(base.config.items()))),
    ):
        assert other.fingerprint == base.fingerprint


def test_the_fingerprint_never_changes_by_itself() -> None:
    tiny = Artifact("units", {"a": 1}, {"w": torch.tensor([1.0, 2.0])})
    assert tiny.fingerprint == "107a71c6ae519d4ce88293744c21c49d7dfea7f2194d9b9ba3e2c20fcdb15cc8"


def test_nothing_is_overwritten_without_being_told(tmp_path: Path) -> None:
    save(artifact(), tmp_path / "a")
    other = replace(artifact(), config={})
    with pytest.raises(OutputError, match="there already"):
        save(other, tmp_path / "a")
    assert same(load(tmp_path / "a", "units"), artifact())
    save(other, tmp_path / "a", overwrite=True)
    assert same(load(tmp_path / "a", "units"), other)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path, overwrite: bool) -> None:
    if overwrite:
        save(artifact(), tmp_path / "a")
    with pytest.raises(TypeError):
        save(replace(artifact(), evidence={"x": object()}), tmp_path / "a", overwrite=overwrite)
    with pytest.raises(RuntimeError):
        save(replace(artifact(), tensors={"w": torch.zeros(3).to_sparse()}), tmp_path / "a", overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == (["a"] if overwrite else [])
    if overwrite:
        assert same(load(tmp_path / "a", "units"), artifact())


def small() -> Artifact:
    return Artifact(
        "units", {"n": 1.5e-7}, {"w": torch.tensor([[1.0, 2.0]]), "v": torch.tensor([3], dtype=torch.uint8)}
    )


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_every_flipped_byte_is_refused_or_harmless(tmp_path: Path, name: str) -> None:
    save(small(), tmp_path / "a")
    path = tmp_path / "a" / name
    sound, accepted = path.read_bytes(), []
    for position in range(len(sound)):
        # one low bit (another letter, another digit), the bit of case, one high bit (no letter at all)
        for flip in (0x01, 0x20, 0x80):
            path.write_bytes(sound[:position] + bytes([sound[position] ^ flip]) + sound[position + 1 :])
            try:
                assert same(load(tmp_path / "a", "units"), small()), position
                accepted.append(chr(sound[position]))
            except ArtifactError as problem:
                assert problem.hint
    assert accepted in ([], ["e"]), "1.5e-07 and 1.5E-07 are the same number; nothing else passes"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_truncated_or_prolonged_file_is_refused(tmp_path: Path, name: str) -> None:
    save(small(), tmp_path / "a")
    path = tmp_path / "a" / name
    sound = path.read_bytes()
    for length in [*range(0, len(sound) - 1, 7), len(sound) - 2]:
        path.write_bytes(sound[:length])
        with pytest.raises(ArtifactError):
            load(tmp_path / "a", "units")
    path.write_bytes(sound + b"x")
    with pytest.raises(ArtifactError):
        load(tmp_path / "a", "units")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("become", ["missing", "a folder", "a broken link", "a loop"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str, become: str) -> None:
    save(small(), tmp_path / "a")
    path = tmp_path / "a" / name
    path.unlink()
    if become == "a folder":
        path.mkdir()
    elif become != "missing":
        path.symlink_to("nowhere" if become == "a broken link" else path)
    with pytest.raises(ArtifactError, match=name):
        load(tmp_path / "a", "units")


@pytest.mark.parametrize(
    "text", ["", "null", "[]", '"x"', "{}", '{"checksum": 1}', '{"checksum": "x", "kind": 3}', "[" * 100000, "\ufeff{}"]
)
def test_a_config_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"config\.json"):
        load(tmp_path, "units")


def test_weights_of_another_artifact_are_refused(tmp_path: Path) -> None:
    save(small(), tmp_path / "a")
    save(replace(small(), tensors={"w": torch.tensor([[1.0, 2.5]]), "v": small().tensors["v"]}), tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").replace(tmp_path / "a" / "model.safetensors")
    with pytest.raises(ArtifactError, match="not those that were saved"):
        load(tmp_path / "a", "units")


def test_extra_weights_are_checked_too(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 2.0)):
        save(replace(small(), extra={"w": torch.tensor(value)}), tmp_path / name)
    (tmp_path / "b" / "model.safetensors").replace(tmp_path / "a" / "model.safetensors")
    with pytest.raises(ArtifactError, match="not those that were saved"):
        load(tmp_path / "a", "units")


def test_another_kind_and_another_format_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(small(), tmp_path / "a")
    with pytest.raises(ArtifactError, match=r"expected vocoder .* got units"):
        load(tmp_path / "a", "vocoder")
    monkeypatch.setattr(artifacts, "FORMAT", 2)
    with pytest.raises(ArtifactError, match="format 1"):
        load(tmp_path / "a", "units")


def test_what_is_neither_a_folder_nor_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "nowhere", tmp_path / "file", "nowhere", "a/b/c", "../x", "no\0name", "x y/z"):
        with pytest.raises(ArtifactError, match="is not a folder"):
            locate(place)
    for place in ("some-one/no.such_model", "some--one/x", "x/.."):
        with pytest.raises(ArtifactError, match="neither a folder nor a model"):
            locate(place)


def test_tensors_of_a_foreign_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="missing"):
        read_tensors(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(json.dumps({"w": 1}).encode())
    with pytest.raises(ArtifactError, match="damaged"):
        read_tensors(tmp_path / "model.safetensors")
