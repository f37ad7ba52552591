"""The report's page in a browser: it opens without any network, says nothing to the console, and everything can be seen."""

from __future__ import annotations

import base64
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from chromium import Chromium
from everything import everything

from coebench.report import html, pictures
from coebench.results import folder

pytestmark = pytest.mark.timeout(900)  # the first one fetches the browser

HOSTILE = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>&amp;'\""

# What of a page's pictures does not lie where it can be seen: texts that leave their picture, pictures without a size.
WRONG = """
(() => {
  const wrong = [];
  for (const svg of document.querySelectorAll('svg.plot')) {
    const box = svg.getBoundingClientRect();
    if (!box.width) continue;
    if (box.height < 40 || box.left < -1 || box.right > innerWidth + 1)
      wrong.push(['box', svg.ariaLabel, box.left, box.right, box.height]);
    for (const text of svg.querySelectorAll('text')) {
      const b = text.getBoundingClientRect();
      if (b.left < box.left - 2 || b.right > box.right + 2 || b.top < box.top - 2 || b.bottom > box.bottom + 2)
        wrong.push(['text', svg.ariaLabel, text.textContent, Math.round(b.left - box.left), Math.round(box.right - b.right)]);
    }
    for (const mark of svg.querySelectorAll('.l, .p, .q, .o')) {
      const b = mark.getBoundingClientRect();
      if (b.left < box.left - 4 || b.right > box.right + 4 || b.top < box.top - 4 || b.bottom > box.bottom + 4)
        wrong.push(['mark', svg.ariaLabel, b.left - box.left, box.right - b.right]);
    }
  }
  return JSON.stringify(wrong);
})()
"""


