"""What others have published: every figure has its source, stands beside the row it fits, and is marked as theirs."""

from __future__ import annotations

import io

import pytest
from golden import FORMAT_1

from coebench import plugins
from coebench.contract import BadInput
from coebench.report.markdown import MarkdownReporter
from coebench.report.published import data, place
from coebench.report.table import Cell, Row
from coebench.results import folder


def rendered() -> str:
    result = folder.read_result(FORMAT_1)
    assert result is not None
    out = io.StringIO()
    MarkdownReporter().render(result, out)
    return out.getvalue()


def test_every_figure_has_its_source_and_every_source_a_figure():
    file = data()
    assert {f.source for f in file.figure} == set(file.sources)
    for source in file.sources.values():
        assert source.url.startswith("https://") and source.about and source.name


@pytest.mark.parametrize("figure", data().figure, ids=lambda f: f"{f.scenario}.{f.metric} {f.value}")
def test_figures_name_metrics_that_there_are(figure):
    try:
        scenario = plugins.load("scenarios", figure.scenario, "scenario")
    except BadInput:
        pytest.skip(f"scenario {figure.scenario} isn't installed")
    assert figure.metric in {m.name for m in scenario.metrics}


def row(metric: str, **factors) -> Row:
    return Row(label=metric, cells={"x": Cell(figure="1")}, metric=metric, factors=factors)


def test_a_figure_stands_beside_the_row_that_is_nearest():
    rows = [Row(label="heading"), row("all_answer", instances=1), row("all_answer", instances=100), row("silent", instances=100)]
    placed = place("deploy", rows, ["Mesos 1.11"], first=4)
    assert {i: [f.value for f, _ in found] for i, found in placed.rows.items()} == {2: ["6.15 s", "14.2 s"]}
    assert [n for n, _, _ in placed.notes] == [4, 5]


def test_words_have_to_be_alike_and_the_coe_among_the_columns():
    rows = [row("latency_p99", verb="get", instances=10), row("latency_p99", verb="delete", instances=10)]
    found = place("api", rows, ["Kubernetes 1.20", "Docker Swarm 20.10"]).rows
    assert {i: f[0][0].what.split(",")[0] for i, f in found.items()} == {0: "GET", 1: "DELETE"}
    assert not place("api", rows, ["Docker Swarm 20.10", "Mesos"]).rows
    assert not place("api", [row("latency_p99", verb="watch")], ["Kubernetes"]).rows


def test_markdown_marks_them_as_others():
    text = rendered()
    head = next(line for line in text.splitlines() if line.startswith("| | "))
    assert head.count("|") == 5 and "*published elsewhere*" in head
    lines = text.splitlines()
    at = next(line for line in lines if "*Mesos 6.15 s (50 instances)* <sup>4</sup>" in line)
    assert at.startswith("| &emsp;10 instances | ")  # of 1 and 10 the nearer one
    note = next(line for line in lines if line.startswith("4. "))
    assert note.startswith("4. *Published elsewhere, not measured here.* Mesos, 6.15 s: ") and "](https://opendev.org/" in note
    deploy, serve = text.split("### ")[1:3]  # serve has none: Kubernetes is no column of this run
    assert all(line.count(" | ") == 3 for line in deploy.splitlines() if line.startswith("| "))
    assert "published" not in serve.partition("\n\n1. ")[0]


def test_a_scenario_without_any_has_none():
    assert not place("nothing", [row("all_answer", instances=1)], ["Mesos"]).rows
