"""The k-means codebook as users meet it: fit, evidence, encode, decode, mistakes."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vocable.errors import InputError, MissingDependencyError
from vocable.quantizers import KMeans, fit_kmeans, kmeans, nearest
from vocable.quantizers.points import Points
from vocable.quantizers.reduce import ALONE
from vocable.quantizers.seeding import by_similarity, kmeans_parallel, kmeans_plus_plus
from vocable.quantizers.workers import Workers
from vocable.types import Quantizer


def blobs(count: int = 2000, dim: int = 20, centres: int = 12, spread: float = 0.1) -> Tensor:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((centres, dim))[np.arange(count) % centres] + spread * rng.standard_normal(
        (count, dim)
    )
    return torch.from_numpy(points.astype(np.float32))


def test_is_a_quantizer_and_decodes_to_its_centroids() -> None:
    centroids = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    model = KMeans(centroids)
    assert isinstance(model, Quantizer)
    assert (model.dim, model.codebook_sizes) == (2, (3,))
    codes = model.encode(torch.tensor([[[1.0, 1.0], [3.0, 0.0]], [[1.0, 3.0], [9.0, 8.0]]]))
    assert codes.dtype == torch.int64
    assert codes.tolist() == [[[0], [1]], [[2], [1]]]
    assert torch.equal(model.decode(codes), centroids[codes[..., 0]])
    assert model.encode(torch.zeros(0, 5, 2)).shape == (0, 5, 1)
    assert torch.equal(model.to("cpu").encode(centroids), torch.arange(3)[:, None])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_widths_of_floats_are_read_as_float32(dtype: torch.dtype) -> None:
    points = blobs().to(dtype)
    model, _ = fit_kmeans(points, 12)
    same, _ = fit_kmeans(points.float(), 12)
    assert torch.equal(model.centroids, same.centroids)
    assert torch.equal(model.encode(points), model.encode(points.float()))


def test_evidence_of_a_fit_worked_out_by_hand() -> None:
    points = torch.tensor([[0.0], [2.0], [2.0], [0.0], [100.0], [102.0]])
    heard: list[tuple[int, float]] = []
    model, evidence = fit_kmeans(points, 2, on_iteration=lambda *event: heard.append(event))
    assert sorted(model.centroids[:, 0].tolist()) == [1.0, 101.0]
    assert evidence.objective[-1] == pytest.approx(1.0)
    assert evidence.usage == 1.0
    assert evidence.entropy == pytest.approx(math.log2(3) - 2 / 3)
    assert evidence.perplexity == pytest.approx(2**evidence.entropy)
    assert (evidence.reseeded, evidence.backend, evidence.seed, evidence.num_points) == (0, "torch", 0, 6)
    assert heard == list(enumerate(evidence.objective))
    assert json.loads(json.dumps(evidence.to_dict()))["iterations"] == len(heard)


def test_finds_the_clusters_that_are_there() -> None:
    points = blobs()
    model, evidence = fit_kmeans(points, 12)
    assert evidence.objective[-1] == pytest.approx(20 * 0.01, rel=0.02)
    assert evidence.entropy == pytest.approx(math.log2(12), abs=1e-3)
    assert torch.equal(model.encode(points[:-12]), model.encode(points[12:]))


def test_a_seed_decides_everything() -> None:
    points = blobs(spread=2.0)
    first, second, other = (fit_kmeans(points, 30, seed=seed)[0].centroids for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_stops_early_by_the_relative_fall_of_the_objective() -> None:
    points = blobs(spread=2.0)
    _, loose = fit_kmeans(points, 30, tolerance=1e-2, rounds=0)
    _, tight = fit_kmeans(points, 30, tolerance=0.0, iterations=300, rounds=0)
    falls = [1 - b / a for a, b in zip(loose.objective, loose.objective[1:], strict=False)]
    assert falls[-1] <= 1e-2 < min(falls[:-1])
    assert tight.objective[: loose.iterations] == loose.objective
    assert tight.iterations > loose.iterations


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
def test_every_start_and_schedule_finds_the_clusters(init: Any) -> None:
    points = blobs(300, 8, centres=4)
    for schedule in ("full", "progressive", "minibatch"):
        model, evidence = fit_kmeans(points, 4, init=init, schedule=schedule, restarts=3)
        assert evidence.objective[-1] == pytest.approx(8 * 0.01, rel=0.1)
        assert (evidence.init, evidence.schedule, evidence.dead) == (init, schedule, 0)
        assert torch.equal(model.encode(points[:-4]), model.encode(points[4:]))


def test_the_best_of_several_starts_is_kept() -> None:
    points = blobs(spread=2.0)
    model, evidence = fit_kmeans(points, 30, seed=5, restarts=4, iterations=5)
    alone = [fit_kmeans(points, 30, seed=seed, iterations=5) for seed in (5, 6, 7, 8)]
    assert evidence.restarts == tuple(fit.objective[-1] for _, fit in alone)
    assert evidence.restart == int(np.argmin(evidence.restarts))
    assert evidence.objective == alone[evidence.restart][1].objective
    assert torch.equal(model.centroids, alone[evidence.restart][0].centroids)
    assert len(set(evidence.restarts)) == 4


def test_k_means_parallel_finds_one_point_of_every_far_cluster() -> None:
    points = blobs(600, 8, centres=30, spread=1e-3)
    start = kmeans_parallel(Points.of(points), 30, 1, Workers(None))
    assert len({tuple(row) for row in start.round(decimals=1).tolist()}) == 30


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_spherical_codebooks_tell_directions_apart_whatever_the_lengths(backend: Any) -> None:
    rng = np.random.default_rng(0)
    directions = torch.from_numpy(np.linalg.qr(rng.standard_normal((6, 6)))[0].astype(np.float32))
    owners = torch.arange(600) % 6
    lengths = torch.from_numpy(rng.uniform(0.01, 100, 600).astype(np.float32))[:, None]
    points = (directions[owners] + 0.05 * torch.from_numpy(rng.standard_normal((600, 6)).astype(np.float32))) * lengths
    model, evidence = fit_kmeans(points, 6, spherical=True, backend=backend, restarts=3)
    assert model.spherical
    assert torch.allclose(model.centroids.norm(dim=1), torch.ones(6))
    assert torch.allclose((model.centroids @ directions.T).amax(1), torch.ones(6), atol=1e-2)
    units = points.double() / points.double().norm(dim=1, keepdim=True)
    cosines = units @ model.centroids.double().T
    assert torch.equal(model.encode(points)[:, 0], cosines.argmax(1))
    assert evidence.objective[-1] == pytest.approx(float((2 - 2 * cosines.amax(1)).mean()), rel=1e-3)
    assert torch.equal(model.to("cpu").encode(0.5 * points), model.encode(points))


def test_spherical_points_without_a_direction_do_no_harm() -> None:
    points = torch.cat([torch.zeros(5, 3), torch.eye(3).repeat(4, 1), -torch.eye(3)])
    model, evidence = fit_kmeans(points, 4, spherical=True)
    assert bool(model.centroids.isfinite().all())
    assert math.isfinite(evidence.objective[-1])
    with pytest.raises(InputError, match="length 1"):
        KMeans(2 * torch.eye(3), spherical=True)


def test_one_cluster_is_the_mean_of_all_points() -> None:
    points = blobs()
    model, evidence = fit_kmeans(points, 1)
    assert torch.allclose(model.centroids[0], points.double().mean(0).float())
    assert (evidence.usage, evidence.entropy) == (1.0, 0.0)


def test_points_in_a_file_are_read_in_place(tmp_path: Path) -> None:
    points = blobs().half()
    np.save(tmp_path / "points.npy", points.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "points.npy", mmap_mode="c"))
    assert torch.equal(fit_kmeans(mapped, 12)[0].centroids, fit_kmeans(points.float(), 12)[0].centroids)


@pytest.mark.parametrize(
    ("backend", "schedule", "init", "message"),
    [
        ("torch", "fast", "random", "expected schedule full or progressive or minibatch, got 'fast'"),
        ("torch", "full", "best", "expected init"),
        ("cuda", "full", "random", "expected backend"),
        ("faiss", "minibatch", "random", "full schedule in one process for faiss"),
    ],
)
def test_choices_that_do_not_exist_are_refused(backend: str, schedule: str, init: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kmeans._check_choices(backend, schedule, init, ALONE)


@pytest.mark.parametrize("settings", [{}, {"init": "k-means||"}, {"init": "random"}, {"schedule": "minibatch"}])
def test_dead_entries_of_duplicates_are_reported(settings: Any) -> None:
    model, evidence = fit_kmeans(torch.tensor([[0.0, 1.0], [3.0, 4.0]]).repeat(50, 1), 5, **settings)
    assert (evidence.dead, evidence.usage, evidence.objective[-1]) == (3, 2 / 5, 0.0)
    assert bool(model.centroids.isfinite().all())


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_duplicates_only(backend: Any) -> None:
    model, evidence = fit_kmeans(torch.full((40, 3), 0.1), 5, backend=backend)
    assert bool(model.centroids.isfinite().all())
    assert evidence.dead == 4
    assert evidence.objective[-1] == pytest.approx(0.0, abs=1e-9)
    assert model.encode(torch.full((2, 3), 0.1)).tolist() == [[0], [0]] or backend == "faiss"


@pytest.mark.parametrize(
    ("points", "clusters", "message"),
    [
        (torch.zeros(3, 2), 4, "as many points as clusters"),
        (torch.zeros(3, 2), 0, "at least one cluster"),
        (torch.zeros(3), 1, r"\[n, D\]"),
        (torch.zeros(3, 0), 1, r"\[n, D\]"),
        (torch.zeros(3, 2, dtype=torch.int64), 1, "floating point"),
        (torch.tensor([[0.0], [math.nan], [1.0]]), 1, "finite"),
        (torch.tensor([[0.0], [math.inf], [1.0]]), 2, "finite"),
    ],
)
@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_points_that_do_not_fit_are_refused(points: Tensor, clusters: int, message: str, backend: Any) -> None:
    with pytest.raises(InputError, match=message):
        fit_kmeans(points, clusters, backend=backend)


def test_vectors_and_codes_that_do_not_fit_are_refused() -> None:
    model = KMeans(torch.eye(3))
    with pytest.raises(InputError, match=r"expected vectors \[..., 3\]"):
        model.encode(torch.zeros(5, 4))
    with pytest.raises(InputError, match=r"expected codes \[..., 1\]"):
        model.decode(torch.zeros(5, 2, dtype=torch.int64))
    with pytest.raises(InputError, match="from 0 to 2"):
        model.decode(torch.tensor([[3]]))
    with pytest.raises(InputError, match=r"expected centroids \[V, D\]"):
        KMeans(torch.zeros(3))
    with pytest.raises(InputError, match="finite centroids"):
        KMeans(torch.tensor([[math.nan]]))


class LargestAllocation(TorchDispatchMode):
    """Notes the size of the largest new storage that an operator returns."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        old = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(args) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in old:
                self.bytes = max(self.bytes, leaf.untyped_storage().nbytes())
        return result


