"""How soon does the engine's API answer, by verb, and how soon does an instance start, against the usual objectives?"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import msgspec

from ..contract import Better, Capability, Metric, Observation, Room, Sample, ServiceSpec, Trial, Verb
from . import checks, facts
from .crowd import Crowd, gone, saying, serving
from .timing import PAUSE, START, asking, timed

BACKGROUND = "api"
SLO_API, SLO_START = 1.0, 5.0  # seconds: Kubernetes' own objectives (sig-scalability), asked of all
PERCENTILES = (50, 90, 99)
CREATE = "create"
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"instances": [2], "requests": 20, "creates": 10, "starts": 2, "timeout": 60},
    "default": {"instances": [1, 10], "requests": 100, "creates": 20, "starts": 3, "timeout": 120},
    "full": {"instances": [1, 50], "requests": 100, "creates": 100, "starts": 10, "timeout": 300},
}


class Api:
    """For each number N: beside a service of N instances, single requests one after the other, then single starts."""

    name: ClassVar[str] = "api"
    question: ClassVar[str] = "How soon does the engine's API answer, and is it within 1 s; does an instance start within 5 s?"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.ENDPOINTS})
    metrics: ClassVar[tuple[Metric, ...]] = (
        *(
            Metric(
                name=f"latency_p{q}",
                unit="ms",
                better=Better.LOWER,
                title=f"API latency p{q}",
                definition=f"{'The median' if q == 50 else f'The {q}th percentile'} of the times from sending one request until "
                "its answer is read whole, requests of a verb being sent one after the other over a kept connection. get: one "
                "service; list: the instances of one service; list all: all services; create: a service of no instances; delete: "
                "that service. p90 is given from 10 requests on, p99 from 100.",
            )
            for q in PERCENTILES
        ),
        Metric(
            name="slow",
            unit="%",
            better=Better.LOWER,
            title="requests over 1 s",
            definition="Requests of all verbs that took longer than 1 s, in per cent of all.",
        ),
        Metric(
            name="start_p50",
            unit="s",
            better=Better.LOWER,
            title="one instance starts, p50",
            definition="The median of the times from asking for a service of one instance, without state, its image on the node "
            "already, until the prober has its first good answer.",
        ),
        Metric(
            name="start_p90",
            unit="s",
            better=Better.LOWER,
            title="one instance starts, p90",
            definition="The 90th percentile of the same, from 10 starts on.",
        ),
        Metric(
            name="start_p99",
            unit="s",
            better=Better.LOWER,
            title="one instance starts, p99",
            definition="The 99th percentile of the same, from 100 starts on.",
        ),
        Metric(
            name="start_slow",
            unit="%",
            better=Better.LOWER,
            title="starts over 5 s",
            definition="Starts that took longer than 5 s, in per cent of all; those that never came are among them.",
        ),
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        checks.numbers(self.name, settings, "instances", 1, 1000)
        for name, most in (("requests", 100_000), ("creates", 1000), ("starts", 1000)):
            checks.whole(self.name, settings, name, 1, most)
        checks.number(self.name, settings, "timeout", 1, 86400)

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        return (Room(instances=max(settings["instances"]) + 1, cpu=spec.cpu, memory=spec.memory),)

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        return float(len(settings["instances"]) * (START + settings["starts"] * (START + PAUSE)))

    def run(self, trial: Trial) -> None:
        asking(trial)
        rng = random.Random(trial.seed)
        for count in trial.settings["instances"]:
            self._at(trial, rng, count)

    def _at(self, trial: Trial, rng: random.Random, count: int) -> None:
        s, driver = trial.settings, trial.driver
        ask = asking(trial).ask
        service = f"{BACKGROUND}-{count}"
        spec = msgspec.structs.replace(trial.workload.service(service, count, trial.workload.versions[0]), health=None)
        with Crowd(trial) as crowd:
            with trial.phase(f"deploy {count}", s["timeout"]) as deadline:
                crowd.follow(service)
                driver.deploy(spec)
                f = crowd.services[service]
                crowd.until(serving(f, count), deadline, saying(f), [service])
                crowd.leave(service)  # neither prober nor watch may be part of what is timed
            with trial.phase(f"requests {count}", s["timeout"]):
                for verb in (Verb.GET, Verb.LIST, Verb.LIST_ALL):
                    times = timed(partial(ask, verb, "" if verb is Verb.LIST_ALL else service), s["requests"])
                    trial.observe("requests", verb=verb.value, instances=count, seconds=times)
                names = iter([f"{service}-empty-{k}" for k in range(s["creates"])])
                empty = msgspec.structs.replace(spec, instances=0)
                times = timed(lambda: driver.deploy(msgspec.structs.replace(empty, name=next(names))), s["creates"])
                trial.observe("requests", verb=CREATE, instances=count, seconds=times)
                names = iter([f"{service}-empty-{k}" for k in range(s["creates"])])
                times = timed(lambda: ask(Verb.DELETE, next(names)), s["creates"])
                trial.observe("requests", verb=Verb.DELETE.value, instances=count, seconds=times)
                for k in range(s["creates"]):
                    driver.remove(f"{service}-empty-{k}")  # the journal's account of it is closed by this
            for k in range(s["starts"]):
                self._start(trial, crowd, rng, spec, f"{service}-start-{k}", count)
        with trial.phase(f"remove {count}", s["timeout"]):
            trial.remove(service)

    def _start(self, trial: Trial, crowd: Crowd, rng: random.Random, spec: ServiceSpec, name: str, count: int) -> None:
        crowd.follow(name)
        one = crowd.services[name]
        with trial.phase(f"start {count}", trial.settings["timeout"]) as deadline:
            trial.observe("api.start", service=name, instances=count)
            trial.driver.deploy(msgspec.structs.replace(spec, name=name, instances=1))
            crowd.until(lambda: bool(one.speaking), deadline, saying(one), [name])
        crowd.rest(rng.random())
        with trial.phase(f"end {count}", trial.settings["timeout"]) as deadline:
            trial.driver.remove(name)
            crowd.until(gone(one), deadline, saying(one))
        crowd.leave(name)

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        every: dict[int, list[float]] = {}
        for o in observations:
            if o.name == "requests":
                count, times = o.data["instances"], o.data["seconds"]
                every.setdefault(count, []).extend(times)
                factors = {"verb": o.data["verb"], "instances": count}
                yield from facts.percentiles("latency", [1000 * t for t in times], PERCENTILES, factors)
        for count, times in every.items():
            slow = sum(t > SLO_API for t in times)
            yield Sample(metric="slow", value=100 * slow / len(times), factors={"instances": count})
        limits = facts.limits(observations)
        starts: dict[int, list[float]] = {}
        for story in facts.by_service(observations).values():
            asked = next((o for o in story if o.name == "api.start"), None)
            if asked is None:
                continue
            count = asked.data["instances"]
            seen = facts.first(story, asked.at, math.inf, lambda s: bool(s.speaking))
            if seen is not None or f"start {count}" in limits:
                starts.setdefault(count, []).append(math.inf if seen is None else seen - asked.at)
        for count, times in starts.items():
            factors = {"instances": count}
            yield from facts.percentiles("start", times, PERCENTILES, factors, limits.get(f"start {count}"))
            slow = sum(t > SLO_START for t in times)
            yield Sample(metric="start_slow", value=100 * slow / len(times), factors=factors)
