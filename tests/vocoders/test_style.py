"""Style: exact numbers of samples and frames, the codes that are taken, pitch, voices; and layers of a store."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from tests.vocoders.test_units import HUBERT, SPEC, small, tokens
from vocable.errors import InputError, OutputError, SpecError
from vocable.quantizers.pitch_bins import PitchBins
from vocable.store import Entry, TokenStore
from vocable.types import Codebook
from vocable.vocoders import Style, resynthesize
from vocable.vocoders.style import _learned

PITCHED = replace(SPEC, codebooks=(*SPEC.codebooks, Codebook(PitchBins().size, "f0")))


def entry(codes, samples, **changes):
    return Entry("a", np.asarray(codes, dtype=np.uint8), samples, **changes)


def filled(path, spec=SPEC, *, rate=24000, speakers=("ann", "bo", "cy")):
    """A store of a recording at `rate` for each speaker."""
    store = TokenStore.create(path, spec)
    some = tokens(spec, (16000, 9999, 8321)[: len(speakers)])
    store.append(
        Entry(
            name,
            some.utterance(row).numpy(),
            int(some.samples[row]),
            source_samples=int(some.samples[row]) * rate // 16000,
            source_rate=rate,
            fields={"speaker": name},
        )
        for row, name in enumerate(speakers)
    )
    return store


def wave(folder, name):
    samples, rate = soundfile.read(folder / f"{name}.wav", dtype="float32")
    return samples, rate


def test_nothing_changes_by_default():
    one = entry([range(10)] * 4, 3200)
    made = Style().entry(one, SPEC)
    assert made.codes is one.codes
    assert (made.samples, made.source_samples) == (3200, 0)


@pytest.mark.parametrize(
    ("speed", "taken"),
    [
        (2.0, [1, 3, 5, 7, 9]),  # the middle of each frame of the result, at the same share of the recording
        (0.5, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]),
        (1.25, [0, 1, 3, 4, 5, 6, 8, 9]),
        (100.0, [9]),
    ],
)
def test_speed_takes_these_codes(speed, taken):
    made = Style(speed=speed).entry(entry([range(10)] * 4, 3200), SPEC)
    assert made.codes.tolist() == [taken] * 4
    assert made.samples == round(3200 / speed)
    assert made.codes.dtype == np.uint8


@pytest.mark.parametrize("speed", [0.3, 0.7, 1.1, 1.7, 3.9, 1e6])
@pytest.mark.parametrize("spec", [SPEC, HUBERT])
@pytest.mark.parametrize("samples", [1, 321, 16001])
def test_speed_gives_lengths_that_fit_the_spec(speed, spec, samples):
    codes = tokens(spec, (samples,)).utterance(0).numpy()
    made = Style(speed=speed).entry(Entry("a", codes, samples, source_samples=3 * samples, source_rate=48000), spec)
    assert made.samples == max(1, round(samples / speed))
    assert made.source_samples == max(1, round(3 * samples / speed))
    made.tokens(spec)  # which checks that samples and frames go together


def test_an_empty_recording_stays_empty():
    empty = Entry("a", np.zeros((4, 0), np.uint8), 0)
    assert Style(speed=2.0).entry(empty, SPEC) is empty


def test_semitones_move_pitch_alone():
    bins = PitchBins()
    hertz = [0, 100, 200, 790]
    octaves = torch.tensor([[math.log2(f) if f else 0.0, float(f > 0)] for f in hertz])
    codes = np.stack([np.arange(4)] * 4 + [bins.encode(octaves)[:, 0].numpy()]).astype(np.uint8)
    made = Style(semitones=12).entry(entry(codes, 1280), PITCHED)
    assert (made.codes[:4] == codes[:4]).all()
    assert made.codes[4].tolist() == [0, codes[4, 1] + 48, codes[4, 2] + 48, bins.size - 1]
    assert codes[4, 1] + 48 == codes[4, 2]  # an octave above 100 Hz is 200 Hz
    down = Style(semitones=-12).entry(made, PITCHED)
    assert down.codes[4, :3].tolist() == codes[4, :3].tolist()
    Style(semitones=2).require(small(PITCHED), PITCHED)


def test_what_a_style_needs():
    with pytest.raises(InputError, match="pitch"):
        Style(semitones=2).require(small(), SPEC)
    few = replace(SPEC, codebooks=(*SPEC.codebooks, Codebook(9, "f0")))
    with pytest.raises(InputError, match="193 bins of pitch to shift it, got 9"):
        Style(semitones=2).require(small(few), few)
    with pytest.raises(InputError, match="'dee'"):
        Style(voice="dee").require(small(speakers=("ann",)), SPEC)
    with pytest.raises(InputError, match="learned"):
        Style(voice="ann").require(small(), SPEC)
    with pytest.raises(InputError, match="learned voices") as caught:
        _learned(object())
    assert "--vocoder" in caught.value.hint
    for speed in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="speed"):
            Style(speed=speed)
    for semitones in (math.nan, math.inf):
        with pytest.raises(InputError, match="semitones"):
            Style(semitones=semitones)


def test_styles_are_told_apart():
    voice = torch.arange(16.0)
    styles = [Style(), Style(voice="ann"), Style(voice=voice), Style(voice=voice + 1), Style(speed=1.1)]
    assert len({str(style.config()) for style in styles}) == len(styles)
    assert Style(voice=voice.clone()).config() == Style(voice=voice).config()


def test_recordings_keep_their_speakers_voice():
    vocoder = small(speakers=("ann", "bo"))
    one = entry([range(10)] * 4, 3200)

    def heard(fields, style, evidence=None):
        vocoder.evidence = evidence or {}
        return style.vocoder(replace(one, fields=fields), vocoder).fingerprint

    ann, bo, mean = (vocoder.speaking(name).fingerprint for name in ("ann", "bo", None))
    assert heard({"speaker": "bo"}, Style()) == bo
    assert heard({"speaker": "dee"}, Style()) == mean
    assert heard({}, Style()) == mean
    assert heard({"speaker": "ann", "narrator": "bo"}, Style(), {"speakers": "narrator"}) == bo
    assert heard({"speaker": "ann"}, Style(), {"speakers": None}) == ann
    assert heard({"speaker": "bo"}, Style(voice="ann")) == ann
    numbered = small(speakers=("1", "2"))
    chosen = Style().vocoder(replace(one, fields={"speaker": 2}), numbered)
    assert chosen.fingerprint == numbered.speaking("2").fingerprint


def test_a_store_in_its_own_voices_and_in_another(tmp_path):
    store, vocoder = filled(tmp_path / "tokens", rate=16000), small(speakers=("ann", "bo"))
    resynthesize(store, vocoder, tmp_path / "own", style=Style())
    resynthesize(store, vocoder, tmp_path / "bo", style=Style(voice="bo"))
    assert (wave(tmp_path / "own", "bo")[0] == wave(tmp_path / "bo", "bo")[0]).all()
    assert (wave(tmp_path / "own", "ann")[0] != wave(tmp_path / "bo", "ann")[0]).any()
    stored = {one.id: one.tokens(SPEC) for one in store}
    for name, voice in (("ann", "ann"), ("cy", None)):
        expected = vocoder.speaking(voice).decode(stored[name]).waveform(0)[0].clamp(-1, 1)
        np.testing.assert_allclose(wave(tmp_path / "own", name)[0], expected, atol=1 / 32768)
    with pytest.raises(OutputError, match="something else"):
        resynthesize(store, vocoder, tmp_path / "own", style=Style(voice="bo"))


@pytest.mark.parametrize("rate", [None, 16000, 22050])
def test_speed_of_a_store_is_exact_to_the_sample(tmp_path, rate):
    store = filled(tmp_path / "tokens")
    resynthesize(store, small(), tmp_path / "out", style=Style(speed=1.3), sample_rate=rate)
    for one in store:
        samples, written = wave(tmp_path / "out", one.id)
        assert written == (rate or 24000)
        assert abs(len(samples) - one.samples / 1.3 * written / 16000) <= 1
        if rate is None:
            assert len(samples) == round(one.source_samples / 1.3)


def test_layers_of_a_store(tmp_path):
    store, vocoder = filled(tmp_path / "tokens", rate=16000), small()
    stored = {one.id: one.tokens(SPEC) for one in store}
    for name, labels in (("L1", ["L1"]), ("L3", ["L3.0", "L3.1"])):
        resynthesize(store, vocoder, tmp_path / name, layers=[name])
        expected = vocoder.decode(stored["ann"].take(labels)).waveform(0)[0].clamp(-1, 1)
        np.testing.assert_allclose(wave(tmp_path / name, "ann")[0], expected, atol=1 / 32768)
    with pytest.raises(InputError, match="layers among L1, L3, L6, got L9"):
        resynthesize(store, vocoder, tmp_path / "none", layers=["L9"])
    with pytest.raises(OutputError, match="something else"):
        resynthesize(store, vocoder, tmp_path / "L1", layers=["L6"])
    with pytest.raises(SpecError, match="expected tokens of tokenizer maker"):
        resynthesize(filled(tmp_path / "o", replace(SPEC, source="another")), vocoder, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_pitch_travels_with_any_layer(tmp_path):
    store, vocoder = filled(tmp_path / "tokens", PITCHED), small(PITCHED)
    resynthesize(store, vocoder, tmp_path / "plain", layers=["L6"])
    resynthesize(store, vocoder, tmp_path / "high", layers=["L6"], style=Style(semitones=4))
    assert (wave(tmp_path / "plain", "ann")[0] != wave(tmp_path / "high", "ann")[0]).any()
