"""Quantizers of several codebooks as configuration and tensors, and in the artifact of a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from vocable import testing
from vocable.errors import ArtifactError, InputError, SpecError
from vocable.presets import inverter
from vocable.quantizers import (
    KMeans,
    ProductKMeans,
    ResidualKMeans,
    fit_residual,
    quantizer_config,
    quantizer_from,
    quantizer_tensors,
)
from vocable.tokenizers import LogMel, UnitTokenizer
from vocable.types import Audio


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("kind", [ResidualKMeans, ProductKMeans])
def test_saved_and_read_again(kind: type[ResidualKMeans | ProductKMeans], sizes: list[int], seed: int) -> None:
    model = kind([normal(size, 2, seed=seed + index) for index, size in enumerate(sizes)])
    config = json.loads(json.dumps(quantizer_config(model)))
    tensors = quantizer_tensors(model, "codebooks.L6")
    neighbours = {"codebooks.L6.pre": torch.zeros(1), "codebooks.L61": torch.zeros(1), "codebooks": torch.zeros(1)}
    again = quantizer_from(config, {**neighbours, **tensors}, "codebooks.L6")
    assert type(again) is kind
    assert quantizer_config(again) == config
    assert torch.equal(again.encode(normal(50, model.dim)), model.encode(normal(50, model.dim)))


def test_a_spherical_codebook_stays_one() -> None:
    model = KMeans(functional.normalize(normal(9, 3)), spherical=True)
    config = quantizer_config(model)
    again = quantizer_from(config, quantizer_tensors(model, "L6"), "L6")
    assert isinstance(again, KMeans)
    assert again.spherical
    assert quantizer_config(KMeans(normal(9, 3))) == {"kind": "kmeans", "size": 9}


def test_what_is_missing_is_named() -> None:
    model = ResidualKMeans(normal(2, 4, 3))
    config, tensors = quantizer_config(model), quantizer_tensors(model, "codebooks.L6")
    assert set(tensors) == {"codebooks.L6.0", "codebooks.L6.1"}
    with pytest.raises(ArtifactError, match=r"without codebooks\.L6\.1"):
        quantizer_from(config, {"codebooks.L6.0": tensors["codebooks.L6.0"]}, "codebooks.L6")
    with pytest.raises(ArtifactError, match=r"without codebooks\.L6$"):
        quantizer_from({"kind": "kmeans", "size": 4}, tensors, "codebooks.L6")
    with pytest.raises(ArtifactError, match="one width"):
        quantizer_from(config, {**tensors, "codebooks.L6.1": torch.zeros(2, 2)}, "codebooks.L6")
    with pytest.raises(ArtifactError, match="residual-kmeans"):
        quantizer_from({"kind": "nonsense"}, tensors, "codebooks.L6")
    with pytest.raises(InputError, match="config"):
        quantizer_config(object())


@pytest.fixture(scope="module")
def units() -> UnitTokenizer:
    extractor = LogMel()
    noise = testing.noise(3.0, extractor.sample_rate, seed=42)
    frames = extractor.extract(Audio.of([noise], extractor.sample_rate)).utterance(0)[0]
    return UnitTokenizer(extractor, [fit_residual(frames, [8, 6, 4])[0]])


def test_a_tokenizer_of_several_codebooks_keeps_the_laws(units: UnitTokenizer, tmp_path: Path) -> None:
    (layer,) = units.extractor.layers
    assert [(book.label, book.size) for book in units.spec.codebooks] == [
        (f"{layer}.0", 8),
        (f"{layer}.1", 6),
        (f"{layer}.2", 4),
    ]
    testing.check_tokenizer(units)
    testing.check_saving(units, UnitTokenizer.from_pretrained, tmp_path / "units")


def test_the_first_codebooks_are_sound_already(units: UnitTokenizer) -> None:
    vocoder = inverter(units)
    tokens = units.encode(Audio.of([testing.noise(0.5, 16000, 1), testing.noise(0.3, 16000, 2)], 16000))
    for count in (1, 2, 3):
        testing.check_vocoder(vocoder, tokens.take(range(count)))
    coarse, fine = (vocoder.decode(tokens.take(range(count))).samples for count in (1, 3))
    assert not torch.equal(coarse, fine)
    for which in ([1], [0, 2], [1, 0]):
        with pytest.raises(SpecError, match="in their order"):
            vocoder.decode(tokens.take(which))
