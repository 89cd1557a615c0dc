"""The metrics of reconstruction by name: what each is, in which unit, and which way is better. Judges stand beside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vocable.errors import InputError
from vocable.metrics import perceptual, pitch_errors, reconstruction, spectral_distances
from vocable.metrics.judges import JUDGES, is_judge, judge_named
from vocable.metrics.metric import Metric

__all__ = ["METRICS", "Metric", "metrics_named"]


def metrics_named(names: Iterable[str]) -> list[Metric]:
    """The metrics and judges of these names, each once.

    InputError if one is unknown, ArtifactError if a judge's folder does not hold what it should.
    """
    return [_named(name) for name in dict.fromkeys(names)]


def _named(name: str) -> Metric:
    if is_judge(name):
        return judge_named(name)
    if name not in METRICS:
        raise InputError(f"no metric {name!r}", hint=f"there are {', '.join((*METRICS, *JUDGES))}")
    return METRICS[name]


_ALL = (
    Metric("mel", reconstruction.mel_distance, "dB", False, "multi-scale mel distance"),
    Metric("stft", spectral_distances.stft_distance, "", False, "multi-resolution STFT distance"),
    Metric("lsd", spectral_distances.log_spectral_distance, "dB", False, "log-spectral distance"),
    Metric("mcd", spectral_distances.mel_cepstral_distortion, "dB", False, "mel-cepstral distortion", level_free=True),
    Metric("snr", reconstruction.snr, "dB", True, "signal-to-noise ratio"),
    Metric("si_sdr", reconstruction.si_sdr, "dB", True, "scale-invariant SDR", level_free=True),
    Metric("sdr", reconstruction.sdr, "dB", True, "SDR of BSS Eval, up to a filter of 512 taps", level_free=True),
    Metric("stoi", reconstruction.stoi, "", True, "short-time intelligibility", library="pystoi", level_free=True),
    Metric("estoi", reconstruction.estoi, "", True, "extended STOI", library="pystoi", level_free=True),
    Metric(
        "pesq_nb",
        perceptual.pesq_nb,
        "MOS-LQO",
        True,
        "PESQ, narrow band at 8 kHz",
        needs="metrics",
        version=2,
        library="pesq",
        level_free=True,
    ),
    Metric(
        "pesq_wb",
        perceptual.pesq_wb,
        "MOS-LQO",
        True,
        "PESQ, wide band at 16 kHz",
        needs="metrics",
        version=2,
        library="pesq",
        level_free=True,
    ),
    Metric(
        "f0_rmse",
        pitch_errors.f0_rmse,
        "cents",
        False,
        "error of log-f0 where both are voiced",
        needs="pitch",
        library="swift-f0",
        level_free=True,
    ),
    Metric(
        "voicing_error",
        pitch_errors.voicing_error,
        "",
        False,
        "share of frames voiced in one of the two",
        needs="pitch",
        library="swift-f0",
        level_free=True,
    ),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}
"""All but the judges by name, in the order in which tables show them."""
