"""What heal and update-under-load derive from observations that are made by hand, with known answers."""

from __future__ import annotations

import contextlib
import random
from types import SimpleNamespace
from typing import Any

import pytest

from coebench import plugins
from coebench.contract import BadInput, EngineError, Observation, Sample
from coebench.load import hdr
from coebench.scenarios import stretch
from coebench.scenarios.eyes import connections
from coebench.scenarios.heal import FAULTS, Heal
from coebench.scenarios.update_under_load import UpdateUnderLoad

S = "heal-cut"


def obs(at: float, name: str, **data: object) -> Observation:
    return Observation(at=at, name=name, trial="t", data={"service": S, **data})


def target(at: float, address: str, up: bool = True, version: str = "v1") -> Observation:
    return obs(at, "target", target=f"{address}:80", up=up, instance="", version=version)


def instance(at: float, ident: str, state: str, address: str, node: str = "n2", version: str = "v1") -> Observation:
    return obs(at, "instance", id=ident, state=state, address=address, port=80, node=node, version=version)


def second(at: float, *mishaps: tuple[float, str], unsent: int = 0) -> Observation:
    told = [[planned, planned, planned + 0.5, kind, "b:80"] for planned, kind in mishaps]
    return obs(at, "load.second", mishaps=told, untold=0, unsent=unsent)


def cut(*more: Observation, fault: str = "cut", over: bool = False) -> dict[str, Sample]:
    about = {"fault": fault, "instances": 3, "host": "n2"}
    struck = {"struck": ["B"], "targets": ["b:80"]} if fault != "agent" else {"struck": [], "targets": []}
    facts = [
        *(target(90, a) for a in "abc"),
        *(instance(91, a.upper(), "ready", a, node=f"n{n}") for n, a in enumerate("abc", 1)),
        obs(100, "fault.made", **about, **struck),
        obs(120, "fault.window", **about, over=over, seconds=20),
        obs(120, "fault.healing", **about),
        obs(121, "fault.healed", **about),
        obs(130, "fault.settled", **about),
        obs(131, "load", inflight=0),
        *more,
    ]
    shuffled = random.Random(1).sample(facts, len(facts))  # what counts is when things were, not when they were told
    samples = list(Heal().derive(shuffled))
    assert all(s.factors == {"fault": fault} for s in samples)
    by_name = {s.metric: s for s in samples}
    assert len(by_name) == len(samples)
    return by_name


REPLACED = [
    target(100.01, "b", up=False),
    instance(105, "B", "lost", "b"),
    instance(106, "D", "starting", "d"),
    target(108, "d"),
    instance(109, "D", "ready", "d"),
    target(122, "b"),  # the host is back, and what ran on it still does
    target(124, "b", up=False),
    obs(125, "gone", id="B"),
    second(101, (99.5, "timeout"), (100.1, "timeout"), (100.3, "slow")),
    second(106, (105.0, "refused")),
    second(123, (122.5, "reset"), unsent=2),
]


def test_a_fault_in_figures() -> None:
    s = {n: round(x.value, 6) for n, x in cut(*REPLACED).items()}
    assert s == {
        "failed": 5,  # three of their own times after the fault, two never sent
        "slow": 1,
        "first_error": 0.1,
        "last_error": 5.0,
        "noticed": 5.0,
        "full_capacity": 8.0,
        "full_ready": 9.0,
        "lost_capacity": 7.99,
        "lowest": 2,
        "failed_at_return": 1,
        "settled": 10.0,
        "duplicates": 1,
        "duplicate_time": 2.0,
        "orphans": 0,
    }


def measured(at: float, ok: int, ms: float, planned: int = 200) -> Observation:
    """A second of load, all of whose good answers took as long."""
    counts = hdr.empty()
    counts[hdr.slots_of([round(ms * 1e6)])[0]] = ok
    return obs(at, "load.second", mishaps=[], untold=0, unsent=0, seconds=1.0, planned=planned, ok=ok, latency=hdr.encode(counts))


def test_degradation_is_told_against_the_seconds_before() -> None:
    load = [measured(98.5, 200, 2.0), measured(99.5, 200, 4.0), measured(100.5, 190, 40.0), measured(101.5, 110, 90.0)]
    s = cut(*REPLACED, *load, measured(150, 900, 1000.0))  # whole again at 108: what comes later is not in it
    assert s["good_rate"].value == pytest.approx(75)
    assert s["latency_p99"].value == pytest.approx(90, rel=0.01)
    assert s["latency_ratio"].value == pytest.approx(90 / 4, rel=0.01)
    few = cut(*REPLACED, measured(99.5, 200, 2.0), measured(100.5, 50, 40.0))
    assert few["good_rate"].value == pytest.approx(25)
    assert "latency_p99" not in few
    assert "latency_ratio" not in cut(
        *REPLACED, load[1], obs(101, "load.second", mishaps=[], untold=0, unsent=0, ok=200, latency="?")
    )


