"""Does the page work in a real browser: nothing off loopback, console clean, pictures kept?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
STUDIES = ["heart", "cxr", "heart-pilot", "heart-followup"]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium; absent is a visible skip, but a failure in CI."""
    if CHROMIUM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must have Chromium; .ci/run installs it")
        pytest.skip("Chromium is not installed, so the page was not opened in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


class Watched:
    """One tab whose requests and console are kept."""

    def __init__(self, tab: Page) -> None:
        self.tab = tab
        self.foreign: list[str] = []
        self.console: list[str] = []
        tab.on("request", self._request)
        tab.on("console", lambda message: self.console.append(message.text))
        tab.on("pageerror", lambda error: self.console.append(str(error)))

    def _request(self, request: object) -> None:
        url = str(getattr(request, "url", ""))
        if urlsplit(url).hostname != "127.0.0.1":
            self.foreign.append(url)


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """A fresh tab."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    yield Watched(tab)
    tab.close()


def _keep(tab: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    tab.screenshot(path=str(path), full_page=True)
    assert path.stat().st_size > 10_000


def test_pages_open_clean_and_are_kept_as_pictures(page: str, watched: Watched) -> None:
    tab = watched.tab
    for name, path in [("studies", "/"), *((study, f"/studies/{study}") for study in STUDIES)]:
        answer = tab.goto(page + path)
        assert answer is not None and answer.status == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert tab.locator("h1").count() == 1
        assert tab.evaluate("document.styleSheets.length") == 1
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        _keep(tab, name)
    assert watched.foreign == []
    assert watched.console == []


def test_the_curve_is_drawn(page: str, watched: Watched) -> None:
    tab = watched.tab
    tab.goto(f"{page}/studies/heart")
    box = tab.locator("svg.roc polyline.curve").bounding_box()
    assert box is not None and box["width"] > 150 and box["height"] > 150
    stroke = tab.evaluate("getComputedStyle(document.querySelector('.curve')).stroke")
    assert stroke not in {"none", "rgb(0, 0, 0)"}
    assert "AUROC" in tab.locator("svg.roc title").text_content()  # type: ignore[operator]


def test_every_control_is_reached_by_keyboard(page: str, watched: Watched) -> None:
    tab = watched.tab
    tab.goto(f"{page}/studies/heart")
    reached = set()
    for _ in range(8):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.textContent.trim().slice(0, 40)"))
    assert {"Skip to content", "Studies", "Tuning declared in the plan", "All attempts"} <= reached
    tab.locator("#rounds summary").focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#rounds").get_attribute("open") is not None
    assert tab.locator("#rounds").get_by_text("A site left in the middle").is_visible()


def test_a_live_page_refreshes_itself_and_keeps_what_was_opened(
    page: str, watched: Watched
) -> None:
    from playwright.sync_api import expect

    tab = watched.tab
    tab.goto(f"{page}/studies/cxr")
    tab.locator("#tuning summary").click()
    tab.evaluate("document.querySelector('h1').textContent = 'stale'")
    expect(tab.locator("h1")).not_to_have_text("stale", timeout=15_000)
    assert tab.locator("#tuning").get_attribute("open") is not None
    assert watched.foreign == [] and watched.console == []


def test_the_page_reads_on_a_narrow_screen_and_in_the_dark(browser: Browser, page: str) -> None:
    tab = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    try:
        tab.goto(f"{page}/studies/heart")
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        _keep(tab, "heart-narrow-dark")
    finally:
        tab.close()


def test_text_has_enough_contrast(page: str, watched: Watched) -> None:
    tab = watched.tab
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for path in ("/", "/studies/heart", "/studies/heart-pilot"):
            tab.goto(page + path)
            poor = tab.evaluate(_CONTRAST)
            assert poor == [], (scheme, path)


_CONTRAST = """() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => {
      v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = node => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const node of document.querySelectorAll('body *:not(svg):not(svg *)')) {
    const own = [...node.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !node.getClientRects().length) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(node.textContent.trim().slice(0, 40) + ' ' + ratio.toFixed(2));
  }
  return poor;
}"""
