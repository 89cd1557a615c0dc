"""What listeners would say of a resynthesis alone: DNSMOS and Distill-MOS, which look at no original.

They were trained on speech with noise, networks and codecs in it: of music, or of a voice that says something else
clearly, they know nothing. Their weights lie in packages, whose code is not run.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vocable.errors import MissingDependencyError
from vocable.metrics.distill_mos import DistillMOS
from vocable.metrics.listening import RATE, Remembered, packaged, packaged_weights, slaney_mel
from vocable.metrics.reconstruction import SILENCE, NotScored, Scores, score_each
from vocable.types import Audio

DNSMOS_INSTALL = "pip install 'vocable[judges]'"
DISTILL_INSTALL = "pip install --no-deps distillmos==0.9.1"
_DISTILL_WEIGHTS = "b18b3ac60227267cfb91e5d00ce22cc7b73716fd92f269484da1446e27031a40"  # distillmos 0.9.1

_SECONDS = 9.01
_SIGNAL = np.poly1d([-0.08397278, 1.22083953, 0.0052439])
_BACKGROUND = np.poly1d([-0.13166888, 1.60915514, -0.39604546])
_OVERALL = np.poly1d([-0.06766283, 1.11546468, 0.04602535])


class Opinion(NamedTuple):
    """Means over the stretches of a recording, 1 to 5 each: of P.835 overall, signal, background; of P.808 overall."""

    overall: float
    signal: float
    background: float
    p808: float


def dnsmos(_: Audio, estimate: Audio, scale: Literal["overall", "signal", "background", "p808"] = "overall") -> Scores:
    """DNSMOS of the resynthesis on a scale, 1 to 5, higher is better; the original has no part in it.

    Reddy et al. 2022, "DNSMOS P.835: A Non-Intrusive Perceptual Objective Speech Quality Metric to Evaluate Noise
    Suppressors"; `p808` is the network of Reddy et al. 2021. Values are those of the package speechmos: stretches of
    9.01 s every second, what is shorter repeated until it is as long. The level matters a little. Fails where the
    resynthesis is silent.
    """
    return score_each(estimate, estimate, lambda _, y, rate: getattr(_heard(y, rate), scale))


def distill_mos(_: Audio, estimate: Audio) -> Scores:
    """Distill-MOS of the resynthesis, 1 to 5, higher is better; the original has no part in it.

    Stahl and Gamper 2025, "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality
    Assessment". Values are those of the package distillmos 0.9.1: stretches of 7.68 s at most 1 s apart, brought to
    one level, what is shorter filled with zeros. Fails where the resynthesis is silent.
    """
    return score_each(estimate, estimate, lambda _, y, rate: _distilled()(_audible(y), rate))


def _audible(wave: Tensor) -> Tensor:
    if float((wave - wave.mean()).abs().max()) < SILENCE:
        raise NotScored("the resynthesis is silent")
    return wave


def _heard(wave: Tensor, sample_rate: int) -> Opinion:
    return _dnsmos()(_audible(wave), sample_rate)


@lru_cache(maxsize=1)
def _dnsmos() -> Remembered[Opinion]:
    primary, p808 = (_session(f"dnsmos_models/{name}.onnx") for name in ("sig_bak_ovr", "model_v8"))

    def judge(wave: np.ndarray) -> Opinion:
        rows = []
        for part in dnsmos_stretches(wave):
            signal, background, overall = primary.run(None, {"input_1": part[None]})[0][0]
            mel = _decibels(slaney_mel(part[:-160], 321, 120))
            plain = p808.run(None, {"input_1": mel[None].numpy()})[0][0][0]
            rows.append((_OVERALL(overall), _SIGNAL(signal), _BACKGROUND(background), plain))
        return Opinion(*map(float, np.mean(rows, axis=0)))

    return Remembered(judge)


def dnsmos_stretches(wave: np.ndarray) -> list[np.ndarray]:
    """The stretches [144160] that are judged, as the package counts them: their starts are rounded as there."""
    size = int(_SECONDS * RATE)
    while len(wave) < size:
        wave = np.append(wave, wave)
    count = int(len(wave) // RATE - _SECONDS) + 1
    parts = [wave[index * RATE : int((index + _SECONDS) * RATE)] for index in range(count)]
    return [part for part in parts if len(part) == size]


def _decibels(power: Tensor) -> Tensor:
    """Decibels below the loudest, no more than 80, mapped to -1..1."""
    levels = 10 * power.clamp(min=1e-10).log10()
    return ((levels - levels.max()).clamp(min=-80) + 40) / 40


def _session(file: str) -> Any:
    path = packaged("speechmos", file, install=DNSMOS_INSTALL)
    try:
        import onnxruntime
    except ImportError as problem:
        raise MissingDependencyError(
            "DNSMOS is run by the package onnxruntime, which is not installed", hint=DNSMOS_INSTALL
        ) from problem
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # processes share the work
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@lru_cache(maxsize=1)
def _distilled() -> Remembered[float]:
    path = packaged("distillmos", "weights/distill_mos_v7.pt", install=DISTILL_INSTALL)
    network = DistillMOS.of(packaged_weights(path, _DISTILL_WEIGHTS)["model"])

    def judge(wave: np.ndarray) -> float:
        with torch.inference_mode():
            return network.opinion(torch.from_numpy(wave))

    return Remembered(judge)
