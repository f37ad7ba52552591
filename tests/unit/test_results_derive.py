"""From the record to the result."""

from __future__ import annotations

import io
import json
import random
import shutil
import statistics

import pytest
from synthetic import SCENARIOS, Deploy, Serve, Synthetic

from coebench.contract import BadInput, Better, Metric, Sample
from coebench.report.terminal import TerminalReporter
from coebench.results.derive import derive, load
from coebench.results.model import encode


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return Synthetic(tmp_path_factory.mktemp("runs")).write()


@pytest.fixture(scope="module")
def result(path):
    return derive(path, SCENARIOS)


def row(result, name, **factors):
    return next(m for m in result.metrics if m.name == name and dict(m.factors) == factors)


def facts(path, subject, metric, **factors):
    """The recorded values, read without any of our code."""
    values = []
    for line in (path / "observations.jsonl").read_text().splitlines():
        o = json.loads(line)
        data = o.get("data", {})
        if o["name"] != "fact" or o["trial"].split(".")[1] != subject:
            continue
        if data["metric"] == metric and data.get("factors", {}) == factors:
            values.append(data["value"])
    return values


def test_medians_are_those_of_the_record(path, result):
    for subject in ("swarm", "k8s", "mesos"):
        expected = facts(path, subject, "last", instances=10)
        value = row(result, "last", instances=10).values[subject]
        assert value.median == pytest.approx(statistics.median(expected))
        assert [s.value for s in value.samples] == expected
        assert value.n == len(expected)
        assert (value.low, value.high) == (min(expected), max(expected))


def test_deterministic_and_what_the_run_itself_left(path, result):
    assert encode(result) == encode(derive(path, SCENARIOS)) == (path / "result.json").read_bytes()


def test_failed_trials_are_counted_in_each_metric_they_miss(result):
    assert {m.values["k8s"].failed for m in result.metrics if m.scenario == "deploy"} == {1}
    assert {m.values["k8s"].n for m in result.metrics if m.scenario == "deploy"} == {4}
    assert {m.values["k8s"].failed for m in result.metrics if m.scenario == "serve"} == {0}


def test_a_timeout_is_censored_and_never_averaged_in(path, result):
    value = row(result, "last", instances=30).values["mesos"]
    assert (value.n, value.censored, value.failed) == (5, 2, 0)
    values = facts(path, "mesos", "last", instances=30)
    good = sorted(v for v in values if v < 60)
    assert value.median == max(good)  # the third of five, the two late ones behind it
    assert value.high is None and value.low == good[0]
    # What the timeout kept from being asked is no figure at all.
    missed = row(result, "first", instances=30).values["mesos"]
    assert (missed.n, missed.censored, missed.timed_out) == (3, 0, 2)


def test_median_among_the_censored_is_a_bound(tmp_path):
    run = Synthetic(tmp_path)
    original = run.facts

    def facts_(t):
        if t.scenario == "deploy" and t.subject == "mesos" and t.block != 1:
            run.observe("fact", t.id, metric="last", value=60.0, censored=True, factors={"instances": 30})
        return original(t) if t.scenario != "deploy" or t.subject != "mesos" or t.block == 1 else _timeout()

    run.facts = facts_
    result = derive(run.write(), SCENARIOS)
    m = row(result, "last", instances=30)
    value = m.values["mesos"]
    assert value.median is None and value.above == 60 and value.censored == 4
    pair = next(r for r in m.ratios if {r.a, r.b} == {"swarm", "mesos"})
    assert pair.ratio is None and pair.distinguishable is False  # block 1 came through, as fast as Swarm's


def _timeout():
    from coebench.hooks import Outcome

    return Outcome(status="timeout", seconds=60, reason="answers: not within 60 s")


def test_best_only_where_the_difference_is_real(tmp_path):
    real = derive(Synthetic(tmp_path / "a", trouble=False, effect={"k8s": 3, "swarm": 1, "mesos": 2}).write(), SCENARIOS)
    assert {m.best for m in real.metrics if m.name == "last"} == {"swarm"}
    assert {m.best for m in real.metrics if m.name == "generator"} == {None}
    assert {m.best for m in real.metrics if m.claim_of} == {None}
    none = derive(Synthetic(tmp_path / "b", trouble=False, effect=dict.fromkeys(("k8s", "swarm", "mesos"), 1)).write(), SCENARIOS)
    assert sum(m.best is not None for m in none.metrics) <= 1