def test_a_fault_that_broke_off_has_no_figures() -> None:
    assert cut(obs(110, "fault.failed", fault="cut", reason="gone")) == {}


def test_one_faults_trouble_does_not_cost_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def fault(self: Heal, trial: Any, fault: str) -> None:
        made.append(fault)
        if fault == "kill":
            raise EngineError("killing", "it is not there")

    monkeypatch.setattr(Heal, "_fault", fault)
    seen: list[tuple[str, dict[str, Any]]] = []
    removed: list[str] = []
    trial: Any = SimpleNamespace(
        settings={"faults": ["kill", "cut", "drain"]},
        observe=lambda name, **data: seen.append((name, data)),
        remove=removed.append,
        phase=lambda name, timeout: contextlib.nullcontext(),
    )
    with pytest.raises(EngineError, match=r"1 of 3 faults: kill: killing: it is not there"):
        Heal().run(trial)
    assert made == ["kill", "cut", "drain"]
    assert removed == ["heal-kill"]
    assert [name for name, _ in seen] == ["fault.failed"]


def test_what_was_never_whole_is_censored_at_the_window() -> None:
    s = cut(target(100.01, "b", up=False), second(120, (100.1, "timeout"), (119.7, "timeout")), over=True)
    for name in ("full_capacity", "full_ready", "noticed", "last_error"):
        assert (s[name].value, s[name].censored) == (20.0, True), name
    assert s["failed"].value == 2


def test_errors_that_stopped_early_are_not_censored_by_a_window_that_ran_out() -> None:
    s = cut(target(100.01, "b", up=False), second(101, (100.1, "timeout")), over=True)
    assert (round(s["last_error"].value, 6), s["last_error"].censored) == (0.1, False)


def test_an_instance_that_is_put_right_where_it_was_counts_once_it_was_silent() -> None:
    s = cut(target(100.01, "b", up=False), target(103, "b"), instance(101, "B", "running", "b"), instance(104, "B", "ready", "b"))
    assert s["full_capacity"].value == pytest.approx(3.0)
    assert s["full_ready"].value == pytest.approx(4.0)
    assert s["lost_capacity"].value == pytest.approx(2.99)


def test_an_orphan_answers_where_the_engine_lists_nothing() -> None:
    left = [o for o in REPLACED if not (o.name == "target" and o.at == 124)]
    assert cut(*left)["orphans"].value == 1


def test_an_agent_that_stopped_strikes_no_instance_and_a_node_may_be_noticed() -> None:
    node = Observation(at=110, name="node", trial="t", data={"host": "n2", "ready": False, "schedulable": False})
    s = cut(node, fault="agent")
    assert s["noticed"].value == pytest.approx(10.0)
    assert "full_capacity" not in s
    assert s["lost_capacity"].value == 0
    assert s["lowest"].value == 3


def test_a_trial_that_ended_while_settling_is_censored_there() -> None:
    facts = [o for o in _settling() if o.name != "fault.settled"]
    late = Observation(at=150, name="phase.timeout", trial="t", data={"phase": "settle cut", "seconds": 30})
    s = {x.metric: x for x in Heal().derive([*facts, late])}
    assert (s["settled"].value, s["settled"].censored) == (30.0, True)


def _settling() -> list[Observation]:
    about = {"fault": "cut", "instances": 3, "host": "n2"}
    return [
        obs(100, "fault.made", **about, struck=["B"], targets=["b:80"]),
        obs(120, "fault.window", **about, over=False, seconds=20),
        obs(120, "fault.healing", **about),
        obs(130, "fault.settled", **about),
    ]


def update(strategy: str, *more: Observation) -> dict[str, float]:
    about = {"strategy": strategy, "instances": 2, "old": "v1", "new": "v2"}
    facts = [
        *(target(90, a) for a in "ab"),
        obs(100, "update.asked", **about),
        obs(100.2, "update.accepted", **about),
        target(103, "c", version="v2"),
        target(104, "a", up=False),
        target(106, "d", version="v2"),
        target(107, "b", up=False),
        *more,
    ]
    return {s.metric: round(s.value, 6) for s in UpdateUnderLoad().derive(facts)}


