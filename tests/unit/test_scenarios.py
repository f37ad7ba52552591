"""Scenarios derive their figures from recorded observations alone; these are made by hand, with known answers."""

from __future__ import annotations

import pytest

from coebench.contract import BadInput, Observation, Sample
from coebench.scenarios.deploy import Deploy
from coebench.scenarios.serve import Serve


def obs(at: float, name: str, **data: object) -> Observation:
    return Observation(at=at, name=name, trial="t", data=data)


def instance(at: float, ident: str, state: str, address: str | None = "10.0.0.1") -> Observation:
    return obs(at, "instance", service="deploy-2", id=ident, state=state, address=address, port=80)


def answer(at: float, ident: str, kind: str = "up", started: float = 0.0) -> Observation:
    return obs(at, "answer", service="deploy-2", kind=kind, instance=ident, started=started)


def by_name(samples: list[Sample]) -> dict[str, Sample]:
    assert len({s.metric for s in samples}) == len(samples)
    return {s.metric: s for s in samples}


WHOLE = [
    obs(100.0, "phase.begin", phase="deploy 2", timeout=60),
    obs(100.0, "requested", service="deploy-2", instances=2),
    obs(100.2, "accepted", service="deploy-2"),
    instance(100.5, "a", "starting", None),
    instance(101.0, "a", "running"),
    instance(101.1, "b", "running"),
    answer(101.5, "a", started=101.3),
    instance(102.0, "a", "ready"),
    answer(103.0, "b", started=102.4),
    instance(104.0, "b", "ready"),
    obs(104.0, "phase.end", phase="deploy 2", seconds=4.0),
    obs(110.0, "removing", service="deploy-2", instances=2),
    instance(110.1, "a", "stopping"),
    instance(110.1, "b", "stopping"),
    answer(111.0, "a", "down"),
    answer(111.0, "a", "failure"),
    answer(112.5, "b", "down"),
    obs(113.0, "gone", service="deploy-2", id="a"),
    instance(114.0, "b", "ended"),
]


def test_deploy_measures_what_a_client_saw_and_the_claim_beside_it() -> None:
    s = by_name(list(Deploy().derive(WHOLE)))
    assert {n: round(x.value, 6) for n, x in s.items()} == {
        "accepted": 0.2,
        "first_answer": 1.5,
        "all_answer": 3.0,
        "all_ready": 4.0,
        "start_to_answer": 400.0,  # the median of 200 and 600 ms
        "silent": 2.5,
        "none_listed": 4.0,
    }
    assert all(x.factors == {"instances": 2} and not x.censored for x in s.values())


def test_an_instance_that_stops_being_ready_is_not_counted_as_ready() -> None:
    flapping = [*WHOLE[:8], instance(102.5, "a", "running"), *WHOLE[8:10], instance(105.0, "a", "ready")]
    assert by_name(list(Deploy().derive(flapping)))["all_ready"].value == pytest.approx(5.0)


def test_a_timeout_is_censored_and_what_was_reached_before_is_kept() -> None:
    cut = [*WHOLE[:8], obs(160.0, "phase.timeout", phase="deploy 2", seconds=60, waiting_for="b")]
    s = by_name(list(Deploy().derive(cut)))
    assert (s["first_answer"].value, s["first_answer"].censored) == (pytest.approx(1.5), False)
    assert (s["all_answer"].value, s["all_answer"].censored) == (60, True)
    assert (s["all_ready"].value, s["all_ready"].censored) == (60, True)
    assert "silent" not in s


def test_a_trial_that_failed_early_gives_no_figure_and_no_error() -> None:
    assert list(Deploy().derive([])) == []
    assert [s.metric for s in Deploy().derive(WHOLE[:3])] == ["accepted"]


def load(loop: str, **changes: object) -> Observation:
    data = {
        "loop": loop,
        "planned": 1000,
        "sent": 998,
        "ok": 990,
        "errors": {"reset": 5, "timeout": 1},
        "unsent": 2,
        "inflight": 2,
        "offered_rps": 100.0,
        "achieved_rps": 99.0,
        "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 3.0, "p99.9": 4.0, "max": 5.0},
        "raw_ms": {"p99": 2.5},
        "cpu": 0.25,
    }
    return obs(1.0, "load", **{**data, **changes})


def test_serve_counts_every_request_that_got_no_good_answer() -> None:
    s = by_name(list(Serve().derive([load("closed", achieved_rps=5000.0), load("open")])))
    assert s["saturation"].value == 5000.0
    assert s["errors"].value == pytest.approx(1.0)  # 5 + 1 failed, 2 unsent, 2 never answered, of 1000
    assert s["latency_p99"].value == 3.0
    assert s["raw_p99"].value == 2.5
    assert s["achieved"].value == 99.0


def test_every_metric_is_defined_and_every_claim_names_its_fact() -> None:
    for scenario in (Deploy(), Serve()):
        names = [m.name for m in scenario.metrics]
        assert len(set(names)) == len(names)
        for m in scenario.metrics:
            assert len(m.definition) > 30
            assert not m.claim_of or m.claim_of in names
        for profile in ("smoke", "default", "full"):
            scenario.check(scenario.settings(profile), 3)


def test_each_second_of_a_load_is_observed_with_what_it_is_of():
    from coebench.contract import Burst
    from coebench.scenarios.seconds import seconds

    seen = []

    class Trial:
        def observe(self, name, *, at=None, **data):
            seen.append((name, at, data))

    seconds(Trial(), loop="open", rate=100.0)(Burst(at=5.0, planned=100, sent=99, ok=98, errors={"timeout": 1}))
    ((name, at, data),) = seen
    assert (name, at) == ("load.second", 5.0)
    assert data["ok"] == 98 and data["errors"] == {"timeout": 1} and data["loop"] == "open" and "at" not in data


@pytest.mark.parametrize("instances", [[3, 3], [], [0], [1001], "3", [True]])
def test_deploy_takes_a_list_of_different_numbers(instances: object) -> None:
    settings = {**Deploy().settings("smoke"), "instances": instances}
    with pytest.raises(BadInput, match="'instances'"):
        Deploy().check(settings, 3)
