"""The metrics of reconstruction by name: what each is, in which unit, and which way is better."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from vocable.errors import InputError
from vocable.metrics import perceptual, pitch_errors, reconstruction, spectral_distances
from vocable.metrics.reconstruction import Scores
from vocable.types import Audio


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: `function` of original and resynthesis, both mono and at one rate.

    unit: empty where there is none. needs: the pip extra that it takes, if any. version: grows whenever values change.
    library: the package that computes it, whose release is part of what the values are.
    level_free: whether a change of level leaves the score as it is, up to what a judge of pitch or quality makes of it.
    """

    name: str
    function: Callable[[Audio, Audio], Scores]
    unit: str
    higher_is_better: bool
    what: str
    needs: str | None = None
    version: int = 1
    library: str | None = None
    level_free: bool = False

    @property
    def identity(self) -> str:
        """Name, version and the library's release: equal identities give equal scores."""
        return f"{self.name}/{self.version}" + (f"/{self.library}-{_release(self.library)}" if self.library else "")


def metrics_named(names: Iterable[str]) -> list[Metric]:
    """The metrics of these names, each once. InputError if one is unknown."""
    names = list(dict.fromkeys(names))
    if unknown := [name for name in names if name not in METRICS]:
        raise InputError(f"no metric {unknown[0]!r}", hint=f"there are {', '.join(METRICS)}")
    return [METRICS[name] for name in names]


def _release(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "missing"


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
"""All of them by name, in the order in which tables show them."""
