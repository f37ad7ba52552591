"""What the pages say is there is there: links, command lines, settings, options, methods of the ports."""

from __future__ import annotations

import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from coebench import contract, plugins
from coebench.cli.main import app
from coebench.contract import BadInput
from coebench.runner import plan as plans

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/README.md")])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.M | re.S)
PROGRAM = re.compile(r"(?:\.venv/bin/)?coebench")
ENDS = {"|", ">", ">>", "<", "&&", "||", ";", "&"}


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of each code block."""
    for match in FENCE.finditer(text):
        yield match[2], match[3]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_links(page: Path) -> list[str]:
    """Relative links of a page, in Markdown or HTML, that lead nowhere, anchors too."""
    text = FENCE.sub("", page.read_text())
    links = re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    broken = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            broken.append(link)
        elif anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", FENCE.sub("", target.read_text()), re.M)
            if anchor not in map(slug, headings):
                broken.append(link)
    return broken


def command_lines(text: str) -> list[list[str]]:
    """The words after `coebench` of each command line in code blocks, and of those between backticks that say more than a
    command's name."""
    lines = [line for language, block in blocks(text) if language in ("", "sh", "console") for line in joined(block)]
    between = [s for s in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)) if "…" not in s and " " in s]
    lines += [s for s in between if not is_name(s.split()[1:])]
    found = []
    for line in lines:
        words = split(line)
        if words and PROGRAM.fullmatch(words[0]):
            found.append(words[1:])
    return found


def is_name(words: list[str]) -> bool:
    """Whether words name a command and no more."""
    command: Any = get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            return False
    return True


def joined(block: str) -> list[str]:
    """The lines of a block, continued ones as one, prompts and variables before the command left out."""
    lines = block.replace("\\\n", " ").splitlines()
    return [re.sub(r"^\s*(\$ )?(\w+=\S* )*(sudo )?", "", line) for line in lines]


def split(line: str) -> list[str]:
    """A shell's words up to the first operator."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return []
    for n, word in enumerate(words):
        if word in ENDS or re.fullmatch(r"\d?>.*", word):
            return words[:n]
    return words


def parse(words: list[str]) -> None:
    """Parse a command line as `coebench` would, run nothing. Raises the parser's UsageError, BadInput or KeyError."""
    command: Any = get_command(app)
    words = list(words)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        command = command.commands[words.pop(0)]
    if hasattr(command, "commands"):
        context = command.make_context("coebench", words or ["--help"], resilient_parsing=not words)
    else:
        context = command.make_context("coebench", words)
    if command.name in ("compare", "plan"):
        for text in context.params["subjects"] or ():
            plans.subject(text)
        for text in context.params["setting"] or ():
            scenario, _, rest = text.partition(".")
            for setting in tomllib.loads(rest):
                known(scenario, setting)


def known(scenario: str, setting: str) -> None:
    """Raises BadInput unless a scenario has a setting."""
    if setting not in plugins.load("scenarios", scenario, "scenario")().settings("default"):
        raise BadInput(f"{scenario} has no setting '{setting}'")


def refusal(words: list[str]) -> str:
    """Why a command line can't be; empty if it can."""
    try:
        parse(words)
    except (SystemExit, EOFError):
        return ""
    except Exception as e:
        # --help and --version end the parser by an exception too
        return "" if type(e).__name__ == "Exit" else f"{type(e).__name__}: {getattr(e, 'message', e)}"
    return ""


def tables(page: Path) -> dict[str, dict[str, list[str]]]:
    """Heading → first cell of each row without its backticks → the other cells."""
    found: dict[str, dict[str, list[str]]] = {}
    for part in re.split(r"^#+ ", FENCE.sub("", page.read_text()), flags=re.M):
        heading, _, body = part.partition("\n")
        rows = [[c.strip() for c in line.strip("|").split("|")] for line in body.splitlines() if line.startswith("|")]
        found[heading.strip()] = {row[0].strip("`"): row[1:] for row in rows[2:]}
    return found


