"""A corpus of noise that is loud or quiet and bright or dark: how many units each label needs is known beforehand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.tiny_models import write_tiny_model
from vocable.corpus import Corpus
from vocable.errors import ArtifactError, InputError, OutputError
from vocable.evaluation.choose import Step, choose
from vocable.evaluation.choose_candidates import Quantizing, grid
from vocable.evaluation.choose_frames import StoredFrames
from vocable.evaluation.choose_scores import Phones
from vocable.probes import Classification, Recipe, Transcription, Verification
from vocable.store import TokenStore
from vocable.tokenizers import MFCC, LogMel, SSLExtractor, load, tokenize, train_kmeans
from vocable.tokenizers.feature_cache import FeatureCache

RECIPE = Recipe(seeds=1, epochs=12, batch=8, dropout=0.0)
SECONDS, RATE = 0.3, 16000


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 recordings. Levels are 40 dB apart, tilts a few: of two units, one is loud and one is quiet."""
    folder, draw, lines = tmp_path_factory.mktemp("noise"), np.random.default_rng(0), []
    for index in range(40):
        loud, bright = index % 2 == 0, index // 2 % 2 == 0
        noise = draw.standard_normal(round(SECONDS * RATE) + 1)
        wave = (0.3 if loud else 0.003) * (noise[1:] + (-0.5 if bright else 0.5) * noise[:-1])
        soundfile.write(folder / f"{index}.wav", wave.astype(np.float32), RATE, subtype="FLOAT")
        level, tilt = "loud" if loud else "quiet", "bright" if bright else "dark"
        said = {"level": level, "tilt": tilt, "text": "a" if loud else "b", "one": 1}
        phones = {"phones": [[SECONDS, level]], "tilts": [[SECONDS, tilt]]}
        split = "test" if index % 10 > 5 else "train"
        lines.append(json.dumps({"path": f"{index}.wav", "split": split, **said, **phones}) + "\n")
    (folder / "noise.jsonl").write_text("".join(lines))
    return folder / "noise.jsonl"


def run(manifest: Path, task, out: Path, **settings):
    asked = {"clusters": (2, 8), "split": "split", "recipe": RECIPE} | settings
    return choose(Corpus.of(manifest), {"logmel": LogMel()}, task, out, **asked)


def test_two_units_are_enough_for_what_two_units_tell(manifest: Path, tmp_path: Path) -> None:
    choice = run(manifest, Classification("level"), tmp_path / "c")
    assert [row.size for row in choice.rows] == [2, 8] and choice.recommended.size == 2
    assert choice.recommended.score.value == 1.0 and choice.recommended.bitrate == 100.0
    assert all(row.as_good for row in choice.rows)
    (bound,) = choice.bounds
    assert bound.size is None and bound.score.value == 1.0
    assert (choice.train, choice.test) == (24, 16)
    assert "even fewer" in choice.unknown[0] and "paired bootstrap over 16" in choice.rule


def test_where_two_are_too_few_more_are_chosen(manifest: Path, tmp_path: Path) -> None:
    choice = run(manifest, Classification("tilt"), tmp_path / "c")
    assert choice.recommended.size == 8 and choice.recommended.score.value == 1.0
    assert choice.rows[0].score.value < 0.8 and not choice.rows[0].as_good
    assert "more units may do better" in choice.unknown[0]
    saved = json.loads((tmp_path / "c" / "choice.json").read_text())
    assert saved["rows"][saved["chosen"]]["size"] == 8 and saved["rows"][1]["score"]["value"] == 1.0


