"""Gathering features: what is done with is not held."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from vocable.corpus import Corpus
from vocable.progress import Progress
from vocable.tokenizers import LogMel
from vocable.tokenizers.gathering import Reading, extract_corpus
from vocable.types import Audio, Features


def test_a_batch_is_let_go_before_the_next_is_made(speech_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[np.ndarray]] = []
    extract = LogMel.extract

    def watched(extractor: LogMel, audio: Audio) -> Features:
        assert not any(one() is not None for one in made)
        features = extract(extractor, audio)
        owner = features.frames.numpy().copy()
        made.append(weakref.ref(owner))
        return Features(torch.from_numpy(owner), features.lengths, features.hop_length, features.sample_rate)

    monkeypatch.setattr(LogMel, "extract", watched)
    reading = Reading(batch_seconds=1.0)
    for _, frames in extract_corpus(Corpus.of(speech_folder), LogMel(), Progress(0), reading):
        assert frames.isfinite().all()
    assert len(made) > 1