def test_no_tensor_of_all_points_by_all_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "CHUNK_BYTES", 2**19)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the mode watches this thread alone
    points, clusters = blobs(12_000, 64), 300
    with LargestAllocation() as watch:
        model, _ = fit_kmeans(points, clusters, iterations=2)
        model.encode(points)
    torch.set_num_threads(threads)
    sample = 8 * clusters * 64 * 4
    assert watch.bytes <= max(2**19, 8 * len(points), sample, len(points) * 64 // 8)
    assert watch.bytes < 4 * len(points) * clusters / 20


def test_seeding_finds_one_point_of_every_far_cluster() -> None:
    points = blobs(600, 8, centres=30, spread=1e-3)
    start = kmeans_plus_plus(Points.of(points), 30, seed=1)
    assert len({tuple(row) for row in start.round(decimals=1).tolist()}) == 30
    assert torch.equal(start, kmeans_plus_plus(Points.of(points), 30, seed=1))


def test_order_by_similarity_keeps_the_centroids_and_brings_near_ones_together() -> None:
    centroids = torch.arange(20.0)[torch.randperm(20, generator=torch.Generator().manual_seed(0)), None]
    ordered = by_similarity(centroids, 5)[:, 0]
    assert sorted(ordered.tolist()) == list(range(20))
    assert all(group.max() - group.min() == 4 for group in ordered.view(4, 5))


def test_faiss_gives_the_same_kind_of_result() -> None:
    pytest.importorskip("faiss")
    points = blobs(spread=1.0)
    ours, evidence = fit_kmeans(points, 12, iterations=20, tolerance=0.0, rounds=0)
    theirs, faiss_evidence = fit_kmeans(points, 12, iterations=20, backend="faiss")
    assert faiss_evidence.objective[-1] == pytest.approx(evidence.objective[-1], rel=2e-3)
    assert faiss_evidence.objective[0] > faiss_evidence.objective[-1]
    assert (faiss_evidence.backend, faiss_evidence.iterations) == ("faiss", len(faiss_evidence.objective))
    assert faiss_evidence.to_dict().keys() == evidence.to_dict().keys()
    assert theirs.centroids.shape == ours.centroids.shape
    assert torch.equal(fit_kmeans(points, 12, iterations=20, backend="faiss")[0].centroids, theirs.centroids)


def test_without_faiss_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match="faiss") as caught:
        fit_kmeans(blobs(), 2, backend="faiss")
    assert "pip install" in caught.value.hint