ids = [str(p.relative_to(ROOT)) for p in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_command_lines_are_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # --install-completion does as it says while it is parsed
    assert [(words, why) for words in command_lines(page.read_text()) if (why := refusal(words))] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_make_has_the_targets(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    used = {w for _, block in blocks(page.read_text()) for w in re.findall(r"^make ([a-z]+)", block, re.M)}
    used |= set(re.findall(r"`make ([a-z]+)`", page.read_text()))
    assert used - targets == set()


@pytest.mark.parametrize("name", plugins.names("scenarios"))
def test_the_settings_of_a_scenario_are_as_the_page_says(name: str) -> None:
    """On its own page, or on the one of plans."""
    scenario = plugins.load("scenarios", name, "scenario")()
    own = ROOT / f"docs/scenarios/{name}.md"
    page = own if own.exists() else ROOT / "docs/plans.md"
    told = (tables(own).get("Settings") if own.exists() else None) or tables(ROOT / "docs/plans.md").get(f"Settings of `{name}`")
    if told is None:
        pytest.skip(f"{page.name} has no table of settings")
    for n, profile in enumerate(("smoke", "default", "full")):
        settings = scenario.settings(profile)
        assert {k: tomllib.loads(f"v = {cells[n]}")["v"] for k, cells in told.items()} == settings
    assert scenario.question in page.read_text()
    if page is own:
        assert [m.name for m in scenario.metrics if not re.search(rf"`{re.escape(m.name)}`", page.read_text())] == []


def test_plans_says_what_a_plan_can_hold() -> None:
    page = ROOT / "docs/plans.md"
    (example,) = (block for language, block in blocks(page.read_text()) if language == "toml")
    content = tomllib.loads(example)
    assert set(content) == set(plans.Plan.__struct_fields__)
    assert set(content["bay"]) == set(plans.BayPlan.__struct_fields__)
    plans.make(content, [], {})
    assert set(tables(page)["Subjects"]) >= set(plans._PLAIN)
    assert {p: int(c[0]) for p, c in tables(page)["Profiles and blocks"].items()} == plans.PROFILES


def test_plans_names_every_file_of_a_run_folder() -> None:
    from coebench.results import folder

    told = tables(ROOT / "docs/plans.md")["The run folder"]
    files = {folder.MANIFEST, folder.OBSERVATIONS, folder.TRIALS, folder.RESULT, f"{folder.LOGS}/", f"{folder.HISTOGRAMS}/"}
    assert set(told) == files | {folder.JOURNAL, folder.SUMS}
    page = (ROOT / "docs/format.md").read_text()
    assert set(tables(ROOT / "docs/format.md")["The run folder"]) == set(told)
    assert (
        f'"schema": "{folder.RUN_SCHEMA}"' in page
        and len(tables(ROOT / "docs/format.md")["Older formats"]) == folder.RUN_FORMAT - 1
    )


@pytest.mark.parametrize("port", [contract.Driver, contract.Provisioner])
def test_drivers_tells_of_every_method(port: type) -> None:
    page = (ROOT / "docs/drivers.md").read_text()
    methods = [n for n, _ in inspect.getmembers(port, callable) if not n.startswith("_")]
    assert len(methods) > 10
    assert [m for m in methods if not re.search(rf"`{m}[(`]", page)] == []


def test_drivers_tells_of_every_state_and_its_life() -> None:
    told = tables(ROOT / "docs/drivers.md")["States"]
    assert set(told) == {s.name for s in contract.InstanceState}
    for state in contract.InstanceState:
        instance = contract.Instance(id="i", service="s", version="v", state=state, engine_state="")
        assert told[state.name][1] == ("yes" if instance.live else "no")


def test_lab_names_its_commands_and_addresses() -> None:
    from coebench.lab import plan

    text = (ROOT / "docs/lab.md").read_text()
    lab: Any = get_command(app)
    assert [c for c in lab.commands["lab"].commands if f"`coebench lab {c}" not in text] == []
    for address in (plan.address("c1"), plan.address("n1").removesuffix("1"), plan.GATEWAY, plan.SERVICES):
        assert address in text
    assert f"1 to {plan.MOST_NODES} nodes" in text


def test_every_dependency_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    text = (ROOT / "docs/dependencies.md").read_text()
    names = {re.split(r"[\[<>=~ ]", d)[0] for d in wanted} - {"coebench"}
    assert sorted(n for n in names if not re.search(rf"\| [^|]*\b{re.escape(n)}\b", text)) == []


# the checks themselves


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A heading, with `code`\n")
    page = tmp_path / "page.md"
    good = "[a](there.md) [b](there.md#a-heading-with-code) [c](https://example.org) [d](#here)\n# Here\n"
    page.write_text(f'{good}[x](gone.md) [y](there.md#gone) <img src="gone.svg"> [z](#gone)\n```\n[no](link)\n```\n')
    assert sorted(broken_links(page)) == ["#gone", "gone.md", "gone.svg", "there.md#gone"]


@pytest.mark.parametrize(
    "line",
    [
        "coebench compare k8s --nope",
        "coebench compare --seed seven",
        "coebench compare k8s:five",
        "coebench plan --set deploy.speed=1",
        "coebench plan --set sleep.speed=1",
        "coebench lab upp",
        "coebench lab up",
        "coebench report",
        "coebench frobnicate",
    ],
)
def test_a_wrong_command_line_is_found(line: str) -> None:
    text = f"# Page\n\n```\n$ X=1 .venv/bin/{line} | cat   # so\n```\n\nor `{line}`\n"
    found = command_lines(text)
    assert found == [line.split()[1:]] * (1 if line in ("coebench lab up", "coebench report") else 2)
    assert all(refusal(words) for words in found)


@pytest.mark.parametrize(
    "line",
    ["coebench --version", "coebench lab exec k8s n1: ls -l /", "coebench lab logs k8s -n 3", "coebench plan a=k8s:nodes=5 > f"],
)
def test_a_right_command_line_is_none(line: str) -> None:
    (words,) = command_lines(f"```\n{line}\n```\n")
    assert refusal(words) == ""
