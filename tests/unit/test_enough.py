"""When a run has enough, whether a plan can fit, and whether a bay is as it was: decided on facts made by hand."""

from __future__ import annotations

import types
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from coebench import plugins
from coebench.contract import BadInput, Better, EngineError, Instance, InstanceState, Node, Room, TimeWanted
from coebench.results import stats
from coebench.results.model import MetricResult, Result, RunInfo, Values
from coebench.runner import fit
from coebench.runner import plan as plans
from coebench.runner.baseline import Baseline
from coebench.runner.stopping import Stopping, widest


def make(*subjects: str, **given: Any) -> plans.Plan:
    return plans.make({}, subjects or ("k8s", "swarm", "mesos"), given)


# options


def test_aa_is_one_subject_as_two_columns() -> None:
    plan = make("k8s:nodes=4", aa=True)
    assert [s.name for s in plan.subjects] == ["k8s:nodes=4 A", "k8s:nodes=4 B"]
    assert {(s.coe, s.nodes) for s in plan.subjects} == {("k8s", 4)}
    with pytest.raises(BadInput, match="name one, not 2"):
        make("k8s", "swarm", aa=True)
    with pytest.raises(BadInput, match="name one, not 0"):
        plans.make({}, [], {"aa": True})


def test_instances_go_to_every_scenario_that_has_any() -> None:
    plan = make(scenarios=["deploy", "api", "fill"], instances=[3, 7])
    assert plan.settings["deploy"]["instances"] == plan.settings["api"]["instances"] == [3, 7]
    grid = make(scenarios=["serve"], instances=[3, 7])
    assert grid.settings["serve"]["instances"] == [3, 7]  # it takes a number or several
    with pytest.raises(BadInput, match="--instances has 2 numbers, churn takes one"):
        make(scenarios=["churn"], instances=[3, 7])
    assert make(scenarios=["churn"], instances=[3]).settings["churn"]["instances"] == 3
    with pytest.raises(BadInput, match="none of fill has such a setting"):
        make(scenarios=["fill"], instances=[3])
    with pytest.raises(BadInput, match="from 1 to 1000"):
        make(scenarios=["deploy"], instances=[0])


def test_a_budget_or_a_precision_lifts_the_number_of_blocks() -> None:
    assert make().blocks == 5
    assert make(budget=600.0).blocks == make(precision=0.1).blocks == plans.MOST_BLOCKS
    assert make(budget=600.0, blocks=7).blocks == 7
    with pytest.raises(BadInput, match="one trial has none"):
        make(precision=0.1, blocks=1)
    with pytest.raises(BadInput, match="'budget' is a number"):
        make(budget=-1.0)
    with pytest.raises(BadInput, match="is named twice"):
        make(scenarios=["deploy", "serve", "deploy"])


@pytest.mark.parametrize(("text", "seconds"), [("20m", 1200), ("90s", 90), ("1h30m", 5400), ("45", 45), ("1.5m", 90)])
def test_times_as_people_write_them(text: str, seconds: float) -> None:
    assert fit.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "0", "20 m", "m", "5d", "nan"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(BadInput):
        fit.seconds(text)


# room


class Sized:
    """A provisioner that knows its nodes."""

    def __init__(self, room: Room) -> None:
        self.room = room

    def node_room(self, spec: Any) -> Room:
        return self.room


def fitted(provisioner: Any, **given: Any) -> None:
    plan = make("k8s", **given)
    scenarios = {n: plugins.load("scenarios", n, "scenario")() for n in plans.scenarios_of(plan)}
    fit.check(plan, scenarios, provisioner, plugins.load("workloads", "http", "workload"))


