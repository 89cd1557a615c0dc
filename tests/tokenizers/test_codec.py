from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.tiny_codecs import NAMES, rewrite_weights, tiny_config, tiny_tensors, write_tiny_codec
from vocable.artifacts import load
from vocable.clock import Windows, num_frames
from vocable.errors import ArtifactError, AudioError, InputError, SpecError
from vocable.nets.codec_families import measure
from vocable.testing import check_codec, check_long_audio, check_saving, noise
from vocable.tokenizers.codec import NeuralCodec, is_codec
from vocable.types import Audio, Codec, Tokens, TokenSpec

CODECS = tuple(name for name in NAMES if name != "dac-44k")  # differs from dac-16k in its strides alone
FSQ = ("xcodec2", "neucodec")


@cache
def codec(name: str, **options: Any) -> NeuralCodec:
    return NeuralCodec(tiny_config(name), tiny_tensors(name), **options)


def short_windows(name: str, frames: int = 20) -> Windows:
    context = 0 if name == "encodec-48k" else 3
    return Windows(frames, context, {"dac-44k": 512, "mimi": 1920, "neucodec": 480}.get(name, 320))


def tokens_of(coder: NeuralCodec, *seconds: float) -> Tokens:
    return coder.encode(
        Audio.of([noise(s, coder.sample_rate, seed) for seed, s in enumerate(seconds)], coder.sample_rate)
    )


@pytest.mark.parametrize("name", CODECS)
def test_describes_itself(name: str) -> None:
    coder = codec(name, windows=short_windows(name))
    assert isinstance(coder, Codec)
    assert coder.spec.window == 1
    assert coder.spec.source == coder.fingerprint
    assert coder.spec.labels[:3] == (("fsq0",) if name in FSQ else ("rvq0", "rvq1", "rvq2"))
    assert (coder.spec.sample_rate, coder.spec.hop_length) == (coder.sample_rate, coder.net.hop_length)
    assert is_codec(tiny_config(name))
    assert not is_codec({"model_type": "hubert"})


@pytest.mark.parametrize("name", CODECS)
def test_keeps_the_laws(name: str) -> None:
    check_codec(codec(name, windows=short_windows(name)))


@pytest.mark.parametrize("name", CODECS)
def test_long_audio_is_its_windows(name: str) -> None:
    coder = codec(name, windows=short_windows(name))
    # the law takes each window alone, which is longer than `frames` and would be cut again: so by a codec that does not
    check_long_audio(_Windowed(coder), coder.windows)


class _Windowed:
    """A codec that takes a stretch of one window, context and all, as one."""

    def __init__(self, coder: NeuralCodec) -> None:
        self.coder, self.spec = coder, coder.spec
        self.most = coder.windows.frames + 2 * coder.windows.context

    def encode(self, audio: Audio) -> Tokens:
        wave = audio.waveform(0)
        if self.spec.num_frames(wave.shape[1]) > self.most:
            return self.coder.encode(audio)
        return Tokens.of(self.coder.encode_windows([wave]), self.spec, [wave.shape[1]])


@pytest.mark.parametrize("name", ["encodec-24k", "dac-16k"])
def test_no_thread_count_matters(name: str) -> None:
    coder = codec(name, windows=short_windows(name, 60))
    before = torch.get_num_threads()
    found: list[tuple[Tensor, Tensor]] = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            tokens = tokens_of(coder, 2.6, 0.4)
            found.append((tokens.codes, coder.decode(tokens).samples))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@given(samples=st.integers(1, 8000))
@pytest.mark.parametrize("name", ["encodec-24k", "dac-44k", "mimi"])
def test_lengths_are_exact(name: str, samples: int) -> None:
    coder = codec(name, windows=short_windows(name))
    tokens = coder.encode(Audio.of([noise(samples / coder.sample_rate, coder.sample_rate, 1)], coder.sample_rate))
    assert tokens.samples.tolist() == [samples]
    assert tokens.lengths.tolist() == [num_frames(samples, coder.net.hop_length)]
    assert coder.decode(tokens).lengths.tolist() == [samples]


@pytest.mark.parametrize("name", CODECS)
def test_blocks_joined_are_what_decode_gives(name: str) -> None:
    coder = codec(name, windows=short_windows(name))
    tokens = tokens_of(coder, 2.3 * 20 * coder.net.hop_length / coder.sample_rate)
    blocks = list(coder.decode_blocks(tokens.utterance(0), int(tokens.samples[0])))
    assert len(blocks) == 3
    assert {block.ndim for block in blocks} == {2 if coder.channels == 2 else 1}
    assert torch.equal(torch.cat(blocks).reshape(-1, coder.channels).T, coder.decode(tokens).waveform(0))


def test_context_makes_windows_of_convolutions_exact() -> None:
    coder = codec("dac-16k")
    wave = noise(2.0, 16000, 2)
    windowed = codec("dac-16k", windows=Windows(30, coder.net.context, 320))
    codes, parts = (each.encode(Audio.of([wave], 16000)).utterance(0) for each in (coder, windowed))
    assert (codes == parts).float().mean() > 0.99
    whole, blocks = (torch.cat(list(each.decode_blocks(codes, 32000))) for each in (coder, windowed))
    torch.testing.assert_close(blocks, whole, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["encodec-48k", "dac-16k", "mimi"])
