"""The page at / in a headless Chromium: the whole path by hand, reload in the middle, a phone, keys."""

from __future__ import annotations

import os
import re
import shutil

import pytest
from helpers.video_server import KEY, PROMPT

playwright = pytest.importorskip("playwright.sync_api")
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path; $CHROMIUM may name one")
WAIT = 120_000  # ms
# Not wait_for_function: that evaluates text in the page, which the page's content security policy refuses.
PLAYABLE = """video => new Promise((done, failed) => {
  if (video.readyState > 1) done();
  video.addEventListener("loadeddata", () => done());
  video.addEventListener("error", () => failed(video.error));
})"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as program:
        browser = program.chromium.launch(executable_path=BROWSER)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that notes what goes wrong in it and what it asks of other sites."""
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.set_default_timeout(WAIT)
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda text: page.wrong.append(text.text) if text.type == "error" else None)
    page.on("request", lambda request: page.asked.add(re.sub(r"^(\w+:(//[^/]*)?).*", r"\1", request.url)))
    page.asked = set()
    yield page
    page.close()


def card(page, text):
    return page.locator("#videos li", has_text=text)


def picture(page, name):
    """A screenshot, where $SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@needs_browser
def test_a_video_by_hand(page, server):
    page.goto(server.url)
    page.get_by_label("What the video shows").fill("a <b>red</b> star")
    page.get_by_text("Settings", exact=True).click()
    steps = page.get_by_label("num inference steps")
    assert steps.get_attribute("placeholder") == "4" and steps.get_attribute("max") == "1000"
    steps.fill("900")
    page.get_by_label("seed").fill("7")
    picture(page, "settings")
    page.get_by_role("button", name="Make the video").click()
    made = card(page, "a <b>red</b> star")
    made.locator(".state", has_text=re.compile(r"step \d+ of 900")).wait_for()
    made.locator("img[src^='data:image/webp']").wait_for()
    picture(page, "running")
    page.reload()
    made.locator(".state", has_text=re.compile(r"step \d+ of 900")).wait_for()
    made.get_by_role("button", name="Cancel").click()
    made.locator(".state", has_text="was cancelled").wait_for()
    picture(page, "cancelled")
    made.get_by_role("button", name="Continue").click()
    made.locator(".state", has_text="48x32, 0.625 s, seed 7").wait_for()
    made.get_by_role("button", name="Play").click()
    made.locator("video").evaluate(PLAYABLE)
    picture(page, "completed")
    page.get_by_label("What the video shows").fill("")
    made.get_by_role("button", name="Use these settings").click()
    assert page.get_by_label("What the video shows").input_value() == "a <b>red</b> star"
    assert (steps.input_value(), page.get_by_label("seed").input_value()) == ("900", "7")
    made.get_by_role("button", name="Delete").click()
    made.wait_for(state="detached")
    assert page.wrong == [] and page.asked <= {server.url, "data:", "blob:"}


@needs_browser
def test_a_wrong_value_is_said_beside_the_form(page, server):
    page.goto(server.url)
    page.get_by_label("What the video shows").fill(PROMPT)
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("num frames").fill("6")
    page.get_by_role("button", name="Make the video").click()
    page.get_by_role("alert").filter(has_text="num_frames must be 4k + 1, got 6; nearest: 5 or 9").wait_for()
    picture(page, "problem")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(browser, server, scheme):
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page.goto(server.url)
    page.get_by_text("connected").wait_for(timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    picture(page, f"phone-{scheme}")
    page.close()


@needs_browser
def test_the_keyboard_reaches_everything(page, server):
    page.goto(server.url)
    page.get_by_text("connected").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.type(PROMPT)
    assert page.get_by_label("What the video shows").input_value() == PROMPT
    for role in ("SUMMARY", "BUTTON"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") == role


@needs_browser
def test_a_server_with_a_key_asks_for_it(page, start):
    server = start("--api-key", KEY)
    page.goto(server.url)
    page.get_by_label("API key").fill(KEY)
    page.get_by_label("API key").press("Tab")
    page.get_by_text("connected").wait_for()
    page.get_by_label("What the video shows").fill(PROMPT)
    page.get_by_role("button", name="Make the video").click()
    card(page, PROMPT).locator(".state", has_text="seed").wait_for()


def test_the_page_may_load_nothing_from_elsewhere(server):
    for path in ("/", "/page.css", "/page.js"):
        answer = server.http.get(path)
        assert answer.status_code == 200 and "default-src 'none'" in answer.headers["content-security-policy"]
        assert not re.search(r"(https?:)?//[\w.]+\.\w", re.sub(r"^\s*// .*", "", answer.text, flags=re.M))
        assert "innerHTML" not in answer.text
