"""How long from asking for a service until a client gets an answer from it?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from ..contract import BadInput, Better, Capability, Metric, Observation, Sample, Trial
from .following import Following, until_answering

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"instances": [3], "health": False, "timeout": 60},
    "default": {"instances": [1, 10], "health": False, "timeout": 120},
    "full": {"instances": [1, 10, 30], "health": False, "timeout": 300},
}


class Deploy:
    """For each number N: a service of N instances is asked for, seen to answer, and removed again. Images are on all nodes
    beforehand."""

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
            name="sight",
            unit="ms",
            better=Better.NEITHER,
            title="seen after its first moment",
            definition="Median over instances: from the first moment at which a client could have had an answer (the later of "
            "the instance's own start and the engine's telling its address) to the prober's having it.",
        ),
        Metric(
            name="gone",
            unit="s",
            better=Better.LOWER,
            title="removed",
            definition="From asking for the removal of the service until the engine lists no live instance of it.",
        ),
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        counts = settings["instances"]
        if not isinstance(counts, list) or not counts or not all(isinstance(n, int) and 0 < n <= 1000 for n in counts):
            raise BadInput(f"deploy: 'instances' is a list of numbers from 1 to 1000, not {counts!r}")

    def run(self, trial: Trial) -> None:
        for count in trial.settings["instances"]:
            name = f"deploy-{count}"
            spec = trial.workload.service(name, count, trial.workload.versions[0])
            if not trial.settings["health"]:
                spec = msgspec.structs.replace(spec, health=None)
            with trial.phase(f"deploy {count}", trial.settings["timeout"]) as deadline, Following(trial, name) as following:
                trial.observe("requested", service=name, instances=count)
                trial.driver.deploy(spec)
                trial.observe("accepted", service=name)
                until_answering(following, count, deadline)
            with trial.phase(f"remove {count}", trial.settings["timeout"]):
                trial.observe("removing", service=name, instances=count)
                trial.remove(name)
                trial.observe("removed", service=name)

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
        told: dict[str, float] = {}
        for o in facts:
            if o.name == "instance":
                (ready.add if o.data["state"] == "ready" else ready.discard)(o.data["id"])
                if o.data["address"] and o.data["port"]:
                    told.setdefault(o.data["id"], o.at)
            if len(ready) >= count and all_ready is None:
                all_ready = o.at
        yield from sample("all_ready", all_ready)

        lags = sorted(
            1000 * (o.at - max(o.data["started"], told[i])) for i, o in answered.items() if o.data["started"] and i in told
        )
        if lags:
            middle = len(lags) // 2
            median = lags[middle] if len(lags) % 2 else (lags[middle - 1] + lags[middle]) / 2
            yield Sample(metric="sight", value=median, factors=factors)
        removing = next((o.at for o in facts if o.name == "removing"), None)
        removed = next((o.at for o in facts if o.name == "removed"), None)
        if removing is not None and removed is not None:
            yield Sample(metric="gone", value=removed - removing, factors=factors)
