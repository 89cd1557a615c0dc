"""The page on a vocoder: weights of the layers over time and on average, in numbers and on screen."""

from __future__ import annotations

import json
from base64 import b64decode

import numpy as np
import pytest
import soundfile
import torch

from tests.browser import assert_page_sound, open_page
from tests.conftest import sing
from tests.metrics.test_report import HOSTILE, clip, page_of
from tests.vocoders.test_units import SPEC, small, tokens
from vocable.errors import InputError
from vocable.metrics.report import write_page
from vocable.metrics.vocoder_page import write_vocoder_page
from vocable.store import Entry, TokenStore


def filled(folder, lengths=(16000, 9000, 24000, 8000)):
    """A store of recordings that are there, at 24 kHz."""
    store, some = TokenStore.create(folder / "tokens", SPEC), tokens(samples=lengths)
    entries = []
    for row, count in enumerate(lengths):
        wave = sing(count / 16000, 24000, seed=row)
        soundfile.write(folder / f"{row}.wav", wave, 24000)
        codes, fields = some.utterance(row).numpy(), {"speaker": "bo" if row % 2 else "dee", "text": f"{row} </script>"}
        entries.append(Entry(f"{row}", codes, count, f"{folder / f'{row}.wav'}", len(wave), 24000, fields=fields))
    store.append(entries)
    return store


def test_weights_and_sounds(tmp_path):
    store, vocoder = filled(tmp_path), small(sample_rate=22050, speakers=("ann", "bo"))
    (tmp_path / "2.wav").unlink()
    seen = []
    failures = write_vocoder_page(
        tmp_path / "p.html", store, vocoder, title="T", clips=2, commands=["c"], watcher=lambda p: seen.append(p.done)
    )
    assert [failure.id for failure in failures] == ["2"]
    assert seen == [1, 2, 3, 4]
    _, data = page_of(tmp_path / "p.html")
    whole = [vocoder.layer_weights(entry.tokens(SPEC))[0] for entry in store]
    means = torch.cat(whole, dim=1).mean(1)
    assert [name for name, _ in data["layers"]] == ["L1", "L3", "L6"]
    torch.testing.assert_close(torch.tensor([mean for _, mean in data["layers"]]), means)
    (shown,) = data["clips"]
    assert (shown["id"], shown["text"]) == ("0", "0 </script>")
    assert (shown["original"]["rate"], shown["resynthesis"]["rate"]) == (24000, 22050)
    mix = shown["layers"]
    weights = np.frombuffer(b64decode(mix["pixels"]), np.uint8).reshape(3, 50) / 255
    expected = vocoder.layer_weights(tokens(samples=(16000, 9000, 24000, 8000)))[0, :, :50]
    np.testing.assert_allclose(weights, expected, atol=0.5 / 255 + 1e-6)
    assert (mix["labels"], mix["step"]) == (["L1", "L3", "L6"], 0.02)


def test_a_long_recording_is_cut_and_hours_are_weighed_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("vocable.metrics.vocoder_page._LONGEST", 1)
    store, vocoder = filled(tmp_path, (8000, 40000)), small()
    whole = vocoder.layer_weights(tokens(samples=(8000, 40000)))
    monkeypatch.setattr("vocable.vocoders.units._FRAMES", 7)
    torch.testing.assert_close(vocoder.layer_weights(tokens(samples=(8000, 40000))), whole)
    assert write_vocoder_page(tmp_path / "p.html", store, vocoder, title="T", clips=9) == []
    _, data = page_of(tmp_path / "p.html")
    assert [round(shown["original"]["seconds"], 3) for shown in data["clips"]] == [0.5, 1.0]
    assert [shown["layers"]["frames"] for shown in data["clips"]] == [25, 50]


def test_some_layers_and_none(tmp_path):
    store = filled(tmp_path, (8000,))
    some = TokenStore.create(tmp_path / "some", SPEC.take(["L6"]))
    some.append([Entry(e.id, e.codes[3:], e.samples, e.path, e.source_samples, e.source_rate) for e in store])
    write_vocoder_page(tmp_path / "p.html", some, small(), title="T")
    _, data = page_of(tmp_path / "p.html")
    assert data["layers"] == [["L6", 1.0]]
    assert data["clips"][0]["layers"]["labels"] == ["L6"]
    with pytest.raises(InputError, match="got none"):
        write_vocoder_page(tmp_path / "q.html", TokenStore.create(tmp_path / "e", SPEC), small(), title="T")
    with pytest.raises(InputError, match="weight for each frame"):
        clip(layers={"L6": torch.zeros(3)})


@pytest.mark.parametrize("width", [390, 1280])
def test_on_screen(tmp_path, width):
    torch.manual_seed(0)
    names = [*HOSTILE[:3], "L9"]
    weights = torch.rand(4, 100).softmax(0)
    shown = clip(seconds=2.0, layers=dict(zip(names, weights, strict=True)))
    means = dict(zip(names, weights.mean(1).tolist(), strict=True))
    write_page(tmp_path / "p.html", title="T", facts={}, clips=[shown], layers=means)
    with open_page(tmp_path / "p.html", width=width) as driver:
        assert_page_sound(driver)
        assert driver.execute_script("return window.hacked") is None
        read = "return JSON.stringify([...document.querySelectorAll('.layers dt')].map(dt => dt.textContent))"
        assert json.loads(driver.execute_script(read)) == names
        shares = "return [...document.querySelectorAll('.layers dd:last-child')].map(dd => dd.textContent)"
        assert driver.execute_script(shares) == [f"{100 * mean:.1f} %" for mean in means.values()]
        label = driver.execute_script("return document.querySelector('.ribbon.mix').ariaLabel")
        assert abs(float(label.split("L9 ")[1].removesuffix(" %")) / 100 - means["L9"]) < 0.003
        driver.execute_script(
            "const c = document.querySelector('.ribbon.mix'), box = c.getBoundingClientRect();"
            "const place = {clientX: box.left + box.width * .505, clientY: box.top + 4};"
            "c.dispatchEvent(new PointerEvent('pointermove', place));"
        )
        tip = driver.execute_script("return document.querySelector('.tip').textContent").split("\n")
        assert tip[0] == "1.01 s"
        assert tip[4] == f"L9 · {100 * round(float(weights[3, 50]) * 255) / 255:.1f} %"