COLOURS = """
JSON.stringify([0, 1, 2, 3, 4, 5, 6, 7].map(i => {
  const e = document.createElement('b');
  e.className = 'c' + i;
  document.querySelector('svg.plot').append(e);
  return getComputedStyle(e).color;
}))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return everything(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def page(run: Any) -> str:
    return html.page(*run)


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_opens_offline_and_every_plot_is_seen(browser: Chromium, page: str, width: int, dark: bool) -> None:
    browser.show(width, dark=dark)
    browser.content(page)
    assert browser.errors == []
    assert [r for r in browser.requests if not r.startswith("data:")] == []
    assert browser.run("document.documentElement.scrollWidth") <= width, "nothing to be scrolled sideways but within tables"
    assert json.loads(browser.run(WRONG)) == []
    figures = browser.run("document.querySelectorAll('figure').length")
    seen = browser.run("[...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect().width > 0).length")
    assert figures == seen >= 12, "each once: the wide one or the narrow one"
    scales = "[...document.querySelectorAll('svg.plot')].map(s => s.getBoundingClientRect().width / s.viewBox.baseVal.width)"
    size = browser.run(f"Math.min(...{scales}.filter(f => f > 0))")
    assert size > 0.85, "the letters of a plot are nearly as large as meant"


def test_light_and_dark_differ_and_can_be_read(browser: Chromium, page: str) -> None:
    grounds = {}
    for dark in (False, True):
        browser.show(1400, dark=dark)
        browser.content(page)
        colours = browser.run(
            "JSON.stringify(['body','.soft','td','svg.plot text','svg.plot .m','a','.best'].map(s => "
            "getComputedStyle(document.querySelector(s))[s.includes('svg') ? 'fill' : 'color'])"
            ".concat([getComputedStyle(document.body).backgroundColor]))"
        )
        *inks, ground = json.loads(colours)
        grounds[dark] = ground
        assert all(contrast(ink, ground) >= 4.5 for ink in inks), (dark, inks, ground)
        lines = json.loads(browser.run(COLOURS))
        assert all(contrast(c, ground) >= 3 for c in lines)
    assert grounds[False] != grounds[True]


def contrast(one: str, other: str) -> float:
    """WCAG's contrast of two CSS colours "rgb(r, g, b)"."""

    def luminance(colour: str) -> float:
        parts = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
        r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_a_reader_of_the_screen_is_told_what_each_plot_is_and_has_its_table(browser: Chromium, page: str) -> None:
    browser.show(1400)
    browser.content(page)
    nodes = browser.page("Accessibility.getFullAXTree")["nodes"]
    images = [n for n in nodes if n.get("role", {}).get("value") in ("image", "img") and not n.get("ignored")]
    names = [n.get("name", {}).get("value", "") for n in images]
    titles = json.loads(browser.run("JSON.stringify([...document.querySelectorAll('figure h3')].map(e => e.textContent))"))
    assert sorted(names) == sorted(titles), "each once, with its title"
    assert browser.run("[...document.querySelectorAll('figure')].every(f => f.querySelector('details table tbody td'))")
    heads = json.loads(browser.run("JSON.stringify([...document.querySelectorAll('h1,h2,h3')].map(e => +e.tagName[1]))"))
    assert heads[0] == 1 and heads.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(heads))
    assert browser.run("[...document.querySelectorAll('a[href^=\"#\"]')].every(a => document.getElementById(a.hash.slice(1)))")
    ids = json.loads(browser.run("JSON.stringify([...document.querySelectorAll('[id]')].map(e => e.id))"))
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("width", [400, 1400])
def test_plots_of_further_metrics_are_folded_and_can_be_opened(browser: Chromium, width: int) -> None:
    recorded = Path(__file__).parents[1] / "data" / "format-2"
    result = folder.read_result(recorded)
    assert result is not None
    browser.show(width)
    browser.content(html.page(result, folder.observations(recorded)))
    seen = "[...document.querySelectorAll('details.more figure')].filter(f => f.checkVisibility()).length"
    folded = browser.run("document.querySelectorAll('details.more figure').length")
    assert folded >= 2 and browser.run(seen) == 0
    assert f"{folded} more plots: " in browser.run("document.querySelector('details.more summary').textContent")
    browser.run("document.querySelectorAll('details.more').forEach(d => { d.open = true })")
    assert browser.run(seen) == folded
    assert json.loads(browser.run(WRONG)) == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.run("document.querySelectorAll('details.more').forEach(d => { d.open = false })")
    browser.show(1400, media="print")
    assert browser.run(seen) == folded, "on paper all are open"


def test_markup_in_names_stays_text(browser: Chromium, tmp_path: Path) -> None:
    text = html.page(*everything(tmp_path, hostile=HOSTILE, blocks=2))
    assert "<script>document" not in text and "<img" not in text
    for width in (400, 1400):
        browser.show(width)
        browser.content(text)
        assert browser.run("document.title") != "pwned"
        assert browser.run("document.querySelectorAll('script,img').length") == 0
        assert browser.errors == []
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert json.loads(browser.run(WRONG)) == []
        assert "onerror" in browser.run("document.body.textContent"), "it is shown"


def test_it_prints_with_its_tables(browser: Chromium, page: str) -> None:
    browser.show(1400, dark=True, media="print")
    browser.content(page)
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", "paper is white"
    tables = "[...document.querySelectorAll('figure details table')]"
    assert browser.run(f"{tables}.every(t => t.checkVisibility())"), "what is folded on a screen is open on paper"
    pdf = base64.b64decode(browser.page("Page.printToPDF", printBackground=False)["data"])
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000


def test_pictures_open_on_their_own(browser: Chromium, run: Any) -> None:
    browser.show(1400)
    for theme in ("light", "dark"):
        found = dict(pictures.pictures(*run, "svg", theme))
        assert len(found) > 12
        for name, content in list(found.items())[::4]:
            browser.open("data:image/svg+xml;base64," + base64.b64encode(content).decode())
            assert browser.errors == [] and len(browser.requests) == 1, name
            if name != "table.svg":
                assert json.loads(browser.run(WRONG)) == [], name
