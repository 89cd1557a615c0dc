"""A unit vocoder in training: its batches, its judgement, and a training that goes on where it was interrupted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import sing
from tests.processes import run_processes
from vocable.audio import read
from vocable.corpus import Corpus, Failure
from vocable.errors import InputError, SpecError
from vocable.nets.unit_decoder import UnitDecoder, unit_decoder_config
from vocable.store import TokenStore
from vocable.tokenizers import MFCC, JoinedTokenizer, LogMel, UnitTokenizer, tokenize, train_kmeans
from vocable.tokenizers.gathering import Reading
from vocable.training.audio_cache import AudioCache
from vocable.training.clips import ClipCache
from vocable.training.crops import Crops
from vocable.training.regime import Regime
from vocable.training.reports import Report
from vocable.training.vocoder import centroids_of, speaker_names, train_vocoder
from vocable.training.vocoder_task import Judge, Selection, VocoderTask
from vocable.training.work import Diary, claim
from vocable.types import Audio
from vocable.vocoders.units import UnitVocoder

CROPS = Crops(3, 0.2)
REGIME = Regime(8, learning_rate=2e-3, warm_up=2, discriminators="none", ema=0.5, report_every=2, check_every=4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Six clips of two speakers and a short one of nobody."""
    folder = tmp_path_factory.mktemp("speech")
    lines = []
    for index in range(6):
        soundfile.write(folder / f"{index}.wav", sing(0.5 + 0.1 * index, seed=index), 16000)
        lines.append({"path": f"{index}.wav", "speaker": f"s{index % 2}"})
    soundfile.write(folder / "short.wav", sing(0.15, seed=9), 16000)
    lines.append({"path": "short.wav"})
    (folder / "all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Corpus.of(folder / "all.jsonl")


@pytest.fixture(scope="module")
def units(corpus: Corpus) -> JoinedTokenizer:
    return JoinedTokenizer([train_kmeans(corpus, MFCC(), 16), train_kmeans(corpus, LogMel(), 8)])


@pytest.fixture(scope="module")
def clips(corpus: Corpus, units: JoinedTokenizer, tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    work = tmp_path_factory.mktemp("work")
    tokenize(corpus, units, work / "tokens")
    audio = AudioCache.create(work / "audio", corpus, 16000)
    audio.fill(corpus)
    return ClipCache.create(work / "clips", audio, TokenStore.open(work / "tokens"), 160)


def design(**changes: Any) -> dict[str, Any]:
    generator = {"kind": "istft", "dim": 16, "depth": 1, "width": 32, "kernel": 3, "hop_length": 160, "fft_size": 640}
    return unit_decoder_config([16, 8], [[0], [1]], generator, **changes)


def task(clips: ClipCache, **options: Any) -> VocoderTask:
    torch.manual_seed(0)
    voices = [-1 if clip.id == "short" else int(clip.id) % 2 for clip in clips.clips]
    if "speakers" not in options:
        voices = [-1] * len(voices)
    training = Selection(clips, options.pop("training", range(len(clips.clips))), voices)
    judged = Selection(clips, options.pop("held", []), voices)
    decoder = UnitDecoder(design(speakers=len(options.get("speakers", ()))))
    return VocoderTask(decoder, training, judged, **{"crops": CROPS, **options})


def test_a_batch_is_a_function_of_its_arguments(clips: ClipCache) -> None:
    one, other = task(clips), task(clips)
    first = one.batch(5, rank=0, world=2)
    one.batch(6, rank=0, world=2)
    for again in (one.batch(5, rank=0, world=2), other.batch(5, rank=0, world=2)):
        assert all(torch.equal(first[name], again[name]) for name in first)
    for strange in (one.batch(5, rank=1, world=2), one.batch(4, rank=0, world=2)):
        assert not torch.equal(first["real"], strange["real"])
    shapes = {name: list(tensor.shape) for name, tensor in first.items()}
    assert shapes == {
        "codes": [3, 2, 20],
        "phase": [3, 20],
        "real": [3, 3200],
        "present": [3, 2],
        "speaker": [3],
        "length": [3],
    }


def test_sound_and_codes_of_a_batch_belong_together(clips: ClipCache) -> None:
    wholes = [clips.crop(index, 0, clips.num_frames(index) + 20) for index in range(len(clips.clips))]
    batch = task(clips).batch(0, rank=0, world=1)
    for row in range(3):
        real = batch["real"][row].numpy()
        places = [
            (whole, first)
            for whole in wholes
            for first in range(len(whole[1]) - 19)
            if np.array_equal(whole[2][first * 160 : first * 160 + 3200], real)
        ]
        assert len(places) == 1
        (codes, phase, _), first = places[0]
        assert np.array_equal(batch["codes"][row].numpy(), codes[:, first : first + 20])
        assert np.array_equal(batch["phase"][row].numpy(), phase[first : first + 20])


def test_only_recordings_to_learn_from_are_drawn(clips: ClipCache) -> None:
    own = task(clips, training=[2])
    whole = clips.crop(2, 0, clips.num_frames(2))[2]
    for step in range(4):
        for real in own.batch(step, rank=0, world=1)["real"].numpy():
            assert any(np.array_equal(whole[160 * t : 160 * t + 3200], real) for t in range(clips.num_frames(2) - 19))


def test_layers_are_dropped_in_every_way_and_half_of_the_crops_keep_all(clips: ClipCache) -> None:
    own = task(clips, crops=Crops(100, 0.05))
    present = torch.cat([own.batch(step, rank=0, world=1)["present"] for step in range(20)])
    shares = {tuple(row): 0 for row in present.tolist()}
    for row in present.tolist():
        shares[tuple(row)] += 1
    # half of all, and of the other half a half: one layer in a quarter of the crops, either as often
    assert set(shares) == {(True, True), (True, False), (False, True)}
    assert shares[True, True] / 2000 == pytest.approx(0.75, abs=0.05)
    assert shares[True, False] / shares[False, True] == pytest.approx(1, abs=0.3)
    assert bool(task(clips, layer_dropout=False).batch(0, rank=0, world=1)["present"].all())


def test_speakers_are_numbered_and_strangers_are_nobody(clips: ClipCache) -> None:
    own = task(clips, speakers=["s0", "s1"], crops=Crops(30, 0.1))
    batch = own.batch(0, rank=0, world=1)
    wholes = {clip.id: clips.crop(number, 0, 100)[2] for number, clip in enumerate(clips.clips)}
    for real, speaker in zip(batch["real"].numpy(), batch["speaker"].tolist(), strict=True):
        (name,) = (
            n for n, w in wholes.items() if any(np.array_equal(w[160 * t : 160 * t + 1600], real) for t in range(90))
        )
        assert speaker == (-1 if name == "short" else int(name) % 2)
    assert task(clips).batch(0, rank=0, world=1)["speaker"].tolist() == [-1] * 3


def test_beyond_the_end_of_a_recording_nothing_is_learned(clips: ClipCache) -> None:
    (short,) = (number for number, clip in enumerate(clips.clips) if clip.id == "short")
    own = task(clips, training=[short, short])
    batch = own.batch(0, rank=0, world=1)
    assert batch["length"].tolist() == [2400] * 3
    rendition = own.render(batch)
    assert torch.equal(rendition.real, batch["real"])
    assert not rendition.fake[:, 2400:].any()
    assert bool(rendition.fake[:, :2400].abs().sum(1).gt(0).all())
    assert rendition.losses == {}


def remember(heard: list[tuple[Audio, Audio]]) -> Judge:
    def judge(real: Audio, fake: Audio) -> dict[str, float]:
        heard.append((real, fake))
        return {"mel": float((real.samples - fake.samples).abs().mean())}

    return judge


def test_it_is_judged_as_a_finished_vocoder_sounds(clips: ClipCache, tmp_path: Path) -> None:
    heard: list[tuple[Audio, Audio]] = []
    own = task(clips, held=[1, 4], judge=remember(heard), samples=tmp_path, speakers=["s0", "s1"])
    own.network.eval()
    assert own.judge()["mel"] > 0
    ((real, fake),) = heard
    assert isinstance(own.network, UnitDecoder)
    finished = UnitVocoder(own.network, clips.spec, 16000, speakers=["s0", "s1"])
    for row, index in enumerate((1, 4)):
        clip = clips.clips[index]
        due = finished.speaking(f"s{int(clip.id) % 2}").decode_blocks(
            torch.from_numpy(clips.codes(index)), clip.samples
        )
        assert torch.equal(fake.waveform(row)[0], torch.cat(list(due)))
        assert torch.equal(real.waveform(row)[0], torch.from_numpy(clips.audio.crop(clip.recording, 0, clip.samples)))
    kept = read(tmp_path / "latest" / "1.wav").waveform(0)
    assert torch.allclose(kept, fake.waveform(0).clamp(-1, 1), atol=1e-4)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.wav")) == [
        f"{folder}/{name}.wav" for folder in ("latest", "originals") for name in (1, 4)
    ]
    assert task(clips, judge=remember(heard)).judge() == {}


def report(step: int, mel: float, figures: bool = True) -> Report:
    return Report(step, 0.5, 1.0, 10.0, 0.9, {"mel": mel}, {"mel": mel} if figures else {}, None)


def test_what_was_reported_outlives_a_kill(tmp_path: Path) -> None:
    claim(tmp_path / "work", "vocoder")
    told: list[Report] = []
    diary = Diary(tmp_path / "work", told.append)
    for step, mel in ((10, 3.0), (20, 2.0)):
        (tmp_path / "work" / "samples" / "latest").mkdir(parents=True)
        (tmp_path / "work" / "samples" / "latest" / "a.wav").write_text(str(mel))
        diary(report(step, mel))
    with (tmp_path / "work" / "reports.jsonl").open("a") as file:
        file.write('\n{"step": 30, "los')
    (tmp_path / "work" / "samples" / "latest").mkdir()
    (tmp_path / "work" / "samples" / "latest" / "a.wav").write_text("again")
    again = Diary(tmp_path / "work", told.append)
    again(report(20, 1.5))
    again(report(25, 1.4, figures=False))
    again(report(35, 1.3, figures=False))
    assert [(entry["step"], entry["losses"]["mel"]) for entry in again.curve()] == [(10, 3.0), (20, 1.5), (35, 1.3)]
    assert [entry.step for entry in told] == [10, 20, 20, 25, 35]
    assert (tmp_path / "work" / "samples" / "step-0000010" / "a.wav").read_text() == "3.0"
    assert (tmp_path / "work" / "samples" / "step-0000020" / "a.wav").read_text() == "again"


def test_the_folder_of_another_is_not_claimed(tmp_path: Path) -> None:
    claim(tmp_path / "work", "vocoder")
    claim(tmp_path / "work", "vocoder")
    with pytest.raises(InputError, match="not the work of a training of a codec"):
        claim(tmp_path / "work", "codec")
    (tmp_path / "speech.wav").touch()
    with pytest.raises(InputError, match="not the work of a training"):
        claim(tmp_path, "vocoder")


def trained(corpus: Corpus, units: UnitTokenizer | JoinedTokenizer, work: Path, **options: Any) -> UnitVocoder:
    settings: dict[str, Any] = {"design": design(), "sample_rate": 16000, "regime": REGIME, "crops": CROPS}
    return train_vocoder(corpus, units, work, **{**settings, **options})


def test_training_teaches_and_tells(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    reports: list[Report] = []
    regime = Regime(20, learning_rate=5e-3, warm_up=2, discriminators="none", ema=0.5, report_every=5, check_every=10)
    vocoder = trained(corpus, units, tmp_path / "work", regime=regime, judge=remember([]), on_report=reports.append)
    assert reports[-1].losses["mel"] < 0.9 * reports[0].losses["mel"]
    assert vocoder.spec == units.spec
    assert vocoder.layers == ("mfcc", "logmel")
    evidence = vocoder.evidence
    assert evidence["recordings"] == 6
    assert len(evidence["judged"]) == 1
    assert [entry["step"] for entry in evidence["curve"]] == [10, 20]
    assert evidence["curve"][1]["figures"]["mel"] == reports[-1].figures["mel"]
    assert evidence["regime"]["seed"] == 0
    assert (tmp_path / "work" / "samples" / "step-0000020" / f"{evidence['judged'][0]}.wav").exists()
    json.dumps(evidence)
    sound = vocoder.decode(units.encode(read(next(iter(corpus)).path)).take(["mfcc"]))
    assert bool(sound.samples.isfinite().all())


def interrupt(came: Report) -> None:
    if came.step == 4:
        raise KeyboardInterrupt


def test_an_interrupted_training_goes_on_to_the_same_vocoder(
    corpus: Corpus, units: JoinedTokenizer, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"design": design(speakers=2), "speakers": "speaker", "judge": remember([])}
    whole = trained(corpus, units, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        trained(corpus, units, tmp_path / "broken", on_report=interrupt, **options)
    reports: list[Report] = []
    resumed = trained(corpus, units, tmp_path / "broken", on_report=reports.append, **options)
    assert [report.step for report in reports] == [6, 8]
    assert resumed.fingerprint == whole.fingerprint
    assert resumed.evidence == whole.evidence
    assert resumed.speakers == ("s0", "s1")
    again = trained(corpus, units, tmp_path / "broken", **options)
    assert (again.fingerprint, again.evidence) == (whole.fingerprint, whole.evidence)


def test_work_of_another_training_is_refused(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    short = Regime(1, discriminators="none")
    trained(corpus, units, tmp_path, regime=short)
    for changes in ({"crops": Crops(2, 0.2)}, {"design": design(centroids=[13 * 3, 80])}, {"layer_dropout": False}):
        with pytest.raises(InputError, match="state of another training"):
            trained(corpus, units, tmp_path, regime=short, **changes)
    with pytest.raises(InputError, match="16000 Hz, not at 24000 Hz"):
        trained(corpus, units, tmp_path, sample_rate=24000)
    with pytest.raises(SpecError, match="holds tokens of tokenizer"):
        trained(corpus, train_kmeans(corpus, MFCC(), 4), tmp_path, design=mfcc_design(4))
    with pytest.raises(InputError, match="another corpus"):
        trained(Corpus(list(corpus)[:4]), units, tmp_path)


def mfcc_design(size: int) -> dict[str, Any]:
    return unit_decoder_config([size], [[0]], design()["generator"])


def test_tokens_may_be_there_already(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    tokenize(Corpus(list(corpus)[:5]), units, tmp_path / "tokens")
    store = TokenStore.open(tmp_path / "tokens")
    failures: list[Failure] = []
    reading = Reading(on_failure=failures.append)
    regime = Regime(1, discriminators="none")
    vocoder = trained(corpus, units, tmp_path / "work", tokens=store, reading=reading, regime=regime)
    assert [(failure.id, failure.reason) for failure in failures] == [
        (name, "it has no tokens, or they are of another file") for name in ("5", "short")
    ]
    assert vocoder.evidence["recordings"] + len(vocoder.evidence["judged"]) == 5
    assert not (tmp_path / "work" / "tokens").exists()
    with pytest.raises(SpecError, match="holds tokens of tokenizer"):
        trained(corpus, units.parts[0], tmp_path / "other", tokens=store, design=mfcc_design(16))


def test_voices_are_those_of_the_corpus_whatever_the_tokens_say(
    corpus: Corpus, units: JoinedTokenizer, tmp_path: Path
) -> None:
    bare = Corpus(replace(utterance, fields={}) for utterance in corpus)
    tokenize(bare, units, tmp_path / "tokens")
    options: dict[str, Any] = {
        "tokens": TokenStore.open(tmp_path / "tokens"),
        "design": design(speakers=2),
        "speakers": "speaker",
        "regime": Regime(1, discriminators="none"),
    }
    assert trained(corpus, units, tmp_path / "work", **options).speakers == ("s0", "s1")
    first, *others = corpus
    swapped = Corpus([replace(first, fields={"speaker": "s1"}), *others])
    with pytest.raises(InputError, match="state of another training"):
        trained(swapped, units, tmp_path / "work", **options)


def test_recordings_to_judge_by_may_be_given(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    own, others = Corpus(list(corpus)[:4]), Corpus(list(corpus)[4:])
    vocoder = trained(own, units, tmp_path, validation=others, regime=Regime(1, discriminators="none"))
    assert vocoder.evidence["judged"] == ["4", "5", "short"]
    assert vocoder.evidence["recordings"] == 4


def test_broken_recordings_are_told_once(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"nothing of the kind")
    both = Corpus([*corpus, *Corpus.of(tmp_path / "bad.wav")])
    failures: list[Failure] = []
    regime = Regime(1, discriminators="none")
    trained(both, units, tmp_path / "work", regime=regime, reading=Reading(on_failure=failures.append))
    assert [failure.id for failure in failures] == ["bad"]
    assert "not a readable sound file" in failures[0].reason


def test_parts_that_do_not_fit_are_refused_before_anything_is_done(
    corpus: Corpus, units: JoinedTokenizer, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="design of 2 speakers, got 0"):
        trained(corpus, units, tmp_path / "work", speakers="speaker")
    with pytest.raises(InputError, match="a field 'voice'") as told:
        trained(corpus, units, tmp_path / "work", speakers="voice")
    assert told.value.hint == "their fields are speaker"
    assert not (tmp_path / "work").exists()
    with pytest.raises(InputError, match="as much sound as one crop"):
        trained(corpus, units, tmp_path / "work", crops=Crops(1, 60.0))
    assert speaker_names(corpus, "speaker") == ("s0", "s1")


def test_embeddings_begin_with_centroids(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    points = centroids_of(units)
    assert [list(p.shape) if p is not None else None for p in points] == [[16, 39], [8, 80]]
    first = trained(corpus, units, tmp_path, design=design(centroids=[39, 80]), regime=Regime(1, discriminators="none"))
    table = first.decoder.state_dict()["embeddings.0.table"]
    assert table.shape == (16, 16)
    assert torch.linalg.matrix_rank(table) == 16
    assert centroids_of(object()) == []


def test_embeddings_begin_as_well_with_standardized_units(corpus: Corpus) -> None:
    units = train_kmeans(corpus, MFCC(), 6, codebooks=2, standardize=True)
    first, second = centroids_of(units)
    assert first is not None and second is not None
    (quantizer,) = units.quantizers
    codes = torch.arange(6)[:, None].repeat(1, 2)
    assert torch.allclose(quantizer.decode(codes), quantizer.scaling.undo(first + second))


CHILD = """
import json, sys
from pathlib import Path
import torch
from vocable import distributed
from vocable.corpus import Corpus
from vocable.tokenizers import load
from vocable.training.crops import Crops
from vocable.training.regime import Regime
from vocable.training.vocoder import train_vocoder
design, manifest, units, work = json.loads(sys.argv[1]), *map(Path, sys.argv[2:])
torch.set_num_threads(1)
with distributed.from_environment() as processes:
    vocoder = train_vocoder(
        Corpus.of(manifest), load(str(units)), work, design=design, sample_rate=16000,
        regime=Regime(3, discriminators="none"), crops=Crops(3, 0.2), processes=processes,
    )
    print(vocoder.fingerprint)
"""


def test_two_processes_make_one_vocoder(corpus: Corpus, units: JoinedTokenizer, tmp_path: Path) -> None:
    units.save_pretrained(tmp_path / "units")
    manifest = next(iter(corpus)).path.with_name("all.jsonl")
    command = ["-c", CHILD, json.dumps(design()), str(manifest), str(tmp_path / "units"), str(tmp_path / "work")]
    (code, first, err), (other, second, _) = run_processes(command, 2)
    assert (code, other) == (0, 0), err
    assert first == second != ""
    alone = trained(corpus, units, tmp_path / "alone", regime=Regime(3, discriminators="none"))
    assert first.strip() != alone.fingerprint  # each had crops of its own
