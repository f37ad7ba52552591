"""How long does each operation on a service take, alone and several at once?"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar, NamedTuple

import msgspec

from ..contract import (
    BadInput,
    Better,
    Capability,
    Driver,
    Metric,
    Observation,
    Room,
    Sample,
    ServiceSpec,
    Strategy,
    Support,
    Trial,
    Unsupported,
)
from . import checks, facts
from .crowd import Crowd, said
from .timing import PAUSE, START

OPERATIONS = ("create", "scale up", "scale down", "update image", "update cpu", "update memory", "restart", "delete")
REPLACING = ("update image", "update cpu", "update memory", "restart")
REMOVING = (*REPLACING, "scale down", "delete")
LEAST, MOST = 0.0, 1.0  # seconds of the pause before a removal; the kubelet looks at its containers once a second
GROWN = 1.5  # of what is reserved, after an update of it: a bay that is full of services still has room for one
COMMON: Mapping[str, Any] = {"operations": "all", "surge": 25}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"instances": [2], "concurrency": [1, 2], "grid": "whole", "timeout": 60, **COMMON},
    "default": {"instances": [1, 10], "concurrency": [1, 2], "grid": "whole", "timeout": 120, **COMMON},
    "full": {"instances": [1, 10, 50], "concurrency": [1, 2, 4, 20], "grid": "edges", "timeout": 600, **COMMON},
}


def _metric(name: str, title: str, definition: str, **more: Any) -> Metric:
    return Metric(name=name, unit="s", better=Better.LOWER, title=title, definition=definition, **more)


class Operations:
    """For each number of instances N and of services C: C services of N instances, all created, changed and removed at the
    same time, one operation after the other."""

    name: ClassVar[str] = "operations"
    question: ClassVar[str] = "How long does each operation on a service take, alone and several at once?"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.ENDPOINTS})
    metrics: ClassVar[tuple[Metric, ...]] = (
        _metric(
            "seen",
            "seen done",
            "Median over the C services: from sending the request until it was seen to be done. Created or scaled up: as many "
            "instances answer as were asked for. Scaled down: no more answer than were asked for. Updated or restarted: as many "
            "others answer as before, with the version that was asked for, and none of the old. Deleted: none answers.",
        ),
        _metric(
            "claimed",
            "engine says: done",
            "Median over the C services: from sending the request until the engine's own stream called as many instances "
            "ready as were asked for (of the new ones, where they are replaced) and listed no others, ended ones aside.",
            claim_of="seen",
        ),
        _metric("accepted", "request accepted", "Median over the C services: until the engine's API had answered the request."),
        _metric("seen_min", "seen done, first", "The shortest of the C services' times until seen done, where C > 1."),
        _metric(
            "seen_p95",
            "seen done, p95",
            "The 95th percentile of the C services' times until seen done, where C is 20 or more.",
        ),
        _metric("seen_max", "seen done, last", "The longest of the C services' times until seen done, where C > 1."),
        Metric(
            name="timed_out",
            unit="1",
            better=Better.LOWER,
            title="timed out",
            definition="How many of the C operations were not seen to be done in the time allowed.",
        ),
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        checks.numbers(self.name, settings, "instances", 1, 1000)
        checks.numbers(self.name, settings, "concurrency", 1, 64)
        if settings["grid"] not in ("whole", "edges"):
            raise BadInput(f'operations: \'grid\' is "whole" or "edges", not {settings["grid"]!r}')
        checks.number(self.name, settings, "surge", 0, 100)
        checks.number(self.name, settings, "timeout", 1, 86400)
        asked = _asked(settings)
        if not isinstance(asked, list) or not asked or not all(a in OPERATIONS for a in asked):
            raise BadInput(f"operations: 'operations' is \"all\" or a list out of {', '.join(OPERATIONS)}; not {asked!r}")
        if "scale down" in asked and "scale up" not in asked:
            raise BadInput("operations: 'scale down' undoes 'scale up', which has to be in 'operations' too")

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        """All services scaled up; all with the surge of an update, the CPU and the memory of each grown."""
        asked = _asked(settings)
        scaled, surging = [], []
        for count, services in cells(settings):
            scaled.append(services * (_more(count) if "scale up" in asked else count))
            size = count if "scale down" in asked or "scale up" not in asked else _more(count)
            surging.append(services * (size + _surge(count, settings["surge"]).surge))
        return (
            Room(instances=max(scaled), cpu=spec.cpu, memory=spec.memory),
            Room(instances=max(surging), cpu=round(GROWN * spec.cpu, 3), memory=int(GROWN * spec.memory)),
        )

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        """A start for all but what takes instances away, a pause before all that does."""
        asked = {"create", "delete", *_asked(settings)}
        each = sum(PAUSE * (o in REMOVING) + START * (o not in ("scale down", "delete")) for o in asked)
        return float(len(cells(settings)) * each)

    def run(self, trial: Trial) -> None:
        rng = random.Random(trial.seed)
        asked = self._possible(trial)
        for count, services in cells(trial.settings):
            self._story(trial, rng, asked, count, services)

    def _possible(self, trial: Trial) -> list[str]:
        """What was asked for, without what the COE has not. Raises Unsupported where nothing is left."""
        asked = list(_asked(trial.settings))
        updating = trial.driver.capabilities().get(Capability.UPDATE, Support(False, "its driver does not say"))
        lacking = [o for o in asked if o in REPLACING and not updating.ok]
        if lacking == asked:
            raise Unsupported(", ".join(lacking), updating.reason)
        if lacking:
            said = f"{trial.driver.title}: {', '.join(lacking)} were not measured: {updating.reason}"
            trial.observe("operations.refused", operations=lacking, reason=updating.reason)
            trial.observe("warning", text=said)
        return [o for o in asked if o not in lacking]

    def _story(self, trial: Trial, rng: random.Random, asked: Sequence[str], count: int, services: int) -> None:
        """All operations on `services` services of `count` instances. Create and delete are always done."""
        strategy = _surge(count, trial.settings["surge"])
        names = [f"op-{count}x{services}-{k}" for k in range(services)]
        first = trial.workload.service(names[0], count, trial.workload.versions[0])
        spec = msgspec.structs.replace(first, health=None)
        driver = trial.driver
        with Crowd(trial) as crowd:
            crowd.follow(*names)

            def every(operation: str, target: int, call: Callable[[str], None]) -> None:
                self._every(trial, crowd, rng, operation, names, target, count, call, spec.version)

            every("create", count, lambda n: driver.deploy(msgspec.structs.replace(spec, name=n)))
            size = count
            if "scale up" in asked:
                size = _more(count)
                every("scale up", size, lambda n: driver.scale(n, _more(count)))
            if "scale down" in asked:
                size = count
                every("scale down", size, lambda n: driver.scale(n, count))
            version = trial.workload.versions[1]
            for operation, change in (
                ("update image", {"image": f"{trial.workload.image}:{version}", "version": version}),
                ("update cpu", {"cpu": round(GROWN * spec.cpu, 3)}),
                ("update memory", {"memory": int(GROWN * spec.memory)}),
                ("restart", {"env": {**spec.env, "COEBENCH_RESTART": "1"}}),
            ):
                if operation in asked:
                    spec = msgspec.structs.replace(spec, **change)
                    every(operation, size, partial(_update, driver, spec, strategy))
            every("delete", 0, driver.remove)

    def _every(
        self,
        trial: Trial,
        crowd: Crowd,
        rng: random.Random,
        operation: str,
        names: Sequence[str],
        target: int,
        count: int,
        call: Callable[[str], None],
        version: str,
    ) -> None:
        """One operation on all services at the same time; returns when it is seen, and said, to be done on all."""
        if operation in REMOVING:
            crowd.rest(rng.uniform(LEAST, MOST))
        old = {n: set(crowd.services[n].speaking) for n in names}
        barrier = threading.Barrier(len(names))

        def ask(name: str) -> None:
            barrier.wait()
            trial.observe(
                "operation",
                service=name,
                operation=operation,
                instances=count,
                concurrency=len(names),
                target=target,
                phase=phase,
                old=sorted(old[name]),
                version=version,
            )
            call(name)
            trial.observe("operation.accepted", service=name, operation=operation)

        phase = f"{operation} {count}x{len(names)}"
        with trial.phase(phase, trial.settings["timeout"]) as deadline, ThreadPoolExecutor(len(names)) as pool:
            asked = [pool.submit(ask, n) for n in names]

            def done(name: str) -> bool:
                f = crowd.services[name]
                gone = old[name] if operation in REPLACING else set()
                seen = _seen(operation, target, old[name], f.speaking, version)
                return seen and _claimed(operation, target, gone, f.ready, set(f.listed))

            def fact() -> bool:
                for a in asked:
                    if a.done():
                        a.result()  # a refusal ends the trial at once
                return all(a.done() for a in asked) and all(done(n) for n in names)

            def waiting() -> str:
                return "; ".join(said(crowd.services[n]) for n in names if not done(n))

            crowd.until(fact, deadline, waiting, () if target == 0 else names)

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        limits = facts.limits(observations)
        cells: dict[tuple[str, int, int], list[_Times]] = {}
        for story in facts.by_service(observations).values():
            marks = [o for o in story if o.name == "operation"]
            for mark, end in zip(marks, [*(o.at for o in marks[1:]), math.inf], strict=True):
                d = mark.data
                cell = (d["operation"], d["instances"], d["concurrency"])
                cells.setdefault(cell, []).append(_times(story, mark, end, limits.get(d["phase"])))
        for (operation, count, services), times in cells.items():
            yield from _cell(times, {"operation": operation, "instances": count, "concurrency": services})


class _Times(NamedTuple):
    """Of one operation on one service, in seconds since it was sent; infinite where it did not come."""

    accepted: float
    seen: float
    claimed: float
    limit: float | None  # set where its phase ran into its limit


def _times(story: Sequence[Observation], mark: Observation, end: float, limit: float | None) -> _Times:
    d = mark.data
    operation, target, old = d["operation"], d["target"], set(d["old"])
    gone = old if operation in REPLACING else set()
    accepted = next((o.at for o in story if o.name == "operation.accepted" and mark.at <= o.at < end), None)
    seen = facts.first(story, mark.at, end, lambda s: _seen(operation, target, old, s.speaking, d.get("version")))
    claimed = facts.first(story, mark.at, end, lambda s: _claimed(operation, target, gone, s.ready(), set(s.listed)))
    accepted, seen, claimed = (math.inf if at is None else at - mark.at for at in (accepted, seen, claimed))
    return _Times(accepted, seen, claimed, limit)


def _cell(times: Sequence[_Times], factors: Mapping[str, str | int | float]) -> Iterable[Sample]:
    limit = next((t.limit for t in times if t.limit is not None), None)
    if accepted := [t.accepted for t in times if math.isfinite(t.accepted)]:
        yield Sample(metric="accepted", value=facts.percentile(accepted, 50), factors=factors)
    seen = [t.seen for t in times]
    late = sum(map(math.isinf, seen))
    wanted: list[tuple[str, list[float], float]] = [("seen", seen, 50), ("claimed", [t.claimed for t in times], 50)]
    if len(seen) > 1:
        wanted += [("seen_min", seen, 0), ("seen_max", seen, 100)]
    if facts.enough(len(seen), 95):
        wanted.append(("seen_p95", seen, 95))
    for metric, values, q in wanted:
        value = facts.percentile(values, q)
        if math.isfinite(value):
            yield Sample(metric=metric, value=value, factors=factors)
        elif limit is not None:  # else the trial ended otherwise, and nothing is known of it
            yield Sample(metric=metric, value=limit, censored=True, factors=factors)
    if limit is not None or not late:
        yield Sample(metric="timed_out", value=late, factors=factors)


def _update(driver: Driver, spec: ServiceSpec, strategy: Strategy, name: str) -> None:
    driver.update(msgspec.structs.replace(spec, name=name), strategy)


def _asked(settings: Mapping[str, Any]) -> Any:
    """The operations that are asked for; create and delete are done in any case."""
    return list(OPERATIONS) if settings["operations"] == "all" else settings["operations"]


def cells(settings: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Each number of instances with each of services; of a grid's edges, only those in which one of the two is its least."""
    instances, services = settings["instances"], settings["concurrency"]
    every = [(n, c) for n in instances for c in services]
    return [(n, c) for n, c in every if settings["grid"] == "whole" or n == min(instances) or c == min(services)]


def _more(count: int) -> int:
    return 2 * count


def _surge(count: int, percent: float) -> Strategy:
    """How a rolling update goes: so many per cent of the instances more, one at least, and none fewer."""
    return Strategy(surge=max(1, math.ceil(count * percent / 100)), unavailable=0)


def _seen(operation: str, target: int, old: set[str], speaking: Mapping[str, str], version: str | None) -> bool:
    """What a client sees when an operation is done. `version`: what was asked for; runs of before it was recorded have none.

    Of a new reservation, or a new variable, a client sees nothing: that others answer than before is all there is to see.
    """
    if operation in REPLACING:
        right = sum(version is None or v == version for v in speaking.values())
        return right >= target and not old & set(speaking)
    if operation in ("scale down", "delete"):
        return len(speaking) <= target
    return len(speaking) >= target


def _claimed(operation: str, target: int, gone: set[str], ready: set[str], listed: set[str]) -> bool:
    """What the engine lists when it holds that an operation is done."""
    if operation == "delete":
        return not listed
    return len(ready - gone) >= target and len(listed) == target and not gone & listed
