from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import sing
from tests.tiny_own_codecs import short_design, tiny_design
from vocable import audio
from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.tokenizers import LogMel, NeuralCodec
from vocable.training.audio_cache import AudioCache
from vocable.training.codec import train_codec
from vocable.training.codec_designs import NAMES, codec_design, plan_of, scale_of
from vocable.training.codec_network import CodecNetwork, Teacher, distillation
from vocable.training.codec_task import CodecTask
from vocable.training.crops import Crops
from vocable.training.regime import Regime
from vocable.training.reports import Report
from vocable.types import Audio, Features

REGIME = Regime(6, learning_rate=2e-3, warm_up=2, discriminators="none", report_every=1, check_every=3, ema=0.5)
CROPS = Crops(4, 0.4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    for seed in range(3):
        audio.write(folder / f"{seed}.wav", Audio.of([torch.from_numpy(0.5 * sing(1.2, 8000, seed)).float()], 8000))
    return Corpus.of(folder)


def train(corpus: Corpus, work: Path, reports: list[Report] | None = None, **options: Any) -> NeuralCodec:
    heard = [] if reports is None else reports
    settings = {"design": short_design(), "regime": REGIME, "crops": CROPS, **options}
    return train_codec(corpus, work=work, on_report=heard.append, **settings)


def test_manners_have_the_bitrates_of_their_models() -> None:
    bits = {}
    for manner in ("encodec", "dac", "wavtokenizer", "taae", "speechtokenizer"):
        design = codec_design(manner)
        assert scale_of(manner) == "small"
        sizes = CodecNetwork(tiny_design(manner), batch=8).bottleneck.freeze().codebook_sizes
        entries = math.prod(design.quantizer.levels) if design.quantizer.kind == "fsq" else design.quantizer.size
        bits[manner] = round(len(sizes) * math.log2(entries) * design.sample_rate / design.hop_length)
    assert bits == {"encodec": 6000, "dac": 6000, "wavtokenizer": 900, "taae": 388, "speechtokenizer": 4000}


def test_every_name_is_a_design() -> None:
    for name in NAMES:
        design = codec_design(name)
        config = design.decoder(8)
        generator = config["generator"]
        assert config["subframes"] * generator["hop_length"] == design.hop_length
        assert 60 <= design.sample_rate * generator.get("subframes", 1) / generator["hop_length"] <= 150
        regime, crops = plan_of(name)
        assert regime.steps or regime.minutes
        assert crops.frames(design.sample_rate, design.hop_length) > 1
    assert codec_design("encodec").causal
    assert codec_design("encodec", causal=False, sample_rate=16000).sample_rate == 16000
    assert codec_design("tiny", quantizer="fsq", codebooks=2).quantizer.kind == "residual-fsq"
    assert codec_design("tiny", quantizer="fsq").quantizer.kind == "fsq"
    assert codec_design("tiny", quantizer="vq", size=64).quantizer.num_codebooks == 1


def test_what_is_no_design_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected a design among tiny, small, base, plain, .*, got 'huge'"):
        codec_design("huge")
    with pytest.raises(InputError, match="expected one codebook of vq, got 4"):
        codec_design("tiny", quantizer="vq", codebooks=4)
    with pytest.raises(InputError, match=r"expected a quantizer among vq, .*, got gumbel"):
        codec_design("tiny", quantizer="gumbel")


def test_spectra_make_a_codec_for_processors() -> None:
    network = CodecNetwork(codec_design("spectral"), batch=8)
    assert 5e6 < sum(weights.numel() for weights in network.codec.parameters()) < 8e6
    assert plan_of("spectral")[0].discriminators == "none"
    hifigan = codec_design("spectral-tiny", generator="hifigan").decoder(8)
    assert hifigan["subframes"] * hifigan["generator"]["hop_length"] == 320
    with pytest.raises(InputError, match="expected a share of the crops to be taught, got 0"):
        replace(codec_design("spectral"), taught=0)


@pytest.mark.parametrize("blocks", [0, 2])
def test_what_is_frozen_is_what_was_trained(blocks: int) -> None:
    design = short_design(blocks=blocks)
    network = CodecNetwork(design, batch=64)
    network.begin([0.1 * torch.randn(4, 80 * 16)])
    real = 0.1 * torch.randn(1, 80 * 20)
    with torch.no_grad():
        fake = network.eval()(real).fake
    codec = NeuralCodec(*network.freeze())
    tokens = codec.encode(Audio.of([real[0]], 8000))
    torch.testing.assert_close(codec.decode(tokens).waveform(0), fake, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("blocks", [0, 2])
def test_every_part_learns(blocks: int) -> None:
    network = CodecNetwork(short_design(distilled=1.0, blocks=blocks), batch=64, teacher=5)
    network.begin([0.1 * torch.randn(4, 80 * 16)])
    fake, losses = network.train()(0.1 * torch.randn(2, 80 * 20), torch.randn(1, 20, 5))  # one of them is taught
    assert fake.shape == (2, 1600)
    assert set(losses) == {"quantizer", "distillation"}
    (fake.square().mean() + sum(losses.values())).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.abs().sum() > 0), name


@pytest.mark.parametrize(
    "options", [{"codebooks": 3}, {"quantizer": "grouped-rvq", "codebooks": 2}, {"quantizer": "fsq", "codebooks": 2}]
)
def test_the_first_codebook_alone_is_what_a_teacher_hears(options: dict[str, Any]) -> None:
    design = replace(tiny_design(sample_rate=8000, **options), distilled=1.0)
    network = CodecNetwork(design, batch=64, teacher=5)
    network.begin([0.1 * torch.randn(4, 320 * 16)])
    told: list[torch.Tensor] = []
    tell = network.tell
    assert tell is not None
    tell.register_forward_hook(lambda module, inputs, output: told.append(inputs[0]))
    real = 0.1 * torch.randn(1, 320 * 10)
    with torch.no_grad():
        network.eval()(real, torch.randn(1, 10, 5))
    codec = NeuralCodec(*network.freeze())
    coarse = codec.decode(codec.encode(Audio.of([real[0]], 8000)).take([0])).waveform(0)
    with torch.no_grad():
        torch.testing.assert_close(network.codec.decoder(told[0][None]), coarse, atol=1e-5, rtol=1e-3)


def test_distillation_is_the_cosine_of_courses() -> None:
    up, down = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([5.0, 4.0, 3.0])
    told = torch.stack([up, up], dim=-1)[None]
    taught = torch.stack([10 * up + 7, down], dim=-1)[None]  # cosine 1 of the first dimension, -1 of the second
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    assert float(distillation(told, taught)) == pytest.approx(expected, rel=1e-5)


class _Counting:
    """Features that are the number of their frame, 100 a second at 4 kHz."""

    sample_rate, hop_length, window, context, longest, layers, dim = 4000, 40, 1, 0, None, ("n",), 1

    def extract(self, audio: Audio) -> Features:
        count = audio.samples.shape[-1] // 40
        frames = torch.arange(count).float().expand(len(audio), 1, -1)[..., None]
        return Features(frames, torch.full((len(audio),), count), 40, 4000)

    def config(self) -> dict[str, Any]:
        return {}


def test_a_teacher_keeps_the_codecs_clock() -> None:
    # frames of the codec are 160 samples at 8 kHz, two of the teacher's: the middle is where the second begins
    teacher = Teacher(_Counting(), 8000, 160)
    assert teacher.features(torch.zeros(2, 400), 5)[:, :, 0].tolist() == [[1, 3, 5, 7, 9]] * 2
    assert Teacher(_Counting(), 8000, 40).features(torch.zeros(1, 120), 8)[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2, 2, 2]


def test_batches_are_functions_of_step_and_rank(corpus: Corpus, tmp_path: Path) -> None:
    cache = AudioCache.create(tmp_path / "audio", corpus, 8000)
    cache.fill(corpus)
    design = short_design(distilled=1.0, taught=0.5)
    teacher = Teacher(LogMel(), 8000, 80)
    network = CodecNetwork(design, batch=160, teacher=teacher.dim)
    task = CodecTask(network, cache, cache.recordings(), (cache, ()), crops=CROPS, teacher=teacher)
    batches = [task.batch(step, rank=rank, world=2) for step, rank in ((3, 0), (3, 0), (3, 1), (4, 0))]
    assert batches[0]["real"].shape == (4, 3200)
    assert batches[0]["heard"].shape == (2, 6400)  # half of the crops; log-mel features are of 16 kHz
    assert torch.equal(batches[0]["real"], batches[1]["real"])
    assert not torch.equal(batches[0]["real"], batches[2]["real"])
    assert not torch.equal(batches[0]["real"], batches[3]["real"])
    task.begin()
    rendition = task.render(batches[0])
    assert rendition.fake.shape == rendition.real.shape
    assert set(rendition.losses) == {"quantizer", "distillation"}


@pytest.mark.parametrize("blocks", [0, 2])
def test_learns_and_goes_on_where_it_stopped(corpus: Corpus, tmp_path: Path, blocks: int) -> None:
    reports: list[Report] = []
    design = short_design(blocks=blocks)
    whole = train(corpus, tmp_path / "whole", reports, judge=_judge, design=design)
    assert reports[-1].losses["mel"] < 0.9 * reports[0].losses["mel"]
    assert {"mel", "usage"} <= set(reports[-1].figures)
    assert [entry["step"] for entry in whole.evidence["curve"]] == [3, 6]
    assert len(list((tmp_path / "whole" / "samples").glob("step-*/*.wav"))) == 2

    def stop(report: Report) -> None:
        if report.step == 4:
            raise KeyboardInterrupt

    settings: dict[str, Any] = {"design": design, "regime": REGIME, "crops": CROPS, "judge": _judge}
    with pytest.raises(KeyboardInterrupt):
        train_codec(corpus, work=tmp_path / "parts", on_report=stop, **settings)
    parts = train_codec(corpus, work=tmp_path / "parts", **settings)
    assert parts.fingerprint == whole.fingerprint
    assert parts.evidence["curve"] == whole.evidence["curve"]


def _judge(real: Audio, fake: Audio) -> dict[str, float]:
    return {"mel": float((real.samples - fake.samples).abs().mean())}


def test_another_training_is_not_gone_on_from(corpus: Corpus, tmp_path: Path) -> None:
    short = replace(REGIME, steps=1)
    train(corpus, tmp_path, regime=short)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(InputError, match="is the state of another training"):
        train(corpus, tmp_path, regime=short, design=short_design(kernel=5))
    with pytest.raises(InputError, match="holds audio at 8000 Hz, not at 16000 Hz"):
        train(corpus, tmp_path, regime=short, design=tiny_design())
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_what_cannot_be_trained_is_told(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected as much sound as one crop to train on"):
        train(corpus, tmp_path / "a", crops=Crops(2, 5.0))
    with pytest.raises(InputError, match="expected a teacher just where a design is distilled, got weight 0 and one"):
        train(corpus, tmp_path / "b", teacher=LogMel())
    with pytest.raises(InputError, match="got weight 1 and no teacher"):
        train(corpus, tmp_path / "c", design=replace(short_design(), distilled=1.0))


def test_the_first_codebook_learns_from_a_teacher() -> None:
    torch.manual_seed(0)
    network = CodecNetwork(replace(short_design(), distilled=1.0), batch=160, teacher=1)
    real = torch.from_numpy(np.stack([sing(0.4, 8000, seed) for seed in range(4)])).float()
    level = real.unflatten(1, (-1, 80)).square().mean(2, keepdim=True).log()
    network.begin([real] * 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    told = []
    for _ in range(40):
        loss = network(real, level).losses["distillation"]
        told.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert np.mean(told[-4:]) < 0.8 * np.mean(told[:4])  # ln 2 where nothing is told, .31 where all is
