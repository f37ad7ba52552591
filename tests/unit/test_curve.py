"""The serving curve: objectives, the search for the edge (against simulated services), warm-up, and what is derived."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from coebench.contract import (
    BadInput,
    Burst,
    Capability,
    LoadPlan,
    LoadResult,
    Observation,
    Reach,
    Routing,
    Support,
    Target,
    Unsupported,
)
from coebench.scenarios import reaching, steady
from coebench.scenarios.crossing import cross_check, crossed
from coebench.scenarios.edge import MOST, Try, edge, following
from coebench.scenarios.offering import send
from coebench.scenarios.serve import SETTINGS, Serve
from coebench.scenarios.slo import Slo

# objectives


def load(rate: float = 1000.0, **changes: Any) -> dict[str, Any]:
    good = {
        "rate": rate,
        "planned": 1000,
        "errors": {},
        "unsent": 0,
        "inflight": 0,
        "offered_rps": rate,
        "achieved_rps": rate,
        "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 10.0, "p99.9": 15.0, "max": 20.0},
    }
    return {**good, **changes}


def test_an_objective_is_read_and_said_in_one_way() -> None:
    assert str(Slo.parse(" errors < 0.5% , p99<=0.02s ")) == "p99<20ms,errors<0.5%"
    assert str(Slo.parse("p99.9<1500us")) == "p99.9<1.5ms,errors<0.1%"  # fast refusals are no service
    assert Slo.parse(str(Slo.parse("p50<1ms,max<2s"))) == Slo.parse("p50<1ms,max<2s")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "text"),
        ("p99", "no condition"),
        ("p99<20", "us, ms or s"),
        ("p99<20%", "us, ms or s"),
        ("errors<5ms", "in %"),
        ("errors<101%", "≤ 100%"),
        ("p99>20ms", "no condition"),
        ("p98<20ms", "made of p50"),
        ("p99<20ms,p99<30ms", "once"),
        ("p99<0ms", "can't be"),
        ("p99<-1ms", "no condition"),
        ("p99<20ms,", "no condition"),
        (5, "is a text"),
    ],
)
def test_what_is_no_objective_is_refused_with_the_reason(text: object, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Slo.parse(text)


def test_what_misses_an_objective() -> None:
    objective = Slo.parse("p99<20ms,errors<1%")
    assert objective.missed(load()) == ()
    assert objective.missed(load(latency_ms={"p99": 20.0})) == ("p99<20ms",)
    assert objective.missed(load(errors={"reset": 5}, unsent=3, inflight=2)) == ("errors<1%",)
    assert objective.missed(load(latency_ms={}, errors={"refused": 1000})) == ("p99<20ms", "errors<1%")
    # A queue that only grows has not shown its latency yet.
    assert objective.missed(load(achieved_rps=940.0)) == ("achieved>95%",)
    assert objective.missed(load(planned=0)) == ("errors<1%",)


# the edge


def search(
    knee: float, softness: float, hiccups: float, seed: int, ladder: tuple[float, ...] = (), most: float = 1e7
) -> list[Try]:
    """A service that is good at a rate by a logistic chance, `softness` wide, and fails by accident now and then."""
    rng = random.Random(seed)
    tries: list[Try] = []
    while (rate := following(tries, 1000.0, 3, 1.05, most, ladder)) is not None:
        odds = math.exp(max(-500.0, min(500.0, math.log(rate / knee) / softness))) if softness else 1e9 * (rate > knee)
        tries.append(Try(rate, rng.random() < (1 - hiccups) / (1 + odds)))
    return tries


@settings(max_examples=200, deadline=None)
@given(knee=st.floats(5.0, 2e6))
def test_a_sharp_edge_is_found_wherever_it_is(knee: float) -> None:
    tries = search(knee, 0.0, 0.0, 1)
    found = edge(tries)
    assert found.beyond is not None
    assert found.rate <= knee < found.beyond
    assert found.beyond <= 1.06 * found.rate  # 5 %, and the third digit
    assert (found.low, found.high) == (found.rate, found.beyond)
    assert found.agreed == found.tries == 6
    assert len(tries) < MOST


@given(knee=st.floats(10.0, 1e6), seed=st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_a_search_ends_and_can_be_followed_again(knee: float, seed: int) -> None:
    tries = search(knee, 0.05, 0.1, seed)
    assert 1 <= len(tries) <= MOST
    for n, t in enumerate(tries):
        assert following(tries[:n], 1000.0, 3, 1.05, 1e7) == t.rate
    found = edge(tries)
    assert found.low <= found.rate
    assert found.high is None or found.beyond is None or found.high >= found.beyond


def test_accidents_do_not_lead_it_far_astray() -> None:
    """One try in ten fails for no reason, and the edge is soft: still the rates found are near, and the interval says so."""
    rng = random.Random(4)
    off, covered = [], 0
    for seed in range(300):
        knee = 10 ** rng.uniform(3.1, 5.3)
        found = edge(search(knee, 1 / 40, 0.1, seed))
        off.append(found.rate / knee)
        covered += found.low <= knee and (found.high is None or knee <= found.high)
    off.sort()
    assert 0.95 < off[150] < 1.02
    assert off[30] > 0.9
    assert off[269] < 1.06
    assert covered > 255


def test_the_ends_of_what_can_be_tried() -> None:
    none = edge(search(1.5, 0.0, 0.0, 1))
    assert (none.rate, none.low) == (0.0, 0.0)
    assert none.beyond is not None
    assert none.beyond < 5
    every = edge(search(1e9, 0.0, 0.0, 1, most=20_000.0))
    assert every.beyond is None
    assert 20_000 / 1.6 < every.rate <= 20_000


def test_a_ladder_is_gone_through_to_two_past_the_edge() -> None:
    ladder = (500.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0)
    rates = [t.rate for t in search(2500, 0.0, 0.0, 1, ladder, 5000.0)]
    assert list(dict.fromkeys(rates))[:5] == list(ladder[:5])
    assert 5000.0 not in rates
    # Without an objective it ends there: one try each.
    alone: list[Try] = []
    while (rate := following(alone, 500.0, 1, math.inf, 5000.0, ladder)) is not None:
        alone.append(Try(rate, rate < 2500))
    assert [t.rate for t in alone] == list(ladder[:5])


def test_a_limited_generator_at_the_edge_is_told() -> None:
    good = [Try(1000.0, True), Try(1600.0, True)]
    assert edge([*good, Try(2560.0, False, True), Try(2560.0, False, True)]).limited
    assert not edge([*good, Try(2560.0, False), Try(2560.0, False), Try(4100.0, False, True)]).limited


# warm-up


def test_the_chance_of_an_order_is_exact() -> None:
    orders = list(permutations(range(5)))

    def s_of(order: tuple[int, ...]) -> int:
        return sum((b > a) - (b < a) for i, a in enumerate(order) for b in order[i + 1 :])

    for s in range(-10, 12, 2):
        assert steady.chance(5, s) == pytest.approx(sum(s_of(o) >= s for o in orders) / len(orders))
    values = [3.0, 1.0, 4.0, 1.5, 5.0, 9.0, 2.0, 6.0]
    tau = scipy.stats.kendalltau(range(8), values, alternative="greater", method="exact")
    assert steady.chance(8, round(tau.statistic * 28)) == pytest.approx(tau.pvalue)


def test_a_warm_up_is_as_long_as_the_values_say() -> None:
    falling = [9.0, 5.0, 3.0, 2.0, 1.51, 1.48, 1.5, 1.52, 1.49, 1.5]
    assert steady.warmup(falling, higher_is_better=False) == 4
    assert steady.warmup(falling, higher_is_better=True) == 0  # getting worse is no warm-up
    assert steady.warmup([1.5] * 10, higher_is_better=False) == 0
    assert steady.warmup([float(n) for n in range(10, 0, -1)], higher_is_better=False) is None
    assert steady.warmup([1000.0, 1001.0, 1002.0, 1003.0, 1004.0], higher_is_better=True) == 0  # 0.4 % changes no figure
    assert steady.warmup([1.0, 2.0, 3.0], higher_is_better=True) is None  # too few to tell


@pytest.mark.parametrize("n", [4, 5, 8, 20])
def test_noise_is_seldom_taken_for_a_warm_up(n: int) -> None:
    rng = random.Random(n)
    found = sum(steady.improving([rng.lognormvariate(0, 0.2) for _ in range(n)], True) for _ in range(2000))
    assert found / 2000 < 0.065


# what is sent, with a prober that answers as it is told


class Prober:
    """Answers by a function of the plan; its seconds' medians come from `medians` (a list for each load in turn)."""

    def __init__(self, answer: Any, medians: Iterator[list[float]] | None = None) -> None:
        self.answer = answer
        self.medians = medians
        self.plans: list[LoadPlan] = []
        self.tools: list[str] = []
        self.unwatched: list[str] = []

    def load(self, plan: LoadPlan, second: Any = None, tool: str = "") -> LoadResult:
        self.plans.append(plan)
        self.tools.append(tool)
        warm = int(plan.warmup)
        medians = next(self.medians) if self.medians else [1.0] * (warm + int(plan.duration))
        for n, p50 in enumerate(medians if second else []):
            phase = "warmup" if n < warm else "measured"
            second(Burst(at=float(n), planned=100, sent=100, ok=100, phase=phase, latency_ms={"p50": p50}))
        result: LoadResult = self.answer(plan, tool)
        return result

    def watch(self, target: Target, **how: Any) -> str:
        return str(target.address)

    def unwatch(self, watch: str) -> None:
        self.unwatched.append(watch)

    def next(self, timeout: float) -> None:
        return None


