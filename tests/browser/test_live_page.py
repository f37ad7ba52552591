"""The live page in a browser: it follows the run, says nothing to the console, and asks nobody but its own server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from chromium import Chromium
from test_live import Story
from test_report_page import HOSTILE, WRONG

from coebench.report.live.state import LiveState
from coebench.report.live.web import LiveWeb

pytestmark = pytest.mark.timeout(900)  # the first one fetches the browser


@pytest.fixture
def live() -> Iterator[tuple[LiveState, LiveWeb]]:
    state = LiveState()
    web = LiveWeb(state, 0)
    yield state, web
    web.close()


def shown(browser: Chromium, text: str) -> None:
    browser.until(f"document.body.innerText.includes({json.dumps(text)})")


@pytest.mark.parametrize("width", [400, 1400])
def test_it_follows_a_run_to_its_end(browser_here: Chromium, live: tuple[LiveState, LiveWeb], width: int) -> None:
    state, web = live
    browser = browser_here
    browser.show(width, dark=width == 400)
    browser.open(web.url)
    browser.until("document.documentElement.dataset.live == 'yes'")
    story = Story(state)
    story.begin("swarm")
    shown(browser, "Engine swarm")
    story.instances("swarm", ready=3, starting=1)
    story.load("swarm", seconds=5, good=777, bad=3)
    shown(browser, "777/s")
    shown(browser, "3 ready, 1 starting")
    browser.until("document.querySelectorAll('#plots svg.plot').length > 0")
    story.end("swarm")
    story.begin("mesos")
    story.load("mesos", seconds=5, good=999)
    shown(browser, "999/s")
    assert browser.run("document.querySelectorAll('.card').length") == 2
    assert json.loads(browser.run(WRONG)) == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    lefts = browser.run("JSON.stringify([...document.querySelectorAll('.card')].map(c => c.getBoundingClientRect().left))")
    assert (len(set(json.loads(lefts))) == 2) == (width == 1400), "side by side where there is room"
    story.end("mesos", "failed", "no answer")
    story.tell("run_ended", run="r1", result=None)
    web.close()
    browser.until("document.documentElement.dataset.live == 'over'")
    shown(browser, "The run has ended.")
    shown(browser, "b1.mesos.update: failed, no answer")
    assert browser.errors == []
    assert all(r.startswith((web.url, "data:")) for r in browser.requests), browser.requests


def test_markup_in_names_stays_text_there_too(browser_here: Chromium, live: tuple[LiveState, LiveWeb]) -> None:
    state, web = live
    story = Story(state, subjects=(HOSTILE, "mesos"))
    story.begin(HOSTILE, version=HOSTILE)
    browser_here.show(400)
    browser_here.open(web.url)
    story.load(HOSTILE, seconds=4, good=55)
    story.see("warning", "", text=HOSTILE)
    story.end(HOSTILE, "failed", HOSTILE)
    browser_here.until("document.querySelectorAll('.warn').length == 2 && document.body.innerText.includes('55/s')")
    assert browser_here.run("document.title") != "pwned"
    assert browser_here.run("document.querySelectorAll('img,script:not([src])').length") == 0
    assert browser_here.errors == []
    assert browser_here.run("document.documentElement.scrollWidth") <= 400


def test_without_scripts_it_shows_the_run_as_it_is(browser_here: Chromium, live: tuple[LiveState, LiveWeb]) -> None:
    state, web = live
    story: Any = Story(state)
    story.begin("swarm")
    story.load("swarm", seconds=4, good=123)
    browser_here.show(1400)
    browser_here.page("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser_here.open(web.url)
    finally:
        browser_here.page("Emulation.setScriptExecutionDisabled", value=False)
    assert "123/s" in browser_here.run("document.body.innerText")
    assert web.url + "events" not in browser_here.requests
