"""The learned vocoder: layers that are absent, long audio, streams, voices, what is refused, and its artifact."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from vocable.clock import resampled_length
from vocable.errors import ArtifactError, InputError, SpecError
from vocable.nets.unit_decoder import UnitDecoder
from vocable.testing import check_vocoder
from vocable.types import Codebook, Tokens, TokenSpec
from vocable.vocoders import UnitVocoder, design
from vocable.vocoders.designs import generator_hop, layers_of

SPEC = TokenSpec(16000, 320, (Codebook(11, "L1"), Codebook(7, "L3.0"), Codebook(5, "L3.1"), Codebook(3, "L6")), "maker")
PITCHED = replace(SPEC, codebooks=(*SPEC.codebooks, Codebook(9, "f0")))
HUBERT = TokenSpec(16000, 320, (Codebook(11, "L1"),), "maker", window=400)


def small(spec=SPEC, sample_rate=16000, *, kind="istft", causal=False, speakers=(), seed=0):
    torch.manual_seed(seed)
    config = design("tiny", spec, sample_rate, generator=kind, speakers=len(speakers))
    sizes = {"dim": 16, "depth": 2, "width": 32} if kind == "istft" else {"dim": 16, "channels": 32}
    config["generator"] |= sizes | {"causal": causal}
    decoder = UnitDecoder(config)
    for parameter in decoder.parameters():  # so that layers and phases matter as they would after training
        parameter.data += 0.1 * torch.randn_like(parameter)
    return UnitVocoder(decoder, spec, sample_rate, speakers=speakers)


def tokens(spec=SPEC, samples=(16000, 321, 9999), seed=1):
    torch.manual_seed(seed)
    rows = [torch.stack([torch.randint(book.size, (spec.num_frames(n),)) for book in spec.codebooks]) for n in samples]
    return Tokens.of(rows, spec, list(samples))


@pytest.mark.parametrize("kind", ["istft", "hifigan"])
@pytest.mark.parametrize("rate", [16000, 22050, 24000, 44100])
def test_laws(kind, rate):
    vocoder = small(HUBERT, rate, kind=kind)
    check = tokens(HUBERT, (1, 400, 9999))
    if rate == 16000:
        check_vocoder(vocoder, check)
    audio = vocoder.decode(check)
    assert audio.sample_rate == rate
    assert audio.lengths.tolist() == [resampled_length(n, 16000, rate) for n in (1, 400, 9999)]


@pytest.mark.parametrize("kind", ["istft", "hifigan"])
@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_laws_of_every_preset(size, kind):
    vocoder = UnitVocoder(UnitDecoder(design(size, SPEC, 16000, generator=kind)), SPEC, 16000)
    check_vocoder(vocoder, tokens(samples=(1, 3000)))


@pytest.mark.parametrize("hop", [160, 320, 1280])
def test_token_rates(hop):
    spec = replace(SPEC, hop_length=hop)
    check_vocoder(small(spec), tokens(spec))


def test_a_rate_that_no_frame_divides():
    spec = replace(SPEC, sample_rate=44100, hop_length=512)
    vocoder = small(spec, 24000)
    assert vocoder.decode(tokens(spec, (44100,))).lengths.tolist() == [24000]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_absent_layer_has_no_influence(count):
    """Exactly: neither in the weights, nor in the waveform, whatever its codes are."""
    vocoder, layers = small(), list(layers_of(SPEC))
    decoder = vocoder.decoder
    torch.manual_seed(0)
    codes = torch.stack([torch.randint(book.size, (1, 40)) for book in SPEC.codebooks], dim=1)
    phase = torch.rand(1, 40)
    for chosen in combinations(layers, count):
        present = torch.tensor([[name in chosen for name in layers]])
        weights, _ = decoder.attend(codes, present)
        assert (weights[:, ~present[0]] == 0).all()
        torch.testing.assert_close(weights.sum(1), torch.ones(1, 40))
        expected = decoder(codes, phase, present)
        garbage = codes.clone()
        for name, members in layers_of(SPEC).items():
            if name not in chosen:
                garbage[:, list(members)] = torch.randint(-1000, 10**6, garbage[:, list(members)].shape)
        assert torch.equal(decoder(garbage, phase, present), expected)
        decoder.requires_grad_(True)
        decoder(codes, phase, present).square().sum().backward()
        for name, members in layers_of(SPEC).items():
            felt = any(bool(decoder.embeddings[k].table.grad.any()) for k in members)
            assert felt == (name in chosen)
        decoder.zero_grad()
        decoder.requires_grad_(False)


def test_any_subset_of_layers_decodes():
    vocoder, whole = small(), tokens()
    labels = {"L1": ["L1"], "L3": ["L3.0", "L3.1"], "L6": ["L6"]}
    found = set()
    for count in (1, 2, 3):
        for chosen in combinations(labels, count):
            some = whole.take([label for name in chosen for label in labels[name]])
            check_vocoder(vocoder, some)
            weights = vocoder.layer_weights(some)
            for layer, name in enumerate(vocoder.layers):
                assert bool(weights[:, layer].any()) == (name in chosen)
            found.add(float(vocoder.decode(some).samples.abs().sum()))
    assert len(found) == 7


def test_order_of_codebooks_is_nothing():
    vocoder, whole = small(), tokens()
    turned = whole.take(["L6", "L3.1", "L1", "L3.0"])
    assert torch.equal(vocoder.decode(turned).samples, vocoder.decode(whole).samples)


@pytest.mark.parametrize("kind", ["istft", "hifigan"])
@pytest.mark.parametrize("rate", [16000, 22050])
def test_windows_equal_the_whole(kind, rate, monkeypatch):
    vocoder, some = small(sample_rate=rate, kind=kind), tokens(samples=(70001,))
    monkeypatch.setattr("vocable.vocoders.units._STRETCH_SECONDS", 100.0)
    whole = vocoder.decode(some).samples
    for seconds in (0.5, 0.73):
        monkeypatch.setattr("vocable.vocoders.units._STRETCH_SECONDS", seconds)
        cut = vocoder.decode(some).samples
        assert cut.shape == whole.shape
        assert (cut - whole).abs().max() < 1e-5 * whole.abs().max()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rate", [16000, 22050])
@pytest.mark.parametrize("kind", ["istft", "hifigan"])
def test_stream_equals_the_whole(causal, rate, kind):
    vocoder, some = small(sample_rate=rate, causal=causal, kind=kind), tokens(samples=(29900,))
    whole = vocoder.decode(some).waveform(0)[0]
    for size in (1, 7, 200):
        stream = vocoder.stream()
        parts = [stream.push(piece) for piece in some.utterance(0).split(size, dim=1)]
        parts.append(stream.finish(29900))
        sound = torch.cat(parts)
        assert len(whole) <= len(sound) <= (len(whole) + vocoder.sample_rate // 50 if causal else len(whole))
        sound = sound[: len(whole)]
        assert (sound - whole).abs().max() < 1e-5 * whole.abs().max()


def test_latency_of_a_stream_is_as_stated():
    vocoder, codes = small(), tokens(samples=(32000,)).utterance(0)
    stream, given = vocoder.stream(), 0
    for frame in range(codes.shape[1]):
        given += len(stream.push(codes[:, frame : frame + 1]))
        assert (frame + 1) * 320 - given < vocoder.latency * 16000
    assert small(causal=True).latency == 0.01


def test_a_stream_holds_no_more_than_it_needs():
    vocoder = small()
    stream = vocoder.stream(["L1"])
    for _ in range(50):
        stream.push(torch.zeros(1, 20, dtype=torch.int64))
    assert stream._codes.shape[1] <= vocoder.generator.past + vocoder.generator.future + 2


def test_voices():
    vocoder = small(speakers=("ann", "bo"))
    some = tokens()
    ann, bo, both = (vocoder.speaking(name).decode(some).samples for name in ("ann", "bo", None))
    assert not torch.equal(ann, bo)
    assert not torch.equal(ann, both)
    assert torch.equal(vocoder.decode(some).samples, both)  # speaking() changed nothing
    row = vocoder.decoder.voices[1]
    assert torch.equal(vocoder.speaking(row).decode(some).samples, bo)
    assert len({vocoder.fingerprint, vocoder.speaking("ann").fingerprint, vocoder.speaking("bo").fingerprint}) == 3
    with pytest.raises(InputError, match="'cy'") as caught:
        vocoder.speaking("cy")
    assert "ann, bo" in caught.value.hint


def test_pitch_is_a_condition_and_no_layer():
    vocoder, some = small(PITCHED), tokens(PITCHED)
    assert vocoder.layers == ("L1", "L3", "L6")
    other = Tokens(some.codes.clone(), some.lengths, some.spec, some.samples)
    other.codes[:, 4] = (other.codes[:, 4] + 1) % 9
    assert not torch.equal(vocoder.decode(some).samples, vocoder.decode(other).samples)
    torch.testing.assert_close(vocoder.layer_weights(some), vocoder.layer_weights(other))
    with pytest.raises(SpecError, match="f0"):
        vocoder.decode(some.take(["L1", "L6"]))
    with pytest.raises(SpecError, match="one of the layers"):
        vocoder.decode(some.take(["f0"]))


def test_saved_and_loaded(tmp_path):
    vocoder, some = small(speakers=("ann", "bo"), sample_rate=24000), tokens()
    vocoder.save_pretrained(tmp_path / "vocoder")
    again = UnitVocoder.from_pretrained(tmp_path / "vocoder")
    assert again.fingerprint == vocoder.fingerprint
    assert torch.equal(again.decode(some).samples, vocoder.decode(some).samples)
    assert again.speakers == ("ann", "bo")


def test_embeddings_from_centroids_fold():
    torch.manual_seed(0)
    config = design("tiny", SPEC, 16000, centroids=[4, 0, 6, 2])
    config["generator"] |= {"dim": 16, "depth": 1, "width": 16}
    decoder = UnitDecoder(config)
    decoder.start([torch.randn(11, 4), None, torch.randn(5, 6), torch.randn(3, 2)])
    codes = torch.stack([torch.randint(book.size, (2, 9)) for book in SPEC.codebooks], dim=1)
    present, phase = torch.ones(2, 3, dtype=torch.bool), torch.rand(2, 9)
    torch.testing.assert_close(decoder.folded()(codes, phase, present), decoder(codes, phase, present))
    assert decoder.folded().config()["centroids"] is None


def test_layer_dropout_gives_every_subset_and_never_none():
    decoder = small().decoder
    presence = decoder.random_presence(4000, torch.Generator().manual_seed(0))
    assert presence.any(1).all()
    seen, counts = presence.unique(dim=0, return_counts=True)
    assert len(seen) == 7
    for size, share in ((1, 1 / 9), (2, 1 / 9), (3, 1 / 3)):  # a third for each number of layers
        assert ((counts[seen.sum(1) == size] / 4000 - share).abs() < 0.03).all()


def test_what_is_refused(tmp_path):
    vocoder, some = small(), tokens()
    with pytest.raises(SpecError, match="expected tokens of tokenizer maker"):
        vocoder.decode(tokens(replace(SPEC, source="another")))
    with pytest.raises(SpecError, match=r"L3\.0, L3\.1"):
        vocoder.decode(some.take(["L3.0"]))
    wrong = Tokens(some.codes.clone(), some.lengths, some.spec, some.samples)
    wrong.codes[0, 3, 5] = 3
    with pytest.raises(InputError, match="codes from 0 to 2 in L6"):
        vocoder.decode(wrong)
    with pytest.raises(InputError, match="expected one of"):
        design("huge", SPEC, 16000)
    with pytest.raises(ArtifactError):
        UnitVocoder.from_pretrained(tmp_path)
    empty = Tokens.of([torch.zeros(4, 0, dtype=torch.int64)], SPEC, [0])
    assert vocoder.decode(empty).lengths.tolist() == [0]
    stream = vocoder.stream()
    assert len(stream.finish()) == 0
    with pytest.raises(InputError, match="layers among L1, L3, L6"):
        vocoder.stream(["L2"])


def test_hops_fit_the_tokens():
    assert generator_hop(SPEC, 16000) == 160
    assert generator_hop(SPEC, 22050) == 147
    assert generator_hop(SPEC, 24000) == 240
    assert generator_hop(SPEC, 44100) == 441
    assert generator_hop(replace(SPEC, sample_rate=24000, hop_length=1920), 24000) == 240
    assert generator_hop(replace(SPEC, sample_rate=44100, hop_length=512), 24000) == 240
