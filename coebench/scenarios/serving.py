"""What `serve` gives: its metrics, each with its definition, and the samples of the loads that every run sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..contract import Better, Metric, Sample
from .slo import PERCENTILES, errors


def _latency(name: str) -> str:
    return "Greatest latency" if name == "max" else f"{name[1:]}th percentile of latency"


def _fixed_latency(name: str) -> Metric:
    return Metric(
        name=f"latency_{name}",
        unit="ms",
        better=Better.LOWER,
        title=f"latency {name}",
        definition=f"{_latency(name)} at a fixed offered rate, open loop with Poisson arrivals, counted from each request's "
        "planned send time; requests without a good answer are counted as errors and are not in it.",
    )


def _curve_latency(name: str) -> Metric:
    return Metric(
        name=f"curve_{name}",
        unit="ms",
        better=Better.LOWER,
        title=f"curve: latency {name}",
        definition=f"{_latency(name)} at one offered rate of the serving curve, counted from each request's planned send time.",
    )


_SLO = "of the search for the highest rate that meets the objective"
METRICS = (
    Metric(
        name="saturation",
        unit="1/s",
        better=Better.HIGHER,
        title="saturation (closed loop)",
        definition="Good answers a second when each of a fixed number of kept connections sends its next request as soon as "
        "the last is answered. What generators and servers can do together on this machine, not a service level.",
    ),
    Metric(
        name="offered",
        unit="1/s",
        better=Better.NEITHER,
        title="offered",
        definition="Requests a second that were planned in the open loop.",
    ),
    Metric(
        name="achieved",
        unit="1/s",
        better=Better.HIGHER,
        title="achieved",
        definition="Good answers a second in the open loop, over its planned time.",
    ),
    *(_fixed_latency(p) for p in PERCENTILES),
    Metric(
        name="raw_p99",
        unit="ms",
        better=Better.LOWER,
        title="latency p99, from the send",
        definition="As latency p99, but from the actual send: what a generator that waits for its turn would report.",
    ),
    Metric(
        name="errors",
        unit="%",
        better=Better.LOWER,
        title="errors",
        definition="Requests without a good answer, in per cent of those planned in the open loop, unsent ones included.",
    ),
    Metric(
        name="generator_cpu",
        unit="cores",
        better=Better.NEITHER,
        title="generator's CPU",
        definition="Cores that the generator used while it measured.",
    ),
    Metric(
        name="slo_rate",
        unit="1/s",
        better=Better.HIGHER,
        title="highest rate that meets the objective",
        definition="The highest offered rate that was found to meet the objective: the threshold that the fewest of the tries "
        "contradict. 0 where no rate did, down to a 280th of the first.",
    ),
    Metric(
        name="slo_low",
        unit="1/s",
        better=Better.NEITHER,
        title="objective always met up to",
        definition=f"The highest rate {_SLO} at and below which every try met it.",
    ),
    Metric(
        name="slo_high",
        unit="1/s",
        better=Better.NEITHER,
        title="objective always missed from",
        definition=f"The lowest rate {_SLO} at and above which every try missed it.",
    ),
    Metric(
        name="slo_agreed",
        unit="%",
        better=Better.NEITHER,
        title="tries at the edge that agreed",
        definition="Of the tries at the highest rate that meets the objective and at the next that was tried, those that said "
        "what most of that rate's tries said, in per cent.",
    ),
    Metric(
        name="curve_achieved",
        unit="1/s",
        better=Better.HIGHER,
        title="curve: achieved",
        definition="Good answers a second at one offered rate of the serving curve, open loop with Poisson arrivals.",
    ),
    Metric(
        name="curve_errors",
        unit="%",
        better=Better.LOWER,
        title="curve: errors",
        definition="Requests without a good answer at one offered rate of the serving curve, in per cent of those planned.",
    ),
    *(_curve_latency(p) for p in ("p50", "p90", "p99", "p99.9")),
    Metric(
        name="cross_rate",
        unit="1",
        better=Better.NEITHER,
        title="cross-check: requests/s as a share of ours",
        definition="Good answers a second of another generator in a closed loop against one instance, divided by the mean of "
        "our own before and after it, with the same connections.",
    ),
    Metric(
        name="cross_p50",
        unit="1",
        better=Better.NEITHER,
        title="cross-check: latency p50 as a share of ours",
        definition="The median latency that the other generator tells of that load, divided by the mean of our own two.",
    ),
    Metric(
        name="cross_p99",
        unit="1",
        better=Better.NEITHER,
        title="cross-check: latency p99 as a share of ours",
        definition="The 99th percentile that the other generator tells of that load, divided by the mean of our own two.",
    ),
)
# The metrics of the open loop at the fixed rate.
FIXED = ("offered", "achieved", *(f"latency_{p}" for p in PERCENTILES), "raw_p99", "errors", "generator_cpu")


def fixed_samples(loads: Sequence[Mapping[str, Any]]) -> Iterable[Sample]:
    """Of the loads that belong to no curve."""
    for load in loads:
        if load.get("step"):
            continue
        factors = load.get("factors") or {}

        def sample(metric: str, value: float, factors: Mapping[str, Any] = factors) -> Sample:
            return Sample(metric=metric, value=value, factors=factors)

        if load["loop"] == "closed":
            yield sample("saturation", load["achieved_rps"])
        elif load["planned"]:
            yield sample("offered", load["offered_rps"])
            yield sample("achieved", load["achieved_rps"])
            for p in PERCENTILES:
                if p in load["latency_ms"]:
                    yield sample(f"latency_{p}", load["latency_ms"][p])
            if "p99" in load["raw_ms"]:
                yield sample("raw_p99", load["raw_ms"]["p99"])
            yield sample("errors", errors(load))
            yield sample("generator_cpu", load["cpu"])
