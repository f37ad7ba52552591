"""How much does a service serve, and how soon does it answer?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from ..contract import (
    BadInput,
    Better,
    Capability,
    LoadPlan,
    Metric,
    Observation,
    Routing,
    Sample,
    Target,
    Trial,
)
from .following import Following, until_answering
from .seconds import seconds

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "instances": 3,
        "connections": 24,
        "rate": 1000,
        "seconds": 4,
        "warmup": 2,
        "routing": "endpoints",
        "timeout": 60,
    },
    "default": {
        "instances": 3,
        "connections": 24,
        "rate": 1000,
        "seconds": 5,
        "warmup": 2,
        "routing": "endpoints",
        "timeout": 60,
    },
    "full": {
        "instances": 6,
        "connections": 48,
        "rate": 2000,
        "seconds": 20,
        "warmup": 5,
        "routing": "endpoints",
        "timeout": 60,
    },
}
PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")
SERVICE = "serve"


def _latency(name: str) -> Metric:
    what = "Greatest latency" if name == "max" else f"{name[1:]}th percentile of latency"
    return Metric(
        name=f"latency_{name}",
        unit="ms",
        better=Better.LOWER,
        title=f"latency {name}",
        definition=f"{what} at a fixed offered rate, open loop with Poisson arrivals, counted from each request's planned send "
        "time; requests without a good answer are counted as errors and are not in it.",
    )


class Serve:
    """A service is deployed and seen to answer; then load from inside the bay, spread over its endpoints: first a closed
    loop, for saturation, then an open one at a rate that is the same for every COE."""

    name: ClassVar[str] = "serve"
    question: ClassVar[str] = "How many requests a second does a service answer, and how soon?"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.ENDPOINTS})
    metrics: ClassVar[tuple[Metric, ...]] = (
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
        *(_latency(p) for p in PERCENTILES),
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
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        for name, least, most in (
            ("instances", 1, 1000),
            ("connections", 1, 100_000),
            ("rate", 1, 10_000_000),
            ("seconds", 1, 3600),
            ("warmup", 0, 600),
        ):
            value = settings[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise BadInput(f"serve: '{name}' is a number from {least} to {most}, not {value!r}")
        if settings["connections"] < settings["instances"]:
            raise BadInput(
                f"serve: {settings['connections']} connections can't reach {settings['instances']} instances: at least one each"
            )
        try:
            Routing(settings["routing"])
        except ValueError:
            known = ", ".join(r.value for r in Routing)
            raise BadInput(f"serve: routing is one of {known}, not {settings['routing']!r}") from None

    def run(self, trial: Trial) -> None:
        s = trial.settings
        spec = msgspec.structs.replace(trial.workload.service(SERVICE, s["instances"], trial.workload.versions[0]), health=None)
        with trial.phase("deploy", s["timeout"]) as deadline, Following(trial, SERVICE) as following:
            trial.driver.deploy(spec)
            until_answering(following, s["instances"], deadline)
        reach = trial.driver.reach(SERVICE, Routing(s["routing"]))
        trial.observe("reach", routing=reach.routing.value, how=reach.how, targets=[f"{a}:{p}" for a, p in reach.targets])
        plan = LoadPlan(
            targets=tuple(Target(*t) for t in reach.targets),
            connections=s["connections"],
            duration=float(s["seconds"]),
            warmup=float(s["warmup"]),
        )
        for loop, rate in (("closed", 0.0), ("open", float(s["rate"]))):
            with trial.phase(f"load {loop}", s["seconds"] + s["warmup"] + 30):
                result = trial.prober.load(msgspec.structs.replace(plan, rate=rate), seconds(trial, loop=loop, rate=rate))
            trial.observe("load", loop=loop, rate=rate, **msgspec.to_builtins(result))
            if result.saturated:
                names = ["saturation"] if loop == "closed" else [m.name for m in self.metrics if m.name != "saturation"]
                trial.observe("load.saturated", loop=loop, reason=result.saturated, metrics=names)
        with trial.phase("remove", s["timeout"]):
            trial.remove(SERVICE)

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        loads = {o.data["loop"]: o.data for o in observations if o.name == "load"}
        if closed := loads.get("closed"):
            yield Sample(metric="saturation", value=closed["achieved_rps"])
        if (load := loads.get("open")) and load["planned"]:
            yield Sample(metric="offered", value=load["offered_rps"])
            yield Sample(metric="achieved", value=load["achieved_rps"])
            for p in PERCENTILES:
                if p in load["latency_ms"]:
                    yield Sample(metric=f"latency_{p}", value=load["latency_ms"][p])
            if "p99" in load["raw_ms"]:
                yield Sample(metric="raw_p99", value=load["raw_ms"]["p99"])
            bad = sum(load["errors"].values()) + load["unsent"] + load["inflight"]
            yield Sample(metric="errors", value=100 * bad / load["planned"])
            yield Sample(metric="generator_cpu", value=load["cpu"])