def test_an_update_in_figures() -> None:
    about = {"strategy": "surge", "instances": 2, "old": "v1", "new": "v2"}
    ends = [obs(108, "update.done", **about), obs(109, "update.settled", **about), obs(110, "load", inflight=0)]
    s = update("surge", second(105, (104.5, "reset"), (99, "reset")), *ends)
    assert s == {
        "failed": 1,
        "without_downtime": 0,
        "slow": 0,
        "first_error": 4.5,
        "last_error": 4.5,
        "accepted": 0.2,
        "first_new": 3.0,
        "last_old": 7.0,
        "all_new": 7.0,
        "done": 8.0,
        "lost_capacity": 0,
        "lowest": 2,
    }
    assert update("surge", second(105), *ends)["without_downtime"] == 1


def test_a_bad_version_that_stops_and_goes_back() -> None:
    about = {"strategy": "bad", "instances": 2, "old": "v1", "new": "v2"}
    facts = [
        *(target(90, a) for a in "ab"),
        obs(100, "update.asked", **about),
        instance(101, "C", "running", "c", version="v2"),
        target(102, "c", version="v2"),
        obs(99, "update.rate", strategy="bad", saturation=800.0, rate=400.0),
        obs(110, "update.window", **about, said="", done=False, stopped="paused: update paused due to failure"),
        obs(110.5, "update.back", **about),
        target(112, "c", up=False),
        obs(114, "update.settled", **about),
        second(105),
    ]
    s = {x.metric: round(x.value, 6) for x in UpdateUnderLoad().derive(facts)}
    assert (s["old_left"], s["bad_listed"], s["back"], s["failed"]) == (2, 1, 3.5, 0)
    assert (s["bad_stopped"], s["rate"]) == (1, 400)


def test_slow_answers_that_were_too_many_to_tell_are_no_failures() -> None:
    told = [[104.5, 104.5, 104.7, "slow", "a"], [104.6, 104.6, 104.7, "reset", "a"]]
    crowded = obs(105, "load.second", mishaps=told, untold=50, unsent=0, errors={"reset": 4})
    found = stretch.requests([crowded], 100, 110)
    assert found and (len(found.failed), found.failures, found.slow) == (1, 4, 1 + 47)
    before = obs(105, "load.second", mishaps=told, untold=50, unsent=0)  # recorded before seconds told their errors
    found = stretch.requests([before], 100, 110)
    assert found and (found.failures, found.slow) == (51, 1)


def test_areas_and_levels() -> None:
    steps = [(0.0, 3), (10.0, 2), (12.0, 3)]
    assert stretch.level(steps, 11) == 2
    assert stretch.level(steps, -1) == 0
    assert stretch.lowest(steps, 11, 20) == 2
    assert stretch.highest(steps, 10.5, 11) == 2
    assert stretch.area(steps, 5, 20, lambda n: 3 - n) == pytest.approx(2)
    assert stretch.area(steps, 11, 11.5, lambda n: 3 - n) == pytest.approx(0.5)


def test_a_silent_service_can_not_hold_all_connections() -> None:
    assert connections(200, 3, 1.0) == 400
    assert connections(10, 3, 0.5) == 24
    assert connections(20_000, 3, 1.0) == 3000


@pytest.mark.parametrize("name", ["heal", "update-under-load", "network"])
def test_metrics_are_defined_and_profiles_hold(name: str) -> None:
    scenario = plugins.load("scenarios", name, "scenario")()
    names = [m.name for m in scenario.metrics]
    assert len(set(names)) == len(names)
    for m in scenario.metrics:
        assert len(m.definition) > 30
        assert not m.claim_of or m.claim_of in names
    for profile in ("smoke", "default", "full"):
        settings = scenario.settings(profile)
        scenario.check(settings, 3)
        assert scenario.longest(settings) > 0


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("heal", {"faults": ["kill", "fire"]}, "kill, unhealthy, cut"),
        ("heal", {"faults": []}, "faults"),
        ("heal", {"faults": ["kill", "kill"]}, "each once"),
        ("heal", {"window": "long"}, "'window' is a number"),
        ("update-under-load", {"strategies": "surge"}, "'strategies' is a list"),
        ("update-under-load", {"fraction": 2}, "'fraction' is a number from 0 to 1"),
    ],
)
def test_bad_settings_are_one_line(name: str, change: dict[str, object], says: str) -> None:
    scenario = plugins.load("scenarios", name, "scenario")()
    with pytest.raises(BadInput, match=says):
        scenario.check({**scenario.settings("smoke"), **change}, 3)


def test_faults_of_nodes_want_a_node_that_can_be_spared() -> None:
    with pytest.raises(BadInput, match="two nodes"):
        Heal().check(Heal().settings("smoke"), 1)
    Heal().check({**Heal().settings("smoke"), "faults": ["kill"]}, 1)
    assert len(FAULTS) == 7
