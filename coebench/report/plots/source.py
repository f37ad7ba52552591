"""What plots read: the result, and of a run folder's observations what can be drawn, trial by trial.

The file is read once, line by line: a run's observations may be larger than what one wants to hold. Kinds that aren't known here
are passed over; those that are, are in `coebench/scenarios` (following.py, seconds.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ...contract import Observation
from ...results.model import Result
from ..words import called_in, clean, setting
from . import buckets
from .buckets import Buckets

# What was asked for, and what befell a service: the moments that explain what is seen before and after them, and their names.
MARKS = {
    "requested": "asked",
    "burst": "asked",
    "removing": "remove",
    "draining": "drain",
    "updating": "update",
    "update.asked": "update",
    "update.done": "engine: done",
    "update.back": "back",
    "fault.made": "",
    "fault.healed": "undone",
    "engine.silent": "engine silent",
    "engine.back": "engine back",
}

LIVES = ("life.begin", "life.end", "life.failed", "bay.nodes")


class Load(NamedTuple):
    """One load's end. `about` is what tells it from the trial's other loads; `data` what `LoadResult` holds."""

    at: float
    about: tuple[tuple[str, Any], ...]
    data: Mapping[str, Any]

    @property
    def open(self) -> bool:
        """Whether it had a plan that does not wait for answers."""
        return self.data.get("loop") != "closed"

    @property
    def swept(self) -> bool:
        """Whether it is one of many rates that were tried."""
        return self.data.get("step") in ("curve", "search")

    @property
    def histogram(self) -> Buckets | None:
        return buckets.decode(str(self.data.get("histogram") or ""))


class Second(NamedTuple):
    """One second of one load. `encoded`: its histogram, of latencies from the planned send where there was a plan."""

    at: float
    seconds: float
    phase: str
    about: tuple[tuple[str, Any], ...]
    planned: int
    ok: int
    bad: int  # without a good answer, `unsent` ones included
    unsent: int
    encoded: str

    @property
    def histogram(self) -> Buckets | None:
        return buckets.decode(self.encoded) if self.encoded else None

    @property
    def p99(self) -> float:
        """In ms; NaN where nothing was answered."""
        found = self.histogram
        return found.at((99,))[0] if found else float("nan")


class Event(NamedTuple):
    """What the engine (`instance`, `gone`) or the prober (`answer`) said of an instance of a service."""

    at: float
    name: str
    service: str
    id: str
    kind: str  # an instance's state, an answer's kind
    version: str


class Life(NamedTuple):
    """One fact of a bay that a scenario made itself: a step of its life begins, ends or fails, or how many nodes it has now."""

    at: float
    name: str
    bay: str  # the scenario's own label
    step: str
    nodes: int  # -1 where nothing is said of them


class Moment(NamedTuple):
    at: float
    name: str
    service: str
    data: Mapping[str, Any]


class Trace:
    """One trial as it was recorded, in order of time as far as that was told in order."""

    def __init__(self, trial: str, subject: str, scenario: str, block: int) -> None:
        self.trial, self.subject, self.scenario, self.block = trial, subject, scenario, block
        self.loads: list[Load] = []
        self.seconds: list[Second] = []
        self.events: list[Event] = []
        self.moments: list[Moment] = []
        self.lives: list[Life] = []

    def take(self, o: Observation) -> None:
        """Keep of an observation what a plot may want."""
        data = o.data
        if o.name == "load":
            if not data.get("discarded"):  # sent again, since the service was still warming up
                self.loads.append(Load(o.at, _about(data), data))
        elif o.name == "load.second":
            self.seconds.append(second(o))
        elif o.name in ("instance", "gone", "answer"):
            ident = data.get("id") or data.get("instance") or ""
            kind = data.get("state") or data.get("kind") or ""
            self.events.append(
                Event(o.at, o.name, _text(data.get("service")), _text(ident), _text(kind), _text(data.get("version")))
            )
        elif o.name in LIVES and "label" in data:
            have = data.get("ready" if o.name == "bay.nodes" else "have", -1)
            self.lives.append(Life(o.at, o.name, _text(data["label"]), _text(data.get("step")), int(have)))
        elif o.name in MARKS:
            self.moments.append(Moment(o.at, o.name, _text(data.get("service")), data))


class Source(NamedTuple):
    """`traces`: of trials that came to their end or were ended by a timeout; none if only a result was read."""

    result: Result
    traces: tuple[Trace, ...]
    subjects: tuple[str, ...]  # in the order of the table's columns: their index is their colour
    called: Mapping[str, str]

    def colour(self, subject: str) -> int:
        return self.subjects.index(subject) if subject in self.subjects else -1

    def by_subject(self, scenario: str) -> dict[str, list[Trace]]:
        """Subject → its traces of a scenario, in the order of the columns; only those that there are."""
        out: dict[str, list[Trace]] = defaultdict(list)
        for t in self.traces:
            if t.scenario == scenario:
                out[t.subject].append(t)
        return {s: out[s] for s in self.subjects if out[s]}


def source(result: Result, observations: Iterable[Observation] = ()) -> Source:
    """Read the observations through once."""
    called = called_in(result)
    traces = {t.id: Trace(t.id, t.subject, t.scenario, t.block) for t in result.trials if t.status in ("ok", "timeout", "failed")}
    for o in observations:
        if (trace := traces.get(o.trial)) is not None:
            try:
                trace.take(o)
            except (TypeError, ValueError, AttributeError):
                continue  # a line that somebody has edited costs itself
    return Source(result, tuple(traces.values()), tuple(called), called)


_LOAD_KEYS = ("loop", "rate", "window", "step", "service")


def _about(data: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """What tells a load from the others of its trial."""
    factors = data.get("factors")
    more = factors if isinstance(factors, Mapping) else {}
    found = {k: data[k] for k in _LOAD_KEYS if k in data} | dict(more)
    return tuple((k, v) for k, v in found.items() if isinstance(v, (str, int, float)))


def where(scenario: str, about: Iterable[tuple[str, Any]]) -> str:
    """The same in words; empty if there is nothing to tell."""
    told = {k: v for k, v in about if k not in ("loop", "service", "step") and v}
    if told.keys() - {"window", "rate"}:
        told.pop("window", None)  # what it is made of is told
    service = next((str(v) for k, v in about if k == "service"), "").removeprefix(f"{scenario}-")
    return ", ".join(w for w in (clean(service) if service != scenario else "", setting(told)) if w)


def second(o: Observation) -> Second:
    """A `load.second` as numbers. Raises TypeError, ValueError or AttributeError if it is none."""
    data = o.data
    closed = data.get("loop") == "closed"
    return Second(
        at=o.at,
        seconds=float(data.get("seconds") or 1.0),
        phase=_text(data.get("phase")),
        about=_about(data),
        planned=int(data.get("planned") or 0),
        ok=int(data.get("ok") or 0),
        bad=sum(int(n) for n in (data.get("errors") or {}).values()) + int(data.get("unsent") or 0),
        unsent=int(data.get("unsent") or 0),
        encoded=str((data.get("raw") if closed else data.get("latency")) or ""),
    )


def _text(value: object) -> str:
    return "" if value is None else clean(value)
