"""What scenarios derive alike: the story of a service from its observations, and percentiles that can be had."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..contract import Observation, Sample

SIGHT = ("answer", "instance", "gone")


@dataclass
class State:
    """What was known of a service at one moment.

    `speaking`: instance → the version that it last answered with. `listed`: instance → the engine's state of it, ended ones
    left out. `nodes`: instance → where the engine has it.
    """

    speaking: dict[str, str] = field(default_factory=dict)
    listed: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)

    def take(self, o: Observation) -> None:
        d = o.data
        if o.name == "answer":
            if d["kind"] in ("up", "changed") and d.get("instance"):
                self.speaking[d["instance"]] = str(d.get("version") or "")
            elif d["kind"] == "down":
                self.speaking.pop(str(d.get("instance")), None)
        elif o.name == "gone" or (o.name == "instance" and d["state"] == "ended"):
            self.listed.pop(d["id"], None)
        elif o.name == "instance":
            self.listed[d["id"]] = d["state"]
            if d.get("node"):
                self.nodes[d["id"]] = d["node"]

    def ready(self) -> set[str]:
        return {i for i, state in self.listed.items() if state == "ready"}


def by_service(observations: Iterable[Observation]) -> dict[str, list[Observation]]:
    """Service → its observations in the order of their times; the record has them as they were told."""
    found: dict[str, list[Observation]] = {}
    for o in observations:
        if service := o.data.get("service"):
            found.setdefault(service, []).append(o)
    return {service: sorted(facts, key=lambda o: o.at) for service, facts in found.items()}


def replay(facts: Sequence[Observation]) -> Iterator[tuple[Observation, State]]:
    """Each observation of a service with what is known after it; the state is one object, changed as it goes."""
    state = State()
    for o in facts:
        if o.name in SIGHT:
            state.take(o)
        yield o, state


def limits(observations: Iterable[Observation]) -> dict[str, float]:
    """Phase → its limit in seconds, of phases that ran into it."""
    return {o.data["phase"]: o.data["seconds"] for o in observations if o.name == "phase.timeout"}


def percentile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least q per cent of all are not above: one that was seen, never one between two."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q / 100 * len(ordered)) - 1)]


def enough(n: int, q: float) -> bool:
    """Whether n values have a q-th percentile that is not their least or greatest: p99 takes 100 of them, p10 takes 10."""
    return n * min(q, 100 - q) >= 100


def percentiles(
    prefix: str,
    values: Sequence[float],
    qs: Sequence[float],
    factors: Mapping[str, str | int | float],
    limit: float | None = None,
) -> Iterator[Sample]:
    """Samples PREFIX_p10, …: those that `values` can tell. Infinite values had not come within `limit`: censored there."""
    for q in qs:
        if values and (q == 50 or enough(len(values), q)):
            value = percentile(values, q)
            late = math.isinf(value)
            if late and limit is None:
                continue
            yield Sample(metric=f"{prefix}_p{q:g}", value=limit if late and limit else value, censored=late, factors=factors)


def first(facts: Sequence[Observation], since: float, until: float, fact: Callable[[State], bool]) -> float | None:
    """When `fact` was first true in [since, until); what was known before counts."""
    state = State()
    index = 0
    while index < len(facts) and facts[index].at < since:
        if facts[index].name in SIGHT:
            state.take(facts[index])
        index += 1
    if fact(state):
        return since
    for o in facts[index:]:
        if o.at >= until:
            return None
        if o.name in SIGHT:
            state.take(o)
            if fact(state):
                return o.at
    return None
