"""What does the engine itself use while nothing is asked of it, and what does each instance add?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import msgspec

from ..contract import (
    ENGINE,
    INSTANCES,
    BadInput,
    Better,
    Capability,
    Metric,
    Observation,
    Room,
    Sample,
    ServiceSpec,
    Trial,
    Unsupported,
    Verb,
)
from . import checks, facts
from .crowd import Crowd, saying, serving
from .timing import asking, timed

SERVICE = "idle"
MIB = 1 << 20
PERCENTILES = (50, 90, 99)
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"instances": [0, 3], "services": [10], "requests": 20, "settle": 2, "seconds": 3, "timeout": 60},
    "default": {"instances": [0, 10], "services": [50], "requests": 100, "settle": 5, "seconds": 10, "timeout": 120},
    "full": {"instances": [0, 10, 50, 100], "services": [100], "requests": 100, "settle": 5, "seconds": 15, "timeout": 300},
}


class Idle:
    """One service is scaled from number to number; when nothing has happened for a while, and nobody asks, the processes' use
    is read twice. Then services of no instances are added, and the API is timed."""

    name: ClassVar[str] = "idle"
    question: ClassVar[str] = (
        "What do the engine's own processes use while nothing is asked of them, and what does an instance add?"
    )
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.ENDPOINTS})
    unspoilt: ClassVar[bool] = True  # what an engine uses depends on what it has done
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="cpu",
            unit="cores",
            better=Better.LOWER,
            title="engine's CPU",
            definition="Processor time that the engine's processes (all of a host's that are in no container) used in the "
            "measured seconds, by second, as the hosts' cgroups count it. control: all control hosts together; node: the mean of "
            "the nodes.",
        ),
        Metric(
            name="memory",
            unit="MiB",
            better=Better.LOWER,
            title="engine's memory",
            definition="Anonymous memory of the same processes at the end of the measured seconds, page cache left out. control: "
            "all control hosts together; node: the mean of the nodes.",
        ),
        Metric(
            name="program_cpu",
            unit="cores",
            better=Better.LOWER,
            title="a program's CPU",
            definition="Processor time of all processes of one program, over the hosts of one role, in the measured seconds, by "
            "second. Only processes that lived all that time are in it.",
        ),
        Metric(
            name="program_memory",
            unit="MiB",
            better=Better.LOWER,
            title="a program's memory",
            definition="Proportional share (PSS) of the memory of all processes of one program, over the hosts of one role.",
        ),
        Metric(
            name="instance_cpu",
            unit="cores",
            better=Better.LOWER,
            title="an instance adds: CPU",
            definition="By how much the CPU of all hosts, containers with it, grew from the least to the greatest number of "
            "instances, divided by the difference of the numbers.",
        ),
        Metric(
            name="instance_memory",
            unit="MiB",
            better=Better.LOWER,
            title="an instance adds: memory",
            definition="By how much the anonymous memory of all hosts, containers with it, grew from the least to the greatest "
            "number of instances, divided by the difference of the numbers; 0 if the engine gave back more meanwhile.",
        ),
        *(
            Metric(
                name=f"latency_p{q}",
                unit="ms",
                better=Better.LOWER,
                title=f"API latency p{q}",
                definition=f"{'The median' if q == 50 else f'The {q}th percentile'} of the times of single requests, one after "
                "the other, with that many services of no instances in the bay. get: one service; list all: all services.",
            )
            for q in PERCENTILES
        ),
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        checks.numbers(self.name, settings, "instances", 0, 1000)
        for name in ("instances", "services"):
            if settings[name] != sorted(settings[name]):
                raise BadInput(f"idle: '{name}' rises, it can't be {settings[name]!r}")
        if settings["services"]:
            checks.numbers(self.name, settings, "services", 1, 10_000)
        checks.whole(self.name, settings, "requests", 1, 100_000)
        checks.number(self.name, settings, "settle", 0, 3600)
        checks.number(self.name, settings, "seconds", 1, 86400)
        checks.number(self.name, settings, "timeout", 1, 86400)

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        return (Room(instances=max(settings["instances"]), cpu=spec.cpu, memory=spec.memory),)

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        return float(len(settings["instances"]) * (settings["settle"] + settings["seconds"]))

    def run(self, trial: Trial) -> None:
        s, driver = trial.settings, trial.driver
        trial.usage()  # whether it can be had at all
        spec = msgspec.structs.replace(trial.workload.service(SERVICE, 0, trial.workload.versions[0]), health=None)
        deployed = False
        for count in s["instances"]:
            if count:
                with trial.phase(f"deploy {count}", s["timeout"]) as deadline, Crowd(trial) as crowd:
                    crowd.follow(SERVICE)
                    f = crowd.services[SERVICE]
                    if deployed:
                        driver.scale(SERVICE, count)
                    else:
                        driver.deploy(msgspec.structs.replace(spec, instances=count))
                        deployed = True
                    crowd.until(serving(f, count), deadline, saying(f), [SERVICE])
            # From here on neither prober nor watch asks anything: what is used is the engine's own.
            self._measure(trial, count)
        if deployed:
            with trial.phase("remove", s["timeout"]):
                trial.remove(SERVICE)
        if s["services"]:
            self._many(trial, msgspec.structs.replace(spec, instances=0))

    def _measure(self, trial: Trial, count: int) -> None:
        s = trial.settings
        with trial.phase(f"idle {count}", s["settle"] + s["seconds"] + 60), Crowd(trial) as crowd:
            crowd.rest(s["settle"])
            self._used(trial, count, "begin")
            crowd.rest(s["seconds"])
            self._used(trial, count, "end")

    def _used(self, trial: Trial, count: int, which: str) -> None:
        usage = trial.usage()
        trial.observe("usage", instances=count, which=which, usage=[msgspec.to_builtins(u) for u in usage])

    def _many(self, trial: Trial, spec: ServiceSpec) -> None:
        s, driver = trial.settings, trial.driver
        try:
            ask = asking(trial).ask
        except Unsupported as e:  # what the engine uses has been measured all the same
            trial.observe("warning", text=f"idle: the API's latency was not measured: {e}")
            return
        made: list[str] = []
        try:
            for services in s["services"]:
                with trial.phase(f"services {services}", s["timeout"]) as deadline:
                    while len(made) < services:
                        deadline.waiting_for(f"{len(made)} of {services} services are made")
                        deadline.left()
                        made.append(f"{SERVICE}-{len(made)}")
                        driver.deploy(msgspec.structs.replace(spec, name=made[-1]))
                    for verb in (Verb.GET, Verb.LIST_ALL):
                        times = timed(partial(ask, verb, made[0] if verb is Verb.GET else ""), s["requests"])
                        trial.observe("requests", verb=verb.value, services=services, seconds=times)
        finally:
            for name in made:
                driver.remove(name)

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        begun: dict[int, Observation] = {}
        totals: dict[int, tuple[float, float]] = {}  # instances → cores and MiB of all hosts
        for o in observations:
            if o.name == "usage" and o.data["which"] == "begin":
                begun[o.data["instances"]] = o
            elif o.name == "usage" and (before := begun.get(o.data["instances"])):
                count, seconds = o.data["instances"], o.at - before.at
                used = _used(before.data["usage"], o.data["usage"], seconds)
                yield from _engine(used, count)
                every = [u for (_, _, what), u in used.items() if what in (ENGINE, INSTANCES)]
                totals[count] = (sum(u[0] for u in every), sum(u[1] for u in every))
            elif o.name == "requests":
                factors = {"verb": o.data["verb"], "services": o.data["services"]}
                yield from facts.percentiles("latency", [1000 * t for t in o.data["seconds"]], PERCENTILES, factors)
        if len(totals) > 1:
            least, most = min(totals), max(totals)
            for name, place in (("instance_cpu", 0), ("instance_memory", 1)):
                yield Sample(metric=name, value=max(0.0, totals[most][place] - totals[least][place]) / (most - least))


Used = dict[tuple[str, str, str], tuple[float, float]]


def _used(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], seconds: float) -> Used:
    """Host, role, what → cores and MiB. A program whose processes changed meanwhile may have less than before: 0 then."""
    was = {(u["host"], u["what"]): u["cpu"] for u in before}
    return {
        (u["host"], u["role"], u["what"]): (
            max(0.0, u["cpu"] - was.get((u["host"], u["what"]), u["cpu"])) / seconds,
            u["memory"] / MIB,
        )
        for u in after
    }


def _engine(used: Used, count: int) -> Iterable[Sample]:
    for role in ("control", "node"):
        hosts = {host for host, r, _ in used if r == role}
        mine = [u for (_, r, what), u in used.items() if r == role and what == ENGINE]
        if not mine:
            continue
        share = len(hosts) if role == "node" else 1
        factors = {"role": role, "instances": count}
        yield Sample(metric="cpu", value=sum(u[0] for u in mine) / share, factors=factors)
        yield Sample(metric="memory", value=sum(u[1] for u in mine) / share, factors=factors)
        programs = sorted({what for _, r, what in used if r == role and what not in (ENGINE, INSTANCES)})
        for program in programs:
            every = [u for (_, r, what), u in used.items() if (r, what) == (role, program)]
            cores, memory = sum(u[0] for u in every), sum(u[1] for u in every)
            if memory < 0.5 and cores < 0.0005:
                continue  # a shell that waits
            cell = {"program": program, **factors}
            yield Sample(metric="program_cpu", value=cores, factors=cell)
            yield Sample(metric="program_memory", value=memory, factors=cell)
