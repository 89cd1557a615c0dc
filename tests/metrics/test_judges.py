from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from tests.conftest import sing
from vocable.audio import read
from vocable.errors import ArtifactError, InputError, MissingDependencyError
from vocable.metrics import catalogue, opinion, speakers
from vocable.metrics.catalogue import METRICS, metrics_named
from vocable.metrics.distill_mos import SAMPLES, DistillMOS, starts
from vocable.metrics.judges import JUDGES, OPINIONS, judge_named
from vocable.metrics.listening import Remembered, packaged, packaged_weights, slaney_mel, stretches
from vocable.metrics.metric import Metric, content
from vocable.metrics.reconstruction import Scores
from vocable.metrics.scoring import score_pairs, summarize_scores
from vocable.metrics.transcripts import drift, error_rate, normalized, without_text
from vocable.types import Audio

SAMPLES_FOLDER = Path(catalogue.__file__).parents[1] / "samples"
SAID = {row["id"]: row for row in map(json.loads, (SAMPLES_FOLDER / "samples.jsonl").read_text().splitlines())}


def one(wave: np.ndarray, rate: int = 16000) -> Audio:
    return Audio.of([torch.as_tensor(wave)], rate)


def spoken(name: str) -> Audio:
    return read(SAMPLES_FOLDER / SAID[name]["path"])


def noisy(audio: Audio, level: float) -> Audio:
    noise = torch.randn(audio.samples.shape, generator=torch.Generator().manual_seed(0))
    return Audio(audio.samples + level * noise, audio.lengths, audio.sample_rate)


def by_length(*words: str):
    """Hears, of a waveform of n hundredths of a second, the first n of these words."""
    return lambda wave, rate: " ".join(words[: round(100 * len(wave) / rate)])


def waves(*hundredths: int) -> Audio:
    return Audio.of([torch.ones(160 * count) for count in hundredths], 16000)


def test_text_is_compared_without_case_and_punctuation() -> None:
    assert normalized("“The boys' dog”, she said — 'it’s OK!'") == "the boys dog she said it's ok"
    assert normalized("Ça va? 1984.") == "ça va 1984"
    assert normalized(" ' -- ' ") == ""


def test_word_errors_by_hand() -> None:
    hear = by_length("the", "cat", "set", "down", "now")
    scores = error_rate(["The cat sat down.", "", "the cat", "the"], waves(5, 3, 1, 0), hear, "words")
    assert scores.values[[0, 2]].tolist() == [2 / 4, 1 / 2]
    assert scores.failures == {1: "no text", 3: "no samples"}
    assert scores.weights is not None and scores.weights[[0, 2]].tolist() == [4, 2]
    assert scores.mean == 3 / 6
    letters = error_rate(["the cot"], waves(2), hear, "characters")
    assert (letters.mean, letters.weights.tolist()) == (1 / 7, [7])
    with pytest.raises(InputError, match="a text for each of 2 items, got 1"):
        error_rate(["a"], waves(1, 2), hear, "words")


def test_a_mute_resynthesis_has_every_word_wrong() -> None:
    assert error_rate(["a b c"], waves(2), lambda *_: "", "words").mean == 1
    assert without_text(waves(2), waves(2)).failures == {0: "no text"}


def test_drift_is_against_what_is_heard_in_the_original() -> None:
    def hear(wave: Tensor, _: int) -> str:
        return {0.0: "", 0.5: "a b c d", 1.0: "a x c d e"}[float(wave[0])]

    quiet, half, full = (Audio.of([torch.full((1600,), level)], 16000) for level in (0.0, 0.5, 1.0))
    assert drift(half, half, hear, "words").mean == 0
    assert drift(half, full, hear, "words").mean == 2 / 4
    assert drift(full, half, hear, "words").mean == 2 / 5
    assert drift(half, quiet, hear, "words").mean == 1
    assert drift(quiet, half, hear, "words").failures == {0: "no words are heard in the original"}


def test_rates_are_errors_over_words() -> None:
    scores = Scores(torch.tensor([1.0, 0.0, math.nan]).double(), {2: "no"}, torch.tensor([1.0, 9.0, math.nan]))
    assert scores.mean == 0.1
    found = summarize_scores(scores)
    assert (found.mean, found.low, found.high, found.count, found.failed) == (0.1, 0, 1, 2, 1)
    joined = Scores.join([scores, Scores(torch.tensor([0.5]).double(), {})])
    assert joined.mean == pytest.approx(1.5 / 11) and joined.failures == {2: "no"}
    assert Scores.join([Scores(torch.tensor([0.5]).double(), {})]).weights is None


def test_the_interval_of_a_rate_is_that_of_a_ratio() -> None:
    random = np.random.default_rng(3)
    words = random.integers(1, 60, 300)
    wrong = random.binomial(words, 0.2)
    found = summarize_scores(Scores(torch.tensor(wrong / words), {}, torch.tensor(words).double()))
    rate = wrong.sum() / words.sum()
    spread = math.sqrt(((wrong - rate * words) ** 2).sum()) / words.sum()  # the delta method
    assert found.mean == pytest.approx(rate)
    assert (rate - found.low, found.high - rate) == pytest.approx((1.96 * spread, 1.96 * spread), rel=0.15)


