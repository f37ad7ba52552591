"""The site is built from the pages without the network, a broken link is an error, and the code in the pages runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
LAB = "# as root: uses the lab"


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Without a proxy that would answer: whatever asked the network would fail."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(site.parent), "https_proxy": "http://127.0.0.1:9", "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=source, env=env)


def copy(to: Path) -> Path:
    for name in ("docs", "examples", "scripts"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "observations.jsonl", "*.egg-info"))
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "mkdocs.yml"):
        shutil.copy(ROOT / name, to / name)
    return to


def test_the_site_is_whole_and_needs_no_network(tmp_path: Path) -> None:
    p = build(ROOT, tmp_path / "site")
    assert p.returncode == 0, p.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    wanted = {f.stem for f in ROOT.glob("docs/*.md")} | {"index", "changelog", "contributing", "driver-toy"}
    assert wanted <= {page.stem for page in pages}
    for page in pages:
        fetched = re.findall(
            r"<(?:script|img)[^>]+src=\"?(https?:[^\"\s>]+)|<link[^>]+href=\"?(https?:[^\"\s>]+\.css)", page.read_text()
        )
        assert not fetched, f"{page.name} fetches {fetched}"


def test_each_scenario_has_its_page_in_the_section_of_scenarios(tmp_path: Path) -> None:
    """Named in mkdocs.yml, or found where it is new."""
    source = copy(tmp_path / "source")
    (source / "docs/scenarios/novel.md").write_text("# novel\n")
    build(source, tmp_path / "site")  # it ends with an error, since the copy lacks what is no page, but it is built
    page = (tmp_path / "site/start.html").read_text()
    nav = page[page.index('data-md-level="0"') :]
    section = nav[nav.index("Scenarios") : nav.index("Method")]
    listed = {Path(link).stem for link in re.findall(r'href="?([^"\s>#]+\.html)', section)}
    assert {f.stem for f in source.glob("docs/scenarios/*.md")} - {"README"} <= listed


@pytest.mark.parametrize("link", ["[x](no-such-page.md)", "[x](plans.md#no-such-part)", "[x](../drivers/nothing.py)"])
def test_a_broken_link_is_an_error(tmp_path: Path, link: str) -> None:
    source = copy(tmp_path / "source")
    (source / "docs/faq.md").open("a").write(f"\n{link}\n")
    p = build(source, tmp_path / "site")
    assert p.returncode != 0
    assert "no-such" in p.stderr or "nothing.py" in p.stderr


PAGES = [p for p in sorted(ROOT.glob("docs/*.md")) if BLOCK.search(p.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_python_in_the_pages_is_python(page: Path) -> None:
    for block in BLOCK.findall(page.read_text()):
        compile(block, str(page), "exec")


def test_the_python_page_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All but what makes bays: those blocks are only checked for the names that they use."""
    import coebench

    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    for block in BLOCK.findall((ROOT / "docs/python.md").read_text()):
        if LAB in block:
            for imported in re.findall(r"^from coebench import (.*)$", block, re.M):
                assert all(hasattr(coebench, name.strip()) for name in imported.split(","))
        else:
            exec(compile(block, "docs/python.md", "exec"), names)
    said = capsys.readouterr().out
    assert re.search(r"^mesos: \d+\.\d\d s \(.* to .*\), 5 trials$", said, re.M), said


def test_every_function_of_the_api_has_its_line() -> None:
    import coebench

    told = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/python.md").read_text(), re.M))
    assert told == {name for name in coebench.__all__ if name[0].islower()}
