from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from html.parser import HTMLParser

import pytest
import soundfile
import torch

from vocable.errors import InputError, OutputError
from vocable.metrics.report import Clip, write_page
from vocable.types import Audio, Codebook, Tokens, TokenSpec

HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked=1'>",
    "\"'`--><!--<script>${window.hacked=1}",
    "../../etc/passwd\n\r\t\u2028\u2029 {{DATA}} {{TITLE}} \\u003c",
    "Ёж 漢字 \U0001f99c \u202e كلب",
    "broken \udcff name",
]


def clip(
    name: str = "one", *, seconds: float = 1.0, rate: int = 16000, books: int = 1, seed: int = 0, **changes
) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    count = round(seconds * rate)
    time = torch.arange(count) / rate
    wave = 0.3 * torch.sin(2 * torch.pi * (200 + 400 * time) * time) + 0.002 * torch.randn(
        count, generator=generator
    )  # packs to 34 kB/s at 24 kHz, as real speech does
    spec = TokenSpec(rate, rate // 50, tuple(Codebook(64, f"L{6 + i}") for i in range(books)), "made-up")
    codes = torch.randint(0, 64, (books, spec.num_frames(count)), generator=generator)
    codes[:, 1::2] = codes[:, : codes.shape[1] - 1 : 2]
    values = {
        "id": name,
        "text": f"the text of {name}",
        "speaker": "nobody",
        "original": Audio.of([wave], rate),
        "resynthesis": Audio.of([wave.flip(0)], rate),
        "tokens": Tokens.of([codes], spec, [count]),
        "scores": {"STOI": 0.81, "SI-SDR": None},
    }
    return Clip(**{**values, **changes})


class Page(HTMLParser):
    """Elements and texts of a page, as a parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: dict[str, str] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag if not dict(attrs).get("id") else f"{tag}#{dict(attrs)['id']}")
        self.attributes += attrs

    def handle_data(self, data):
        if self.tags:
            self.texts[self.tags[-1]] = self.texts.get(self.tags[-1], "") + data


def page_of(path) -> tuple[Page, dict]:
    page = Page(path.read_text(encoding="utf-8"))
    return page, json.loads(page.texts["script#data"])


def test_the_page_holds_both_sounds_the_tokens_and_the_scores(tmp_path):
    one = clip(books=2)
    write_page(
        tmp_path / "page.html", title="T", facts={"Bitrate": "300 bit/s"}, clips=[one], commands=["vocable demo"]
    )
    page, data = page_of(tmp_path / "page.html")
    assert page.texts["title"].strip() == data["title"] == "T"
    assert data["facts"] == [["Bitrate", "300 bit/s"]] and data["commands"] == ["vocable demo"]
    shown = data["clips"][0]
    assert shown["scores"] == [["STOI", 0.81], ["SI-SDR", None]]
    for name, audio in (("original", one.original), ("resynthesis", one.resynthesis)):
        wave, rate = soundfile.read(io.BytesIO(base64.b64decode(shown[name]["flac"])), dtype="float32")
        assert rate == 16000 and torch.allclose(torch.from_numpy(wave), audio.waveform(0)[0], atol=2**-15)
        assert len(base64.b64decode(shown[name]["pixels"])) == 80 * shown[name]["frames"]


def test_ribbons_unroll_to_the_codes(tmp_path):
    one = clip(books=2, seconds=0.73)
    write_page(tmp_path / "page.html", title="T", facts={}, clips=[one])
    ribbons = page_of(tmp_path / "page.html")[1]["clips"][0]["ribbons"]
    assert [(ribbon["label"], ribbon["size"]) for ribbon in ribbons] == [("L6", 64), ("L7", 64)]
    for ribbon, codes in zip(ribbons, one.tokens.utterance(0).tolist(), strict=True):
        pairs = list(zip(ribbon["runs"][::2], ribbon["runs"][1::2], strict=True))
        assert [code for code, frames in pairs for _ in range(frames)] == codes
        assert (ribbon["start"], ribbon["step"]) == pytest.approx((0, 0.02))


def test_a_spectrogram_shows_where_the_tone_is(tmp_path):
    tone = Audio.of([0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)], 16000)
    silence = Audio.of([torch.zeros(8000)], 8000)
    write_page(tmp_path / "page.html", title="T", facts={}, clips=[clip(original=tone, resynthesis=silence)])
    shown = page_of(tmp_path / "page.html")[1]["clips"][0]
    pixels = torch.frombuffer(bytearray(base64.b64decode(shown["original"]["pixels"])), dtype=torch.uint8).view(80, -1)
    expected = math.log10(1 + 1000 / 700) / math.log10(1 + 8000 / 700) * 81 - 1
    assert abs(int(pixels[:, 40].argmax()) - expected) <= 1 and int(pixels.max()) == 255
    assert set(base64.b64decode(shown["resynthesis"]["pixels"])) == {0}


def test_hostile_text_stays_text(tmp_path):
    clips = [
        clip(f"{i} {text}", seconds=0.2, text=text, speaker=text, scores={text: 0.5}) for i, text in enumerate(HOSTILE)
    ]
    path = tmp_path / "page.html"
    write_page(
        path,
        title=HOSTILE[0] + HOSTILE[3],
        facts=dict(zip(HOSTILE, HOSTILE, strict=True)),
        clips=clips,
        commands=HOSTILE,
    )
    page, data = page_of(path)
    assert [tag for tag in page.tags if tag.startswith(("script", "img"))] == ["script#data", "script"]
    assert data["commands"] == HOSTILE and data["facts"] == [[text, text] for text in HOSTILE]
    assert [shown["text"] for shown in data["clips"]] == HOSTILE
    assert page.texts["title"].startswith(HOSTILE[0])
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_only_the_pages_own_script_and_style_may_run_and_nothing_is_fetched(tmp_path):
    write_page(tmp_path / "page.html", title="T", facts={}, clips=[clip()])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for tag in ("style", "script"):
        body = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" in policy
    assert "{{" not in text
    assert set(re.findall(r"https?://[\w./]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"\.innerHTML|insertAdjacentHTML|document\.write|eval\(", text)


@pytest.mark.parametrize(
    ("value", "shown"), [(math.nan, None), (None, None), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (0.25, 0.25)]
)
def test_scores_that_json_cannot_hold(tmp_path, value, shown):
    write_page(tmp_path / "page.html", title="T", facts={}, clips=[clip(scores={"S": value})])
    assert page_of(tmp_path / "page.html")[1]["clips"][0]["scores"] == [["S", shown]]


def test_sixteen_clips_stay_small_and_the_same_input_gives_the_same_page(tmp_path):
    clips = [clip(str(i), seconds=4, rate=24000, seed=i) for i in range(16)]
    for name in ("a.html", "b.html"):
        write_page(tmp_path / name, title="T", facts={}, clips=clips)
    assert (tmp_path / "a.html").stat().st_size < 6_000_000
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_page_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "page.html"
    write_page(path, title="first", facts={}, clips=[])
    write_page(path, title="second", facts={}, clips=[])
    assert page_of(path)[1]["title"] == "second"
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(OutputError, match="cannot write"):
        write_page(tmp_path / "nowhere" / "page.html", title="T", facts={}, clips=[])
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_page(tmp_path / "folder", title="T", facts={}, clips=[])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "page.html"]


@pytest.mark.parametrize(
    "bad",
    [
        {"original": Audio.of([torch.zeros(9), torch.zeros(9)], 16000)},
        {"resynthesis": Audio.of([torch.zeros(2, 9)], 16000)},
        {"resynthesis": Audio(torch.zeros(1, 1, 9), torch.tensor([0]), 16000)},
        {"original": Audio.of([torch.tensor([0.0, math.nan])], 16000)},
    ],
)
def test_clips_that_cannot_be_heard_are_refused(bad):
    with pytest.raises(InputError, match="'one'"):
        clip(**bad)