def test_an_original_is_judged_once() -> None:
    heard: list[int] = []
    remembered = Remembered(lambda wave: heard.append(len(wave)) or len(heard), capacity=2)
    x, y, z = (torch.as_tensor(sing(1.0, 8000, seed)) for seed in range(3))
    assert [remembered(wave, 8000) for wave in (x, x, y, x, z, x, y)] == [1, 1, 2, 1, 3, 1, 4]
    assert heard == [16000] * 4
    assert remembered(3 + x.double(), 8000) == 5 and remembered(7 + x, 8000) == 5  # both are full scale throughout


def test_stretches_are_equal() -> None:
    assert [len(part) for part in stretches(np.zeros(70000, np.float32), 2.0)] == [23334, 23333, 23333]
    assert len(stretches(np.zeros(32000, np.float32), 2.0)) == len(stretches(np.zeros(0, np.float32), 2.0)) == 1


def test_mel_power_is_that_of_a_sinusoid_in_its_band() -> None:
    time = np.arange(16000) / 16000
    found = slaney_mel(np.sin(2 * np.pi * 1000 * time).astype(np.float32), 400, 40)
    assert found.shape == (101, 40)
    # a window of 400 has a peak of 100 at 1000 Hz, bin 25, and 50 in the bins beside it
    highest = 15 + math.log(8) / (math.log(6.4) / 27)
    mels = torch.linspace(0, highest, 42).double()
    edges = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * math.log(6.4) / 27))
    assert abs(int(found[50].argmax()) - (15 / highest * 41 - 1)) <= 1
    # triangles of area 1 are as high as 1 / width: times their widths they share every bin among them
    widths = (edges[2:] - edges[:-2]).float() / 2
    assert float(found[50] @ widths) == pytest.approx(100**2 + 2 * 50**2, rel=1e-3)


def test_stretches_of_dnsmos_are_those_of_the_package() -> None:
    assert [len(part) for part in opinion.dnsmos_stretches(np.zeros(3000, np.float32))] == [144160] * 3
    # of eleven, those whose end is rounded down to a sample less are left out there
    assert len(opinion.dnsmos_stretches(np.zeros(20 * 16000, np.float32))) == 7
    assert len(opinion.dnsmos_stretches(np.zeros(10 * 16000 + 15999, np.float32))) == 1


def test_distill_mos_knows_no_level() -> None:
    assert starts(SAMPLES) == [0]
    assert starts(SAMPLES + 1) == [0, 1]
    assert starts(SAMPLES + 21120) == [0, 10560, 21120]
    torch.manual_seed(0)
    network, wave = DistillMOS().eval(), torch.as_tensor(sing(3.0))
    with torch.inference_mode():
        score, quieter = network.opinion(wave), network.opinion(0.5 * wave)
    assert 1 < score < 5 and score == pytest.approx(quieter, abs=1e-5)


def test_stretches_of_ge2e_cover_the_recording() -> None:
    assert speakers.ge2e_starts(1000) == [0]
    assert speakers.ge2e_starts(31000) == [0]  # 0.73 of the second
    assert speakers.ge2e_starts(32000) == [0, 77]
    assert speakers.ge2e_starts(60000) == [0, 77, 154, 231]
    network = speakers.GE2E().eval()
    wave = sing(2.0)
    whole, louder = network.embed(wave), network.embed(wave * 1e-4)
    assert whole.shape == (256,) and torch.isfinite(whole).all()
    assert torch.nn.functional.cosine_similarity(whole, louder, dim=0) > 0.9


def test_every_judge_has_a_name_and_no_other_is_one() -> None:
    for name in JUDGES:
        asked = name.replace("ASR", "pocketsphinx").replace("NETWORK", "ge2e")
        (metric,) = metrics_named([asked])
        assert metric.name == asked and metric.what and metric.library and asked not in METRICS
        assert metric.identity.startswith(f"{asked}/1/{metric.library}-")
    assert set(OPINIONS) <= set(JUDGES)
    for wrong in ("wer", "wer:", "dnsmos:x", "speaker", "mel:x"):
        with pytest.raises(InputError, match="no metric"):
            metrics_named([wrong])
    with pytest.raises(InputError, match="no judge 'bleu:x'"):
        judge_named("bleu:x")


def test_what_is_missing_is_told_before_anything_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Audio) -> Scores:
        raise AssertionError

    absent = Metric("absent", never, "", True, "", needs="judges", library="surely-not-here")
    monkeypatch.setattr(catalogue, "METRICS", {**METRICS, "mel": Metric("mel", never, "", False, ""), "absent": absent})
    soundfile.write(tmp_path / "x.wav", sing(0.5), 16000)
    with pytest.raises(MissingDependencyError, match="absent is computed by the package surely-not-here") as missing:
        score_pairs([("x", tmp_path / "x.wav", tmp_path / "x.wav")], ["mel", "absent"])
    assert missing.value.hint == "pip install 'vocable[judges]'"
    assert not absent.installed and METRICS["stoi"].installed
    with pytest.raises(MissingDependencyError, match=r"weights\.pt in the package surely_not_here") as missing:
        packaged("surely_not_here", "weights.pt", install="fetch it")
    assert missing.value.hint == "fetch it"


