"""Training units on a corpus: one pass of extraction feeds the codebooks of all layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from vocable.corpus import Corpus, Failure
from vocable.distributed import meet
from vocable.errors import InputError
from vocable.progress import Progress, Watcher, unwatched
from vocable.quantizers.kmeans import Backend, FitEvidence, KMeans, fit_kmeans
from vocable.quantizers.product import fit_product
from vocable.quantizers.reduce import ALONE, Reducer
from vocable.quantizers.reservoir import FrameReservoir
from vocable.quantizers.residual import fit_residual
from vocable.quantizers.scaling import Scaling
from vocable.quantizers.schedules import Schedule
from vocable.quantizers.seeding import Init
from vocable.quantizers.standardized import fit_standardized
from vocable.tokenizers.feature_cache import FeatureCache
from vocable.tokenizers.gathering import Reading, Stopwatch, batch_samples, extract_corpus, ignore, joined, own_share
from vocable.tokenizers.units import UnitTokenizer, default_windows
from vocable.types import FeatureExtractor, Quantizer

__all__ = ["DEFAULT_MEMORY", "Structure", "batch_samples", "gather_frames", "train_kmeans"]

Structure = Literal["residual", "product"]

FitCodebooks = Callable[..., tuple[Quantizer, list[FitEvidence]]]

DEFAULT_MEMORY = 1 << 30


def train_kmeans(
    corpus: Corpus,
    extractor: FeatureExtractor,
    num_clusters: int,
    *,
    codebooks: int = 1,
    structure: Structure = "residual",
    iterations: int = 50,
    schedule: Schedule = "full",
    init: Init = "k-means++",
    restarts: int = 1,
    spherical: bool = False,
    standardize: bool = False,
    seed: int = 0,
    backend: Backend = "torch",
    memory: int = DEFAULT_MEMORY,
    sample_frames: int | None = None,
    cache: FeatureCache | None = None,
    device: str = "cpu",
    reduce: Reducer = ALONE,
    workers: int = 0,
    batch_seconds: float | None = None,
    watcher: Watcher = unwatched,
    stopwatch: Stopwatch | None = None,
    on_failure: Callable[[Failure], None] = ignore,
    on_iteration: Callable[[str, int, float], None] = lambda layer, iteration, objective: None,
) -> UnitTokenizer:
    """Fits codebooks of `num_clusters` entries for every layer of the extractor; the evidence travels with them.

    codebooks: how many each layer gets, of a `structure` ("residual" or "product", see quantizers).
    iterations, schedule, init, restarts, spherical, seed, backend: see fit_kmeans.
    standardize: each dimension of a layer is centred and divided by its standard deviation over the frames that are
        clustered; units still decode to features as they came. See fit_standardized.
    memory: bytes of frames held at most, whatever the corpus: if it has more, a seeded uniform sample of them is kept,
        the same frames for all layers, whatever the order and the number of workers and processes.
    sample_frames: size of that sample, in place of `memory`.
    cache: all frames, on disk, instead of a sample; what it has of this corpus already is not extracted again.
    device: where frames are clustered, if there is room for those of a layer.
    reduce: joins several processes (vocable.distributed). Each reads its share of the corpus and clusters its share of
        the frames, and all return the same units: those of one process.
    stopwatch: what takes wall time: "features", "sample" or "cache", and the clustering of each layer.

    Beyond the frames there are a batch of windows, the model, the clustering's working memory (see fit_kmeans), and for
    residual codebooks one layer in float32, and one more for several codebooks of standardized frames. Padding never
    enters.
    on_failure hears of recordings that cannot be used, on_iteration(codebook, iteration, objective) of the clustering.
    InputError if the corpus has fewer frames than clusters, or fewer recordings than there are processes.
    """
    _check(codebooks, structure, spherical, standardize)
    stopwatch, failures = stopwatch or Stopwatch(), list[Failure]()
    reading = Reading(workers, batch_seconds, watcher, failures.append, stopwatch)
    frames: FeatureCache | FrameReservoir
    if cache is not None:
        frames, progress = cache, cache.fill(corpus, extractor, reading=reading, reduce=reduce)
    else:
        copies = 1 + (codebooks > 1 and structure == "residual") + (codebooks > 1 and standardize)
        settings: dict[str, Any] = {"memory": memory, "sample_frames": sample_frames, "seed": seed, "copies": copies}
        frames, progress = gather_frames(corpus, extractor, reading=reading, reduce=reduce, **settings)
    progress, failures = joined(progress, failures, reduce)
    for failure in failures:
        on_failure(failure)
    _require_enough(frames, num_clusters)
    fit = partial(
        fit_kmeans,
        iterations=iterations,
        schedule=schedule,
        init=init,
        restarts=restarts,
        spherical=spherical,
        seed=seed,
        backend=backend,
        reduce=reduce,
    )
    fit_codebooks = _way(codebooks, structure, standardize, reduce)
    quantizers: list[Quantizer] = []
    fits: dict[str, Any] = {}
    for index, layer in enumerate(extractor.layers):
        labels = [layer] if codebooks == 1 else [f"{layer}.{number}" for number in range(codebooks)]
        with stopwatch.time(f"clustering {layer}"):
            points = _placed(frames.layer(index, reduce), device, reduce)
            quantizer, evidence = _fit_layer(points, num_clusters, labels, fit_codebooks, fit, on_iteration)
        quantizers.append(quantizer)
        fits |= {label: went.to_dict() for label, went in zip(labels, evidence, strict=True)}
    return UnitTokenizer(extractor, quantizers, evidence=_evidence(progress, frames, extractor, seed) | {"fits": fits})


def gather_frames(
    corpus: Corpus,
    extractor: FeatureExtractor,
    *,
    memory: int = DEFAULT_MEMORY,
    sample_frames: int | None = None,
    seed: int = 0,
    copies: int = 1,
    reading: Reading | None = None,
    reduce: Reducer = ALONE,
) -> tuple[FrameReservoir, Progress]:
    """A seeded uniform sample of the frames of a corpus, the same for all layers, and what this process has read.

    memory: bytes that the sample and `copies` of one layer of it take. sample_frames: its size, in place of `memory`.
    """
    reading = reading or Reading()
    num_layers, dim = len(extractor.layers), extractor.dim
    capacity = memory // ((num_layers + copies) * dim * 4) if sample_frames is None else sample_frames
    reservoir = FrameReservoir(capacity, num_layers, dim, seed=seed)
    windows, own = default_windows(extractor), own_share(corpus, reduce)
    progress = Progress(len(own))
    for piece, frames in extract_corpus(own, extractor, progress, reading):
        with reading.stopwatch.time("sample"):
            reservoir.add(piece.utterance.id, piece.index * windows.frames, frames)
    meet(reduce)
    with reading.stopwatch.time("sample"):
        reservoir.merge(reduce)
    return reservoir, progress


def _check(codebooks: int, structure: str, spherical: bool, standardize: bool) -> None:
    if codebooks < 1 or structure not in get_args(Structure):
        expected = f"expected at least one codebook and a structure {' or '.join(get_args(Structure))}"
        raise InputError(f"{expected}, got {codebooks} and {structure!r}")
    if spherical and codebooks > 1:
        raise InputError("spherical clustering makes one codebook, not several", hint="leave one of the two out")
    if spherical and standardize:
        expected = "expected spherical or standardized clustering, got both"
        raise InputError(expected, hint="leave one of the two out")


def _require_enough(frames: FeatureCache | FrameReservoir, num_clusters: int) -> None:
    if len(frames) < num_clusters:
        raise InputError(
            f"expected at least {num_clusters} frames for {num_clusters} clusters, got {len(frames)}",
            hint="train on more audio, ask for fewer --clusters, or allow more --memory",
        )


def _placed(points: Tensor, device: str, reduce: Reducer) -> Tensor:
    """The points on the device of all processes, if in each they leave half of its memory free."""
    if torch.device(device).type != "cuda":
        return points
    free, _ = torch.cuda.mem_get_info(device)
    crowded = reduce.max_(torch.tensor(int(2 * points.nbytes > free)))
    return points if bool(crowded) else points.to(device)


def _way(codebooks: int, structure: Structure, standardize: bool, reduce: Reducer) -> FitCodebooks:
    """How points become the quantizer of a layer: a function of points, sizes and `fit`, as `fit_residual` is one."""
    several = fit_residual if structure == "residual" else fit_product
    if standardize:
        return partial(fit_standardized, several=several, reduce=reduce)
    return several if codebooks > 1 else _fit_single


def _fit_layer(
    points: Tensor,
    num_clusters: int,
    labels: list[str],
    fit_codebooks: FitCodebooks,
    fit: Callable[..., tuple[KMeans, FitEvidence]],
    on_iteration: Callable[[str, int, float], None],
) -> tuple[Quantizer, list[FitEvidence]]:
    """A quantizer with a codebook for each label, and how each was fitted."""
    waiting = iter(labels)

    def fit_next(part: Tensor, size: int, *, scaling: Scaling | None = None) -> tuple[KMeans, FitEvidence]:
        return fit(part, size, scaling=scaling, on_iteration=partial(on_iteration, next(waiting)))

    return fit_codebooks(points, [num_clusters] * len(labels), fit=fit_next)


def _fit_single(
    points: Tensor, sizes: Sequence[int], *, fit: Callable[..., tuple[KMeans, FitEvidence]]
) -> tuple[KMeans, list[FitEvidence]]:
    book, went = fit(points, sizes[0])
    return book, [went]


def _evidence(
    progress: Progress, frames: FeatureCache | FrameReservoir, extractor: FeatureExtractor, seed: int
) -> dict[str, Any]:
    seen = len(frames) if isinstance(frames, FeatureCache) else frames.seen
    return {
        "recordings": progress.done + progress.skipped,
        "failed": progress.failed,
        "audio_seconds": round(seen * extractor.hop_length / extractor.sample_rate, 3),
        "frames_seen": seen,
        "frames_used": len(frames),
        "seed": seed,
    }
