"""Probes find what tokens know, say when they cannot, and give the same answer twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.probes.toys import SPEC, classes, entry, store, texts
from vocable.errors import InputError, SpecError
from vocable.metrics.transcripts import normalized
from vocable.probes import (
    Classification,
    Epoch,
    Material,
    Recipe,
    Transcription,
    Verification,
    probe,
    split_by_field,
    split_by_hash,
    split_by_store,
)
from vocable.probes.material import code_layers
from vocable.probes.splits import hold_out
from vocable.store import TokenStore
from vocable.types import Codebook, TokenSpec

QUICK = Recipe(seeds=2, dim=16, epochs=15, learning_rate=1e-2)


@pytest.fixture
def material(tmp_path: Path) -> Material:
    return Material.of_stores(store(tmp_path / "toy", classes()))


@pytest.mark.parametrize("head", ["linear", "bilstm", "xvector"])
def test_classes_are_told_and_the_layer_that_knows_them_is_found(material: Material, head: str) -> None:
    split = split_by_field(material.items, "split")
    report = probe([material], Classification("kind"), split, replace(QUICK, head=head))
    chance, row = report.rows
    assert chance.name == "always k0" and chance.figures["accuracy"].value == pytest.approx(1 / 3)
    assert row.figures["accuracy"].value > 0.9 and len(row.figures["accuracy"].seeds) == 2
    assert row.layers["L1"] > row.layers["L2"] and sum(row.layers.values()) == pytest.approx(1)
    assert (report.train, report.test, report.left_out) == (48, 12, 0)


def test_the_same_twice_whatever_the_threads(material: Material) -> None:
    split, threads = split_by_hash(material.items, seed=3), torch.get_num_threads()
    reports = []
    for count in (1, 2):
        torch.set_num_threads(count)
        torch.manual_seed(count)
        reports.append(probe([material], Classification("number"), split, replace(QUICK, head="bilstm", epochs=3)))
    torch.set_num_threads(threads)
    assert reports[0].to_json() == reports[1].to_json()
    other = probe([material], Classification("number"), split, replace(QUICK, head="bilstm", epochs=3, seed=7))
    assert other.rows[1].layers != reports[0].rows[1].layers


def test_report_as_json_and_markdown(material: Material) -> None:
    heard: list[Epoch] = []
    split = split_by_field(material.items, "split")
    odd = replace(material, name="a|b")
    report = probe([odd], Classification("kind"), split, replace(QUICK, epochs=2, seeds=1), on_epoch=heard.append)
    values = json.loads(report.to_json())
    assert values["rows"][1]["figures"]["accuracy"]["seeds"] and values["facts"]["classes"] == ["k0", "k1", "k2"]
    table = report.markdown()
    assert "| system | bit/s | accuracy ↑ | mean recall ↑ | seeds | weight of layers |" in table
    assert "a\\|b | 600 |" in table and "48 recordings to train on, 12 to test on" in table
    assert [epoch.number for epoch in heard] == [1, 2] and heard[0].rate > 0


def test_an_interrupt_does_not_wait_for_the_other_trainings(material: Material) -> None:
    heard: list[Epoch] = []

    def interrupt(epoch: Epoch) -> None:
        heard.append(epoch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        endless = replace(QUICK, epochs=100_000, patience=100_000)
        probe([material], Classification("kind"), split_by_hash(material.items), endless, on_epoch=interrupt)
    assert len(heard) <= 2


def test_text_is_learnt(tmp_path: Path) -> None:
    material = Material.of_stores(store(tmp_path / "texts", texts()))
    recipe = Recipe(head="bilstm", seeds=1, dim=32, epochs=25, learning_rate=1e-2, batch=8)
    report = probe([material], Transcription(), split_by_hash(material.items), recipe)
    silence, row = report.rows
    assert report.facts["characters"] == " abcd"
    assert silence.figures["character error rate"].value == silence.figures["word error rate"].value == 1
    assert row.figures["character error rate"].value < 0.05 and row.figures["word error rate"].value < 0.2


def test_verification(material: Material) -> None:
    split = split_by_field(material.items, "split")
    report = probe([material], Verification("kind"), split, replace(QUICK, head="xvector"))
    assert report.facts["trials"] == 66 and report.facts["of one class"] == 18
    assert report.rows[0].figures["equal error rate"].value == 0.5
    assert report.rows[1].figures["equal error rate"].value < 0.2


def test_a_store_of_its_own_for_the_test(tmp_path: Path) -> None:
    entries = classes()
    train, test = store(tmp_path / "train", entries[:40]), store(tmp_path / "test", entries[40:])
    material = Material.of_stores(train, test, name="both")
    split = split_by_store(material.items, TokenStore.open(test).ids())
    assert len(split.train) == 40 and set(split.test) == {each.id for each in entries[40:]}
    with pytest.raises(InputError, match="two stores hold the recording 'u000'"):
        Material.of_stores(train, train)
    TokenStore.create(tmp_path / "other", replace(SPEC, source="another")).append(entries[:3])
    with pytest.raises(SpecError):
        Material.of_stores(train, tmp_path / "other")


def test_mistakes_are_named(tmp_path: Path, material: Material) -> None:
    split = split_by_field(material.items, "split")
    with pytest.raises(InputError, match="no recording has a field 'knid'") as problem:
        probe([material], Classification("knid"), split)
    assert problem.value.hint == "its tokens know kind, number, split"
    with pytest.raises(InputError, match="expected two classes of split"):
        probe([material], Classification("split"), split)
    with pytest.raises(InputError, match="0 and 0"):
        split_by_field(material.items, "kind")
    with pytest.raises(InputError, match="distinct names"):
        probe([material, material], Classification("kind"), split)
    short = replace(material, name="short", items={"u000": material.items["u000"]})
    with pytest.raises(InputError, match="short lacks 59 of 60 recordings"):
        probe([material, short], Classification("kind"), split)
    with pytest.raises(InputError, match="expected a head"):
        Recipe(head="transformer")  # type: ignore[arg-type]
    TokenStore.create(tmp_path / "empty", SPEC)
    with pytest.raises(InputError, match="holds no tokens"):
        Material.of_stores(tmp_path / "empty")


def test_a_class_that_only_the_test_has(tmp_path: Path) -> None:
    codes = np.zeros((2, 4))
    fields = [{"kind": name, "split": part} for name, part in [("a", "train"), ("b", "train")] * 2 + [("c", "test")]]
    items = Material.of_stores(store(tmp_path / "s", [entry(f"u{i}", codes, f) for i, f in enumerate(fields)])).items
    with pytest.raises(InputError, match="every kind of the test in the training, c are not there"):
        Classification("kind").goal(items, split_by_field(items, "split"))


def test_recordings_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    entries = classes(30)
    entries.append(entry("bare", np.zeros((2, 5)), {"split": "train"}))
    material = Material.of_stores(store(tmp_path / "s", entries))
    split = split_by_field(material.items, "split")
    report = probe([material], Classification("kind"), split, replace(QUICK, epochs=1))
    assert report.left_out == 1 and report.train == 24


def test_what_is_held_out_comes_from_every_class() -> None:
    ids = [f"u{index}" for index in range(50)]
    groups = {name: "rare" if index == 0 else "often" for index, name in enumerate(ids)}
    fit, held = hold_out(ids, groups, seed=0)
    assert len(held) == 5 and "u0" in fit and sorted(fit + held) == sorted(ids)
    assert hold_out(ids, groups, seed=1)[1] != held == hold_out(ids, groups, seed=0)[1]
    assert hold_out(["a", "b"], {"a": "x", "b": "x"}, seed=0)[1]


def test_a_random_split_is_a_function_of_ids_and_seed() -> None:
    ids = [f"u{index}" for index in range(50)]
    split = split_by_hash(ids, seed=1)
    assert len(split.test) == 10 and not set(split.test) & set(split.train)
    assert split == split_by_hash(reversed(ids), seed=1) and split.test != split_by_hash(ids, seed=2).test


def test_codebooks_of_one_layer_and_pitch() -> None:
    books = tuple(Codebook(4, label) for label in ("L6.0", "f0", "L6.1", "L9"))
    layers = code_layers(TokenSpec(16000, 160, books, "toy"))
    assert [(layer.name, layer.columns) for layer in layers] == [("L6", (0, 2)), ("L9", (3,)), ("f0", (1,))]
    assert code_layers(TokenSpec(16000, 160, books[1:2], "toy"))[0].name == "f0"


def test_text_is_compared_without_case_and_punctuation() -> None:
    assert normalized("It’s  FINE, really—“so”!") == "it's fine really so"