def answering(knee: float, saturated_from: float = math.inf) -> Any:
    def answer(plan: LoadPlan, tool: str) -> LoadResult:
        rate = plan.rate or 3 * knee
        return LoadResult(
            tool=tool or "coeload",
            seconds=plan.duration,
            planned=100,
            sent=100,
            ok=100,
            offered_rps=rate,
            achieved_rps=rate / (2 if tool else 1),
            latency_ms={"p50": 1.0, "p90": 1.0, "p99": 5.0 if rate <= knee else 50.0, "p99.9": 60.0, "max": 70.0},
            raw_ms={"p50": 1.0 + bool(tool), "p99": 1.0},
            saturated="its thread was busy" if rate >= saturated_from else "",
        )

    return answer


class Trial:
    """As much of the port as a load needs."""

    def __init__(self, prober: Prober, settings: dict[str, Any], capabilities: dict[Capability, Support] | None = None) -> None:
        self.prober = prober
        self.settings = settings
        self.observations: list[Observation] = []
        self.driver = SimpleNamespace(
            title="Engine",
            capabilities=lambda: capabilities,
            reach=lambda service, routing: Reach(routing=routing, targets=(("10.0.0.9", 80),), how="a virtual IP"),
        )

    def observe(self, name: str, *, at: float | None = None, **data: Any) -> None:
        msgspec.json.encode(data)
        self.observations.append(Observation(at=0.0, name=name, trial="t", data=data))

    @contextlib.contextmanager
    def phase(self, name: str, timeout: float) -> Iterator[None]:
        yield

    def named(self, name: str) -> list[Any]:
        return [o.data for o in self.observations if o.name == name]


