"""The report on layers counts what the tokens and frames of whole recordings give, however they are cut and read."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.tiny_models import write_tiny_model
from vocable.audio import conform, read
from vocable.clock import Windows
from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.metrics.layers import LayerReport, layer_report
from vocable.metrics.tokens import contingency, frame_labels, phone_purity, pnmi
from vocable.quantizers import KMeans, ScalarBins
from vocable.tokenizers import LogMel, SSLExtractor, UnitTokenizer

PHONES = [[0.3, "a"], [0.5, "sil"], [0.9, "b"]]


def units(*, size: int = 9, frames: int = 20) -> UnitTokenizer:
    """Entries from quiet to loud; windows so short that every recording has several."""
    table = torch.linspace(-18, -2, size)[:, None].repeat(1, 80)
    mel = LogMel()
    return UnitTokenizer(mel, [KMeans(table)], windows=Windows(frames, mel.context, mel.hop_length))


@pytest.fixture
def manifest(speech_folder: Path) -> Path:
    paths = [path.relative_to(speech_folder).as_posix() for path in sorted(speech_folder.rglob("clip*"))]
    lines = [{"path": path, **({"phones": PHONES} if index % 2 else {})} for index, path in enumerate(paths)]
    out = speech_folder / "manifest.jsonl"
    out.write_text("\n".join(json.dumps(line) for line in lines))
    return out


def whole(tokenizer: UnitTokenizer, corpus: Corpus) -> tuple[list[torch.Tensor], torch.Tensor, int]:
    """Codes of each recording, all frames of the first layer, and samples, each recording taken as a whole."""
    sounds = [conform(read(utterance.path), tokenizer.spec.sample_rate) for utterance in corpus]
    codes = [tokenizer.encode(sound).utterance(0) for sound in sounds]
    frames = torch.cat([tokenizer.extractor.extract(sound).utterance(0)[0] for sound in sounds]).double()
    return codes, frames, sum(int(sound.lengths[0]) for sound in sounds)


def test_everything_is_that_of_whole_recordings(manifest: Path) -> None:
    tokenizer, corpus = units(), Corpus.of(manifest)
    codes, frames, samples = whole(tokenizer, corpus)
    report = layer_report(tokenizer, corpus)
    (row,) = report.rows
    assert (report.recordings, report.frames, report.failures) == (8, len(frames), ())
    assert report.seconds == samples / 16000

    flat = torch.cat([one[0] for one in codes])
    decoded = tokenizer.quantizers[0].decode(flat[:, None]).double()
    explained = 1 - (frames - decoded).square().sum() / (frames - frames.mean(dim=0)).square().sum()
    assert row.explained == pytest.approx(float(explained), abs=1e-9)
    shares = [count / len(flat) for count in Counter(flat.tolist()).values()]
    assert row.usage == len(shares) / 9
    assert row.entropy == pytest.approx(-sum(share * math.log2(share) for share in shares))
    runs = sum(1 + int((one[0, 1:] != one[0, :-1]).sum()) for one in codes)
    assert row.bitrate == pytest.approx(100 * math.log2(9))
    assert row.deduplicated == pytest.approx(runs * math.log2(9) / report.seconds)

    table: Counter[tuple[int, str]] = Counter()
    for one, utterance in zip(codes, corpus, strict=True):
        phones = [(end, phone) for end, phone in utterance.fields.get("phones", [])]
        table += contingency(one[0], frame_labels(phones, tokenizer.spec, one.shape[1]))
    assert report.labelled == sum(table.values()) > 0
    assert (row.pnmi, row.phone_purity) == (pnmi(table), phone_purity(table))


def assert_same(report: LayerReport, expected: LayerReport) -> None:
    """Equal, but for sums of floats in another order."""
    for row, other in zip(report.rows, expected.rows, strict=True):
        assert row.explained == pytest.approx(other.explained, abs=1e-12)
        assert replace(row, explained=None) == replace(other, explained=None)
    assert (report.recordings, report.frames, report.labelled) == (8, expected.frames, expected.labelled)


def test_workers_and_batches_change_nothing(manifest: Path) -> None:
    expected = layer_report(units(), Corpus.of(manifest))
    assert_same(layer_report(units(), Corpus.of(manifest), workers=2, batch_seconds=1.0), expected)


def test_layers_have_rows_of_their_own(speech_folder: Path, tmp_path: Path) -> None:
    extractor = SSLExtractor.from_pretrained(str(write_tiny_model(tmp_path / "model")), layers=[0, 2])
    corpus = Corpus.of(speech_folder)
    sounds = [conform(read(utterance.path), 16000) for utterance in corpus]
    frames = torch.cat([extractor.extract(sound).utterance(0) for sound in sounds], dim=1)
    tables = [layer[:: len(layer) // size][:size].clone() for layer, size in zip(frames, (4, 16), strict=True)]
    rows = layer_report(UnitTokenizer(extractor, [KMeans(table) for table in tables]), corpus).rows
    assert [(row.label, row.size) for row in rows] == [("L0", 4), ("L2", 16)]
    for row, table, layer in zip(rows, tables, frames, strict=True):
        error = torch.cdist(layer.double(), table.double()).min(dim=1).values.square().sum()
        total = (layer.double() - layer.double().mean(dim=0)).square().sum()
        assert row.explained == pytest.approx(1 - float(error / total), abs=1e-6)
        assert (row.pnmi, row.phone_purity, row.cluster_purity) == (None, None, None)


def test_codebooks_of_one_layer_share_what_they_explain(speech_folder: Path) -> None:
    tokenizer = UnitTokenizer(LogMel(num_bands=3), [ScalarBins(3, low=-18.0, high=0.0)])
    rows = layer_report(tokenizer, Corpus.of(speech_folder)).rows
    assert [row.label for row in rows] == ["logmel.0", "logmel.1", "logmel.2"]
    assert len({row.explained for row in rows}) == 1 and rows[0].explained > 0.5
    assert len({row.entropy for row in rows}) == 3


def test_a_recording_that_fails_is_told_and_counts_nothing(manifest: Path) -> None:
    expected = layer_report(units(), Corpus.of(manifest))
    broken = manifest.parent / "broken.wav"
    broken.write_bytes(b"RIFF")
    manifest.write_text(manifest.read_text() + "\n" + json.dumps({"path": broken.name}))
    report = layer_report(units(), Corpus.of(manifest))
    assert_same(report, expected)
    assert [failure.id for failure in report.failures] == ["broken"]


def test_a_recording_that_ends_badly_counts_nothing(manifest: Path) -> None:
    expected = layer_report(units(), Corpus.of(manifest))
    wave = np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    wave[30000] = np.nan  # found when the windows before it were given out
    soundfile.write(manifest.parent / "ends.wav", wave, 16000, subtype="FLOAT")
    manifest.write_text(manifest.read_text() + "\n" + json.dumps({"path": "ends.wav"}))
    report = layer_report(units(), Corpus.of(manifest), batch_seconds=0.1)
    assert_same(report, expected)
    assert [failure.id for failure in report.failures] == ["ends"]


def test_frames_that_never_vary_have_nothing_to_explain(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000, np.float32), 16000)
    (row,) = layer_report(units(), Corpus.of(tmp_path)).rows
    assert (row.explained, row.entropy, row.usage) == (None, 0.0, 1 / 9)


def test_pnmi_needs_two_phones(speech_folder: Path) -> None:
    manifest = speech_folder / "one.jsonl"
    manifest.write_text(json.dumps({"path": "speaker0/clip0.wav", "vowels": [[9.0, "a"]]}))
    (row,) = layer_report(units(), Corpus.of(manifest), labels="vowels").rows
    assert (row.pnmi, row.phone_purity) == (None, 1.0)


@pytest.mark.parametrize("phones", [7, "text", [["a", 0.1]], [[0.1]], [[0.5, "a"], [0.2, "b"]], [[math.nan, "a"]]])
def test_labels_of_another_form_are_refused_before_the_work(speech_folder: Path, phones: object) -> None:
    manifest = speech_folder / "bad.jsonl"
    manifest.write_text(json.dumps({"path": "speaker0/clip0.wav", "phones": phones}))
    with pytest.raises(InputError, match=r"expected `phones` of speaker0/clip0 as"):
        layer_report(units(), Corpus.of(manifest))


def test_no_recording_at_all(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match="no recording could be read"):
        layer_report(units(), Corpus.of(tmp_path))