def test_the_units_are_those_that_were_judged_and_that_the_command_makes(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    choice = run(manifest, Classification("tilt"), out, quantizers=("residual:2",), sample_frames=500)
    units = load(str(out / "units"))
    assert units.spec.labels == ("logmel.0", "logmel.1") and choice.facts["units"] == units.fingerprint[:12]
    size = choice.recommended.size
    assert f"--clusters {size} --codebooks 2 --structure residual --sample-frames 500 --seed 0" in choice.commands[1]
    learnt = Corpus.of(out / "train.jsonl")
    again = train_kmeans(learnt, LogMel(), size, codebooks=2, structure="residual", sample_frames=500)
    assert len(learnt) == 24 and again.fingerprint == units.fingerprint
    assert tokenize(learnt, units, tmp_path / "tokens").done == 24
    # what was judged are the codes that the tokenizer gives
    (place,) = (out / "work" / "frames").iterdir()
    frames = StoredFrames(FeatureCache.open(place))
    for entry in TokenStore.open(tmp_path / "tokens"):
        judged = units.quantizers[0].encode(frames.layer("logmel")[frames.places[entry.id]])
        assert np.array_equal(judged.T.numpy(), entry.codes)


def test_a_second_run_makes_nothing_again(manifest: Path, tmp_path: Path) -> None:
    out, steps = tmp_path / "c", list[Step]()
    first = run(manifest, Classification("level"), out)
    made = {path: path.stat().st_mtime_ns for path in (out / "work").rglob("*") if path.is_file()}
    second = run(manifest, Classification("level"), out, on_step=steps.append)
    assert [step.kept for step in steps] == [True] * 3 and second.rows == first.rows
    assert {path: path.stat().st_mtime_ns for path in (out / "work").rglob("*") if path.is_file()} == made
    # another question needs other probes, of the same codebooks
    steps.clear()
    run(manifest, Classification("tilt"), out, on_step=steps.append)
    assert not any(step.kept for step in steps)
    assert {path: path.stat().st_mtime_ns for path in (out / "work" / "fits").iterdir()}.items() <= made.items()
    steps.clear()
    run(manifest, Classification("level"), out, clusters=(2, 4), on_step=steps.append)
    assert [step.kept for step in steps] == [True, False, True]


def test_an_interrupted_run_goes_on(manifest: Path, tmp_path: Path) -> None:
    def stop(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(manifest, Classification("level"), tmp_path / "c", on_step=stop)
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"work"}
    steps: list[Step] = []
    run(manifest, Classification("level"), tmp_path / "c", on_step=steps.append)
    assert [step.kept for step in steps] == [True, False, False] and steps[-1].seconds_left == 0
    (score, *_) = (tmp_path / "c" / "work" / "scores").iterdir()
    score.write_text("{}")
    with pytest.raises(ArtifactError, match="is damaged"):
        run(manifest, Classification("level"), tmp_path / "c")


def test_phones_need_no_probe(manifest: Path, tmp_path: Path) -> None:
    level = run(manifest, Phones(), tmp_path / "c", quantizers=("kmeans", "product:2"))
    assert level.measure == "held-out PNMI" and level.bounds == () and level.recommended.size == 2
    assert level.recommended.score.value > 0.95 and "Phones were asked" in " ".join(level.unknown)
    tilt = run(manifest, Phones("tilts"), tmp_path / "c")
    assert tilt.rows[0].score.value < 0.3 and tilt.rows[1].score.value > 0.8 and tilt.recommended.size == 8


@pytest.mark.parametrize(
    ("task", "measure"),
    [(Verification("level"), "equal error rate"), (Transcription("text"), "character error rate")],
)
def test_other_questions_run(manifest: Path, tmp_path: Path, task, measure: str) -> None:
    choice = run(manifest, task, tmp_path / "c", recipe=Recipe(seeds=1, epochs=2, head="linear"))
    assert choice.measure == measure and not choice.higher_is_better
    assert "paired bootstrap" in choice.rule and choice.baseline is not None


def test_layers_of_a_model(manifest: Path, tmp_path: Path) -> None:
    model = str(write_tiny_model(tmp_path / "model"))
    extractor = SSLExtractor.from_pretrained(model, layers=[1, 3])
    features = {model: extractor, "mfcc": MFCC()}
    recipe = Recipe(seeds=1, epochs=1)
    choice = choose(
        Corpus.of(manifest), features, Classification("level"), tmp_path / "c", clusters=(3,), recipe=recipe
    )
    assert {row.place for row in choice.rows} == {"model L1", "model L3", "mfcc"}
    assert [row.place for row in choice.rows[:2]] == ["model L1", "model L3"]  # 50 Hz: half the bit/s of mfcc
    row, units = choice.recommended, load(str(tmp_path / "c" / "units"))
    assert row.features == "model" and units.spec.labels == (row.layer,)
    assert f"--layers {row.layer[1:]} " in choice.commands[1] and "at random" in choice.split
    narrow = SSLExtractor.from_pretrained(model, layers=[row.layer])
    again = train_kmeans(Corpus.of(tmp_path / "c" / "train.jsonl"), narrow, 3)
    assert again.fingerprint == units.fingerprint


def test_what_cannot_be_read_is_left_out_and_told(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    line = {"path": "broken.wav", "split": "test", "level": "loud"}
    (tmp_path / "m.jsonl").write_text(json.dumps(line) + "\n")
    corpus = Corpus([*Corpus.of(manifest), *Corpus.of(tmp_path / "m.jsonl")])
    task = Classification("level")
    choice = choose(corpus, {"logmel": LogMel()}, task, tmp_path / "c", clusters=(2,), split="split", recipe=RECIPE)
    assert choice.test == 16 and len(choice.failures) == 1 and "broken.wav" in choice.failures[0]


def test_a_budget_leaves_out_what_costs_more() -> None:
    features = {"logmel": LogMel(), "mfcc": MFCC()}
    rows, left_out = grid(features, ["kmeans", "product:2"], [2, 16, 32], budget=400)
    assert [row.bitrate for row in rows] == sorted(row.bitrate for row in rows) and rows[-1].bitrate == 400
    assert len(rows) == 5 and left_out == [
        "product:2 of mfcc, whose 39 dimensions make no 2 groups",
        "4 of 9 candidates, above 400 bit/s",
    ]
    with pytest.raises(InputError, match="within 50 bit/s, the cheapest has 100"):
        grid(features, ["kmeans"], [2], budget=50)


@pytest.mark.parametrize("text", ["", "vq", "product", "product:0", "residual:x", "kmeans:2", "product:2:2"])
def test_unknown_quantizers(text: str) -> None:
    with pytest.raises(InputError, match="expected a quantizer such as"):
        Quantizing.of(text)
    assert str(Quantizing.of("residual:1")) == "kmeans" and str(Quantizing.of(" product:3 ")) == "product:3"


def test_mistakes(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    with pytest.raises(InputError, match="no recording has a field 'levels'") as caught:
        run(manifest, Classification("levels"), out)
    assert "level" in caught.value.hint
    with pytest.raises(InputError, match="no recording has a field 'ipa'"):
        run(manifest, Phones("ipa"), out)
    with pytest.raises(InputError, match="expected two classes of one"):
        run(manifest, Classification("one"), out)
    with pytest.raises(InputError, match='no recording has "train" or "test" in a field \'part\'') as caught:
        run(manifest, Classification("level"), out, split="part")
    assert "drawn at random" in caught.value.hint
    with pytest.raises(InputError, match="groups that divide the dimensions"):
        run(manifest, Classification("level"), out, quantizers=("product:7",))
    assert not out.exists()  # all of this is known before any audio is read
    with pytest.raises(InputError, match="expected at least 5000 frames of logmel for 5000 clusters, got 720"):
        run(manifest, Classification("level"), out, clusters=(5000,))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="holds no earlier choice"):
        run(manifest, Classification("level"), tmp_path / "other")
