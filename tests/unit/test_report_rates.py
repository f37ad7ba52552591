"""Rates by the second under the terminal's tables."""

from __future__ import annotations

import io

import pytest
from synthetic import SCENARIOS, Synthetic

from coebench.contract import Observation
from coebench.report.rates import WIDTH, lines, rates
from coebench.report.terminal import TerminalReporter
from coebench.results import folder
from coebench.results.derive import derive


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return derive(Synthetic(tmp_path_factory.mktemp("r")).write(), SCENARIOS)


def second(at: float, ok: object, trial: str = "b1.swarm.serve", **data: object) -> Observation:
    return Observation(at=1000.0 + at, name="load.second", trial=trial, data={"seconds": 1.0, "ok": ok, **data})


def test_seconds_of_several_generators_are_added_and_warm_up_is_left_out(result):
    told = [second(-1, 999, phase="warmup"), second(9, 999, phase="drain")]
    told += [second(i + shift, 100 * (i + 1), phase="measured") for i in range(4) for shift in (0.0, 0.004)]
    found = rates(result, told)["serve"]["swarm"]
    assert found[0] == "b1.swarm.serve" and found[1].ok == (200, 400, 600, 800) and not any(found[1].bad)


def test_a_closed_loop_is_shown_where_there_is_no_other(result):
    closed = [second(i, 30_000, loop="closed", rate=0.0) for i in range(4)]
    assert rates(result, closed)["serve"]["swarm"][1].ok == (30_000,) * 4
    opened = [second(10 + i, 1000, loop="open", rate=1000.0) for i in range(4)]
    assert rates(result, closed + opened)["serve"]["swarm"][1].ok == (1000,) * 4


def test_the_first_trial_that_ended_well_is_shown(result):
    told = [second(i, 10 * b, trial=f"b{b}.swarm.serve") for b in (3, 2) for i in range(5)]
    assert rates(result, told)["serve"]["swarm"][0] == "b2.swarm.serve"
    failed = [second(i, 5, trial="b4.k8s.deploy") for i in range(5)]
    assert rates(result, failed) == {} and rates(result, told[:2]) == {}


@pytest.mark.parametrize("ok", [None, "many", float("nan"), -5, [1]])
def test_what_is_no_second_is_passed_over(result, ok):
    told = [second(i, 10) for i in range(3)] + [second(5, ok), second(6, 10, errors=[1]), second(7, 10, seconds=0)]
    assert rates(result, told)["serve"]["swarm"][1].ok == (10, 10, 10)


def test_all_of_a_scenario_is_on_one_scale_and_failures_have_their_line(result):
    told = [second(i, 1000) for i in range(100)]
    told += [second(i, 500 if i < 50 else 0, trial="b1.mesos.serve", errors={"reset": 500 * (i >= 50)}) for i in range(100)]
    found = lines(rates(result, told)["serve"], {"swarm": "Docker Swarm", "mesos": "Mesos"})
    assert [line.subject for line in found] == ["Docker Swarm", "Mesos", ""]
    assert found[0].blocks == "█" * WIDTH and set(found[1].blocks) == {"▅", "▁"} and found[2].blocks.endswith("███")
    assert found[1].said == "0–500 answers/s, 100 s of b1.mesos.serve" and "25000 in all" in found[2].said


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_terminal_shows_them_within_its_width(result, width):
    out = io.StringIO()
    TerminalReporter(width=width).render_run(result, [second(i, 100 * i) for i in range(60)], out)
    text = out.getvalue()
    assert "█" in text and ("answers/s" in " ".join(text.split())) is (width >= 70) and max(map(len, text.splitlines())) <= width
    without = io.StringIO()
    TerminalReporter(width=width).render(result, without)
    assert "█" not in without.getvalue()


def test_a_real_run_without_seconds_is_as_before(tmp_path):
    path = Synthetic(tmp_path).write()
    out, again = io.StringIO(), io.StringIO()
    made = derive(path, SCENARIOS)
    TerminalReporter(width=80).render_run(made, folder.observations(path), out)
    TerminalReporter(width=80).render(made, again)
    assert out.getvalue() == again.getvalue()