def test_a_plan_that_cannot_fit_is_refused_with_the_arithmetic() -> None:
    node = Room(cpu=2.0, memory=1 << 30)
    fitted(Sized(node), scenarios=["deploy"], instances=[96])  # 1024 MiB take 32 of 32 MiB each, on 3 nodes
    with pytest.raises(BadInput) as caught:
        fitted(Sized(node), scenarios=["deploy"], instances=[97])
    assert "deploy on k8s can't fit: it wants 97 instances at one time; a node takes 32 (1024 MiB at 32), 3 nodes 96" in str(
        caught.value
    )
    fitted(Sized(node), scenarios=["deploy"], instances=[120], nodes=4)
    with pytest.raises(BadInput, match=r"a node takes 10 \(0.5 cores at 0.05\)"):
        fitted(Sized(Room(cpu=0.5, memory=1 << 30)), scenarios=["deploy"], instances=[31])
    with pytest.raises(BadInput, match="the engine's own limit"):
        fitted(Sized(Room(instances=5, cpu=64.0, memory=1 << 40)), scenarios=["deploy"], instances=[16])


@pytest.mark.parametrize("profile", plans.PROFILES)
def test_every_scenario_in_every_profile_fits_the_bay_that_is_made_without_a_word(profile: str) -> None:
    """On the smallest machine that the lab is meant for: 2 cores; a kubelet takes 110."""
    bay = make("k8s").spec(make("k8s").subjects[0])
    fitted(Sized(Room(instances=110, cpu=2.0, memory=bay.memory)), scenarios=list(plans.every_scenario()), profile=profile)


def test_what_is_wanted_of_each_node_is_reckoned_so() -> None:
    """A kubelet takes 110; fill states its capacity by node."""
    node = Room(instances=110, cpu=2.0, memory=64 << 30)
    fitted(Sized(node), scenarios=["fill"], settings={"fill": {"per_node": 110}}, nodes=2)
    with pytest.raises(BadInput) as caught:
        fitted(Sized(node), scenarios=["fill"], settings={"fill": {"per_node": 200}}, nodes=2)
    assert "it wants 400 instances at one time (200 on each node); a node takes 110 (the engine's own limit), 2 nodes 220" in str(
        caught.value
    )


@pytest.mark.parametrize("name", ["heal", "update-under-load", "network"])
def test_services_under_load_are_reckoned_too(name: str) -> None:
    node = Room(cpu=2.0, memory=1 << 30)
    fitted(Sized(node), scenarios=[name], settings={name: {"instances": 10}})
    with pytest.raises(BadInput, match=rf"{name} on k8s can't fit: it wants (99|100) instances"):
        fitted(Sized(node), scenarios=[name], settings={name: {"instances": 99}})


def test_bays_that_a_scenario_makes_itself_are_reckoned_together() -> None:
    class Several(Sized):
        def check_several(self, spec: Any, bays: int) -> None:
            if bays * spec.nodes > 12:
                raise BadInput(f"{bays * spec.nodes} nodes")

    large = Several(Room(cpu=64.0, memory=1 << 40))
    fitted(large, scenarios=["bay"], settings={"bay": {"nodes": [4], "bays": 2, "more": 2}})
    with pytest.raises(BadInput, match="bay on k8s, 2 bays of up to 7 nodes at one time: 14 nodes"):
        fitted(large, scenarios=["bay"], settings={"bay": {"nodes": [1, 5], "bays": 2, "more": 2}})
    fitted(large, scenarios=["bay"], settings={"bay": {"nodes": [1, 5], "bays": [4, 1], "more": 2}})  # a number for each


def test_the_lab_says_so_of_bays_that_it_can_not_hold_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    from coebench.contract import BaySpec
    from coebench.lab import install
    from coebench.provision.lab import LabProvisioner

    monkeypatch.setattr(install, "check_machine", lambda: None)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4 << 30))
    lab, spec = LabProvisioner(), BaySpec(coe="k8s", nodes=3)
    lab.check(spec)
    lab.check_several(spec, 2)
    with pytest.raises(BadInput, match=r"3 k8s bays of 1\+3 hosts take about 5104 MiB of memory, 4096 are free"):
        lab.check_several(spec, 3)