def test_other_weights_than_those_known_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "weights.pt")
    with pytest.raises(ArtifactError, match="expected the weights 000000000000"):
        packaged_weights(tmp_path / "weights.pt", "0" * 64)


def test_content_is_that_of_the_files(tmp_path: Path) -> None:
    one_folder, other = tmp_path / "one", tmp_path / "other"
    for folder in (one_folder, other):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"12")
    (other / "README.md").write_text("of no account")
    same = content(one_folder)
    assert same == content(other)
    (other / "model.safetensors").write_bytes(b"21")
    assert content(other) != same == content(one_folder)


def test_scores_kept_before_there_were_weights_are_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", sing(0.5), 16000)
    soundfile.write(tmp_path / "y.wav", sing(0.5, seed=1), 16000)
    pair, cache = ("x", tmp_path / "x.wav", tmp_path / "y.wav"), tmp_path / "scores.jsonl"
    score_pairs([pair], ["snr"], cache=cache)
    key, value, why = json.loads(cache.read_text().strip())
    cache.write_text(json.dumps([key, value + 1, why]) + "\n")
    assert score_pairs([pair], ["snr"], cache=cache)["snr"].scores.mean == value + 1


# with the packages, where they are


def test_noise_lowers_dnsmos() -> None:
    pytest.importorskip("speechmos")
    speech = spoken("af_heart-01")
    names = ("dnsmos", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808")
    clips = [speech, noisy(speech, 0.01), noisy(speech, 0.1)]
    scores = {name: [judge_named(name).function(speech, clip).mean for clip in clips] for name in names}
    for name, (clean, worse, worst) in scores.items():
        assert 5 > clean > worst > 1, name
        assert name == "dnsmos_sig" or clean > worse > worst, name
    assert scores["dnsmos"][0] > 3
    silent = judge_named("dnsmos").function(speech, Audio(0 * speech.samples, speech.lengths, speech.sample_rate))
    assert silent.failures == {0: "the resynthesis is silent"}


def test_dnsmos_is_that_of_the_package() -> None:
    pytest.importorskip("speechmos")
    speech = spoken("af_heart-01")
    theirs = {"dnsmos": 3.4096534, "dnsmos_sig": 3.6240841, "dnsmos_bak": 4.1858611, "dnsmos_p808": 3.9746506}
    ours = {name: judge_named(name).function(speech, speech).mean for name in theirs}
    assert ours == pytest.approx(theirs, abs=1e-3)  # other processors, other last digits


def test_distill_mos_is_that_of_the_package() -> None:
    if find_spec("distillmos") is None:
        pytest.skip("needs the weights in distillmos")
    speech = spoken("af_heart-01")
    clean, worse = (judge_named("distill_mos").function(speech, noisy(speech, level)).mean for level in (0, 0.1))
    assert clean == pytest.approx(4.5951080, abs=1e-3)
    assert worse < 2.5


@pytest.mark.parametrize(
    ("name", "package", "most"), [("pocketsphinx", "pocketsphinx", 0.4), ("moonshine", "moonshine_voice", 0.2)]
)
def test_clear_speech_is_understood(name: str, package: str, most: float) -> None:
    pytest.importorskip(package)
    speech = spoken("af_heart-01")
    assert judge_named(f"wer:{name}").against_text([SAID["af_heart-01"]["text"]], speech).mean <= most
    assert judge_named(f"dwer:{name}").function(speech, speech).mean == 0


def test_what_pocketsphinx_heard_before_does_not_matter() -> None:
    pytest.importorskip("pocketsphinx")
    from vocable.metrics.recognizers import recognizer

    x, y = (read(SAMPLES_FOLDER / SAID[name]["path"], 16000).samples[0, 0, :24000].numpy() for name in list(SAID)[:2])
    listen = recognizer("pocketsphinx").opened()
    first = listen(x)
    listen(0.02 * y)
    assert first and listen(x) == first


def test_another_voice_is_another_speaker() -> None:
    try:
        embed = Remembered(speakers.ge2e())
    except MissingDependencyError:
        pytest.skip("needs the weights in resemblyzer")
    voices = [spoken(name) for name in ("af_heart-01", "af_heart-02", "am_michael-01")]
    shortest = min(int(voice.lengths[0]) for voice in voices)
    clips = [Audio.of([voice.waveform(0)[:, :shortest]], voice.sample_rate) for voice in voices]
    same, other = (speakers.similarity(clips[0], clip, embed).mean for clip in clips[1:])
    assert speakers.similarity(clips[0], clips[0], embed).mean == pytest.approx(1, abs=1e-9)
    assert same > 0.75 > other
    # of the whole clips, by the package's own code
    directions = [
        torch.nn.functional.normalize(embed(voice.waveform(0)[0], voice.sample_rate), dim=0) for voice in voices
    ]
    assert [float(directions[0] @ other) for other in directions[1:]] == pytest.approx([0.9055313, 0.5673842], abs=1e-4)