PLAN = LoadPlan(targets=(Target("10.0.0.1", 80), Target("10.0.0.2", 80)), connections=4, duration=5.0, warmup=2.0)


def served(trial: Any, factors: dict[str, Any] | None = None) -> dict[tuple[str, Any], float]:
    Serve()._serve(trial, PLAN, factors or {})
    samples = list(Serve().derive(trial.observations))
    known = {m.name for m in Serve.metrics}
    assert {s.metric for s in samples} <= known
    return {(s.metric, tuple(s.factors.items())): s.value for s in samples}


def test_the_curve_and_its_edge_are_derived_from_what_was_recorded() -> None:
    objective = "p99<20ms,errors<0.1%"
    trial = Trial(Prober(answering(7000.0)), {**SETTINGS["default"], "slo": objective})
    found = served(trial)
    slo = (("slo", objective),)
    assert 6600 < found["slo_rate", slo] <= 7000 < found["slo_high", slo] < 7400
    assert (found["slo_low", slo], found["slo_agreed", slo]) == (found["slo_rate", slo], 100.0)
    curve = [dict(factors)["offered"] for metric, factors in found if metric == "curve_p99"]
    assert curve == [1000, 1600, 2560, 4100, 6560, 10500, 16800]
    assert found["curve_p99", (("offered", 10500.0),)] == 50.0
    assert found["saturation", ()] == 21000.0
    assert found["offered", ()] == 1000.0  # the steps of the curve are not taken for it
    assert trial.named("load.saturated") == []


def test_a_search_that_was_cut_off_has_a_curve_and_no_edge() -> None:
    trial = Trial(Prober(answering(7000.0)), {**SETTINGS["default"], "slo": "p99<20ms"})
    served(trial)
    end = next(i for i, o in enumerate(trial.observations) if o.name == "search.end")
    for cut in (end, end - 5):
        metrics = {s.metric for s in Serve().derive(trial.observations[:cut])}
        assert "curve_p99" in metrics and not any(m.startswith("slo_") for m in metrics)


def test_an_edge_that_is_the_generators_is_a_lower_bound() -> None:
    trial = Trial(Prober(answering(7000.0, saturated_from=7000.0)), {**SETTINGS["default"], "slo": "p99<20ms"})
    served(trial, {"instances": 3})
    told = [o for o in trial.named("load.saturated") if o["metrics"] == ["slo_rate"]]
    assert len(told) == 1
    assert "generator" in told[0]["reason"]
    assert told[0]["factors"] == {"instances": 3, "slo": "p99<20ms,errors<0.1%"}


