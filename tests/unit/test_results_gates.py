"""Gates: what they are about, what they say, and that none passes by not being known."""

from __future__ import annotations

import math

import msgspec
import pytest
from synthetic import SCENARIOS, Synthetic
from typer.testing import CliRunner

from coebench.cli.main import app
from coebench.contract import BadInput, Better
from coebench.results import gates
from coebench.results.derive import derive
from coebench.results.model import MetricResult, Result, RunInfo, SampleValue, Values
from coebench.scenarios.heal import FAULTS as FAULT_NAMES
from coebench.scenarios.heal import Heal


def row(scenario="heal", name="downtime", unit="s", factors=None, **values) -> MetricResult:
    return MetricResult(
        scenario=scenario, name=name, unit=unit, better=Better.LOWER, title=name, factors=factors or {}, values=values
    )


def value(median=12.0, **more) -> Values:
    return Values(**{"median": median, "low": 10.0, "high": 30.0, "n": 5, **more})


def result(*rows: MetricResult) -> Result:
    return Result(run=RunInfo(id="r"), metrics=rows)


def passed(text: str, *rows: MetricResult) -> bool:
    [gate] = gates.judge([gates.parse(text)], result(*rows))
    return gate.passed


HEAL = (
    row(factors={"fault": "node"}, swarm=value(25.0), k8s=value(60.0, above=60.0)),
    row(factors={"fault": "instance"}, swarm=value(2.0), k8s=value(3.0)),
    row(scenario="serve", name="latency_p99.9", unit="ms", swarm=value(8.0), k8s=value(4.0)),
)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("swarm.heal.node > 20s", False),
        ("swarm.heal.node > 0.5min", True),
        ("swarm.heal.downtime[fault=node] > 20 s", False),
        ("swarm.heal.downtime[fault=instance] > 2000ms", True),
        ("swarm.heal.downtime[fault=instance]>=2000ms", False),
        ("swarm.heal.downtime > 20s", False),  # all settings: one is enough
        ("*.heal.instance > 20", True),
        ("*.heal.* > 59", False),
        ("swarm.serve.latency_p99.9 > 9ms", True),
        ("swarm.serve.latency_p99.9 > 7000us", False),
        ("high(swarm.serve.latency_p99.9) > 20", False),
        ("low(swarm.serve.latency_p99.9) > 20", True),
        ("n(swarm.heal.node) < 5", True),
        ("n(swarm.heal.node) != 5", True),
        ("failed(*.heal.*) > 0", True),
        ("swarm.heal.node == 25s", False),
    ],
)
def test_what_a_gate_is_about(text, passes):
    assert passed(text, *HEAL) is passes


FAULTS = (
    row(name="failed", unit="1", factors={"fault": "kill"}, swarm=value(50.0), k8s=value(5.0)),
    row(name="failed", unit="1", factors={"fault": "crash"}, swarm=value(50.0), k8s=value(5.0)),
    row(name="full_capacity", factors={"fault": "kill"}, swarm=value(2.0), k8s=value(1.0)),
    row(name="full_capacity", factors={"fault": "cut"}, swarm=value(9.0), k8s=value(10.0)),
    row(name="full_capacity", factors={"fault": "crash"}, swarm=value(25.0), k8s=value(10.0)),
    row(name="settled", factors={"fault": "agent"}, swarm=value(4.0), k8s=value(3.0)),
)
SHORT = gates.shorts({"heal": Heal(), "deploy": SCENARIOS["deploy"]})


