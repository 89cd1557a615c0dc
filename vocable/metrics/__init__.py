"""How good tokens and resynthesis are: judges of values, which never import models."""

from __future__ import annotations

from vocable.metrics.reconstruction import Scores, estoi, mel_distance, si_sdr, stoi
from vocable.metrics.report import Clip, write_page
from vocable.metrics.tokens import (
    cluster_purity,
    code_counts,
    contingency,
    dead_entries,
    deduplicated_bitrate,
    entropy,
    frame_centres,
    frame_labels,
    perplexity,
    phone_purity,
    pnmi,
    run_counts,
    token_rate,
    usage,
)

__all__ = [
    "Clip",
    "Scores",
    "cluster_purity",
    "code_counts",
    "contingency",
    "dead_entries",
    "deduplicated_bitrate",
    "entropy",
    "estoi",
    "frame_centres",
    "frame_labels",
    "mel_distance",
    "perplexity",
    "phone_purity",
    "pnmi",
    "run_counts",
    "si_sdr",
    "stoi",
    "token_rate",
    "usage",
    "write_page",
]