def test_a_rate_that_nothing_stops_is_a_lower_bound_too() -> None:
    settings = {**SETTINGS["default"], "slo": "p99<20ms", "steps": [1000, 2000, 4000]}
    trial = Trial(Prober(answering(1e9)), settings)
    assert served(trial)["slo_rate", (("slo", "p99<20ms,errors<0.1%"),)] == 4000
    assert "no rate missed" in trial.named("load.saturated")[-1]["reason"]


def test_the_curve_alone_goes_past_the_knee_and_finds_no_objective() -> None:
    def overloaded(plan: LoadPlan, tool: str) -> LoadResult:
        result: LoadResult = answering(1e9)(plan, tool)
        return msgspec.structs.replace(result, achieved_rps=min(result.achieved_rps, 3000.0))

    trial = Trial(Prober(overloaded), {**SETTINGS["default"], "steps": "auto"})
    found = served(trial)
    assert not [m for m, _ in found if m.startswith("slo")]
    assert [dict(f)["offered"] for m, f in found if m == "curve_achieved"] == [1000, 1600, 2560, 4100, 6560]


def test_a_load_that_still_warms_up_is_sent_again_with_a_longer_warm_up() -> None:
    cold = [40.0, 30.0, 20.0, 15.0, 12.0, 9.0, 7.0]
    warm = [9.0, 5.0, 2.0, 1.0, 1.1, 1.0, 1.05, 1.0, 1.1, 1.0]
    prober = Prober(answering(1e6), iter([cold, warm]))
    trial = Trial(prober, {})
    send(trial, msgspec.structs.replace(PLAN, rate=100.0), "load", loop="open", rate=100.0, factors={})
    assert [p.warmup for p in prober.plans] == [2.0, 5.0]
    first, second = trial.named("load")
    assert first["steady"] == {"by": "latency_p50", "warmup": 2.0, "seconds": 7, "after": None}
    assert "discarded" in first
    assert second["steady"]["after"] == 3.0
    assert "discarded" not in second
    assert trial.named("warning") == []
    assert len([s for s in Serve().derive(trial.observations) if s.metric == "offered"]) == 1


def test_a_load_that_never_gets_steady_is_measured_and_told() -> None:
    prober = Prober(answering(1e6), iter([[50.0 - n for n in range(count)] for count in (7, 10, 16)]))
    trial = Trial(prober, {})
    send(trial, msgspec.structs.replace(PLAN, rate=100.0), "load", loop="open", rate=100.0, factors={})
    assert len(prober.plans) == 3
    assert ["discarded" in o for o in trial.named("load")] == [True, True, False]
    assert "still warming up" in trial.named("warning")[0]["text"]


def test_a_cross_check_stands_between_two_loads_of_our_own() -> None:
    prober = Prober(answering(1000.0))
    trial = Trial(prober, {})
    cross_check(trial, PLAN, "wrk", {"factors": {}})
    assert prober.tools == ["", "wrk", ""]
    assert all(len(p.targets) == 1 and not p.rate for p in prober.plans)
    samples = {(s.metric, s.factors["tool"]): s.value for s in crossed(trial.named("cross"))}
    assert samples == {("cross_rate", "wrk"): 0.5, ("cross_p50", "wrk"): 2.0, ("cross_p99", "wrk"): 1.0}


def test_a_routing_that_is_not_there_or_silent_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "PATIENCE", 0.05)
    prober = Prober(answering(1000.0))
    lacking = Trial(prober, {}, {Capability.NATIVE: Support(False, "no ip_vs here")})
    assert reaching.reach(lacking, "serve", Routing.NATIVE, alone=False) is None
    trial = Trial(prober, {}, {Capability.NATIVE: Support(True)})
    assert reaching.reach(trial, "serve", Routing.NATIVE, alone=False) is None
    assert prober.unwatched == ["10.0.0.9"]
    assert lacking.named("warning")[0]["text"] == "Engine: routing native was not measured: no ip_vs here"
    assert "10.0.0.9:80 (a virtual IP) gave no answer" in trial.named("warning")[0]["text"]
    with pytest.raises(Unsupported, match="no ip_vs here"):
        reaching.reach(lacking, "serve", Routing.NATIVE, alone=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"instances": [1, 50]}, "50 instances"),
        ({"instances": []}, "list of different"),
        ({"routing": ["endpoints", "endpoints"]}, "list of different"),
        ({"routing": "mesh"}, "routing is one of"),
        ({"generators": 0}, "'generators'"),
        ({"slo": "p99<20"}, "us, ms or s"),
        ({"steps": [100]}, "at least two"),
        ({"steps": "all"}, '"none", "auto"'),
        ({"cross_check": "wrk"}, "list of generators"),
        ({"resolution": 0}, "'resolution'"),
        ({"rate": True}, "'rate'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Serve().check({**SETTINGS["default"], **change}, 3)
