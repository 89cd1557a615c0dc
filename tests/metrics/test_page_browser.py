from __future__ import annotations

import json

import pytest

from tests.browser import assert_page_sound, open_page
from tests.metrics.test_report import HOSTILE, clip
from vocable.metrics.report import write_page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "a page.html"
    plain = clip("plain", seconds=1.5, rate=24000, books=2, text="Two codebooks.", scores={"STOI": 0.5, "Mel": 4.0})
    failed = clip("failed", seconds=1.02, seed=1, text="", scores={"STOI": None, "Mel": 3.0})
    best = clip("best", seconds=0.03, rate=8000, seed=2, scores={"STOI": 0.9})
    hostile = [clip(f"{text}{i}", seconds=0.3, text=text, speaker=text, scores={}) for i, text in enumerate(HOSTILE)]
    facts = {"Bitrate": "300 bit/s", **dict(zip(HOSTILE, HOSTILE, strict=True))}
    write_page(path, title=HOSTILE[0], facts=facts, clips=[plain, failed, best, *hostile], commands=HOSTILE)
    return path


@pytest.fixture(scope="module")
def wide(page):
    with open_page(page) as driver:
        yield driver


def column(driver, number: int) -> list[str]:
    return driver.execute_script(
        f"return [...document.querySelectorAll('tbody tr')].map(r => r.cells[{number}].textContent)"
    )


def press(driver, selector: str, *keys: str) -> None:
    from selenium.webdriver.common.by import By

    driver.find_element(By.CSS_SELECTOR, selector).send_keys(*keys)


def wait(driver, condition: str) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(driver, 10).until(lambda page: page.execute_script(f"return {condition}"))


def test_the_page_is_sound_and_hostile_text_is_only_text(wide):
    assert_page_sound(wide)
    assert wide.execute_script("return window.hacked") is None
    assert wide.execute_script("return document.querySelector('h1').textContent") == HOSTILE[0]
    facts = "return JSON.stringify([...document.querySelectorAll('.facts dd')].map(dd => dd.textContent))"
    assert json.loads(wide.execute_script(facts)) == ["300 bit/s", *HOSTILE]
    commands = "return JSON.stringify(document.querySelector('pre').textContent)"
    assert json.loads(wide.execute_script(commands)) == "\n".join(HOSTILE)


def test_playing_moves_one_cursor_and_switching_compares_the_same_moment(wide):
    from selenium.webdriver.common.by import By

    original, resynthesis = wide.find_elements(By.CSS_SELECTOR, "#clip-1 .play")
    original.click()
    wait(wide, "document.querySelector('#clip-1 audio').currentTime > .2")
    resynthesis.click()
    wait(wide, "document.querySelectorAll('#clip-1 audio')[1].currentTime > .3")
    assert wide.execute_script("return document.querySelector('#clip-1 audio').paused")
    assert resynthesis.get_attribute("aria-pressed") == "true" and original.get_attribute("aria-pressed") == "false"
    assert not wide.execute_script("return document.querySelector('#clip-1 .cursor').hidden")
    wait(wide, "document.querySelector('#clip-1 .cursor').hidden")  # at the end it goes back to the start


def test_a_click_on_the_spectrogram_and_the_arrow_keys_move_the_cursor(wide):
    wide.execute_script("document.querySelector('#clip-2').scrollIntoView()")
    press(wide, "#clip-2 .scope", "\ue014", "\ue014")  # arrow right
    assert wide.execute_script("return document.querySelector('#clip-2 .scope').ariaValueNow") == "0.20"
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    ActionChains(wide).click(wide.find_element(By.CSS_SELECTOR, "#clip-2 .scope")).perform()
    assert wide.execute_script("return document.querySelector('#clip-2 .scope').ariaValueNow") == "0.51"


def test_the_ribbon_tells_its_units_to_keys_and_to_the_pointer(wide):
    codes = clip("failed", seconds=1.02, seed=1).tokens.utterance(0)[0].tolist()
    press(wide, "#clip-2 .ribbon", "\ue011")  # home
    tip = wide.execute_script("return document.querySelector('.tip').textContent")
    assert tip == wide.execute_script("return document.querySelector('#clip-2 .ribbon').ariaValueText")
    assert tip.startswith(f"L6 · unit {codes[0]}\n0.00–0.04 s, 2 frames")
    press(wide, "#clip-2 .ribbon", "\ue014")
    assert f"unit {codes[2]}\n" in wide.execute_script("return document.querySelector('.tip').textContent")


def test_scores_sort_both_ways_with_failures_last_and_not_in_the_mean(wide):
    from selenium.webdriver.common.by import By

    head = wide.find_elements(By.CSS_SELECTOR, "thead button")[3]
    wide.execute_script("arguments[0].scrollIntoView()", head)
    head.click()
    assert column(wide, 3)[:3] == ["0.500", "0.900", "failed"]
    head.click()
    assert column(wide, 3)[:3] == ["0.900", "0.500", "failed"]
    assert wide.execute_script("return document.querySelector('tfoot td').textContent") == "0.7001 failed"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_holds_the_page(page, scheme):
    with open_page(page, width=390, height=844, scheme=scheme) as driver:
        assert_page_sound(driver)


def test_a_page_without_clips_opens(tmp_path):
    write_page(tmp_path / "empty.html", title="Nothing", facts={"Failed": "all"}, clips=[])
    with open_page(tmp_path / "empty.html") as driver:
        assert driver.get_log("browser") == []
        assert driver.execute_script("return document.querySelector('.facts').textContent") == "Failedall"
