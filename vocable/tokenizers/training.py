"""Training units on a corpus: one pass of extraction feeds the codebooks of all layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Literal

import torch

from vocable.clock import Windows
from vocable.corpus import Corpus, Failure, Piece, batches
from vocable.errors import InputError
from vocable.progress import Progress, Watcher, unwatched
from vocable.quantizers.kmeans import KMeans, fit_kmeans
from vocable.quantizers.reservoir import FrameReservoir
from vocable.tokenizers.units import UnitTokenizer, default_windows
from vocable.types import Audio, FeatureExtractor

DEFAULT_MEMORY = 1 << 30


def train_kmeans(
    corpus: Corpus,
    extractor: FeatureExtractor,
    num_clusters: int,
    *,
    iterations: int = 50,
    memory: int = DEFAULT_MEMORY,
    seed: int = 0,
    backend: Literal["torch", "faiss"] = "torch",
    workers: int = 0,
    batch_seconds: float | None = None,
    watcher: Watcher = unwatched,
    on_failure: Callable[[Failure], None] = lambda failure: None,
    on_iteration: Callable[[str, int, float], None] = lambda layer, iteration, objective: None,
) -> UnitTokenizer:
    """Fits a codebook of `num_clusters` entries for every layer of the extractor; the evidence travels with it.

    At most `memory` bytes of frames are held, whatever the corpus: if it has more, a seeded uniform sample of them is
    kept, the same frames for all layers, whatever the order and the number of workers. Beyond that there are a batch of
    windows, the model, and the clustering's working memory (see fit_kmeans). Padding never enters.
    on_iteration(layer, iteration, objective) hears of the clustering.
    InputError if the corpus has fewer frames than clusters.
    """
    num_layers = len(extractor.layers)
    # one layer more than there are: its frames are copied, sorted, for clustering
    reservoir = FrameReservoir(memory // ((num_layers + 1) * extractor.dim * 4), num_layers, extractor.dim, seed=seed)
    windows, progress = default_windows(extractor), Progress(len(corpus))
    items = corpus.pieces(extractor.sample_rate, windows, workers=workers)
    pieces = _sound(items, progress, on_failure)
    limit = batch_samples(batch_seconds, extractor.sample_rate)
    for batch in batches(pieces, max_samples=limit, multiple=torch.get_num_threads()):
        _gather(batch, extractor, windows, reservoir, progress)
        watcher(progress)
    if len(reservoir) < num_clusters:
        raise InputError(
            f"expected at least {num_clusters} frames for {num_clusters} clusters, got {len(reservoir)}",
            hint="train on more audio, ask for fewer --clusters, or allow more --memory",
        )
    quantizers: list[KMeans] = []
    fits: dict[str, Any] = {}
    for index, layer in enumerate(extractor.layers):
        quantizer, fit = fit_kmeans(
            reservoir.layer(index),
            num_clusters,
            iterations=iterations,
            seed=seed,
            backend=backend,
            on_iteration=partial(on_iteration, layer),
        )
        quantizers.append(quantizer)
        fits[layer] = fit.to_dict()
    evidence = {
        "recordings": progress.done,
        "failed": progress.failed,
        "audio_seconds": round(progress.audio_seconds, 3),
        "frames_seen": reservoir.seen,
        "frames_used": len(reservoir),
        "seed": seed,
        "fits": fits,
    }
    return UnitTokenizer(extractor, quantizers, evidence=evidence)


def batch_samples(seconds: float | None, sample_rate: int) -> int:
    """Samples per batch: as many seconds as asked for, else several windows for each thread.

    Threads wait for the last of a batch, the less the more there is in it; its features are what limits it.
    """
    threads = torch.get_num_threads()
    return round((min(160 * threads, max(640, 80 * threads)) if seconds is None else seconds) * sample_rate)


def _sound(
    items: Iterable[Piece | Failure], progress: Progress, on_failure: Callable[[Failure], None]
) -> Iterator[Piece]:
    for item in items:
        if isinstance(item, Piece):
            yield item
        else:
            progress.failed += 1
            on_failure(item)


def _gather(
    batch: list[Piece], extractor: FeatureExtractor, windows: Windows, reservoir: FrameReservoir, progress: Progress
) -> None:
    """Adds the frames of a batch of windows, without their context."""
    audio = Audio.of([torch.from_numpy(piece.samples) for piece in batch], extractor.sample_rate)
    features = extractor.extract(audio)
    for index, piece in enumerate(batch):
        frames = features.utterance(index)[:, piece.skip : piece.skip + piece.frames]
        reservoir.add(piece.utterance.id, piece.index * windows.frames, frames)
        progress.audio_seconds += piece.frames * extractor.hop_length / extractor.sample_rate
        progress.done += piece.facts is not None