def test_fewer_codebooks_are_the_lower_bitrate(name: str) -> None:
    coder = codec(name)
    tokens = tokens_of(coder, 0.4, 0.2)
    first = codec(name, num_codebooks=2)
    scale = ["scale"] if name == "encodec-48k" else []
    fewer = tokens.take(["rvq0", "rvq1", *scale])
    again = tokens_of(first, 0.4, 0.2)
    assert torch.equal(again.codes, fewer.codes)
    assert torch.equal(first.decode(again).samples, coder.decode(fewer).samples)
    assert first.fingerprint != coder.fingerprint
    one = torch.cat(list(coder.decode_blocks(tokens.utterance(0)[:1], int(tokens.samples[0]))))
    expected = coder.decode(tokens.take(["rvq0"])).waveform(0).T
    assert torch.equal(one.reshape(expected.shape), expected)


@pytest.mark.parametrize("which", [["rvq1"], ["rvq1", "rvq0"], ["rvq0", "rvq2"]])
def test_codebooks_decode_in_their_order_alone(which: list[str]) -> None:
    coder = codec("dac-16k")
    with pytest.raises(SpecError, match="expected the first few of rvq0, rvq1, rvq2, rvq3 in order, got"):
        coder.decode(tokens_of(coder, 0.1).take(which))


def test_strangers_are_refused() -> None:
    tokens = tokens_of(codec("encodec-24k"), 0.1)
    with pytest.raises(SpecError, match="expected tokens of tokenizer"):
        codec("mimi").decode(tokens)
    other = replace(tokens.spec, source="somebody else")
    with pytest.raises(SpecError, match="expected tokens of tokenizer"):
        codec("encodec-24k").decode(Tokens(tokens.codes, tokens.lengths, other, tokens.samples))
    with pytest.raises(InputError, match="expected codes of 4 codebooks and 99999 samples"):
        list(codec("encodec-24k").decode_blocks(tokens.utterance(0), 99999))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_audio_is_refused(value: float) -> None:
    with pytest.raises(AudioError, match="expected finite samples"):
        codec("mimi").encode(Audio.of([torch.tensor([0.0, value])], 24000))
    with pytest.raises(AudioError, match="no samples"):
        codec("mimi").encode(Audio.of([torch.zeros(0)], 24000))
    with pytest.raises(InputError, match=r"expected a waveform of 1 channels, got shape \[2, 5\]"):
        codec("mimi").encode_windows([torch.zeros(2, 5)])


@pytest.mark.parametrize("name", ["encodec-48k", "dac-16k", "mimi", "xcodec2"])
def test_saves_and_loads(name: str, tmp_path: Path) -> None:
    write_tiny_codec(tmp_path / "model", name)
    coder = NeuralCodec.from_pretrained(str(tmp_path / "model"), num_codebooks=1 if name in FSQ else 2)
    check_saving(coder, NeuralCodec.from_saved, tmp_path / "saved")
    assert not load(tmp_path / "saved", "codec").extra


def test_bundled_weights_need_no_model(tmp_path: Path) -> None:
    model = write_tiny_codec(tmp_path / "model")
    coder = NeuralCodec.from_pretrained(str(model), precision="bf16", windows=short_windows("encodec-24k"))
    coder.save_pretrained(tmp_path / "saved", bundle=True)
    model.rename(tmp_path / "elsewhere")
    again = NeuralCodec.from_saved(tmp_path / "saved")
    assert again.fingerprint == coder.fingerprint
    assert (again.precision, again.windows) == ("bf16", coder.windows)
    assert torch.equal(tokens_of(again, 0.5).codes, tokens_of(coder, 0.5).codes)


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    model = write_tiny_codec(tmp_path / "model")
    coder = NeuralCodec.from_pretrained(str(model))
    coder.save_pretrained(tmp_path / "saved")
    write_tiny_codec(model, seed=1)
    with pytest.raises(ArtifactError, match="expected the weights"):
        NeuralCodec.from_saved(tmp_path / "saved")


def test_everything_that_decides_a_code_is_in_the_fingerprint() -> None:
    config, tensors = tiny_config("encodec-24k"), tiny_tensors("encodec-24k")
    name = "encoder.layers.0.conv.bias"
    flipped = tensors[name].clone().view(torch.int32)
    flipped[0] ^= 1
    others = [
        NeuralCodec(config, tensors | {name: flipped.view(torch.float32)}),
        codec("encodec-24k", num_codebooks=3),
        codec("encodec-24k", precision="bf16"),
        codec("encodec-24k", windows=short_windows("encodec-24k")),
        codec("encodec-24k"),
    ]
    assert len({other.fingerprint for other in others}) == 5
    anywhere = config | {"_name_or_path": "here", "transformers_version": "4.0", "auto_map": {"AutoModel": "x.Y"}}
    assert NeuralCodec(anywhere, tensors, origin={"model": "there"}).fingerprint == others[-1].fingerprint