@pytest.mark.parametrize(
    ("text", "passes", "about"),
    [
        ("swarm.heal.node > 20s", False, "swarm.heal.full_capacity[fault=crash] is 25 s"),
        ("k8s.heal.node > 20s", True, "k8s.heal.full_capacity[fault=cut] is 10 s; k8s.heal.full_capacity[fault=crash] is 10 s"),
        ("swarm.heal.node[fault=cut] > 20s", True, "swarm.heal.full_capacity[fault=cut] is 9 s"),
        ("*.heal.kill > 1500ms", False, "swarm.heal.full_capacity[fault=kill] is 2 s"),
        ("high(swarm.heal.instance) > 20s", False, "swarm.heal.full_capacity[fault=kill] is 30 s"),
        ("k8s.heal.agent > 20s", True, "k8s.heal.settled[fault=agent] is 3 s"),
        ("swarm.heal.full_capacity[fault=cut|crash] > 20s", False, "swarm.heal.full_capacity[fault=crash] is 25 s"),
        ("*.heal.failed[fault=kill] > 60", True, "swarm.heal.failed[fault=kill] is 50; k8s.heal.failed[fault=kill] is 5"),
    ],
)  # fmt: skip
def test_short_names_stand_for_what_their_scenario_says(text, passes, about):
    [gate] = gates.judge([gates.parse(text)], result(*FAULTS), short=SHORT)
    assert (gate.passed, gate.reason) == (passes, about)


def test_every_short_name_is_about_a_metric_of_its_scenario():
    for name, full in Heal().short.items():
        c = gates.parse(f"swarm.heal.{full} > 0")
        assert c.path.removeprefix("swarm.heal.") in {m.name for m in Heal().metrics}, name
        assert set(c.factors["fault"].split("|")) <= set(FAULT_NAMES), name
    assert set(FAULT_NAMES) <= set(Heal().short)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("swarm.heal.drain > 20s", "which is swarm.heal.full_capacity[fault=drain], is about nothing in this run; near it: "),
        ("swarm.heal.crashes > 20s", "near it: swarm.heal."),
        ("swarm.deploy.last > 20s", "is about nothing in this run: of swarm it has heal"),
        ("*.deploy.last > 20s", "is about nothing in this run: of all subjects it has heal"),
    ],
)  # fmt: skip
def test_a_gate_about_nothing_hears_what_there_is(text, says):
    with pytest.raises(BadInput) as e:
        gates.judge([gates.parse(text)], result(*FAULTS), short=SHORT)
    assert says in str(e.value) and "\n" not in str(e.value)


def test_before_a_run_a_short_name_is_checked_against_the_faults_that_will_be_made():
    def check(text: str) -> None:
        gates.check([gates.parse(text)], ["k8s", "swarm"], {"heal": Heal().metrics}, {"heal": {"faults": ["kill", "cut"]}}, SHORT)

    for good in ("k8s.heal.node > 2s", "*.heal.cut > 2s", "swarm.heal.instance > 1"):
        check(good)
    for bad in ("k8s.heal.crash > 2s", "k8s.heal.agent > 2s", "mesos.heal.cut > 2s", "k8s.heal.cut > 2%"):
        with pytest.raises(BadInput):
            check(bad)


def test_a_gate_says_what_decided_it():
    [gate] = gates.judge([gates.parse("*.heal.node > 20s")], result(*HEAL))
    assert gate.reason == "swarm.heal.downtime[fault=node] is 25 s; k8s.heal.downtime[fault=node] is 60 s"
    [gate] = gates.judge([gates.parse("*.heal.instance > 20s")], result(*HEAL))
    assert gate.passed and "k8s.heal.downtime[fault=instance] is 3 s" in gate.reason


NONE = {"n": 0, "median": None, "low": None, "high": None}


