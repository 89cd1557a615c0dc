"""Judges whose weights lie in a folder, with tiny random checkpoints in the format of transformers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import sing
from vocable.errors import ArtifactError, InputError
from vocable.metrics.judges import judge_named
from vocable.metrics.recognizers import recognizer
from vocable.metrics.scoring import score_pairs, summarize_scores
from vocable.types import Audio

LETTERS = " abcdefghijklmnopqrstuvwxyz'"
TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "conv_dim": [8] * 7,
    "feat_extract_norm": "layer",
}


def one(wave: np.ndarray, rate: int = 16000) -> Audio:
    return Audio.of([torch.as_tensor(wave)], rate)


def save_ctc(folder: Path, seed: int) -> str:
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    folder.mkdir()
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS.strip()]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    torch.manual_seed(seed)
    network = Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=len(vocabulary), **TINY))
    with torch.no_grad():
        network.lm_head.weight.mul_(50)  # or it says one letter all along
    network.save_pretrained(folder)
    Wav2Vec2CTCTokenizer(folder / "vocab.json").save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    return str(folder)


def save_whisper(folder: Path) -> str:
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    vocabulary = {character: index for index, character in enumerate(bytes_to_unicode().values())}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|startoftranscript|>", "<|notimestamps|>"]})
    end, start = tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    torch.manual_seed(0)
    settings: dict[str, Any] = {"d_model": 16, "num_mel_bins": 80, "max_source_positions": 1500}
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))
    }
    config = WhisperConfig(vocab_size=len(tokenizer), max_target_positions=16, init_std=0.8, **settings, **sides)
    config.pad_token_id = config.eos_token_id = config.bos_token_id = end
    config.decoder_start_token_id = start
    config.suppress_tokens = config.begin_suppress_tokens = None
    network = WhisperForConditionalGeneration(config)
    network.generation_config.update(pad_token_id=end, eos_token_id=end, decoder_start_token_id=start, max_length=12)
    network.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(folder)
    return str(folder)


def save_xvector(folder: Path, seed: int) -> str:
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    torch.manual_seed(seed)
    tdnn = {"tdnn_dim": [16] * 5, "xvector_output_dim": 16}
    WavLMForXVector(WavLMConfig(**TINY, **tdnn)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        "ctc": save_ctc(root / "ctc", 0),
        "other": save_ctc(root / "other", 1),
        "whisper": save_whisper(root / "whisper"),
        "xvector": save_xvector(root / "xvector", 0),
    }


@pytest.mark.parametrize("kind", ["ctc", "whisper"])
def test_what_is_heard_in_the_same_sound_is_the_same(folders, kind: str) -> None:
    wave, other = sing(1.2), sing(1.2, seed=3)
    heard = recognizer(folders[kind]).opened()(wave)
    assert heard.strip() and heard == recognizer(folders[kind]).opened()(wave)
    metric = judge_named(f"dcer:{folders[kind]}")
    assert metric.function(one(wave), one(wave)).mean == 0
    assert metric.function(one(wave), one(other)).mean > 0
    assert recognizer(folders[kind]).opened()(np.zeros(10, np.float32)) is not None


def test_a_checkpoint_says_what_transformers_says(folders) -> None:
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    wave = sing(1.0)
    inputs = Wav2Vec2FeatureExtractor()(wave, sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        codes = Wav2Vec2ForCTC.from_pretrained(folders["ctc"]).eval()(inputs.input_values).logits[0].argmax(-1).tolist()
    runs = [code for index, code in enumerate(codes) if code > 3 and (not index or codes[index - 1] != code)]
    letters = "".join(("|" + LETTERS.strip())[code - 4] for code in runs)
    assert recognizer(folders["ctc"]).opened()(wave) == letters.replace("|", " ").strip()


def test_the_voice_of_equal_sound_is_the_same(folders) -> None:
    metric = judge_named(f"speaker:{folders['xvector']}")
    wave = sing(1.0, 24000)
    assert metric.function(one(wave, 24000), one(wave, 24000)).mean == pytest.approx(1, abs=1e-9)
    assert metric.function(one(wave, 24000), one(sing(1.0, 24000, seed=4), 24000)).mean < 1 - 1e-6
    short = metric.function(one(sing(0.2)), one(sing(0.2)))
    assert short.failures == {0: "0.2 s, too short for a voice"}
    silent = metric.function(one(wave), one(0 * wave))
    assert silent.failures == {0: "the resynthesis is silent"}


def test_scores_are_kept_by_what_is_in_the_folder(folders, tmp_path: Path) -> None:
    names = [f"dcer:{folders['ctc']}", f"dcer:{folders['other']}"]
    identities = {judge_named(name).identity for name in names}
    assert len(identities) == 2 and not any("/tmp" in identity or " " in identity for identity in identities)
    for name, seed in (("x", 0), ("y", 3)):
        soundfile.write(tmp_path / f"{name}.wav", sing(1.0, seed=seed), 16000, subtype="FLOAT")
    pair, cache = ("x", tmp_path / "x.wav", tmp_path / "y.wav"), tmp_path / "scores.jsonl"
    first, second = (score_pairs([pair], [name], cache=cache)[name].scores for name in names)
    assert first.mean != second.mean
    assert len([line for line in cache.read_text().split("\n") if line]) == 2
    moved = Path(folders["ctc"]).rename(tmp_path / "elsewhere")
    try:
        name = f"dcer:{moved}"
        again = score_pairs([pair], [name], cache=cache)[name].scores
        assert again.mean == first.mean and torch.equal(again.weights, first.weights)
        assert len([line for line in cache.read_text().split("\n") if line]) == 2
    finally:
        moved.rename(folders["ctc"])


def test_rates_against_text_count_words(folders, tmp_path: Path) -> None:
    for name in ("x", "y", "z"):
        soundfile.write(tmp_path / f"{name}.wav", sing(1.0), 16000, subtype="FLOAT")
    heard = " ".join(
        recognizer(folders["ctc"]).opened()(soundfile.read(tmp_path / "x.wav", dtype="float32")[0]).split()
    )
    count, name = len(heard.split()), f"wer:{folders['ctc']}"
    pairs = [(key, tmp_path / f"{key}.wav", tmp_path / f"{key}.wav") for key in ("x", "y", "z")]
    texts = {"x": heard.upper(), "y": "a" + "b" * 40}
    cache = tmp_path / "scores.jsonl"
    for _ in range(2):
        found = score_pairs(pairs, [name], texts=texts, cache=cache)[name]
        assert found.failures == {"z": "no text"}
        assert found.scores.values[:2].tolist() == [0, count]
        assert found.scores.weights[:2].tolist() == [count, 1]
        assert found.scores.mean == pytest.approx(count / (count + 1))
        assert summarize_scores(found.scores).failed == 1
    told = score_pairs(pairs, [name], texts={**texts, "z": heard}, cache=cache)[name]
    assert told.failures == {} and told.scores.values[2] == 0
    assert math.isnan(score_pairs(pairs, [name], cache=cache)[name].scores.mean)


def test_a_folder_of_something_else_is_refused(folders, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"expected a speech recognizer .* got WavLMForXVector"):
        judge_named(f"wer:{folders['xvector']}")
    with pytest.raises(ArtifactError, match=r"ForXVector .* got Wav2Vec2ForCTC"):
        judge_named(f"speaker:{folders['ctc']}")
    with pytest.raises(InputError, match="no-such-folder") as unknown:
        judge_named(f"cer:{tmp_path}/no-such-folder")
    assert "pocketsphinx" in unknown.value.hint
    with pytest.raises(InputError, match="embeds speakers") as nobody:
        judge_named("speaker:someone/some-model")
    assert "ge2e" in nobody.value.hint
    with pytest.raises(ArtifactError, match=r"config\.json is missing"):
        judge_named(f"dwer:{tmp_path}")


def test_pickled_weights_are_not_opened(folders, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    for file in Path(folders["ctc"]).iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        judge_named(f"dwer:{folder}").function(one(sing(0.5)), one(sing(0.5)))


def test_weights_that_are_missing_are_not_made_up(folders, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "partial"
    folder.mkdir()
    for file in Path(folders["ctc"]).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"lacks 1 tensors, lm_head\.weight"):
        recognizer(str(folder)).opened()
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        recognizer(str(folder)).opened()
    (folder / "config.json").write_text(json.dumps({"architectures": {"a": 1}}))
    with pytest.raises(ArtifactError, match="got no architecture"):
        recognizer(str(folder))
