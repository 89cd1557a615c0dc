"""One candidate after the other: fitted on the training part, tokens of all recordings, a score; each kept on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocable.artifacts import read_state, write_state
from vocable.errors import ArtifactError
from vocable.evaluation.choose_candidates import Candidate, fit
from vocable.evaluation.choose_frames import StoredFrames
from vocable.evaluation.choose_results import Row
from vocable.evaluation.choose_scores import Question
from vocable.files import write_atomic
from vocable.probes import Figure, Material
from vocable.probes.material import Item, Layer
from vocable.quantizers import quantizer_config, quantizer_from, quantizer_tensors
from vocable.types import Codebook, FeatureExtractor, Quantizer, TokenSpec

_CODEBOOKS = "codebooks"
_AT_ONCE = 2**18  # rows that are quantized in one go
_ANEW = "delete it, and run the same command again"


@dataclass(frozen=True)
class Source:
    """Features to choose among: what they are called, their extractor and its frames; how many to fit on at most.

    origin: hash of what the frames are made of, settings and files.
    """

    name: str
    extractor: FeatureExtractor
    frames: StoredFrames
    sample_frames: int
    origin: str

    @property
    def frame_rate(self) -> float:
        """In Hz."""
        return self.extractor.sample_rate / self.extractor.hop_length

    @property
    def clock(self) -> TokenSpec:
        """When each frame is."""
        of = self.extractor
        return TokenSpec(of.sample_rate, of.hop_length, (Codebook(1, "any"),), "", of.window)


@dataclass(frozen=True)
class Fit:
    """A quantizer, how the fit of each codebook went, and the seconds that it took."""

    quantizer: Quantizer
    evidence: list[dict[str, Any]]
    seconds: float


class Sweep:
    """Fits and scores under `work`, named after all that decides them: what is there is not made again."""

    def __init__(
        self,
        work: Path,
        sources: Mapping[str, Source],
        question: Question,
        items: Mapping[str, Item],
        *,
        seed: int,
        device: str,
    ) -> None:
        self.work, self.sources, self.question, self.seed, self.device = work, sources, question, seed, device
        self._items = {name: items[name] for name in (*question.split.train, *question.split.test)}
        self._asked = digest(question.key())

    def row(self, candidate: Candidate) -> tuple[Row, bool]:
        """A candidate with its score, and whether that was there already."""
        source = self.sources[candidate.features]

        def judged() -> tuple[Figure, float]:
            found, began = self.fit(candidate), time.monotonic()
            score = self.question.judge(self._codes(candidate, found.quantizer), source.clock)
            return score, found.seconds + time.monotonic() - began

        score, seconds, kept = self._kept(self._fit_key(candidate), judged)
        way, size, units = str(candidate.quantizing), candidate.size, candidate.units
        bitrate, rate = candidate.bitrate, candidate.frame_rate
        return Row(source.name, candidate.layer, way, size, units, bitrate, rate, score, seconds), kept

    def bound(self, features: str, layer: str) -> tuple[Row, bool]:
        """The same of the frames themselves."""
        source = self.sources[features]

        def judged() -> tuple[Figure, float]:
            began, rows = time.monotonic(), source.frames.layer(layer)
            columns = Layer(layer, tuple(range(source.extractor.dim)))
            score = self.question.judge(self._material(source, rows, columns), source.clock)
            return score, time.monotonic() - began

        score, seconds, kept = self._kept([source.origin, layer, "continuous"], judged)
        return Row(source.name, layer, "continuous", None, None, None, source.frame_rate, score, seconds), kept

    def fit(self, candidate: Candidate) -> Fit:
        """The quantizer of a candidate, fitted if it is not there yet."""
        file = self.work / "fits" / f"{digest(self._fit_key(candidate))}.safetensors"
        if file.exists():
            return self._read_fit(file)
        began, source = time.monotonic(), self.sources[candidate.features]
        learnt_from = self.question.split.train
        sample = source.frames.sample(candidate.layer, learnt_from, source.sample_frames, seed=self.seed).layer(0)
        quantizer, evidence = fit(candidate.quantizing, candidate.size, sample.to(self.device), seed=self.seed)
        found = Fit(quantizer, evidence, time.monotonic() - began)
        header = {"quantizer": quantizer_config(quantizer), "evidence": evidence, "seconds": found.seconds}
        told = {name: json.dumps(value) for name, value in header.items()}
        write_state(file, quantizer_tensors(quantizer, _CODEBOOKS), told)
        return found

    def _fit_key(self, candidate: Candidate) -> list[Any]:
        source = self.sources[candidate.features]
        how = [candidate.layer, str(candidate.quantizing), candidate.size, self.seed, source.sample_frames]
        return [source.origin, *how, self.question.split.train]

    def _read_fit(self, file: Path) -> Fit:
        tensors, header = read_state(file)
        placed = {name: tensor.to(self.device) for name, tensor in tensors.items()}
        try:
            config, evidence, seconds = (json.loads(header[name]) for name in ("quantizer", "evidence", "seconds"))
            return Fit(quantizer_from(config, placed, _CODEBOOKS), evidence, seconds)
        except (KeyError, ValueError, AttributeError) as problem:
            raise ArtifactError(f"{file} is damaged: {problem}", hint=_ANEW) from problem

    def _codes(self, candidate: Candidate, quantizer: Quantizer) -> Material:
        """Codes of all recordings, from one pass over the rows of the layer."""
        source = self.sources[candidate.features]
        parts = source.frames.layer(candidate.layer).split(_AT_ONCE)
        codes = torch.cat([quantizer.encode(part.to(self.device)).to("cpu", torch.int32) for part in parts])
        sizes = quantizer.codebook_sizes
        return self._material(source, codes, Layer(candidate.layer, tuple(range(len(sizes))), sizes))

    def _material(self, source: Source, rows: Tensor, layer: Layer) -> Material:
        items = {name: Item(name, rows[source.frames.places[name]], item.fields) for name, item in self._items.items()}
        return Material(layer.name, (layer,), items, source.frame_rate)

    def _kept(self, key: list[Any], judged: Callable[[], tuple[Figure, float]]) -> tuple[Figure, float, bool]:
        """The score under this key for what is asked, its seconds, and whether it was there."""
        file = self.work / "scores" / f"{digest([key, self._asked])}.json"
        if file.exists():
            return (*_read_score(file), True)
        score, seconds = judged()
        write_atomic(file, json.dumps({"score": asdict(score), "seconds": seconds}).encode())
        return score, seconds, False


def digest(values: Any) -> str:
    """A name for plain values: the start of a SHA-256 over their JSON."""
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def _read_score(file: Path) -> tuple[Figure, float]:
    try:
        told = json.loads(file.read_bytes())
        value, low, high = (float(told["score"][name]) for name in ("value", "low", "high"))
        seeds, resampled = (tuple(map(float, told["score"][name])) for name in ("seeds", "resampled"))
        return Figure(value, low, high, seeds, resampled), float(told["seconds"])
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ArtifactError(f"{file} is damaged: {problem}", hint=_ANEW) from problem
