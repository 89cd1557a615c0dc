"""How good tokens and resynthesis are: judges of values, which never import models.

Names are imported when they are first used. Three functions are named after their modules and are found only there:
`vocable.metrics.abx.abx`, `vocable.metrics.agreement.agreement` and `vocable.metrics.robustness.robustness`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "abx": ("ABX", "Segment", "angular", "corpus_segments", "cosine", "segments", "store_segments", "unequal"),
    "agreement": ("Agreement",),
    "alignment": ("aligned",),
    "augment": ("Augmentation", "Noise", "PitchShift", "Reverberation", "TimeStretch"),
    "catalogue": ("METRICS", "Metric", "metrics_named"),
    "coding": ("PairEncoding", "Rates", "bitrates", "empirical_bits", "held_out_bits", "pair_encodings"),
    "judges": ("JUDGES", "judge_named"),
    "layers": ("LayerReport", "LayerRow", "layer_report"),
    "ngram": ("NGram",),
    "perceptual": ("pesq_nb", "pesq_wb"),
    "pitch_errors": ("f0_rmse", "voicing_error"),
    "reconstruction": ("NotScored", "Scores", "estoi", "mel_distance", "sdr", "si_sdr", "snr", "stoi"),
    "report": ("Clip", "write_page"),
    "robustness": ("Robustness", "RobustnessRow", "edit_distance", "unit_edit_distance"),
    "runs": ("CodebookUse", "codebook_use", "deduplicated", "run_lengths"),
    "scoring": ("PairScores", "Summary", "score_pairs", "summarize_scores"),
    "spectral_distances": ("log_spectral_distance", "mel_cepstral_distortion", "stft_distance"),
    "summary": ("StoreSummary", "summarize"),
    "tokens": (
        "cluster_purity",
        "code_counts",
        "contingency",
        "dead_entries",
        "deduplicated_bitrate",
        "entropy",
        "frame_centres",
        "frame_labels",
        "normalized_entropy",
        "perplexity",
        "phone_purity",
        "phone_tables",
        "pnmi",
        "run_counts",
        "token_rate",
        "usage",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if TYPE_CHECKING:
    from vocable.metrics.abx import ABX, Segment, angular, corpus_segments, cosine, segments, store_segments, unequal
    from vocable.metrics.agreement import Agreement
    from vocable.metrics.alignment import aligned
    from vocable.metrics.augment import Augmentation, Noise, PitchShift, Reverberation, TimeStretch
    from vocable.metrics.catalogue import METRICS, Metric, metrics_named
    from vocable.metrics.coding import PairEncoding, Rates, bitrates, empirical_bits, held_out_bits, pair_encodings
    from vocable.metrics.judges import JUDGES, judge_named
    from vocable.metrics.layers import LayerReport, LayerRow, layer_report
    from vocable.metrics.ngram import NGram
    from vocable.metrics.perceptual import pesq_nb, pesq_wb
    from vocable.metrics.pitch_errors import f0_rmse, voicing_error
    from vocable.metrics.reconstruction import NotScored, Scores, estoi, mel_distance, sdr, si_sdr, snr, stoi
    from vocable.metrics.report import Clip, write_page
    from vocable.metrics.robustness import Robustness, RobustnessRow, edit_distance, unit_edit_distance
    from vocable.metrics.runs import CodebookUse, codebook_use, deduplicated, run_lengths
    from vocable.metrics.scoring import PairScores, Summary, score_pairs, summarize_scores
    from vocable.metrics.spectral_distances import log_spectral_distance, mel_cepstral_distortion, stft_distance
    from vocable.metrics.summary import StoreSummary, summarize
    from vocable.metrics.tokens import (
        cluster_purity,
        code_counts,
        contingency,
        dead_entries,
        deduplicated_bitrate,
        entropy,
        frame_centres,
        frame_labels,
        normalized_entropy,
        perplexity,
        phone_purity,
        phone_tables,
        pnmi,
        run_counts,
        token_rate,
        usage,
    )

__all__ = [
    "ABX",
    "JUDGES",
    "METRICS",
    "Agreement",
    "Augmentation",
    "Clip",
    "CodebookUse",
    "LayerReport",
    "LayerRow",
    "Metric",
    "NGram",
    "Noise",
    "NotScored",
    "PairEncoding",
    "PairScores",
    "PitchShift",
    "Rates",
    "Reverberation",
    "Robustness",
    "RobustnessRow",
    "Scores",
    "Segment",
    "StoreSummary",
    "Summary",
    "TimeStretch",
    "aligned",
    "angular",
    "bitrates",
    "cluster_purity",
    "code_counts",
    "codebook_use",
    "contingency",
    "corpus_segments",
    "cosine",
    "dead_entries",
    "deduplicated",
    "deduplicated_bitrate",
    "edit_distance",
    "empirical_bits",
    "entropy",
    "estoi",
    "f0_rmse",
    "frame_centres",
    "frame_labels",
    "held_out_bits",
    "judge_named",
    "layer_report",
    "log_spectral_distance",
    "mel_cepstral_distortion",
    "mel_distance",
    "metrics_named",
    "normalized_entropy",
    "pair_encodings",
    "perplexity",
    "pesq_nb",
    "pesq_wb",
    "phone_purity",
    "phone_tables",
    "pnmi",
    "run_counts",
    "run_lengths",
    "score_pairs",
    "sdr",
    "segments",
    "si_sdr",
    "snr",
    "stft_distance",
    "stoi",
    "store_segments",
    "summarize",
    "summarize_scores",
    "token_rate",
    "unequal",
    "unit_edit_distance",
    "usage",
    "voicing_error",
    "write_page",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'vocable.metrics' has no attribute {name!r}")
    return getattr(import_module(f"vocable.metrics.{home}"), name)


def __dir__() -> list[str]:
    return list(__all__)
