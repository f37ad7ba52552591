"""How does a bay's fullness change how soon an instance starts, and how soon instances are listed?"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from ..contract import BadInput, Better, Capability, Metric, Observation, Room, Sample, ServiceSpec, Trial
from . import checks, facts
from .crowd import Crowd, Followed, gone, saying
from .timing import PAUSE, START, lister, timed

FILLER = "fill"
STARTS, LISTS = (10, 50, 90, 99, 100), (10, 50, 90, 99)
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"levels": [50, 100], "per_node": 2, "spare_cpu": 0.15, "starts": 2, "lists": 20, "timeout": 60},
    "default": {"levels": [10, 50, 90, 100], "per_node": 10, "spare_cpu": 0.15, "starts": 3, "lists": 100, "timeout": 120},
    "full": {"levels": [10, 50, 90, 99, 100], "per_node": 20, "spare_cpu": 0.15, "starts": 5, "lists": 100, "timeout": 300},
}


def _title(q: int) -> str:
    return "longest" if q == 100 else f"p{q}"


def _what(q: int) -> str:
    return "The longest" if q == 100 else "The median" if q == 50 else f"The {q}th percentile"


class Fill:
    """A service fills the bay to each level in turn; at each, single instances of the same size are started and removed, one
    after the other, and the filler's instances are listed."""

    name: ClassVar[str] = "fill"
    question: ClassVar[str] = "How do start and listing change with how full the bay is?"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.ENDPOINTS, Capability.RESERVE})
    metrics: ClassVar[tuple[Metric, ...]] = (
        *(
            Metric(
                name=f"start_p{q}",
                unit="s",
                better=Better.LOWER,
                title=f"one instance starts, {_title(q)}",
                definition=f"{_what(q)} of the times from asking for a service of one instance until the prober has its first "
                "good answer, with the bay at that level when it has started. p10 and p90 are given from 10 starts on, p99 from "
                "100.",
            )
            for q in STARTS
        ),
        Metric(
            name="ready_p50",
            unit="s",
            better=Better.LOWER,
            title="engine says: it is ready",
            definition="The median of the times until the engine's own stream called that one instance ready.",
            claim_of="start_p50",
        ),
        *(
            Metric(
                name=f"list_p{q}",
                unit="ms",
                better=Better.LOWER,
                title=f"instances are listed, {_title(q)}",
                definition=f"{_what(q)} of the times that the engine's API takes for the list of all of the filler's instances, "
                "asked for one after the other.",
            )
            for q in LISTS
        ),
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        checks.numbers(self.name, settings, "levels", 1, 100)
        if settings["levels"] != sorted(settings["levels"]):
            raise BadInput(f"fill: 'levels' rise, they can't be {settings['levels']!r}")
        for name, least, most in (("per_node", 1, 1000), ("starts", 1, 1000), ("lists", 1, 10000)):
            checks.whole(self.name, settings, name, least, most)
        checks.number(self.name, settings, "spare_cpu", 0, 1000)
        checks.number(self.name, settings, "timeout", 1, 86400)

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        """Processor time is cut to measure; what can lack is memory, and an engine's own limit."""
        return (Room(instances=settings["per_node"], cpu=0.0, memory=spec.memory, each_node=True),)

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        return float(len(settings["levels"]) * (START + settings["starts"] * (START + PAUSE)))

    def run(self, trial: Trial) -> None:
        s, rng, driver = trial.settings, random.Random(trial.seed), trial.driver
        nodes = [n for n in driver.nodes() if n.ready and n.schedulable]
        cpu = math.floor(1000 * (min(n.cpu for n in nodes) - s["spare_cpu"]) / s["per_node"]) / 1000
        if cpu < 0.001:
            raise BadInput(f"fill: {s['per_node']} instances a node are too many for nodes of {nodes[0].cpu:g} cores")
        capacity = s["per_node"] * len(nodes)
        spec = trial.workload.service(FILLER, 1, trial.workload.versions[0])
        spec = msgspec.structs.replace(spec, health=None, cpu=cpu)
        trial.observe("fill.capacity", instances=capacity, nodes=len(nodes), cpu=cpu)
        with Crowd(trial) as crowd:
            crowd.follow(FILLER)
            filled = 0
            for level in s["levels"]:
                target = max(1, round(capacity * level / 100) - 1)  # the one that is measured is the last
                with trial.phase(f"fill {level}", s["timeout"]) as deadline:
                    if not filled:
                        driver.deploy(msgspec.structs.replace(spec, instances=target))
                    elif target != filled:
                        driver.scale(FILLER, target)
                    filled = target
                    filler = crowd.services[FILLER]
                    # the prober sees each of them once, then they are let be
                    crowd.until(_full(filler, target), deadline, saying(filler), [FILLER])
                    crowd.hush(FILLER)
                trial.observe("fill.level", level=level, instances=filled)
                for k in range(s["starts"]):
                    self._start(trial, crowd, rng, spec, level, k)
                trial.observe("fill.listed", level=level, instances=filled, seconds=timed(lister(trial, FILLER), s["lists"]))
            with trial.phase("remove", s["timeout"]):
                trial.remove(FILLER)

    def _start(self, trial: Trial, crowd: Crowd, rng: random.Random, spec: ServiceSpec, level: int, k: int) -> None:
        """One more instance: started, seen, and removed after a while that is drawn, for the kubelet works by the second."""
        name = f"fill-{level}-{k}"
        crowd.follow(name)
        one = crowd.services[name]
        with trial.phase(f"start at {level}", trial.settings["timeout"]) as deadline:
            trial.observe("fill.start", service=name, level=level)
            trial.driver.deploy(msgspec.structs.replace(spec, name=name, instances=1))
            crowd.until(lambda: bool(one.speaking and one.ready), deadline, saying(one), [name])
        crowd.rest(rng.random())
        with trial.phase(f"end at {level}", trial.settings["timeout"]) as deadline:
            trial.driver.remove(name)
            crowd.until(gone(one), deadline, saying(one))
        crowd.leave(name)

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        limits = facts.limits(observations)
        starts: dict[int, list[float]] = {}
        ready: dict[int, list[float]] = {}
        for story in facts.by_service(observations).values():
            asked = next((o for o in story if o.name == "fill.start"), None)
            if asked is None:
                continue
            level = asked.data["level"]
            seen = facts.first(story, asked.at, math.inf, lambda s: bool(s.speaking))
            said = facts.first(story, asked.at, math.inf, lambda s: bool(s.ready()))
            if seen is not None or f"start at {level}" in limits:
                starts.setdefault(level, []).append(math.inf if seen is None else seen - asked.at)
            if said is not None:
                ready.setdefault(level, []).append(said - asked.at)
        for level, times in starts.items():
            factors = {"full": f"{level} %"}
            limit = limits.get(f"start at {level}")
            yield from facts.percentiles("start", times, [q for q in STARTS if q < 100], factors, limit)
            if len(times) > 1 and not math.isinf(max(times)):
                yield Sample(metric="start_p100", value=max(times), factors=factors)
            if ready.get(level):
                yield Sample(metric="ready_p50", value=facts.percentile(ready[level], 50), factors=factors)
        for o in observations:
            if o.name == "fill.listed":
                times = [1000 * t for t in o.data["seconds"]]
                yield from facts.percentiles("list", times, LISTS, {"full": f"{o.data['level']} %"})


def _full(filler: Followed, target: int) -> Callable[[], bool]:
    """Whether the engine calls so many ready and lists no others. Those hushed at an earlier level are not asked again."""
    return lambda: len(filler.ready) == len(filler.listed) == target
