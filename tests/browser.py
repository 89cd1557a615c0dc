"""A headless Chromium for the tests of pages; skips where Chromium or chromedriver is not installed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextmanager
def open_page(path: Path, *, width: int = 1280, height: int = 900, scheme: str = "light") -> Iterator:
    """A selenium driver that shows the page from disk; closed, with its profile, at the end."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("needs chromium and chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
        try:
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 720}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            driver.get(path.resolve().as_uri())
            yield driver
        finally:
            driver.quit()


STATE = """
const painted = canvas => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(pixels.buffer)).size > 1;
};
const all = selector => [...document.querySelectorAll(selector)];
return {
  players: all("audio").map(player => ({
    ready: player.readyState, error: player.error && player.error.message,
    duration: player.duration, expected: Number(player.dataset.seconds),
  })),
  ribbons: all(".ribbon").map(painted),
  spectrograms: all(".scope canvas").map(painted),
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  scripts: document.scripts.length,
  foreign: all("main :is(img, iframe, object, embed, script, style, link), [onerror], [onload]").length,
  fetched: performance.getEntriesByType("resource").map(entry => entry.name).filter(name => !name.startsWith("blob:")),
};
"""


def assert_page_sound(driver) -> None:
    """The page loaded without a word on the console, fetched nothing, and its players and pictures hold something."""
    from selenium.webdriver.support.wait import WebDriverWait

    loaded = "return [...document.querySelectorAll('audio')].every(player => player.readyState || player.error)"
    WebDriverWait(driver, 20).until(lambda page: page.execute_script(loaded))
    assert driver.get_log("browser") == []
    state = driver.execute_script(STATE)
    assert state["players"], "no players"
    for player in state["players"]:
        assert player["error"] is None and player["expected"] > 0
        assert abs(player["duration"] - player["expected"]) <= 0.05
    assert state["ribbons"] and all(state["ribbons"])
    assert len(state["spectrograms"]) == len(state["players"]) and all(state["spectrograms"])
    assert state["overflow"] <= 0, "the page scrolls sideways"
    assert (state["scripts"], state["foreign"], state["fetched"]) == (2, 0, [])
