"""The voice of a recording: found among those the vocoder has learned, and refused where there is too little."""

from __future__ import annotations

import pytest
import torch

from tests.vocoders.test_units import SPEC, small, tokens
from vocable.errors import InputError, SpecError
from vocable.metrics.reconstruction import mel_distance
from vocable.types import Audio, Tokens
from vocable.vocoders.voices import fit_voice

NAMES = ("ann", "bo", "cy")


@pytest.fixture(scope="module")
def vocoder():
    """Three voices that differ strongly."""
    made = small(speakers=NAMES)
    torch.manual_seed(5)
    made.decoder.voices.data.copy_(2 * torch.randn(3, made.generator.dim))
    return made


@pytest.mark.parametrize("name", ["ann", "cy"])
def test_the_voice_of_a_recording_is_found(vocoder, name, monkeypatch):
    monkeypatch.setattr("vocable.vocoders.voices._BATCH", 1)
    some = tokens(samples=(24000, 9000))
    real = vocoder.speaking(name).decode(some)
    voice = fit_voice(vocoder, some, real, steps=25)
    distances = (vocoder.decoder.voices - voice).norm(dim=1)
    assert NAMES[int(distances.argmin())] == name
    mean = vocoder.decoder.voices.mean(0)
    assert distances.min() < 0.5 * (vocoder.decoder.voices[NAMES.index(name)] - mean).norm()
    fitted, neutral = (mel_distance(real, vocoder.speaking(v).decode(some)).mean for v in (voice, None))
    assert fitted < 0.5 * neutral


def test_the_same_recording_gives_the_same_voice(vocoder):
    """Also on more threads."""
    some = tokens(samples=(24000,))
    real = vocoder.speaking("bo").decode(some)
    first = fit_voice(vocoder, some, real, steps=3)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(fit_voice(vocoder, some, real, steps=3), first)
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(fit_voice(vocoder, some, real, steps=3, seed=1), first)
    assert not any(parameter.grad is not None for parameter in vocoder.decoder.parameters())


def test_a_short_recording_beside_a_long_one_is_left_out(vocoder):
    both = tokens(samples=(16000, 400))
    alone = Tokens.of([both.utterance(0)], SPEC, [16000])
    real = vocoder.speaking("cy").decode(both)
    long = Audio.of([real.waveform(0)], 16000)
    assert torch.equal(fit_voice(vocoder, both, real, steps=2), fit_voice(vocoder, alone, long, steps=2))


def test_what_is_refused(vocoder):
    some = tokens(samples=(16000,))
    real = vocoder.decode(some)
    with pytest.raises(InputError, match="learned voices"):
        fit_voice(small(), some, real)
    short = tokens(samples=(7999,))
    with pytest.raises(InputError, match="half a second"):
        fit_voice(vocoder, short, vocoder.decode(short))
    with pytest.raises(InputError, match="got 1 of 2"):
        fit_voice(vocoder, some, Audio.of([real.waveform(0)] * 2, 16000))
    with pytest.raises(SpecError):
        fit_voice(vocoder, some.take(["L3.0"]), real)
