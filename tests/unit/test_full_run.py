"""What scripts/full_run.py takes from runs, and what it leaves out: of the run in docs/example-run."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from coebench.results import folder
from coebench.results.model import Result

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("full_run", ROOT / "scripts" / "full_run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def result() -> Result:
    found = folder.read_result(ROOT / "docs" / "example-run")
    assert found is not None
    return found


def test_a_page_has_one_scenario_with_all_its_notes(script: ModuleType, result: Result) -> None:
    said = script.shown(result, "serve")
    assert "**latency p99" in said or "| latency p99" in said
    assert "all instances answer" not in said
    used = {int(n) for marks in re.findall(r"<sup>([\d, ]+)</sup>", said) for n in marks.split(", ")}
    told = [int(n) for n in re.findall(r"^(\d+)\. ", said, re.M)]
    assert told == sorted(used) == list(range(1, len(told) + 1))  # Markdown counts by itself: none may lack


def part(result: Result, *subjects: str) -> Result:
    return msgspec.structs.replace(result, trials=tuple(t for t in result.trials if t.subject in subjects))


def test_the_last_runs_that_have_all_subjects_together(script: ModuleType, result: Result) -> None:
    whole, again, one = part(result, "k8s", "swarm", "mesos"), part(result, "k8s", "swarm", "mesos"), part(result, "swarm")
    assert [id(r) for r in script.last([whole, again], "serve")] == [id(again)]
    assert [id(r) for r in script.last([whole, one], "serve")] == [id(whole), id(one)]
    assert script.last([whole], "heal") == []


def test_a_command_is_told_without_a_path(script: ModuleType, result: Result) -> None:
    words = ("/somewhere/bin/coebench", "compare", "k8s", "--runs", "/elsewhere/r", "--trials", "1")
    run = msgspec.structs.replace(result.run, command=words)
    assert script.called(msgspec.structs.replace(result, run=run)) == "`coebench compare k8s --trials 1`"


def test_pages_and_the_whole_are_of_the_same_runs() -> None:
    """Each row that a page shows between its marks stands in the whole, figure for figure."""
    whole = set((ROOT / "docs" / "full-run.md").read_text().splitlines())
    pages = 0
    for page in (ROOT / "docs" / "scenarios").glob("*.md"):
        found = re.search(r"<!-- result -->(.*)<!-- /result -->", page.read_text(), re.S)
        if not found:
            continue
        pages += 1
        figures = [row for row in found[1].splitlines() if re.match(r"\| [^|*]+ \| ", row) and "<sup>" not in row]
        assert figures, page
        for row in figures:
            label = row.split(" | ")[1:]
            assert any(other.endswith(" | ".join(label)) for other in whole), (page.name, row)
    assert pages == 12