def test_who_does_not_know_its_nodes_leaves_it_to_the_engine() -> None:
    fitted(object(), scenarios=["deploy"], instances=[1000])


def test_a_budget_too_small_for_one_block_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(
        BadInput, match=r"5 s is too small for one block, which takes .* at least: 1 subjects × \(bay 0\.7 s \+ churn"
    ):
        fitted(object(), scenarios=["churn"], budget=5.0)
    fitted(object(), scenarios=["churn"], budget=600.0)
    with pytest.raises(BadInput, match=r"too small for one block, .* \+ operations .* \+ fill .* \+ api "):
        plan = plans.make({}, ["k8s", "swarm", "mesos"], {"scenarios": ["operations", "fill", "api"], "budget": 60.0})
        scenarios = {n: plugins.load("scenarios", n, "scenario")() for n in plans.scenarios_of(plan)}
        fit.check(plan, scenarios, object(), plugins.load("workloads", "http", "workload"))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", plugins.names("scenarios"))
def test_every_scenario_says_how_long_it_lasts_at_least(name: str) -> None:
    scenario = plugins.load("scenarios", name, "scenario")()
    assert isinstance(scenario, TimeWanted)
    least = [scenario.least_seconds(scenario.settings(p)) for p in ("smoke", "full")]
    assert 0 < least[0] < least[1] < 3600


# stopping


def result(**figures: tuple[float, float, float]) -> Result:
    metrics = [
        MetricResult(
            scenario="s",
            name=name,
            unit="s",
            better=Better.NEITHER if name == "side" else Better.LOWER,
            title=name,
            claim_of="x" if name == "claim" else "",
            values={"k8s": Values(median=m, low=lo, high=hi, n=6)},
        )
        for name, (lo, m, hi) in figures.items()
    ]
    return Result(run=RunInfo(id="r"), metrics=tuple(metrics))


def test_the_widest_interval_counts_and_claims_and_side_figures_do_not() -> None:
    found = widest(result(a=(9.0, 10.0, 11.0), b=(5.0, 10.0, 20.0), claim=(0.0, 1.0, 99.0), side=(0.0, 1.0, 99.0)))
    assert found == (0.75, "s.b of k8s")
    assert widest(result(a=(1.0, 1.0, 1.0))) is None


def test_an_interval_without_an_end_is_as_wide_as_can_be() -> None:
    endless = result(a=(9.0, 10.0, 11.0))
    (m,) = endless.metrics
    values = {"k8s": msgspec.structs.replace(m.values["k8s"], high=None)}
    found = widest(msgspec.structs.replace(endless, metrics=(msgspec.structs.replace(m, values=values),)))
    assert found is not None and found[0] == float("inf")


def clocked(plan: plans.Plan, *times: float) -> Stopping:
    ticks = iter(times)
    return Stopping(plan, lambda: next(ticks))


def test_a_budget_ends_before_the_block_that_would_break_it() -> None:
    stopping = clocked(make(budget=100.0), 0.0, 30.0, 70.0)
    assert stopping.reason(1, result) == ""
    assert "70 s of the budget of 100 s were gone, and a block had taken 40 s" in stopping.reason(2, result)
    assert "was spent after 130 s" in clocked(make(budget=100.0), 0.0, 130.0).reason(1, result)


def test_a_precision_waits_for_blocks_enough_to_tell_a_difference() -> None:
    plan = make(precision=0.1)
    narrow, wide = (lambda: result(a=(9.5, 10.0, 10.5))), (lambda: result(a=(8.0, 10.0, 12.0)))
    stopping = clocked(plan, *range(20))
    assert stopping.reason(4, narrow) == ""  # three subjects take five
    assert stopping.reason(5, wide) == ""
    assert "(s.a of k8s: ±5 %) had become as narrow as ±10 %" in stopping.reason(5, narrow)
    assert clocked(make(precision=0.1, blocks=6), *range(20)).reason(6, narrow) == ""  # the plan's end is no early one


