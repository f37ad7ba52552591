"""The suite's scenarios derive their figures from observations made by hand, with known answers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from coebench import plugins
from coebench.contract import BadInput, Capability, Observation, Sample, Support, Unsupported
from coebench.runner import plan as plans
from coebench.scenarios import facts
from coebench.scenarios.operations import OPERATIONS, cells

SUITE = ("api", "churn", "cold-image", "fill", "idle", "operations", "placement")


def scenario(name: str):
    return plugins.load("scenarios", name, "scenario")()


def obs(at: float, name: str, **data: object) -> Observation:
    return Observation(at=at, name=name, trial="t", data=data)


def engine(at: float, service: str, ident: str, state: str, node: str = "n1") -> Observation:
    return obs(at, "instance", service=service, id=ident, state=state, node=node, version="v1")


def answer(at: float, service: str, ident: str, kind: str = "up", version: str = "v1") -> Observation:
    return obs(at, "answer", service=service, instance=ident, kind=kind, version=version)


def table(samples: list[Sample]) -> dict[tuple[str, ...], tuple[float, bool]]:
    found = {(s.metric, *map(str, s.factors.values())): (round(s.value, 6), s.censored) for s in samples}
    assert len(found) == len(samples), "a metric twice at the same factors"
    return found


# what all keep


@pytest.mark.parametrize("name", SUITE)
def test_every_metric_is_defined_and_the_profiles_make_sense(name: str) -> None:
    s = scenario(name)
    names = [m.name for m in s.metrics]
    assert len(set(names)) == len(names)
    assert all(len(m.definition) > 30 and (not m.claim_of or m.claim_of in names) for m in s.metrics)
    for profile in ("smoke", "default", "full"):
        s.check(s.settings(profile), 3)


@pytest.mark.parametrize("name", SUITE)
def test_no_observations_give_no_figures(name: str) -> None:
    assert list(scenario(name).derive([])) == []


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("operations", {"instances": []}, "'instances' is a list"),
        ("operations", {"instances": [2, 2]}, "twice"),
        ("operations", {"concurrency": [0]}, "from 1 to 64"),
        ("operations", {"operations": ["explode"]}, "or a list out of create"),
        ("operations", {"operations": ["scale down"]}, "undoes 'scale up'"),
        ("fill", {"levels": [50, 10]}, "rise"),
        ("fill", {"per_node": 0}, "'per_node' is a whole number"),
        ("api", {"requests": 1.5}, "'requests' is a whole number"),
        ("placement", {"node_returns": "yes"}, "true or false"),
        ("idle", {"instances": [10, 0]}, "rises"),
        ("churn", {"rate": 0.1, "seconds": 10}, "0.1/s for 10 s are 1 services"),
        ("churn", {"life": True}, "'life' is a number"),
        ("cold-image", {"filler": []}, "'filler' is a list"),
        ("cold-image", {"filler": [9999]}, "from 0 to 4096"),
        ("cold-image", {"instances": [3]}, "'instances' is a whole number"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(name: str, changes: dict, said: str) -> None:
    s = scenario(name)
    with pytest.raises(BadInput) as caught:
        s.check({**s.settings("smoke"), **changes}, 3)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bay_of_one_node_has_none_to_drain() -> None:
    s = scenario("placement")
    with pytest.raises(BadInput, match="more --nodes"):
        s.check(s.settings("smoke"), 1)
    s.check({**s.settings("smoke"), "node_returns": False}, 1)


# percentiles


@pytest.mark.parametrize(("n", "q", "has"), [(99, 99, False), (100, 99, True), (9, 90, False), (10, 90, True), (10, 10, True)])
def test_a_percentile_needs_as_many_values_as_it_says(n: int, q: float, has: bool) -> None:
    assert facts.enough(n, q) is has


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(v) for v in range(1, 101)]
    assert [facts.percentile(values, q) for q in (0, 1, 50, 90, 99, 100)] == [1, 1, 50, 90, 99, 100]
    found = {s.metric: (s.value, s.censored) for s in facts.percentiles("x", [1.0] * 6 + [math.inf] * 4, (50, 90), {}, 60)}
    assert found == {"x_p50": (1.0, False), "x_p90": (60, True)}
    assert not list(facts.percentiles("x", [math.inf], (50,), {}))  # not known to be above anything


# operations


def operation(
    at: float, what: str, service: str = "op", old: tuple[str, ...] = (), target: int = 2, c: int = 1, **more: str
) -> Observation:
    phase = f"{what} 2x{c}"
    return obs(
        at,
        "operation",
        service=service,
        operation=what,
        instances=2,
        concurrency=c,
        target=target,
        phase=phase,
        old=list(old),
        **more,
    )


CREATED = [
    operation(10.0, "create"),
    obs(10.1, "operation.accepted", service="op", operation="create"),
    engine(10.2, "op", "a", "starting"),
    engine(10.2, "op", "b", "starting"),
    answer(11.0, "op", "a"),
    engine(11.5, "op", "a", "ready"),
    answer(12.0, "op", "b"),
    engine(12.5, "op", "b", "ready"),
]
UPDATED = [
    operation(20.0, "update image", old=("a", "b")),
    engine(20.1, "op", "c", "starting"),
    answer(21.0, "op", "c", version="v2"),
    engine(21.1, "op", "c", "ready"),
    engine(21.2, "op", "a", "stopping"),
    answer(22.0, "op", "a", "down"),
    obs(22.5, "gone", service="op", id="a"),
    answer(23.0, "op", "d", version="v2"),
    engine(23.1, "op", "d", "ready"),
    answer(24.5, "op", "b", "down"),
    engine(26.0, "op", "b", "ended"),
]


def test_an_update_is_done_when_none_of_the_old_answers() -> None:
    found = table(list(scenario("operations").derive([*CREATED, *UPDATED])))
    assert found["seen", "create", "2", "1"] == (2.0, False)
    assert found["claimed", "create", "2", "1"] == (2.5, False)
    assert found["accepted", "create", "2", "1"] == (0.1, False)
    assert found["seen", "update image", "2", "1"] == (4.5, False)
    assert found["claimed", "update image", "2", "1"] == (6.0, False)
    assert found["timed_out", "create", "2", "1"] == (0, False)
    assert ("seen_max", "create", "2", "1") not in found  # of one there is no longest


def test_an_update_is_not_done_while_the_new_instances_answer_with_the_old_version() -> None:
    asked = operation(20.0, "update image", old=("a", "b"), version="v2")
    found = table(list(scenario("operations").derive([*CREATED, asked, *UPDATED[1:]])))
    assert found["seen", "update image", "2", "1"] == (4.5, False)
    stale = [*UPDATED[1:], answer(27.0, "op", "d", "changed", "v1"), answer(28.0, "op", "d", "changed", "v2")]
    late = [o for o in stale if o.at != 23.0]  # d's first answer
    found = table(list(scenario("operations").derive([*CREATED, asked, *late])))
    assert found["seen", "update image", "2", "1"] == (8.0, False)


def test_facts_count_by_their_time_and_not_by_their_place_in_the_record() -> None:
    s = scenario("operations")
    assert table(list(s.derive([*reversed(CREATED)]))) == table(list(s.derive(CREATED)))


def test_an_operation_that_times_out_is_counted_and_censored() -> None:
    late = [
        operation(10.0, "create", "x", c=2),
        operation(10.0, "create", "y", c=2),
        answer(11.0, "x", "x1"),
        answer(12.0, "x", "x2"),
        answer(13.0, "y", "y1"),
        obs(70.0, "phase.timeout", phase="create 2x2", seconds=60),
    ]
    found = table(list(scenario("operations").derive(late)))
    cell = ("create", "2", "2")
    assert found["seen_min", *cell] == (2.0, False)
    assert found["seen_max", *cell] == (60, True)
    assert found["timed_out", *cell] == (1, False)
    # without the limit nothing is known of it, and nothing is put in for it
    failed = table(list(scenario("operations").derive(late[:-1])))
    assert ("seen_max", *cell) not in failed
    assert ("timed_out", *cell) not in failed


def test_removing_is_done_when_it_is_silent() -> None:
    removed = [
        *CREATED,
        operation(30.0, "scale down", target=1),
        answer(31.0, "op", "a", "down"),
        obs(35.0, "gone", service="op", id="a"),
        operation(40.0, "delete", target=0),
        answer(42.0, "op", "b", "down"),
        obs(43.0, "gone", service="op", id="b"),
    ]
    found = table(list(scenario("operations").derive(removed)))
    assert found["seen", "scale down", "2", "1"] == (1.0, False)
    assert found["claimed", "scale down", "2", "1"] == (5.0, False)
    assert found["seen", "delete", "2", "1"] == (2.0, False)
    assert found["claimed", "delete", "2", "1"] == (3.0, False)


def test_room_is_the_most_at_one_time() -> None:
    s = scenario("operations")
    spec = plugins.load("workloads", "http", "workload").service("x", 1, "v1")
    up, update = s.room({**s.settings("smoke"), "instances": [8], "concurrency": [2], "surge": 25}, spec)
    assert (up.instances, up.cpu) == (32, spec.cpu)
    assert (update.instances, update.cpu) == (20, 0.075)
    only = {
        **s.settings("smoke"),
        "instances": [8],
        "concurrency": [1],
        "operations": [o for o in OPERATIONS if "scale" not in o],
    }
    assert [r.instances for r in s.room(only, spec)] == [8, 10]


# placement


def test_the_curve_the_spread_and_what_was_lost() -> None:
    story = [obs(100.0, "burst", service="p", instances=4), obs(100.2, "burst.accepted", service="p")]
    for k in range(5):  # one too many
        story.append(engine(100.5 + k / 10, "p", f"i{k}", "starting"))
        story.append(engine(101.0 + k, "p", f"i{k}", "ready"))
        if k < 4:
            story.append(answer(101.5 + k, "p", f"i{k}"))
    story.append(engine(106.0, "p", "i4", "stopping"))
    story.append(obs(107.0, "spread", service="p", when="placed", nodes={"n1": 3, "n2": 1, "n3": 0}))
    story.append(obs(110.0, "draining", service="p", node="n1"))
    story.append(engine(110.5, "p", "i0", "stopping"))
    found = table(list(scenario("placement").derive(story)))
    assert found["accepted", "4"] == (0.2, False)
    assert [found["serving", "4", f"{s} %"][0] for s in (10, 50, 90, 100)] == [1.5, 2.5, 4.5, 4.5]
    assert found["scheduled", "4", "100 %"] == (0.8, False)
    assert found["running", "4", "100 %"] == (4.0, False)
    assert found["rate", "4"] == (round(4 / 4.5, 6), False)
    assert found["overshoot", "4"] == (1, False)
    assert found["lost", "4"] == (1, False)  # the fifth; i0 went because it was asked to
    assert found["imbalance", "4", "placed"] == (2.25, False)
    assert ("moved", "4") not in found  # it has not, and no limit was met


def test_moved_is_when_all_answer_elsewhere() -> None:
    story = [
        obs(0.0, "burst", service="p", instances=2),
        engine(0.5, "p", "a", "ready", "n1"),
        engine(0.5, "p", "b", "ready", "n2"),
        answer(1.0, "p", "a"),
        answer(1.0, "p", "b"),
        obs(10.0, "draining", service="p", node="n1"),
        engine(10.5, "p", "c", "starting", "n2"),
        answer(12.0, "p", "c"),
        answer(13.5, "p", "a", "down"),
    ]
    assert table(list(scenario("placement").derive(story)))["moved", "2"] == (3.5, False)


# fill and api


def test_starts_are_told_by_level_and_a_timeout_among_them() -> None:
    story = []
    for k, seconds in enumerate((1.0, 2.0, 4.0)):
        name = f"fill-50-{k}"
        story += [obs(10.0 * k, "fill.start", service=name, level=50), answer(10.0 * k + seconds, name, "a")]
        story.append(engine(10.0 * k + seconds + 0.5, name, "a", "ready"))
    story.append(obs(40.0, "fill.start", service="fill-100-0", level=100))
    story.append(obs(100.0, "phase.timeout", phase="start at 100", seconds=60))
    story.append(obs(5.0, "fill.listed", level=50, instances=9, seconds=[0.001] * 99 + [0.5]))
    found = table(list(scenario("fill").derive(story)))
    assert found["start_p50", "50 %"] == (2.0, False)
    assert found["start_p100", "50 %"] == (4.0, False)
    assert found["ready_p50", "50 %"] == (2.5, False)
    assert found["start_p50", "100 %"] == (60, True)
    assert (found["list_p50", "50 %"], found["list_p99", "50 %"]) == ((1.0, False), (1.0, False))


def test_requests_over_the_objective_are_a_share() -> None:
    story = [
        obs(1.0, "requests", verb="get", instances=5, seconds=[0.01] * 9),
        obs(1.0, "requests", verb="create", instances=5, seconds=[1.2]),
        obs(10.0, "api.start", service="s0", instances=5),
        answer(12.0, "s0", "a"),
        obs(20.0, "api.start", service="s1", instances=5),
        answer(26.0, "s1", "b"),
    ]
    found = table(list(scenario("api").derive(story)))
    assert found["slow", "5"] == (10.0, False)
    assert found["latency_p50", "get", "5"] == (10.0, False)
    assert found["start_slow", "5"] == (50.0, False)
    assert found["start_p50", "5"] == (2.0, False)


def test_a_p99_of_starts_takes_a_hundred() -> None:
    def story(count: int) -> list[Observation]:
        starts = [
            (obs(10.0 * k, "api.start", service=f"s{k}", instances=5), answer(10.0 * k + 1, f"s{k}", "a")) for k in range(count)
        ]
        return [o for pair in starts for o in pair]

    assert ("start_p99", "5") not in table(list(scenario("api").derive(story(99))))
    assert table(list(scenario("api").derive(story(100))))["start_p99", "5"] == (1.0, False)


def test_a_p95_of_operations_takes_twenty_at_once_which_full_has() -> None:
    assert 20 in scenario("operations").settings("full")["concurrency"]
    made = [o for k in range(20) for o in (operation(10.0, "create", f"s{k}", c=20, target=1), answer(11.0 + k, f"s{k}", "a"))]
    assert table(list(scenario("operations").derive(made)))["seen_p95", "create", "2", "20"] == (19.0, False)


def test_a_grid_of_edges_varies_one_thing_at_a_time() -> None:
    s = scenario("operations")
    settings = {**s.settings("smoke"), "instances": [1, 10, 50], "concurrency": [1, 4]}
    assert cells({**settings, "grid": "edges"}) == [(1, 1), (1, 4), (10, 1), (50, 1)]
    assert cells({**settings, "grid": "whole"}) == [(n, c) for n in (1, 10, 50) for c in (1, 4)]
    spec = plugins.load("workloads", "http", "workload").service("x", 1, "v1")
    assert max(r.instances for r in s.room({**settings, "grid": "edges"}, spec)) == 100
    assert max(r.instances for r in s.room({**settings, "grid": "whole"}, spec)) == 400
    with pytest.raises(BadInput, match="'grid' is"):
        s.check({**settings, "grid": "some"}, 3)


# idle


def used(cpu: float, memory: int, host: str, role: str, what: str) -> dict:
    return {"host": host, "role": role, "what": what, "processes": 1, "cpu": cpu, "memory": memory << 20}


def test_use_is_the_difference_over_the_time_and_nodes_are_averaged() -> None:
    def look(at: float, count: int, which: str, control: float, node: float, containers: float, memory: int) -> Observation:
        hosts = [
            used(control, 500, "c1", "control", "engine"),
            used(control, 400, "c1", "control", "master"),
            used(node, 100, "n1", "node", "engine"),
            used(node, 200, "n2", "node", "engine"),
            used(containers, memory, "n1", "node", "instances"),
        ]
        return obs(at, "usage", instances=count, which=which, usage=hosts)

    story = [
        look(0.0, 0, "begin", 5.0, 1.0, 0.0, 0),
        look(10.0, 0, "end", 6.0, 2.0, 0.0, 0),
        look(20.0, 10, "begin", 7.0, 3.0, 1.0, 50),
        look(30.0, 10, "end", 9.0, 4.0, 2.0, 50),
    ]
    found = table(list(scenario("idle").derive(story)))
    assert found["cpu", "control", "0"] == (0.1, False)
    assert found["cpu", "control", "10"] == (0.2, False)
    assert found["cpu", "node", "0"] == (0.1, False)
    assert found["memory", "node", "0"] == (150, False)
    assert found["program_cpu", "master", "control", "10"] == (0.2, False)
    assert found["instance_memory",] == (5, False)
    assert found["instance_cpu",] == (0.02, False)  # 0.1 of the control host and 0.1 of the containers, by ten


# churn


def test_drift_is_the_last_third_over_the_first() -> None:
    story = [obs(0.0, "churn.plan", services=6, life=5, instances=1)]
    for k in range(6):
        name, at, slower = f"churn-{k}", 10.0 * k, 2.0 if k >= 4 else 1.0
        story += [
            obs(at + 0.5, "churn.create", service=name, late=0.5),
            obs(at + 0.5, "churn.create.sent", service=name),
            obs(at + 0.6, "churn.create.accepted", service=name),
            answer(at + slower, name, "i"),
            obs(at + 5.0, "churn.remove", service=name, late=0.0),
            answer(at + 6.0, name, "i", "down"),
        ]
    story.append(obs(99.0, "leftovers", services=["churn-3"], instances=["i"], processes={"n1": 2}))
    for when, memory in (("before", 100), ("after", 106)):
        story.append(obs(99.0, "usage", when=when, usage=[used(1.0, memory, "c1", "control", "engine")]))
    found = table(list(scenario("churn").derive(story)))
    assert found["start_p50",] == (1.0, False)  # from the planned moment, not from the late request
    assert found["start_drift",] == (2.0, False)
    assert found["accepted_drift",][0] == pytest.approx(1.0)
    assert found["silent_p50",] == (1.0, False)
    assert found["missed",] == (0, False)
    assert found["memory_growth",] == (1024, False)
    assert found["leftovers",] == (4, False)


def test_a_service_that_never_answered_is_missed_and_censored_at_its_life() -> None:
    story = [obs(0.0, "churn.plan", services=3, life=5, instances=1)]
    for k in range(3):
        story += [
            obs(10.0 * k, "churn.create", service=f"churn-{k}", late=0.0),
            obs(10.0 * k + 5, "churn.remove", service=f"churn-{k}", late=0.0),
        ]
    found = table(list(scenario("churn").derive(story)))
    assert found["missed",] == (100.0, False)
    assert found["start_p50",] == (5, True)
    assert ("start_drift",) not in found


def test_the_full_profile_has_every_scenario_and_the_others_the_quick_ones() -> None:
    full = plans.make({}, ["k8s"], {"profile": "full"})
    assert full.scenarios is not None
    assert set(full.scenarios) == set(plugins.names("scenarios")) >= set(SUITE)
    assert full.scenarios[:3] == ("idle", *plans.SCENARIOS)  # what the engine costs before it has done anything
    assert full.scenarios[-3:] == ("churn", "cold-image", "heal")  # the bay is not the same afterwards
    assert plans.make({}, ["k8s"], {}).scenarios == plans.SCENARIOS


def test_a_strangers_scenario_has_its_place_by_what_it_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    strangers = {
        "aaa": type("Wearing", (), {"spoils": True}),
        "zzz": type("Delicate", (), {"unspoilt": True}),
        "mmm": type("Plain", (), {}),
        **dict.fromkeys(plans.SCENARIOS, type("Own", (), {})),
    }
    monkeypatch.setattr(plugins, "names", lambda group: tuple(sorted(strangers)))
    monkeypatch.setattr(plugins, "load", lambda group, name, what: strangers[name])
    assert plans.every_scenario() == ("zzz", *plans.SCENARIOS, "mmm", "aaa")


# cold-image


def pull(at: float, name: str, kind: str, hosts: dict[str, int], seconds: float) -> list[Observation]:
    """A service of two instances, of which the second answers after `seconds`."""
    return [
        obs(at, "requested", service=name, instances=2, pull=kind, filler=64),
        obs(at + 0.25, "accepted", service=name),
        answer(at + seconds - 1, name, f"{name}-a"),
        engine(at + seconds - 0.5, name, f"{name}-a", "ready"),
        answer(at + seconds, name, f"{name}-b"),
        engine(at + seconds + 0.5, name, f"{name}-b", "ready"),
        answer(at + seconds + 1, name, f"{name}-a", "down"),
        obs(at + 20, "fetched", service=name, hosts=hosts),
    ]


def test_cold_image_tells_what_the_pull_adds() -> None:
    story = pull(100, "cold-64", "cold", {"n1": 3 << 20, "n2": 3 << 20}, 8) + pull(200, "warm-64", "warm", {}, 3)
    assert table(list(scenario("cold-image").derive(story))) == {
        ("first_answer", "cold", "64 MiB"): (7, False),
        ("all_answer", "cold", "64 MiB"): (8, False),
        ("all_ready", "cold", "64 MiB"): (8.5, False),
        ("accepted", "cold", "64 MiB"): (0.25, False),
        ("fetched", "cold", "64 MiB"): (6, False),
        ("first_answer", "warm", "64 MiB"): (2, False),
        ("all_answer", "warm", "64 MiB"): (3, False),
        ("all_ready", "warm", "64 MiB"): (3.5, False),
        ("accepted", "warm", "64 MiB"): (0.25, False),
        ("fetched", "warm", "64 MiB"): (0, False),
        ("adds", "64 MiB"): (5, False),
    }


def test_a_pull_that_took_too_long_is_censored_and_nothing_is_subtracted_from_it() -> None:
    story = [o for o in pull(100, "cold-64", "cold", {}, 8) if o.data.get("instance") != "cold-64-b" and o.at < 108.2]
    story.append(obs(160, "phase.timeout", phase="cold-64", seconds=60))
    assert table(list(scenario("cold-image").derive(story))) == {
        ("first_answer", "cold", "64 MiB"): (7, False),
        ("all_answer", "cold", "64 MiB"): (60, True),
        ("all_ready", "cold", "64 MiB"): (60, True),
        ("accepted", "cold", "64 MiB"): (0.25, False),
    }


def test_without_a_registry_cold_image_is_refused_with_the_reason() -> None:
    from coebench.runner.trial import TrialRun

    nothing: Any = None
    provisioner: Any = SimpleNamespace(name="existing")
    workload = plugins.load("workloads", "http", "workload")
    s = scenario("cold-image")
    trial = TrialRun(
        "t", nothing, nothing, nothing, workload, s.settings("smoke"), lambda *a, **k: None, lambda: None, provisioner=provisioner
    )
    with pytest.raises(Unsupported, match="the provisioner 'existing' has none"):
        s.run(trial)


# what is refused, and what is left behind


class Noted:
    """A trial of which only what was told, left and removed is of interest."""

    def __init__(self, settings: dict[str, Any], *lacking: Capability, **more: Any) -> None:
        self.settings = settings
        self.seed = 1
        self.workload = plugins.load("workloads", "http", "workload")
        support = {c: Support(c not in lacking, "nobody does this" if c in lacking else "") for c in Capability}
        self.driver = SimpleNamespace(title="no COE", capabilities=lambda: support, **more)
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.taken: list[str] = []
        self.leave = self.remove = self.taken.append

    def observe(self, name: str, *, at: float | None = None, **data: Any) -> None:
        self.seen.append((name, data))

    def warnings(self) -> list[str]:
        return [d["text"] for name, d in self.seen if name == "warning"]

    @contextlib.contextmanager
    def phase(self, name: str, timeout: float) -> Iterator[None]:
        yield


def test_a_routing_that_is_refused_takes_its_service_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scenario("serve")
    monkeypatch.setattr(type(s), "_deploy", lambda self, trial, instances: None)
    trial: Any = Noted({**s.settings("smoke"), "routing": "native"}, Capability.NATIVE)
    with pytest.raises(Unsupported, match="nobody does this"):
        s.run(trial)
    assert trial.taken == ["serve"]


def test_without_single_requests_idle_leaves_out_the_api_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scenario("idle")
    measured: list[int] = []
    monkeypatch.setattr(type(s), "_measure", lambda self, trial, count: measured.append(count))
    trial: Any = Noted({**s.settings("smoke"), "instances": [0]})
    trial.usage = tuple
    s.run(trial)
    assert measured == [0]
    assert trial.warnings() == [
        "idle: the API's latency was not measured: timing single API requests: the driver of no COE has no 'ask'"
    ]


def test_operations_leave_out_what_the_coe_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scenario("operations")
    done: list[list[str]] = []
    monkeypatch.setattr(type(s), "_story", lambda self, trial, rng, asked, count, services: done.append(asked))
    trial: Any = Noted({**s.settings("smoke"), "concurrency": [1]}, Capability.UPDATE)
    s.run(trial)
    assert done == [["create", "scale up", "scale down", "delete"]]
    (said,) = trial.warnings()
    assert said == "no COE: update image, update cpu, update memory, restart were not measured: nobody does this"
    with pytest.raises(Unsupported, match="nobody does this"):
        s.run(Noted({**s.settings("smoke"), "operations": ["restart"]}, Capability.UPDATE))
    s.run(Noted({**s.settings("smoke"), "concurrency": [1]}))
    assert done[1] == list(OPERATIONS)


def test_without_a_coe_a_bay_has_no_capacity_to_fill() -> None:
    from coebench_bare.driver import BareDriver

    from coebench.runner.run import _lacking

    bare: Any = BareDriver({})
    assert _lacking(scenario("fill"), bare).startswith("no COE lacks 'reserve': nothing is reserved")
    assert _lacking(scenario("operations"), bare) == _lacking(scenario("idle"), bare) == ""
