"""The page of an evaluation in a browser: it plays, sorts, draws, takes votes, and keeps text as text."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.browser import open_page
from tests.evaluation.test_page import MEL, STOI, around_sounds, column, compared
from tests.metrics.test_report import HOSTILE
from vocable.evaluation.page import write_evaluation_page
from vocable.evaluation.results import Judged
from vocable.store import Entry, TokenStore
from vocable.types import Codebook, TokenSpec

ITEMS = 10
RIGHT, ENTER, ESCAPE, END = "\ue014", "\ue007", "\ue00c", "\ue010"


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    made = compared(folder, count=ITEMS, seconds=1.5)
    (folder / "sounds" / "0" / "item 1.flac").unlink()
    spec = TokenSpec(16000, 320, tuple(Codebook(64, f"rvq{k}") for k in range(2)), "f" * 64)
    codes = np.arange(150, dtype=np.uint8).reshape(2, 75) % 64
    TokenStore.create(folder / "tokens", spec).append([Entry(item.id, codes, 24000) for item in made.items])
    made = replace(made, systems=(*made.systems[:2], replace(made.systems[2], store="tokens"), made.systems[3]))
    return made, folder, write_evaluation_page(made, folder)


@pytest.fixture(scope="module")
def wide(evaluation):
    with open_page(evaluation[2]) as driver:
        yield driver


def ask(driver, expression: str):
    return driver.execute_script(f"return {expression}")


def find(driver, selector: str):
    from selenium.webdriver.common.by import By

    element = driver.find_element(By.CSS_SELECTOR, selector)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    return element


def texts(driver, selector: str) -> list[str]:
    return ask(driver, f"[...document.querySelectorAll({json.dumps(selector)})].map(node => node.textContent)")


def wait(driver, condition: str) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(driver, 20).until(lambda page: ask(page, condition))


def press(driver, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(driver).send_keys(key).perform()


def select(driver, selector: str, text: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(find(driver, selector)).select_by_visible_text(text)


STATE = """
const all = selector => [...document.querySelectorAll(selector)];
return {
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  scripts: all("script:not([type])").length,
  foreign: all("main :is(img, iframe, object, embed, script, style, link), [onerror], [onload]").length,
  fetched: performance.getEntriesByType("resource").map(entry => entry.name),
};
"""
PAINTED = """(canvas => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const pixels = copy.getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(pixels.buffer)).size > 20;
})(document.querySelector("%s"))"""


def assert_sound(driver) -> None:
    assert driver.get_log("browser") == []
    state = driver.execute_script(STATE)
    assert state["overflow"] <= 0, "the page scrolls sideways"
    assert (state["scripts"], state["foreign"], state["fetched"]) == (1, 0, [])


def test_the_page_opens_without_a_word_and_draws_spectrograms(wide):
    find(wide, ".item .picture")
    wait(wide, PAINTED % ".item .picture")
    assert_sound(wide)
    names = "Comparison, Quality against rate, Codebook by codebook, Tokens, Listening, Blind comparison, Commands"
    assert ", ".join(texts(wide, "nav[aria-label=Sections] a")) == names
    assert "lossless" in " ".join(texts(wide, "#listening > .quiet"))
    assert any("item 1, a" in text for text in texts(wide, "#listening details dt"))


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "dark")])
def test_every_screen_and_scheme_holds_it(evaluation, width, scheme):
    with open_page(evaluation[2], width=width, height=844, scheme=scheme) as driver:
        find(driver, ".item .picture")
        wait(driver, PAINTED % ".item .picture")
        assert_sound(driver)
        find(driver, ".item .play").click()
        wait(driver, "document.querySelector('.item .play').ariaPressed === 'true'")
        assert ask(driver, "getComputedStyle(document.body).backgroundColor") == (
            "rgb(18, 20, 22)" if scheme == "dark" else "rgb(251, 251, 249)"
        )


def test_the_table_shows_means_intervals_failures_and_the_best(wide):
    cells = "row => [...row.cells].map(cell => cell.innerText)"
    rows = ask(wide, f"[...document.querySelectorAll('#comparison tbody tr')].map({cells})")
    assert [row[0] for row in rows] == ["original", "a", "b @ 1", "b @ 2"]
    assert [row[1] for row in rows] == ["–", "500", "1,000", "2,000"]
    assert rows[0][2].startswith("1.000")
    assert rows[1][2].split("\n") == ["0.545", "0.445–0.645"]
    assert [row[2].split("\n")[0] for row in rows[2:]] == ["0.645", "0.745"]
    assert ["(best)" in row[2] for row in rows] == [False, False, False, True]
    assert "(best)" in rows[3][3] and "1 of 10 failed" in rows[3][3]
    assert texts(wide, "#comparison thead th")[2:4] == ["stoi ↑", "mel ↓dB"]


def test_columns_sort_by_pointer_and_by_key(wide):
    names = "#comparison tbody th"
    find(wide, "#comparison thead th:nth-child(4) button").click()  # mel
    assert texts(wide, names) == ["original", "b @ 2", "b @ 1", "a"]
    assert ask(wide, "document.querySelector('#comparison [aria-sort]').cellIndex") == 3
    press(wide, ENTER)
    assert texts(wide, names) == ["a", "b @ 1", "b @ 2", "original"]
    assert ask(wide, "document.querySelector('#comparison [aria-sort]').ariaSort") == "descending"
    wide.execute_script("document.querySelector('#comparison thead th:nth-child(2) button').focus()")
    press(wide, ENTER, ENTER)  # the rate, of which the original has none: it stays last
    assert texts(wide, names) == ["b @ 2", "b @ 1", "a", "original"]


def test_why_scores_failed_is_told_on_demand_and_closed_by_a_key(wide):
    find(wide, "#comparison .failed")
    wide.execute_script("document.querySelector('#comparison .failed').focus()")
    press(wide, ENTER)
    wait(wide, "document.querySelector('dialog').open")
    assert "PESQ finds no speech (1)item 0" in texts(wide, "dialog")[0]
    press(wide, ESCAPE)
    wait(wide, "!document.querySelector('dialog').open")


def test_the_plot_follows_metric_and_rate(wide):
    label = "document.querySelector('#rates svg').ariaLabel"
    wait(wide, "document.querySelector('#rates svg')")
    assert ask(wide, label).startswith("stoi against bits per second: a, 500 bit/s, 0.545; b @ 1, 1,000 bit/s")
    assert ask(wide, "document.querySelectorAll('#rates polyline').length") == 1  # b @ 1 and b @ 2
    assert ask(wide, "document.querySelectorAll('#rates .dot').length") == 3
    select(wide, "#rates label:nth-child(1) select", "mel – multi-scale mel distance")
    select(wide, "#rates label:nth-child(2) select", "order 0, own")
    assert "b @ 1, 940 bit/s" in ask(wide, label) and "dB" in ask(wide, label)
    assert "lower is better" in texts(wide, "#rates .quiet[aria-live]")[0]


def test_codebooks_have_their_curves_and_tables(wide):
    labels = ask(wide, "[...document.querySelectorAll('#codebooks svg')].map(node => node.ariaLabel)")
    assert len(labels) == 4 and labels[0] == "Entries used by codebook: b @ 2 75.00, 65.00, 55.00, 45.00"
    costs = "#tokens [aria-label='Bits per second'] tbody tr"
    assert len(texts(wide, costs)) == 3
    find(wide, "#tokens input[type=checkbox]").click()
    assert len(texts(wide, costs)) == 3 + 2 + 4


def test_playing_goes_on_at_the_same_second_when_another_system_is_chosen(wide):
    first, _, third = ask(wide, "[...document.querySelectorAll('.item:nth-child(3) .play')].slice(0, 3)")
    find(wide, ".item:nth-child(3) .play")
    now = "Number(document.querySelector('.item:nth-child(3) .scope').ariaValueNow)"
    first.click()
    wait(wide, f"{now} > .15")
    before = ask(wide, now)
    third.click()
    wait(wide, "document.querySelectorAll('.item:nth-child(3) .play')[2].ariaPressed === 'true'")
    assert ask(wide, now) >= before and first.get_attribute("aria-pressed") == "false"
    wait(wide, f"{now} > {before} + .1")
    wait(wide, f"{now} === 0")  # at the end it goes back to the start
    assert third.get_attribute("aria-pressed") == "false"
    assert ask(wide, "output.state") == "running"
    shown = texts(wide, ".item:nth-child(3) .now")[0]
    assert "b @ 1" in shown and "rvq0 0" in shown and "rvq1 11" in shown
    assert ask(wide, "document.querySelectorAll('.item:nth-child(3) .ribbon').length") == 2


def test_what_plays_is_the_file_of_that_system(wide, evaluation):
    import soundfile

    _, folder, _ = evaluation
    script = "const done = arguments[2]; sound(arguments[0], arguments[1]).then(b => done([...b.getChannelData(0)]))"
    for item, system, place in [(3, 0, "originals"), (3, 1, "sounds/0"), (7, 3, "sounds/2")]:
        heard = np.array(wide.execute_async_script(script, item, system))[::3]  # 48 to 16 kHz
        wave, _ = soundfile.read(folder / place / f"item {item}.flac")
        assert len(heard) == len(wave)
        assert np.corrcoef(heard, wave)[0, 1] > 0.9


def test_keys_alone_move_the_position_and_choose_the_system(wide):
    find(wide, ".item:nth-child(1) .scope")
    wide.execute_script("document.querySelector('.item:nth-child(1) .scope').focus()")
    press(wide, RIGHT, RIGHT)
    scope = "document.querySelector('.item:nth-child(1) .scope')"
    assert ask(wide, f"{scope}.ariaValueNow") == "0.20"
    press(wide, "2")
    wait(wide, "document.querySelectorAll('.item:nth-child(1) .play')[1].ariaPressed === 'true'")
    press(wide, " ")
    assert "true" not in ask(wide, "[...document.querySelectorAll('.play')].map(button => button.ariaPressed)")
    press(wide, END)
    assert ask(wide, f"{scope}.ariaValueNow") == "1.50"


def test_the_worst_come_first_and_pages_and_search_find_the_rest(wide):
    ids = "[...document.querySelectorAll('.item')].map(node => Number(node.dataset.item))"
    select(wide, "#listening label:nth-child(1) select", "stoi")
    assert ask(wide, ids) == list(range(8))
    find(wide, ".pager .button:last-child").click()
    assert ask(wide, ids) == [8, 9]
    assert "9–10 of 10" in texts(wide, ".pager")[0]
    select(wide, "#listening label:nth-child(1) select", "mel")
    assert ask(wide, ids) == [0, 9, 8, 7, 6, 5, 4, 3]  # what failed is worst
    assert texts(wide, ".item:nth-child(1) .score")[1] == "mel: failed"
    find(wide, "#listening input[type=search]").send_keys("text 4")
    assert ask(wide, ids) == [4]
    wide.execute_script("const box = document.querySelector('input[type=search]'); box.value = ''; box.oninput()")
    find(wide, ".item:nth-child(1) details summary").click()
    wait(wide, "document.querySelector('.item details table')")
    assert "failed" in texts(wide, ".item:nth-child(1) details tbody")[0]


def vote(driver, key: str) -> list[str]:
    """Listens to both sides by keys, votes, and returns what stood on the screen while listening."""
    trial = ask(driver, "document.querySelector('.trial p').textContent")
    assert ask(driver, "[...document.querySelectorAll('.vote')].every(button => button.disabled)")
    press(driver, key)  # too early: nothing was heard
    assert ask(driver, "document.querySelector('.trial p').textContent") == trial
    press(driver, " ")
    wait(driver, "Number(document.querySelector('.trial .track').ariaValueNow) > 0")
    press(driver, "x")
    wait(driver, "[...document.querySelectorAll('.vote')].every(button => !button.disabled)")
    shown = texts(driver, ".trial")
    press(driver, key)
    wait(driver, f"document.querySelector('.trial p').textContent !== {json.dumps(trial)}")
    return shown


def test_votes_are_blind_counted_exported_and_kept(evaluation, tmp_path):
    with open_page(evaluation[2]) as driver:
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
        find(driver, "#blind .button.main")
        driver.execute_script("document.querySelector('#blind .button.main').focus()")
        press(driver, ENTER)
        wait(driver, "document.querySelector('.trial')")
        assert "of 9" in texts(driver, ".trial p")[0]  # one of the ten has no sound of a
        shown = [vote(driver, key) for key in "132"]
        assert not any("b @ 1" in text for (text,) in shown)
        assert not ask(driver, "document.querySelector('#blind table')")
        given = ask(driver, "votes")
        assert [one["preferred"] for one in given] == [given[0]["a"], given[1]["b"], None]
        assert all({one["a"], one["b"]} == {"a", "b @ 1"} for one in given)
        find(driver, "#blind [aria-expanded]").click()
        wins = sum(one["preferred"] == "a" for one in given)
        assert texts(driver, "#blind tbody tr > *")[:4] == ["a, b @ 1", str(wins), "1", str(2 - wins)]
        for kind in ("JSON", "CSV"):
            buttons = "[...document.querySelectorAll('#blind .button')]"
            driver.execute_script(f"{buttons}.find(button => button.textContent.endsWith('{kind}')).click()")
        files = [tmp_path / "votes.json", tmp_path / "votes.csv"]
        for _ in range(100):
            if all(file.exists() for file in files):
                break
            time.sleep(0.1)
        assert json.loads(files[0].read_text())["votes"] == given
        rows = list(csv.DictReader(files[1].read_text().splitlines()))
        assert [row["preferred"] for row in rows] == [one["preferred"] or "no difference" for one in given]
        driver.refresh()
        assert ask(driver, "votes") == given
        assert driver.get_log("browser") == []


def test_without_storage_votes_stay_in_memory(evaluation):
    with open_page(evaluation[2]) as driver:
        source = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no'); } })"
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
        driver.refresh()
        find(driver, "#blind .button.main").click()
        vote(driver, "2")
        assert ask(driver, "votes.length") == 1 and driver.get_log("browser") == []


def test_statistics_of_votes_and_spectra_are_right(wide):
    assert ask(wide, "signTest(9, 1)") == pytest.approx(2 * 11 / 1024)
    assert ask(wide, "[signTest(0, 0), signTest(5, 5), signTest(1, 0)]") == [1, 1, 1]
    assert ask(wide, "wilson(8, 10)") == pytest.approx([0.4902, 0.9433], abs=1e-4)  # Wilson (1927), as R's prop.test
    script = """
    const wave = Float32Array.from({ length: 48000 }, (_, i) => .5 * Math.sin(2 * Math.PI * 1000 * i / 48000));
    const { found, peak } = levels(wave, 8000, 480), frame = found.subarray(50 * BANDS, 51 * BANDS);
    return [frame.indexOf(Math.max(...frame)), Math.floor(mel(1000) / mel(8000) * BANDS), peak, frame[BANDS - 1]];
    """
    loudest, expected, peak, far = wide.execute_script(script)
    assert abs(loudest - expected) <= 1
    assert peak == pytest.approx(20 * np.log10(0.5), abs=1.5) and far < peak - 60


def test_compressed_players_decode_and_the_page_says_so(tmp_path):
    made = compared(tmp_path, count=2, seconds=1.0, rate=22050, names=("a", "b"))
    path = write_evaluation_page(made, tmp_path, megabytes=around_sounds(made, tmp_path) + 0.05)
    with open_page(path) as driver:
        note = " ".join(texts(driver, "#listening > .quiet"))
        assert "Opus" in note and "Scores were taken of the sounds themselves" in note
        duration = "sound(1, 2).then(buffer => arguments[0](buffer.duration))"
        assert driver.execute_async_script(duration) == pytest.approx(1.0, abs=0.01)
        assert_sound(driver)


def test_hostile_text_is_only_text_everywhere(tmp_path):
    base = compared(tmp_path, count=2, names=HOSTILE[:3])
    judged = tuple(Judged(text, text, text, True, text) for text in (STOI.name, MEL.name, *HOSTILE))
    failed = {text: column(0.5, None, why=HOSTILE[0]) for text in HOSTILE}
    systems = tuple(
        replace(system, facts=dict(zip(HOSTILE, HOSTILE, strict=True)), scores=failed | dict(system.scores))
        for system in base.systems
    )
    items = tuple(replace(item, text=HOSTILE[0], speaker=HOSTILE[1]) for item in base.items)
    made = replace(
        base, title=HOSTILE[0], items=items, metrics=judged, systems=systems, facts={HOSTILE[1]: HOSTILE[2]},
        commands=tuple(HOSTILE), left_out={HOSTILE[0]: HOSTILE[1]},
    )  # fmt: skip
    path = write_evaluation_page(made, tmp_path)
    with open_page(path) as driver:
        driver.execute_script("document.querySelectorAll('summary, .failed').forEach(node => node.click())")
        find(driver, ".item .picture")
        wait(driver, PAINTED % ".item .picture")
        driver.execute_script("document.querySelector('dialog').close()")
        find(driver, "#blind .button.main").click()
        wait(driver, "document.querySelector('.trial')")
        assert_sound(driver)
        assert ask(driver, "window.hacked") is None
        assert ask(driver, "document.querySelector('h1').textContent") == HOSTILE[0]
        assert ask(driver, "document.querySelector('.item h3').textContent") == HOSTILE[0]
        assert texts(driver, "#comparison tbody th")[1:] == HOSTILE[:3]
        assert ask(driver, f"document.querySelector('dialog').textContent.includes({json.dumps(HOSTILE[0])})")


def test_an_evaluation_of_little_opens(tmp_path):
    base = compared(tmp_path, count=1, names=("a",))
    bare = replace(base.systems[1], tokens=None, bitrate=None, scores={}, sounds=None, kind="sounds")
    made = replace(base, systems=(base.systems[0], bare), metrics=(STOI,), commands=())
    with open_page(write_evaluation_page(made, tmp_path)) as driver:
        assert_sound(driver)
        assert texts(driver, "#comparison tbody th") == ["original", "a"]
    empty = replace(base, items=(), systems=(), metrics=(), facts={}, commands=())
    with open_page(write_evaluation_page(empty, tmp_path)) as driver:
        assert_sound(driver)