def test_who_fails_is_not_best(tmp_path):
    run = Synthetic(tmp_path, effect={"k8s": 0.3, "swarm": 1, "mesos": 2})  # one k8s trial fails
    result = derive(run.write(), SCENARIOS)
    assert all(m.best is None for m in result.metrics if m.scenario == "deploy")


def test_a_saturated_generator_bounds_the_rate_and_spoils_the_latency(result):
    rate, p99 = row(result, "rate"), row(result, "p99")
    assert rate.values["swarm"].lower_bound == "the generators used 97 % of their cores"
    assert rate.values["swarm"].limited is None
    assert p99.values["swarm"].limited and p99.values["swarm"].lower_bound is None
    assert rate.values["k8s"].lower_bound is None
    assert row(result, "generator").values["swarm"].lower_bound is None
    assert all(not r.distinguishable for r in p99.ratios if "swarm" in (r.a, r.b))
    assert all(s.limited for s in rate.values["swarm"].samples)


def test_saturation_may_be_of_one_setting_only(tmp_path):
    run = Synthetic(tmp_path, trouble=False)
    original = run.facts

    def facts_(t):
        if t.id == "b1.swarm.deploy":
            run.observe("load.saturated", t.id, reason="full", factors={"instances": 30}, metrics=["first"])
        return original(t)

    run.facts = facts_
    result = derive(run.write(), SCENARIOS)
    assert row(result, "first", instances=30).values["swarm"].limited == "full"
    assert row(result, "first", instances=10).values["swarm"].limited is None
    assert row(result, "last", instances=30).values["swarm"].limited is None


def test_bays(result):
    bay = result.bays["k8s"]
    assert list(result.bays) == ["k8s", "swarm", "mesos"]
    assert (bay.engine, bay.version, bay.nodes, bay.controls) == ("Kubernetes", "1.20.5", 3, 1)
    assert bay.timeouts["toleration"] == "300s" and bay.timeout_profile == "stock"
    assert bay.network and bay.notes and bay.ready == (2.3,) * 5
    assert bay.hosts[1].role == "node" and bay.hosts[1].memory == 3 << 30


def test_run(result):
    assert result.run.id == "20260102-030405-quiet-heron" and result.run.seed == 7 and result.run.blocks == 5
    assert result.run.complete and result.run.seconds > 1
    assert result.run.harness.share == 3.1 and result.run.host["cpus"] == 2
    assert result.run.noise is None
    assert result.scenarios[0].question == "How long until every instance answers?"


def test_warnings_are_told_once(path, tmp_path):
    run = Synthetic(tmp_path, trouble=False)
    original = run.facts

    def facts_(t):
        run.observe("warning", t.id, text="clock offset is 12 ms")
        return original(t)

    run.facts = facts_
    result = derive(run.write(), SCENARIOS)
    assert [w for w in result.warnings if "offset" in w] == ["b1.k8s.deploy: clock offset is 12 ms (30 times)"]


def test_nothing_against_something_is_told_without_infinity(tmp_path):
    run = Synthetic(tmp_path, trouble=False)
    original = run.observe

    def observe(name, trial="", after=0.1, **data):
        if data.get("metric") == "p99":
            data["value"] = 0.0 if "mesos" in trial else data["value"]
        original(name, trial, after, **data)

    run.observe = observe
    m = row(derive(run.write(), SCENARIOS), "p99")
    pairs = {(r.a, r.b): r for r in m.ratios}
    assert ("mesos", "k8s") in pairs and ("mesos", "swarm") in pairs
    assert (pairs["mesos", "k8s"].ratio, pairs["mesos", "k8s"].high) == (0.0, 0.0)
    assert m.best == "mesos"


def test_a_thing_against_itself_gives_the_noise_floor(tmp_path):
    run = Synthetic(tmp_path, subjects={"k8s-1": "k8s", "k8s-2": "k8s"}, effect={"k8s-1": 1, "k8s-2": 1}, trouble=False)
    noise = derive(run.write(), SCENARIOS).run.noise
    assert noise.compared == 12 and noise.different <= 2 and noise.expected == 0.6 and 1 < noise.largest < 2
    biased = Synthetic(
        tmp_path, run="b", subjects={"k8s-1": "k8s", "k8s-2": "k8s"}, effect={"k8s-1": 1, "k8s-2": 2}, trouble=False
    )
    noise = derive(biased.write(), SCENARIOS).run.noise
    assert noise.different >= 9 and any(f.startswith("deploy.last instances=10: k8s-1 / k8s-2") for f in noise.found)


