"""Does an engine stay as quick, and as small, while services come and go for minutes?"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import msgspec

from ..contract import ENGINE, BadInput, Better, Capability, Metric, Observation, Room, Sample, ServiceSpec, Trial, Unsupported
from . import checks, facts
from .crowd import Crowd, said

MIB = 1 << 20
WORKERS = 16  # requests under way at one time, at most; a planned one that finds none free is late, and that is counted
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"rate": 1.0, "seconds": 6, "life": 4, "instances": 1, "timeout": 60},
    "default": {"rate": 1.0, "seconds": 30, "life": 6, "instances": 1, "timeout": 120},
    "full": {"rate": 1.0, "seconds": 90, "life": 10, "instances": 1, "timeout": 300},
}


class Churn:
    """At a steady rate, a service is created, and the one that was created `life` seconds before is removed; at planned times,
    whether the engine keeps up or not."""

    name: ClassVar[str] = "churn"
    question: ClassVar[str] = "Does the engine stay as quick and as small while services come and go for minutes?"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.ENDPOINTS})
    spoils: ClassVar[bool] = True  # hundreds of services have come and gone
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="start_p50",
            unit="s",
            better=Better.LOWER,
            title="a service answers, p50",
            definition="The median, over all services created, of the time from the planned moment of its creation until all of "
            "its instances had answered.",
        ),
        Metric(
            name="start_p90",
            unit="s",
            better=Better.LOWER,
            title="a service answers, p90",
            definition="The 90th percentile of the same, where there are 10 services or more.",
        ),
        Metric(
            name="silent_p50",
            unit="s",
            better=Better.LOWER,
            title="a service is silent, p50",
            definition="The median of the time from the planned moment of a service's removal until none of its instances "
            "answered.",
        ),
        Metric(
            name="accepted_p50",
            unit="ms",
            better=Better.LOWER,
            title="creation accepted, p50",
            definition="The median of the time from sending a creation until the engine's API had answered it.",
        ),
        Metric(
            name="start_drift",
            unit="1",
            better=Better.LOWER,
            title="drift of the start",
            definition="The median start of the last third of the services, divided by that of the first third; 1 is no drift.",
        ),
        Metric(
            name="accepted_drift",
            unit="1",
            better=Better.LOWER,
            title="drift of the acceptance",
            definition="The median time until accepted of the last third of the services, divided by that of the first third.",
        ),
        Metric(
            name="missed",
            unit="%",
            better=Better.LOWER,
            title="never answered in their life",
            definition="Services that were removed before all of their instances had answered, in per cent of those created.",
        ),
        Metric(
            name="memory_growth",
            unit="KiB",
            better=Better.LOWER,
            title="memory kept, by service",
            definition="Anonymous memory of the engine's processes on all hosts after the end, when nothing is listed any more, "
            "less that before the beginning, divided by the number of services created; 0 where it shrank.",
        ),
        Metric(
            name="leftovers",
            unit="1",
            better=Better.LOWER,
            title="left behind",
            definition="Services and instances that the engine still lists, and processes that its nodes still have beyond those "
            "before the beginning, when the time allowed for the end is over.",
        ),
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        checks.number(self.name, settings, "rate", 0.01, 100)
        checks.number(self.name, settings, "seconds", 1, 86400)
        checks.number(self.name, settings, "life", 0.1, 3600)
        checks.whole(self.name, settings, "instances", 1, 1000)
        checks.number(self.name, settings, "timeout", 1, 86400)
        if settings["rate"] * settings["seconds"] < 3:
            made = settings["rate"] * settings["seconds"]
            raise BadInput(f"churn: {settings['rate']:g}/s for {settings['seconds']:g} s are {made:g} services; drift takes 3")

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        alive = math.ceil(settings["rate"] * settings["life"]) + 1
        return (Room(instances=alive * settings["instances"], cpu=spec.cpu, memory=spec.memory),)

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        return float(settings["seconds"] + settings["life"])

    def run(self, trial: Trial) -> None:
        s, driver = trial.settings, trial.driver
        usage = self._usage(trial, "before")
        spec = msgspec.structs.replace(trial.workload.service("churn", s["instances"], trial.workload.versions[0]), health=None)
        planned: deque[tuple[float, str, str]] = deque()
        for k in range(int(s["rate"] * s["seconds"])):
            planned.append((k / s["rate"], "create", f"churn-{k}"))
            planned.append((k / s["rate"] + s["life"], "remove", f"churn-{k}"))
        planned = deque(sorted(planned))
        names = {name for _, _, name in planned}

        def act(what: str, name: str) -> None:
            trial.observe(f"churn.{what}.sent", service=name)
            if what == "create":
                driver.deploy(msgspec.structs.replace(spec, name=name))
            else:
                driver.remove(name)
            trial.observe(f"churn.{what}.accepted", service=name)

        trial.observe("churn.plan", services=len(names), life=s["life"], instances=s["instances"])
        with (
            trial.phase("churn", s["seconds"] + s["life"] + s["timeout"]) as deadline,
            Crowd(trial) as crowd,
            ThreadPoolExecutor(WORKERS) as pool,
        ):
            zero = time.monotonic()
            sent: list[Any] = []
            removed: set[str] = set()
            while planned:
                at, what, name = planned[0]
                if (left := zero + at - time.monotonic()) > 0:
                    deadline.left()
                    crowd.step(min(left, 0.5))
                    continue
                planned.popleft()
                if what == "create":
                    crowd.follow(name)
                else:
                    removed.add(name)
                trial.observe(f"churn.{what}", service=name, late=time.monotonic() - zero - at)
                sent.append(pool.submit(act, what, name))
                for gone in [n for n in removed if n in crowd.services and _over(crowd, n)]:
                    crowd.leave(gone)
                for done in [f for f in sent if f.done()]:
                    done.result()
                    sent.remove(done)
            for f in sent:
                f.result()

            def over() -> bool:
                return all(_over(crowd, n) for n in crowd.services)

            crowd.until(over, deadline, lambda: "; ".join(said(f) for f in crowd.services.values() if not _over(crowd, f.name)))
        self._leftovers(trial, names, usage)

    def _usage(self, trial: Trial, when: str) -> dict[str, int] | None:
        """Processes of the engine by host; None, and said, where the provisioner can't look."""
        try:
            usage = trial.usage()
        except Unsupported as e:
            trial.observe("warning", text=f"churn: memory and processes are not looked at: {e}")
            return None
        trial.observe("usage", when=when, usage=[msgspec.to_builtins(u) for u in usage])
        return {u.host: u.processes for u in usage if u.what == ENGINE}

    def _leftovers(self, trial: Trial, names: set[str], before: dict[str, int] | None) -> None:
        """What is still there, after the engine had a few seconds to take it away."""
        end = time.monotonic() + min(10.0, trial.settings["timeout"])
        with Crowd(trial) as crowd:
            while True:
                services = sorted(names & set(trial.driver.services()))
                instances = [i.id for n in names for i in trial.driver.instances(n) if i.state.value != "ended"]
                more = {}
                if before is not None:
                    now = {u.host: u.processes for u in trial.usage() if u.what == ENGINE}
                    more = {h: n - before.get(h, n) for h, n in now.items() if n > before.get(h, n)}
                if not (services or instances or more) or time.monotonic() > end:
                    break
                crowd.rest(0.5)
        self._usage(trial, "after")
        trial.observe("leftovers", services=services, instances=instances, processes=more)

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        starts: list[float] = []
        accepts: list[float] = []
        silents: list[float] = []
        created = missed = 0
        plan: Mapping[str, Any] = next((o.data for o in observations if o.name == "churn.plan"), {"life": None, "instances": 1})
        stories = facts.by_service(observations)
        born = {n: next((o.at for o in story if o.name == "churn.create"), None) for n, story in stories.items()}
        for name in sorted((n for n in born if born[n] is not None), key=lambda n: born[n] or 0.0):
            story = stories[name]
            at = {o.name: o.at for o in story if o.name.startswith("churn.")}
            planned = {o.name: o.at - o.data["late"] for o in story if o.name in ("churn.create", "churn.remove")}
            if "churn.remove" not in at:
                continue  # the trial ended before its life did
            created += 1
            answered: set[str] = set()
            start = None
            for o in story:
                if o.name == "answer" and o.data["kind"] in ("up", "changed"):
                    answered.add(o.data["instance"])
                    if len(answered) >= plan["instances"] and start is None:
                        start = o.at
            if start is None or start > at["churn.remove"]:
                missed += 1
                starts.append(math.inf)  # longer than its life
            else:
                starts.append(start - planned["churn.create"])
            if {"churn.create.sent", "churn.create.accepted"} <= at.keys():
                accepts.append(1000 * (at["churn.create.accepted"] - at["churn.create.sent"]))
            if start is not None:
                silent = facts.first(story, at["churn.remove"], math.inf, lambda s: not s.speaking)
                if silent is not None:
                    silents.append(silent - planned["churn.remove"])
        if not created:
            return
        yield from facts.percentiles("start", starts, (50, 90), {}, plan["life"])
        yield from facts.percentiles("silent", silents, (50,), {})
        yield from facts.percentiles("accepted", accepts, (50,), {})
        for name, values in (("start_drift", starts), ("accepted_drift", accepts)):
            if (drift := _drift(values)) is not None:
                yield Sample(metric=name, value=drift)
        yield Sample(metric="missed", value=100 * missed / created)
        memory = {o.data["when"]: _memory(o.data["usage"]) for o in observations if o.name == "usage"}
        if {"before", "after"} <= memory.keys():
            yield Sample(metric="memory_growth", value=max(0.0, memory["after"] - memory["before"]) / 1024 / created)
        for o in observations:
            if o.name == "leftovers":
                left = len(o.data["services"]) + len(o.data["instances"]) + sum(o.data["processes"].values())
                yield Sample(metric="leftovers", value=left)


def _over(crowd: Crowd, name: str) -> bool:
    """Whether a service was removed and nothing of it speaks or is listed."""
    f = crowd.services[name]
    return not f.speaking and not f.listed


def _drift(values: Sequence[float]) -> float | None:
    """The last third's median over the first third's; None where that can't be had."""
    third = len(values) // 3
    if not third:
        return None
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    return last / first if math.isfinite(first) and math.isfinite(last) and first > 0 else None


def _memory(usage: Sequence[Mapping[str, Any]]) -> float:
    return float(sum(u["memory"] for u in usage if u["what"] == ENGINE))