@pytest.mark.parametrize(
    ("text", "cell", "passes"),
    [
        ("swarm.heal.downtime > 20s", value(**NONE, failed=5), False),
        ("swarm.heal.downtime < 20s", value(**NONE, skipped=5), False),
        ("swarm.heal.downtime > 20s", value(median=None, above=60.0), False),
        ("swarm.heal.downtime > 90s", value(median=None, above=60.0), False),  # may well be: not known to be less
        ("swarm.heal.downtime < 20s", value(median=None, above=60.0), True),
        ("swarm.heal.downtime == 20s", value(median=None, above=60.0), True),
        ("swarm.heal.downtime == 90s", value(median=None, above=60.0), False),
        ("swarm.heal.downtime != 20s", value(median=None, above=60.0), False),
        ("high(swarm.heal.downtime) > 90s", value(high=None), False),
        ("low(swarm.heal.downtime) > 90s", value(low=None, high=None, n=1), False),
        ("swarm.heal.downtime < 20s", value(15.0, lower_bound="at its limit"), False),
        ("swarm.heal.downtime < 10s", value(15.0, lower_bound="at its limit"), True),
        ("swarm.heal.downtime > 90s", value(15.0, lower_bound="at its limit"), False),
        ("swarm.heal.downtime > 90s", value(15.0, limited="at its limit"), False),
        ("swarm.heal.downtime < 1s", value(15.0, limited="at its limit"), False),
        ("high(swarm.heal.downtime) > 90s", value(15.0, limited="at its limit"), False),
        ("low(swarm.heal.downtime) > 90s", value(15.0, limited="at its limit"), False),
    ],
)
def test_what_is_not_known_has_not_passed(text, cell, passes):
    assert passed(text, row(swarm=cell)) is passes


def test_a_latency_that_a_generator_spoilt_is_judged_by_what_is_known_of_it():
    def cell(*limited: bool) -> MetricResult:
        samples = tuple(SampleValue(trial=f"t{i}", block=i, value=float(i), limited=hit) for i, hit in enumerate(limited))
        return row(swarm=value(2.0, samples=samples, limited="at its limit"))

    one, most = cell(False, False, False, False, True), cell(True, True, True, False, False)
    assert passed("swarm.heal.downtime > 2500ms", one) and not passed("swarm.heal.downtime > 1500ms", one)
    assert not passed("swarm.heal.downtime > 20s", most)
    [gate] = gates.judge([gates.parse("swarm.heal.downtime > 1500ms")], result(one))
    assert gate.reason == "swarm.heal.downtime is 1 to 2 s"
    [gate] = gates.judge([gates.parse("swarm.heal.downtime > 20s")], result(most))
    assert gate.reason == "swarm.heal.downtime is not known: the generator was the limit (2 s was measured)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write SUBJECT"),
        ("swarm.heal.node", "write SUBJECT"),
        ("swarm.heal.node > soon", "write SUBJECT"),
        ("swarm.heal.node > 20 parsecs", "unknown unit 'parsecs'"),
        ("mean(swarm.heal.node) > 2", "unknown function 'mean'; known: median"),
        ("median(swarm.heal.node > 2", "write SUBJECT"),
        ("swarm.heal.node[node] > 2", "'node' is no setting"),
        ("failed(swarm.heal.node) > 2s", "a number without a unit"),
        ("worse(swarm.heal.node) > 2", "stands alone"),
        ("ratio(swarm.heal.node)", "write SUBJECT"),
    ],
)
def test_bad_gates_are_one_line(text, says):
    with pytest.raises(BadInput) as e:
        gates.parse(text)
    assert says in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("swarm.heal.down > 20s", "near it: swarm.heal.downtime"),
        ("nomad.heal.downtime > 20s", "about nothing in this run"),
        ("swarm.heal.downtime[fault=moon] > 20s", "about nothing in this run"),
        ("swarm.heal.downtime > 20MiB", "downtime is in s, not in MiB"),
        ("ratio(swarm.heal.downtime) > 2", "coebench diff takes it"),
        ("worse", "coebench diff takes it"),
    ],
)
def test_gates_about_nothing_are_refused_and_after_a_run_have_failed(text, says):
    with pytest.raises(BadInput) as e:
        gates.judge([gates.parse(text)], result(*HEAL))
    assert says in str(e.value)
    [gate] = gates.judge([gates.parse(text)], result(*HEAL), strict=False)
    assert not gate.passed and says in gate.reason