def test_measured(result, tmp_path):
    assert not result.measured
    assert derive(Synthetic(tmp_path, trouble=False).write(), SCENARIOS).measured
    assert not derive(Synthetic(tmp_path, run="c", trouble=False).write(stop_after=7), SCENARIOS).measured


# records that somebody has edited


@pytest.mark.parametrize("value", [None, [], {}, "x", 1e30, -1, True, [None], {"a": None}, [{"name": 1}], "2026-01-02"])
def test_an_odd_manifest_gives_a_result_or_one_line(path, tmp_path, value):
    copy = shutil.copytree(path, tmp_path / "copy")
    manifest = json.loads((path / "manifest.json").read_text())
    for key in manifest:
        if key != "schema":
            (copy / "manifest.json").write_text(json.dumps(manifest | {key: value}))
            derived = derive(copy, SCENARIOS)
            encode(derived)
            TerminalReporter(80).render(derived, io.StringIO())


@pytest.mark.parametrize("value", [None, [], {}, "x", 1e30, -1])
def test_odd_bays_give_a_result(path, tmp_path, value):
    copy = shutil.copytree(path, tmp_path / "copy")
    lines = [json.loads(line) for line in (path / "observations.jsonl").read_text().splitlines()]
    for key in ("subject", "bay", "engine"):
        for o in lines:
            if o["name"] == "bay.ready":
                o["data"][key] = value
    for o in lines:
        if o["name"] == "harness.cpu":
            o["data"] = dict.fromkeys(o["data"], value)
    (copy / "observations.jsonl").write_text("".join(json.dumps(o) + "\n" for o in lines))
    TerminalReporter(80).render(derive(copy, SCENARIOS), io.StringIO())


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_give_a_result_or_one_line(path, tmp_path, seed):
    rng = random.Random(seed)
    copy = shutil.copytree(path, tmp_path / "copy")
    file = copy / rng.choice(["manifest.json", "observations.jsonl", "trials.jsonl", "result.json"])
    data = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 3, 30])):
        data[rng.randrange(len(data))] = rng.choice(b'0129"{}[],:.eaz\\\n\xff')
    file.write_bytes(data)
    try:
        derived = load(copy, SCENARIOS)
    except BadInput as e:
        assert "\n" not in str(e)
    else:
        TerminalReporter(80).render(derived, io.StringIO())


# scenarios that misbehave


class Broken(Deploy):
    def derive(self, observations):
        raise KeyError("no such fact")


class Untidy(Deploy):
    metrics = (Metric(name="x", unit="s", better=Better.LOWER, title="x", definition=""),)

    def derive(self, observations):
        yield Sample(metric="x", value=1.0)
        yield Sample(metric="x", value=2.0)
        yield Sample(metric="y", value=1.0)
        yield Sample(metric="x", value=float("nan"), factors={"n": 1})


def test_unknown_scenario_costs_its_own_figures(path):
    result = derive(path, {"serve": Serve()})
    assert {m.scenario for m in result.metrics} == {"serve"}
    assert any("Scenario deploy isn't known here" in w for w in result.warnings)
    assert len(result.trials) == 30


def test_a_scenario_that_raises_costs_its_own_figures(path):
    result = derive(path, {"deploy": Broken(), "serve": Serve()})
    assert any("can't derive its figures: KeyError" in w for w in result.warnings)
    assert row(result, "rate").values["swarm"].n == 5
    # Its rows are there, and say that trials failed.
    assert row(result, "last").values["k8s"].failed == 1


def test_a_scenario_that_breaks_its_contract_is_named(path):
    result = derive(path, {"deploy": Untidy(), "serve": Serve()})
    text = "\n".join(result.warnings)
    assert "twice in one trial" in text and "doesn't define" in text and "nan" in text
    assert row(result, "x").values["swarm"].samples[0].value == 1.0


def test_skipped_is_not_failed(tmp_path):
    from coebench.hooks import Outcome

    run = Synthetic(tmp_path, trouble=False)
    original = run.facts
    run.facts = lambda t: Outcome(status="skipped", seconds=0, reason="native: no ip_vs") if t.subject == "swarm" else original(t)
    result = derive(run.write(), SCENARIOS)
    value = row(result, "rate").values["swarm"]
    assert (value.n, value.failed, value.skipped) == (0, 0, 5)