def test_stopping_when_intervals_are_narrow_finds_no_more_differences_than_there_are() -> None:
    """Two columns of the same, stopped by width as a run would be: at most 1 in 20 metrics is called different."""
    rng = np.random.default_rng(11)
    different, rows = 0, 600
    for row in range(rows):
        a, b = (np.exp(0.15 * rng.standard_normal(12)) for _ in range(2))
        for n in range(4, 13):
            samples = [stats.Sampled.of(x[:n]) for x in (a, b)]
            widths = []
            for s in samples:
                interval = stats.median_interval(s)
                assert interval is not None
                widths.append((interval.high - interval.low) / 2 / stats.median(s)[0])
            if max(widths) <= 0.12 or n == 12:
                different += stats.compare(*samples, resamples=1000, seed=row).distinguishable
                break
    assert different / rows < 0.05 + 2 * (0.05 * 0.95 / rows) ** 0.5


# the baseline


class Driver:
    """What `Baseline` asks of a driver, by turns."""

    def __init__(self) -> None:
        self.listed: list[tuple[str, ...]] = [("prober",)]
        self.up = ["n1", "n2"]
        self.left: dict[str, str] = {}
        self.asked_for: set[str] = set()

    def services(self) -> tuple[str, ...]:
        return self.listed.pop(0) if len(self.listed) > 1 else self.listed[0]

    def nodes(self) -> tuple[Node, ...]:
        return tuple(Node(name=n, address="", ready=True, schedulable=True, engine_state="", cpu=1.0, memory=1) for n in self.up)

    def instances(self, service: str) -> tuple[Instance, ...]:
        state = self.left.get(service)
        known = InstanceState(state) if state else None
        return (Instance(id="i", service=service, version="v", state=known, engine_state=""),) if known else ()


def test_a_bay_as_it_was_has_no_differences_and_may_take_a_moment() -> None:
    driver: Any = Driver()
    baseline = Baseline(driver)
    assert baseline.differences(0.0) == ""
    driver.listed = [("prober", "x"), ("prober",)]
    assert baseline.differences(2.0) == ""


def test_what_is_not_as_it_was_is_named() -> None:
    driver: Any = Driver()
    baseline = Baseline(driver)
    driver.listed, driver.up = [("deploy-3",)], ["n1", "n3"]
    assert baseline.differences(0.0) == (
        "services deploy-3 are still there; services prober are gone; nodes n2 take no instances any more; nodes n3 are new"
    )


def test_an_instance_of_a_service_that_is_gone_is_a_difference_until_it_has_ended() -> None:
    driver: Any = Driver()
    baseline = Baseline(driver)
    driver.asked_for, driver.left = {"deploy-3"}, {"deploy-3": "stopping"}
    assert baseline.differences(0.0) == "instances of deploy-3 are still listed"
    driver.left = {"deploy-3": "ended"}
    assert baseline.differences(0.0) == ""
    assert driver.asked_for == set()


def test_an_engine_that_does_not_answer_is_not_at_its_baseline() -> None:
    driver: Any = Driver()
    baseline = Baseline(driver)

    def away(self: Any) -> Any:
        raise EngineError("listing", "connection refused")

    driver.services = types.MethodType(away, driver)
    assert "does not say" in baseline.differences(0.0)


def test_nodes_that_may_not_be_listed_are_left_out() -> None:
    driver: Any = Driver()

    def refused(self: Any) -> Any:
        raise EngineError("listing nodes", "nodes is forbidden")

    driver.nodes = types.MethodType(refused, driver)
    baseline = Baseline(driver)
    assert baseline.differences(0.0) == ""
    driver.listed = [("prober", "x")]
    assert baseline.differences(0.0) == "services x are still there"