def test_reads_a_published_layout_and_says_what_is_missing(tmp_path: Path) -> None:
    model = write_tiny_codec(tmp_path / "model", "mimi")
    assert tokens_of(NeuralCodec.from_pretrained(str(model)), 0.3).spec.frame_rate == 12.5
    (tmp_path / "hubert").mkdir()
    (tmp_path / "hubert" / "config.json").write_text('{"model_type": "hubert"}')
    with pytest.raises(InputError, match="got a model of type 'hubert'"):
        NeuralCodec.from_pretrained(str(tmp_path / "hubert"))
    rewrite_weights(model, {"quantizer.acoustic_residual_vector_quantizer.input_proj.weight": torch.zeros(8, 16, 1)})
    with pytest.raises(ArtifactError, match="model: expected the tensors of a mimi model, got no decoder"):
        NeuralCodec.from_pretrained(str(model))


def test_windows_must_fit_the_codec() -> None:
    with pytest.raises(InputError, match="expected windows with hop 320"):
        NeuralCodec(tiny_config("encodec-24k"), tiny_tensors("encodec-24k"), windows=Windows(10, 0, 160))
    with pytest.raises(InputError, match="expected windows of at most 150 frames, got 152"):
        NeuralCodec(tiny_config("encodec-48k"), tiny_tensors("encodec-48k"), windows=Windows(150, 1, 320))


@pytest.mark.parametrize("name", ["encodec-48k", "dac-16k", "xcodec"])
def test_what_is_not_causal_cannot_stream(name: str) -> None:
    with pytest.raises(InputError, match="cannot stream") as caught:
        codec(name).streaming()
    assert "windows" in caught.value.hint


def test_stereo_keeps_its_level_in_a_codebook() -> None:
    coder = codec("encodec-48k")
    waves = 0.2 * torch.stack([noise(2.5, 48000, 1), noise(2.5, 48000, 2)])
    quiet = waves.clone()
    quiet[:, 48000:96000] *= 0.1
    loud, soft = (coder.encode(Audio.of([wave], 48000)) for wave in (waves, quiet))
    rows = [tokens.utterance(0)[-1].view(-1) for tokens in (loud, soft)]
    # one level a second, where that second is softer by 20 dB, which is 40 steps
    assert [row.unique_consecutive().numel() for row in rows] == [3, 3]
    assert (rows[0] - rows[1])[[0, 150, 300]].tolist() == [0, 40, 0]
    assert torch.equal(loud.utterance(0)[:-1], soft.utterance(0)[:-1])
    audio, unscaled = coder.decode(soft), coder.decode(soft.take(["rvq0", "rvq1", "rvq2"]))
    assert audio.samples.shape == (1, 2, 120000)
    ratio = audio.samples[0, :, 48000:96000] / unscaled.samples[0, :, 48000:96000]
    level = float(measure(quiet[None, :, 48000:96000]))
    assert 20 * abs(math.log10(float(ratio.nanmedian()) / level)) <= 0.25 + 1e-3
    assert coder.spec.codebooks[-1].stride == 150
    assert coder.spec.bitrate == pytest.approx(3 * 4 * 150 + 8)


def test_mono_is_doubled_for_a_stereo_codec() -> None:
    wave = noise(0.3, 48000, 1)
    coder = codec("encodec-48k")
    both = coder.encode_windows([torch.stack([wave, wave])])[0]
    assert torch.equal(coder.encode_windows([wave])[0], both)
    assert torch.equal(coder.encode(Audio.of([wave], 48000)).utterance(0), both)


@pytest.mark.parametrize(
    ("family", "changes", "frame_rate", "bitrate"),
    [
        ("EncodecConfig", {}, 75.0, 32 * 750.0),
        ("DacConfig", {"downsampling_ratios": [2, 4, 8, 8], "sampling_rate": 44100}, 44100 / 512, 9 * 441000 / 512),
        ("DacConfig", {"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 12}, 50.0, 12 * 500.0),
        ("MimiConfig", {}, 12.5, 32 * 137.5),
    ],
)
def test_bitrates_of_the_published_sizes(
    family: str, changes: dict[str, Any], frame_rate: float, bitrate: float
) -> None:
    """The clock and codebooks of full-size configurations, with channels cut down to build them fast."""
    import transformers

    full = getattr(transformers, family)(**changes).to_dict()
    small = {
        "DacConfig": {"encoder_hidden_size": 2, "decoder_hidden_size": 32},
        "EncodecConfig": {"num_filters": 2, "hidden_size": 8, "codebook_dim": 8},
        "MimiConfig": {"num_filters": 2, "codebook_dim": 8, "vector_quantization_hidden_dimension": 8},
    }[family]
    model = getattr(transformers, family.replace("Config", "Model"))
    config = model.config_class.from_dict(full | small)
    coder = NeuralCodec(config.to_dict(), model(config).state_dict())
    assert coder.spec.frame_rate == pytest.approx(frame_rate)
    assert coder.spec.bitrate == pytest.approx(bitrate)
    eight: TokenSpec = coder.spec.take(range(8))
    assert eight.bitrate == pytest.approx(bitrate * 8 / coder.spec.num_codebooks)
