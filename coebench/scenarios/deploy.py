"""How long from asking for a service until a client gets an answer from it?"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from ..contract import BadInput, Better, Capability, Metric, Observation, Room, Sample, ServiceSpec, Trial
from . import checks
from .following import Following, until_answering, until_silent
from .timing import START

# What of the service may be changed: whether the engine checks its health; image, cores and MiB, where "" and 0 are the
# workload's own.
SERVICE: Mapping[str, Any] = {"health": False, "image": "", "cpu": 0, "memory_mib": 0}
# Seconds at most, drawn before each request: the kubelet looks at its containers once a second, and a request that comes right
# after the last one's end would always come at the same point of that second.
PAUSE = 1.0
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"instances": [3], "timeout": 60, **SERVICE},
    "default": {"instances": [1, 10], "timeout": 120, **SERVICE},
    "full": {"instances": [1, 10, 30], "timeout": 300, **SERVICE},
}


class Deploy:
    """For each number N: a service of N instances is asked for, seen to answer, and removed again; before each request a
    pause of random length. Images are on all nodes beforehand."""

    name: ClassVar[str] = "deploy"
    question: ClassVar[str] = "How long from asking for a service until every instance answers?"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.ENDPOINTS})
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="first_answer",
            unit="s",
            better=Better.LOWER,
            title="first instance answers",
            definition="From sending the request to the engine until the prober, inside the bay, has the first good answer of "
            "any instance.",
        ),
        Metric(
            name="all_answer",
            unit="s",
            better=Better.LOWER,
            title="all instances answer",
            definition="From sending the request to the engine until the prober has had a good answer of each of the N "
            "instances over its own address.",
        ),
        Metric(
            name="all_ready",
            unit="s",
            better=Better.LOWER,
            title="engine says: all ready",
            definition="From sending the request until the engine's own stream has called N instances ready or running.",
            claim_of="all_answer",
        ),
        Metric(
            name="accepted",
            unit="s",
            better=Better.LOWER,
            title="request accepted",
            definition="From sending the request until the engine's API has answered it.",
        ),
        Metric(
            name="start_to_answer",
            unit="ms",
            better=Better.LOWER,
            title="process start to answer",
            definition="Median over instances: from the start of the instance's process, by its own clock, until the prober has "
            "its first good answer. What the engine takes to make a running process reachable and known.",
        ),
        Metric(
            name="silent",
            unit="s",
            better=Better.LOWER,
            title="removed: all silent",
            definition="From asking for the removal of the service until the last instance has stopped answering.",
        ),
        Metric(
            name="none_listed",
            unit="s",
            better=Better.LOWER,
            title="engine says: none left",
            definition="From asking for the removal of the service until the engine lists no instance of it, ended ones aside.",
            claim_of="silent",
        ),
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        checks.numbers(self.name, settings, "instances", 1, 1000)
        for name in ("cpu", "memory_mib", "timeout"):
            value = settings[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise BadInput(f"deploy: '{name}' is a number, not {value!r}")

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        memory = int(settings["memory_mib"]) << 20 or spec.memory
        return (Room(instances=max(settings["instances"]), cpu=float(settings["cpu"] or spec.cpu), memory=memory),)

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        return len(settings["instances"]) * (2 * PAUSE / 2 + START)

    def run(self, trial: Trial) -> None:
        rng = random.Random(trial.seed)
        for count in trial.settings["instances"]:
            name = f"deploy-{count}"
            spec = self._spec(trial, name, count)
            with Following(trial, name) as following:
                following.pause(rng.uniform(0, PAUSE))
                with trial.phase(f"deploy {count}", trial.settings["timeout"]) as deadline:
                    trial.observe("requested", service=name, instances=count)
                    trial.driver.deploy(spec)
                    trial.observe("accepted", service=name)
                    until_answering(following, count, deadline)
                following.pause(rng.uniform(0, PAUSE))
                with trial.phase(f"remove {count}", trial.settings["timeout"]) as deadline:
                    trial.observe("removing", service=name, instances=count)
                    trial.driver.remove(name)
                    until_silent(following, deadline)

    def _spec(self, trial: Trial, name: str, count: int) -> ServiceSpec:
        s = trial.settings
        spec = trial.workload.service(name, count, trial.workload.versions[0])
        return msgspec.structs.replace(
            spec,
            health=spec.health if s["health"] else None,
            image=s["image"] or spec.image,
            cpu=float(s["cpu"] or spec.cpu),
            memory=int(s["memory_mib"]) << 20 or spec.memory,
        )

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        services: dict[str, list[Observation]] = {}
        for o in observations:
            if service := o.data.get("service"):
                services.setdefault(service, []).append(o)
        limits = {o.data["phase"]: o.data["seconds"] for o in observations if o.name == "phase.timeout"}
        for facts in services.values():
            asked = next((o for o in facts if o.name == "requested"), None)
            if asked:
                yield from self._service(asked, facts, limits)

    def _service(self, asked: Observation, facts: list[Observation], limits: Mapping[str, float]) -> Iterable[Sample]:
        count = asked.data["instances"]
        factors = {"instances": count}
        limit = limits.get(f"deploy {count}")

        def sample(metric: str, at: float | None) -> Iterable[Sample]:
            if at is not None:
                yield Sample(metric=metric, value=at - asked.at, factors=factors)
            elif limit is not None:
                yield Sample(metric=metric, value=limit, censored=True, factors=factors)

        accepted = next((o.at for o in facts if o.name == "accepted"), None)
        if accepted is not None:
            yield Sample(metric="accepted", value=accepted - asked.at, factors=factors)
        answered: dict[str, Observation] = {}
        for o in facts:
            if o.name == "answer" and o.data["kind"] in ("up", "changed"):
                answered.setdefault(o.data["instance"], o)
        times = sorted(o.at for o in answered.values())
        yield from sample("first_answer", times[0] if times else None)
        yield from sample("all_answer", times[count - 1] if len(times) >= count else None)

        ready: set[str] = set()
        all_ready = None
        for o in facts:
            if o.name == "instance":
                (ready.add if o.data["state"] == "ready" else ready.discard)(o.data["id"])
            if len(ready) >= count and all_ready is None:
                all_ready = o.at
        yield from sample("all_ready", all_ready)

        lags = [1000 * (o.at - o.data["started"]) for o in answered.values() if o.data["started"]]
        if lags:
            yield Sample(metric="start_to_answer", value=statistics.median(lags), factors=factors)

        removing = next((o.at for o in facts if o.name == "removing"), None)
        if removing is None:
            return
        limit = limits.get(f"remove {count}")
        asked = next(o for o in facts if o.name == "removing")
        downs: dict[str, float] = {}
        live: set[str] = set()
        none_listed = None
        for o in facts:
            if o.name == "answer" and o.data["kind"] == "down" and o.at >= removing:
                downs.setdefault(o.data["instance"], o.at)
            elif o.name == "instance":
                (live.discard if o.data["state"] == "ended" else live.add)(o.data["id"])
            elif o.name == "gone":
                live.discard(o.data["id"])
            if o.at >= removing and o.name in ("instance", "gone", "removing") and not live and none_listed is None:
                none_listed = o.at
        yield from sample("silent", max(downs.values()) if len(downs) >= len(answered) and downs else None)
        yield from sample("none_listed", none_listed)
