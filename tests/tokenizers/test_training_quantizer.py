"""Trained quantizers as unit tokenizers: artifact, evidence, checkpoints to go on from, failures told."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch

from tests.conftest import sing
from vocable.corpus import Corpus
from vocable.errors import ArtifactError, InputError
from vocable.quantizers.trainable import Design
from vocable.quantizers.trainer import Check, Schedule
from vocable.testing import check_saving, check_tokenizer
from vocable.tokenizers import MFCC, UnitTokenizer
from vocable.tokenizers.training_quantizer import train_quantizer

RVQ = Design("rvq", size=8, num_codebooks=2)
SCHEDULE = Schedule(steps=20, batch=64, check_every=10)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("speech")
    for index in range(3):
        soundfile.write(folder / f"{index}.wav", sing(2.0 + index, seed=index), 16000)
    return Corpus.of(folder)


@pytest.fixture(scope="module")
def units(corpus: Corpus) -> UnitTokenizer:
    return train_quantizer(corpus, MFCC(), RVQ, schedule=SCHEDULE)


def test_it_is_a_tokenizer_with_an_artifact(units: UnitTokenizer, tmp_path: Path) -> None:
    assert [book.label for book in units.spec.codebooks] == ["mfcc.0", "mfcc.1"]
    check_tokenizer(units)
    check_saving(units, UnitTokenizer.from_pretrained, tmp_path / "units")


def test_the_evidence_says_how_it_went(units: UnitTokenizer) -> None:
    evidence = units.evidence
    assert (evidence["recordings"], evidence["failed"]) == (3, 0)
    assert evidence["frames_used"] == evidence["frames_seen"] == pytest.approx(900, abs=5)
    assert evidence["audio_seconds"] == pytest.approx(9.0, abs=0.1)
    fit = evidence["fits"]["mfcc"]
    assert fit["objective"] == sorted(fit["objective"], reverse=True)
    assert fit["iterations"] <= fit["stopped"] == 20
    assert 0 < fit["usage"] <= 1
    assert 0 < fit["entropy"] <= 6
    assert fit["judgement"]["distortion"][1] < fit["judgement"]["distortion"][0] < fit["judgement"]["variance"]


class Interrupted(Exception):
    pass


def interrupt(layer: str, check: Check) -> None:
    if check.step == 10:
        raise Interrupted


def test_an_interrupted_training_goes_on_to_the_same_units(
    corpus: Corpus, units: UnitTokenizer, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train_quantizer(
            corpus,
            MFCC(),
            RVQ,
            schedule=SCHEDULE,
            checkpoints=tmp_path / "states",
            checkpoint_seconds=0,
            on_check=interrupt,
        )
    checks: list[int] = []
    resumed = train_quantizer(
        corpus,
        MFCC(),
        RVQ,
        schedule=SCHEDULE,
        checkpoints=tmp_path / "states",
        on_check=lambda layer, check: checks.append(check.step),
    )
    assert checks == [20]
    assert resumed.fingerprint == units.fingerprint
    assert resumed.evidence == units.evidence
    again = train_quantizer(corpus, MFCC(), RVQ, schedule=SCHEDULE, checkpoints=tmp_path / "states", on_check=interrupt)
    assert again.fingerprint == units.fingerprint


def test_checkpoints_of_another_training_and_damaged_ones_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    short = Schedule(steps=2, batch=16, check_every=2)
    train_quantizer(corpus, MFCC(), RVQ, schedule=short, checkpoints=tmp_path)
    with pytest.raises(InputError, match="another training"):
        train_quantizer(corpus, MFCC(), RVQ, schedule=Schedule(steps=4, batch=16), checkpoints=tmp_path)
    with pytest.raises(InputError, match="another training"):
        train_quantizer(Corpus(list(corpus)[:2]), MFCC(), RVQ, schedule=short, checkpoints=tmp_path)
    (tmp_path / "mfcc.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="damaged"):
        train_quantizer(corpus, MFCC(), RVQ, schedule=short, checkpoints=tmp_path)


def test_broken_recordings_are_told_and_left_out(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", sing(2.0), 16000)
    (tmp_path / "bad.wav").write_bytes(b"nothing of the kind")
    failures = []
    design = Design("fsq", levels=(3, 3))
    units = train_quantizer(
        Corpus.of(tmp_path), MFCC(), design, schedule=SCHEDULE, sample_frames=150, on_failure=failures.append
    )
    assert [failure.id for failure in failures] == ["bad"]
    assert (units.evidence["recordings"], units.evidence["failed"], units.evidence["frames_used"]) == (1, 1, 150)


def test_what_cannot_be_built_is_told_before_any_audio_is_read(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="1 to 39 latent"):
        train_quantizer(Corpus.of(tmp_path), MFCC(), Design("vq", latent=40))
    with pytest.raises(InputError, match="two points"):
        train_quantizer(Corpus.of(tmp_path), MFCC(), RVQ)
    assert torch.get_num_threads() >= 1
