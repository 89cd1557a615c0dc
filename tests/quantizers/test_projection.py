from __future__ import annotations

import json
from hashlib import sha256

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocable.errors import ArtifactError, InputError
from vocable.quantizers import (
    KMeans,
    RandomProjection,
    ScalarBins,
    quantizer_config,
    quantizer_from,
    quantizer_tensors,
)
from vocable.testing import check_fixed_points, check_quantizer
from vocable.types import Quantizer

SMALL = RandomProjection(24, projected=4, size=50, num_codebooks=3, seed=7)


def vectors(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 24, generator=torch.Generator().manual_seed(seed))


def test_the_laws() -> None:
    for quantizer in (
        SMALL,
        RandomProjection(80, size=1000),
        RandomProjection(16, size=2),
        RandomProjection(1, projected=1),
    ):
        assert isinstance(quantizer, Quantizer)
        check_quantizer(quantizer)
        check_fixed_points(quantizer)


def test_the_code_is_the_direction_of_greatest_cosine() -> None:
    rows = vectors(400)
    for index in range(3):
        projected = rows.double() @ SMALL.matrix[:, 4 * index : 4 * index + 4].double()
        cosines = torch.nn.functional.normalize(projected, dim=1) @ SMALL.entries[index].double().T
        # the matrix is rounded to 17 bits, so ties within that may go either way
        chosen = cosines.gather(1, SMALL.encode(rows)[:, index : index + 1])[:, 0]
        assert (cosines.amax(1) - chosen).max().item() < 1e-4
        assert (cosines.argmax(1) == SMALL.encode(rows)[:, index]).float().mean().item() > 0.99


def test_the_length_of_a_vector_does_not_count() -> None:
    codes = SMALL.encode(vectors(100))
    for scale in (2.0**-100, 0.25, 2.0**60):
        assert torch.equal(SMALL.encode(vectors(100) * scale), codes)
    assert SMALL.encode(torch.zeros(1, 24)).shape == (1, 3)


@settings(max_examples=10)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 99), st.sampled_from([1, 2]))
def test_same_codes_in_any_batch_with_any_threads(sizes: list[int], seed: int, threads: int) -> None:
    rows = vectors(sum(sizes), seed)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = SMALL.encode(rows)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.cat([SMALL.encode(part) for part in rows.split(sizes)]), together)
    assert torch.equal(SMALL.encode(rows.flip(0)).flip(0), together)
    assert torch.equal(torch.cat([SMALL.encode(row[None]) for row in rows]), together)


def test_numbers_are_those_of_the_seed_on_any_machine() -> None:
    digest = sha256(SMALL.matrix.numpy().tobytes() + SMALL.entries.numpy().tobytes()).hexdigest()
    assert digest == "b269490f69b425cd9c33f9c503f360f71a790cc90cf7d5acb5722d6dc5766cb1"


def test_the_recipe_by_hand() -> None:
    generator = np.random.Philox(key=np.array([7, 1], dtype=np.uint64))
    uniform = (generator.random_raw(24 * 4) >> np.uint64(24)).astype(np.float64) / 2**40
    matrix = ((2 * uniform - 1) * np.sqrt(6 / 28)).reshape(24, 4).astype(np.float32)
    assert np.array_equal(SMALL.matrix[:, 4:8].numpy(), matrix)
    normal = (generator.random_raw(50 * 4 * 12) >> np.uint64(24)).reshape(50, 4, 12).astype(np.float64).sum(2)
    normal = normal / 2**40 - 6
    entries = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    np.testing.assert_allclose(SMALL.entries[1].numpy(), entries, atol=1e-7)


def test_directions_are_spread_evenly() -> None:
    entries = RandomProjection(320).entries[0]
    torch.testing.assert_close(entries.norm(dim=1), torch.ones(8192))
    assert entries.mean(0).abs().max().item() < 0.02
    torch.testing.assert_close(entries.T @ entries / 8192 * 16, torch.eye(16), atol=0.08, rtol=0)


def test_another_seed_is_another_quantizer() -> None:
    other = RandomProjection(24, projected=4, size=50, num_codebooks=3, seed=8)
    assert (other.encode(vectors(200)) == SMALL.encode(vectors(200))).float().mean().item() < 0.2
    assert not torch.equal(SMALL.entries[0], SMALL.entries[1])


def test_decoded_vectors_project_onto_their_entries() -> None:
    codes = torch.randint(50, (2, 30, 3), generator=torch.Generator().manual_seed(1))
    lifted = SMALL.decode(codes)
    assert lifted.shape == (2, 30, 24)
    wanted = torch.cat([SMALL.entries[index][codes[..., index]] for index in range(3)], dim=-1)
    torch.testing.assert_close(lifted @ SMALL.matrix, wanted, atol=1e-4, rtol=0)
    shortest = torch.linalg.lstsq(SMALL.matrix.T, wanted.reshape(-1, 12).T, driver="gelsd").solution.T
    torch.testing.assert_close(lifted.reshape(-1, 24), shortest, atol=1e-4, rtol=0)
    assert torch.equal(SMALL.encode(lifted), codes)


@pytest.mark.parametrize("rows", [torch.zeros(3, 23), torch.zeros(3, 24).long(), torch.full((1, 24), torch.nan)])
def test_vectors_that_do_not_fit_are_refused(rows: Tensor) -> None:
    with pytest.raises(InputError, match="vectors"):
        SMALL.encode(rows)


@pytest.mark.parametrize("codes", [torch.zeros(3, 2).long(), torch.zeros(3, 3), torch.full((1, 3), 50)])
def test_codes_that_do_not_fit_are_refused(codes: Tensor) -> None:
    with pytest.raises(InputError, match="codes"):
        SMALL.decode(codes)


@pytest.mark.parametrize(
    "changed", [{"projected": 0}, {"size": 0}, {"num_codebooks": 0}, {"seed": -1}, {"seed": 2**64}, {"projected": 9}]
)
def test_settings_that_cannot_be_are_refused(changed: dict[str, int]) -> None:
    with pytest.raises(InputError):
        RandomProjection(24, **{"projected": 4, "size": 50, "num_codebooks": 3, **changed})


@pytest.mark.parametrize("quantizer", [SMALL, ScalarBins(24, low=-1.0, high=1.0), KMeans(torch.randn(9, 24))])
def test_saved_and_read_again(quantizer: RandomProjection | ScalarBins | KMeans) -> None:
    config = json.loads(json.dumps(quantizer_config(quantizer)))
    tensors = quantizer_tensors(quantizer, "codebooks.L6")
    assert set(tensors) == ({"codebooks.L6"} if isinstance(quantizer, KMeans) else set())
    again = quantizer_from(config, tensors, "codebooks.L6")
    assert type(again) is type(quantizer)
    assert quantizer_config(again) == config
    assert torch.equal(again.encode(vectors(50)), quantizer.encode(vectors(50)))


def test_what_cannot_be_saved_or_read_is_refused() -> None:
    with pytest.raises(InputError, match="expected KMeans"):
        quantizer_config(object())
    with pytest.raises(ArtifactError, match="'fsq'"):
        quantizer_from({"kind": "fsq"}, {}, "codebooks.L6")
    with pytest.raises(ArtifactError, match=r"codebooks\.L6"):
        quantizer_from({"kind": "kmeans", "size": 3}, {}, "codebooks.L6")
    with pytest.raises(ArtifactError, match="low < high"):
        quantizer_from({"kind": "bins", "dim": 3, "low": 1.0, "high": 0.0, "size": 4}, {}, "codebooks.L6")