def test_before_a_run_a_gate_is_checked_against_what_it_will_measure():
    known = {name: s.metrics for name, s in SCENARIOS.items()}

    def check(text: str) -> None:
        gates.check([gates.parse(text)], ["k8s", "a.b=c"], known, {"deploy": {"instances": [10, 30]}})

    for good in ("k8s.deploy.last > 2", "a.b=c.deploy.last > 2min", "*.serve.p99 > 3ms", "k8s.deploy.30 > 2"):
        check(good)
    for bad in (
        "swarm.deploy.last > 2",
        "k8s.deploy.20 > 2",
        "k8s.deploy.lasts > 2",
        "k8s.heal.last > 2",
        "k8s.deploy.last > 2%",
        "worse",
    ):
        with pytest.raises(BadInput):
            check(bad)


def test_subjects_with_dots_brackets_and_equals_in_their_names():
    odd = row(**{"k8s:timeouts=harmonised": value(25.0), "a.b": value(1.0)})
    assert not passed("a.b.heal.downtime > 0.5", odd)
    assert passed("a.b.heal.downtime > 20", odd)


def test_whoever_derives_gets_the_same_verdict(tmp_path):
    made = derive(Synthetic(tmp_path, trouble=False).write(), SCENARIOS)
    m = next(m for m in made.metrics if m.name == "last" and m.factors["instances"] == 30)
    median = m.values["k8s"].median
    assert median is not None and math.isfinite(median)
    for limit, ok in ((median * 1.01, True), (median * 0.99, False)):
        assert gates.judge([gates.parse(f"k8s.deploy.last[instances=30] > {limit}")], made)[0].passed is ok


def test_report_ends_with_3_and_says_why(tmp_path):
    path = Synthetic(tmp_path, trouble=False).write()
    runner = CliRunner()
    words = ["report", str(path), "--format", "json"]
    done = runner.invoke(app, [*words, "--fail-if", "k8s.deploy.last > 1ms", "--fail-if", "k8s.deploy.last > 1h"])
    assert done.exit_code == 3
    assert "FAILED  k8s.deploy.last > 1ms: k8s.deploy.last[instances=1] is" in done.stderr
    assert "passed  k8s.deploy.last > 1h" in done.stderr
    kept = msgspec.json.decode(done.stdout, type=Result)
    assert [g.passed for g in kept.gates] == [False, True]
    assert runner.invoke(app, [*words, "--fail-if", "k8s.deploy.last > 1h"]).exit_code == 0
    refused = runner.invoke(app, [*words, "--fail-if", "k8s.deploy.lost > 1h"])
    assert isinstance(refused.exception, BadInput) and not refused.stdout


def test_samples_do_not_matter_to_a_gate():
    cell = value(12.0, samples=(SampleValue(trial="t", block=1, value=99.0),))
    assert passed("swarm.heal.downtime > 20", row(swarm=cell))


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ("swarm.deploy.all_answers > 5s", "near it: swarm.deploy.all_answer"),
        ("k8s.deploy.all_answer > 5s", "about nothing in this run"),
        ("swarm.deploy.all_answer > 5%", "all_answer is in s, not in %"),
        ("worse", "coebench diff takes it"),
        ("swarm.deploy.all_answer", "write SUBJECT.SCENARIO.METRIC"),
    ],
)
def test_compare_refuses_a_gate_before_it_creates_anything(gate, says, tmp_path, monkeypatch):
    monkeypatch.setattr("coebench.runner.run.Run.execute", lambda run: pytest.fail("the run has begun"))
    done = CliRunner().invoke(app, ["compare", "swarm", "--runs", str(tmp_path / "runs"), "--fail-if", gate])
    assert isinstance(done.exception, BadInput) and says in str(done.exception)
    assert not (tmp_path / "runs").exists()
