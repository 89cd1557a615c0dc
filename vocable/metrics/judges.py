"""Judges by name: networks that listen to a resynthesis, each an optional package or a folder of weights.

`dnsmos`, `distill_mos` and the like stand alone; `wer:ASR`, `cer:ASR`, `dwer:ASR`, `dcer:ASR` and `speaker:NETWORK`
say who listens, by a name or by the folder of a checkpoint. Nothing is ever fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path

from torch import Tensor

from vocable.errors import InputError
from vocable.metrics import opinion
from vocable.metrics.listening import Remembered
from vocable.metrics.metric import Metric, content
from vocable.metrics.recognizers import Recognizer, recognizer
from vocable.metrics.speakers import GE2E_INSTALL, ge2e, require_xvector, similarity, xvector
from vocable.metrics.transcripts import Unit, drift, error_rate, normalized, without_text

_OPINIONS = (
    Metric("dnsmos", opinion.dnsmos, "MOS", True, "DNSMOS P.835, overall", needs="judges", library="speechmos"),
    Metric(
        "dnsmos_sig",
        partial(opinion.dnsmos, scale="signal"),
        "MOS",
        True,
        "DNSMOS P.835, the speech alone",
        needs="judges",
        library="speechmos",
    ),
    Metric(
        "dnsmos_bak",
        partial(opinion.dnsmos, scale="background"),
        "MOS",
        True,
        "DNSMOS P.835, the background alone",
        needs="judges",
        library="speechmos",
    ),
    Metric(
        "dnsmos_p808",
        partial(opinion.dnsmos, scale="p808"),
        "MOS",
        True,
        "DNSMOS P.808",
        needs="judges",
        library="speechmos",
    ),
    Metric(
        "distill_mos",
        opinion.distill_mos,
        "MOS",
        True,
        "Distill-MOS",
        library="distillmos",
        level_free=True,
        install=opinion.DISTILL_INSTALL,
    ),
)
OPINIONS: Mapping[str, Metric] = {metric.name: metric for metric in _OPINIONS}
"""Judges that take no argument."""

_RATES: Mapping[str, tuple[str, Unit]] = {
    "wer": ("word error rate against text", "words"),
    "cer": ("character error rate against text", "characters"),
    "dwer": ("word error rate against the transcript of the original", "words"),
    "dcer": ("character error rate against the transcript of the original", "characters"),
}
JUDGES = (*OPINIONS, *(f"{rate}:ASR" for rate in _RATES), "speaker:NETWORK")
"""All of them; ASR is pocketsphinx, moonshine or a folder, NETWORK is ge2e or a folder."""


def is_judge(name: str) -> bool:
    """Whether a name is that of a judge, known or not what comes after its colon."""
    kind, _, which = name.partition(":")
    return name in OPINIONS or (bool(which) and (kind in _RATES or kind == "speaker"))


def judge_named(name: str) -> Metric:
    """The judge of a name.

    InputError if there is none, or none of what it names; ArtifactError if a folder holds something else.
    """
    if name in OPINIONS:
        return OPINIONS[name]
    kind, _, which = name.partition(":")
    if kind in _RATES and which:
        return _error_rate(name, kind, recognizer(which))
    if kind == "speaker" and which:
        return _speaker(name, which)
    raise InputError(f"no judge {name!r}", hint=f"there are {', '.join(JUDGES)}")


def _error_rate(name: str, kind: str, asr: Recognizer) -> Metric:
    what, unit = _RATES[kind]

    def hear(wave: Tensor, sample_rate: int) -> str:
        return _ear(asr.name, content(asr.weights) if asr.weights else "")(wave, sample_rate)

    against_text = None if kind.startswith("d") else partial(error_rate, hear=hear, unit=unit)
    return Metric(
        name,
        without_text if against_text else partial(drift, hear=hear, unit=unit),
        "",
        False,
        f"{what}, by {Path(asr.name).name}",
        needs=asr.needs,
        library=asr.library,
        against_text=against_text,
        weights=asr.weights,
    )


def _speaker(name: str, which: str) -> Metric:
    folder = None if which == "ge2e" else Path(which).expanduser()
    if folder is not None:
        require_xvector(folder)

    def embed(wave: Tensor, sample_rate: int) -> Tensor:
        return _voice(folder, content(folder) if folder else "")(wave, sample_rate)

    return Metric(
        name,
        partial(similarity, embed=embed),
        "",
        True,
        f"speaker similarity, by {Path(which).name}",
        library="transformers" if folder else "resemblyzer",
        weights=folder,
        install="" if folder else GE2E_INSTALL,
    )


# opened once in a process, and again if what lies in the folder has changed


@lru_cache(maxsize=4)
def _ear(name: str, _: str) -> Remembered[str]:
    listen = recognizer(name).opened()
    return Remembered(lambda wave: normalized(listen(wave)))


@lru_cache(maxsize=4)
def _voice(folder: Path | None, _: str) -> Remembered[Tensor]:
    return Remembered(xvector(folder) if folder else ge2e())
