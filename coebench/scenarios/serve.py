"""How much does a service serve, and how soon does it answer?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from ..contract import (
    BadInput,
    Capability,
    LoadPlan,
    Metric,
    Observation,
    Room,
    Routing,
    Sample,
    ServiceSpec,
    Target,
    Trial,
    Unsupported,
)
from . import edge, reaching
from .crossing import cross_check, crossed
from .curve import Search, curve_samples
from .following import Following, until_answering
from .offering import send
from .recruiting import COORDINATORS, recruited
from .serving import FIXED, METRICS, fixed_samples
from .slo import Slo

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "instances": 3,
        "routing": "endpoints",
        "generators": 1,
        "coordinator": "harness",
        "connections": 24,
        "rate": 1000,
        "seconds": 4,
        "warmup": 2,
        "slo": "",
        "steps": "none",
        "step_seconds": 2,
        "repeats": 2,
        "resolution": 25,
        "cross_check": [],
        "timeout": 60,
    },
    "default": {
        "instances": 3,
        "routing": "endpoints",
        "generators": 1,
        "coordinator": "harness",
        "connections": 24,
        "rate": 1000,
        "seconds": 5,
        "warmup": 2,
        "slo": "",
        "steps": "none",
        "step_seconds": 3,
        "repeats": 3,
        "resolution": 5,
        "cross_check": [],
        "timeout": 60,
    },
    "full": {
        "instances": 6,
        "routing": ["endpoints", "native"],
        "generators": 1,
        "coordinator": "harness",
        "connections": 48,
        "rate": 2000,
        "seconds": 5,
        "warmup": 2,
        "slo": "p99<20ms,errors<0.1%",
        "steps": "auto",
        "step_seconds": 3,
        "repeats": 3,
        "resolution": 10,
        "cross_check": [],
        "timeout": 60,
    },
}
SERVICE = "serve"
GRID = ("instances", "routing", "generators")
TOP = 10_000_000  # requests a second: coeload's own highest rate


class Serve:
    """A service is deployed and seen to answer; then load from inside the bay: first a closed loop, for saturation, then an
    open one at a rate that is the same for every COE; where asked, the serving curve and the highest rate that meets an
    objective. All of it for each point of the grid of instances, routing and generators."""

    name: ClassVar[str] = "serve"
    question: ClassVar[str] = "How many requests a second does a service answer, and how soon?"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.ENDPOINTS})
    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def runs_tools(self, settings: Mapping[str, Any]) -> bool:
        return bool(settings["cross_check"])

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        for name, least, most in (
            ("instances", 1, 1000),
            ("generators", 1, 2000),
            ("connections", 1, 100_000),
            ("rate", 1, TOP),
            ("seconds", 1, 3600),
            ("warmup", 0, 600),
            ("step_seconds", 1, 3600),
            ("repeats", 1, 15),
            ("resolution", 1, 100),
        ):
            for value in _listed(settings[name]) if name in GRID else [settings[name]]:
                if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                    raise BadInput(f"serve: '{name}' is a number from {least} to {most}, not {value!r}")
        for name in GRID:
            values = _listed(settings[name])
            if not values or len(set(values)) < len(values):
                raise BadInput(f"serve: '{name}' is a value, or a list of different ones, not {settings[name]!r}")
        if settings["connections"] < (most := max(_listed(settings["instances"]))):
            raise BadInput(f"serve: {settings['connections']} connections can't reach {most} instances: at least one each")
        if settings["connections"] < (most := max(_listed(settings["generators"]))):
            raise BadInput(f"serve: {settings['connections']} connections are too few for {most} generators: at least one each")
        for routing in _listed(settings["routing"]):
            if routing not in set(Routing):
                raise BadInput(f"serve: routing is one of {', '.join(r.value for r in Routing)}, not {routing!r}")
        if settings["coordinator"] not in COORDINATORS:
            raise BadInput(f"serve: coordinator is one of {', '.join(COORDINATORS)}, not {settings['coordinator']!r}")
        if settings["slo"] != "":
            Slo.parse(settings["slo"])
        _ladder(settings["steps"])
        tools = settings["cross_check"]
        if not isinstance(tools, list | tuple) or not all(isinstance(t, str) and t for t in tools):
            raise BadInput(f'serve: cross_check is a list of generators\' names, such as ["wrk"], not {tools!r}')

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        return (Room(instances=max(_listed(settings["instances"])), cpu=spec.cpu, memory=spec.memory),)

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        """A closed and an open loop for each point of the grid."""
        return float(math.prod(len(_listed(settings[g])) for g in GRID) * 2 * settings["seconds"])

    def run(self, trial: Trial) -> None:
        s = trial.settings
        varied = {name for name in GRID if len(_listed(s[name])) > 1}
        for instances in _listed(s["instances"]):
            self._deploy(trial, instances)
            try:
                self._routings(trial, instances, varied)
            except Unsupported:  # a way that is refused ends the trial, and nothing of it may stay in the bay
                for routing in map(Routing, _listed(s["routing"])):
                    reaching.leave(trial, SERVICE, routing)
                trial.leave(SERVICE)
                raise
            with trial.phase("remove", s["timeout"]):
                (trial.leave if instances == _listed(s["instances"])[-1] else trial.remove)(SERVICE)

    def _routings(self, trial: Trial, instances: int, varied: set[str]) -> None:
        """All points of the grid for a service that stands."""
        s = trial.settings
        for routing in map(Routing, _listed(s["routing"])):
            reach = reaching.reach(trial, SERVICE, routing, alone="routing" not in varied)
            if reach is None:
                continue
            for generators in _listed(s["generators"]):
                cell = {"instances": instances, "routing": routing.value, "generators": generators}
                plan = LoadPlan(
                    targets=tuple(Target(*t) for t in reach.targets),
                    connections=s["connections"],
                    generators=generators,
                    duration=float(s["seconds"]),
                    warmup=float(s["warmup"]),
                )
                with recruited(trial, generators, s["coordinator"], s["timeout"]):
                    self._serve(trial, plan, {k: v for k, v in cell.items() if k in varied})
            reaching.leave(trial, SERVICE, routing)

    def _deploy(self, trial: Trial, instances: int) -> None:
        spec = trial.workload.service(SERVICE, instances, trial.workload.versions[0])
        with trial.phase("deploy", trial.settings["timeout"]) as deadline, Following(trial, SERVICE) as following:
            trial.driver.deploy(msgspec.structs.replace(spec, health=None))
            until_answering(following, instances, deadline)

    def _serve(self, trial: Trial, plan: LoadPlan, factors: Mapping[str, Any]) -> None:
        """One point of the grid."""
        s = trial.settings
        about: dict[str, Any] = {"factors": dict(factors)}
        if factors:
            about["window"] = " ".join(map(str, factors.values()))  # so that no two loads of a trial are called alike
        for loop, rate in (("closed", 0.0), ("open", float(s["rate"]))):
            result = send(trial, msgspec.structs.replace(plan, rate=rate), f"load {loop}", loop=loop, rate=rate, **about)
            if result.saturated:
                metrics = ["saturation"] if loop == "closed" else list(FIXED)
                trial.observe("load.saturated", loop=loop, reason=result.saturated, metrics=metrics, factors=dict(factors))
        if s["slo"] or s["steps"] != "none":
            Search.of(s, _ladder(s["steps"]), TOP).run(trial, plan, about)
        for tool in s["cross_check"]:
            cross_check(trial, plan, tool, about)

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        loads = [o.data for o in observations if o.name == "load" and not o.data.get("discarded")]
        yield from fixed_samples(loads)
        told = {name: [o.data for o in observations if o.name == name] for name in ("search", "search.end")}
        yield from curve_samples(loads, told["search"], told["search.end"])
        yield from crossed([o.data for o in observations if o.name == "cross"])


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _ladder(steps: Any) -> tuple[float, ...]:
    """The rates of the curve; () where they follow from the first. Raises BadInput."""
    if steps in ("none", "auto"):
        return ()
    good = isinstance(steps, list | tuple) and len(steps) > 1
    if not good or not all(isinstance(r, int | float) and not isinstance(r, bool) and 1 <= r <= TOP for r in steps):
        raise BadInput(f'serve: steps is "none", "auto" or a list of at least two rates, not {steps!r}')
    if len({edge.round_rate(r) for r in steps}) < len(steps):
        raise BadInput("serve: the rates of steps differ in their first three digits")
    return tuple(sorted(float(r) for r in steps))
