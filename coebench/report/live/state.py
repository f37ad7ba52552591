"""What is known of a run under way, for whoever shows it. Written by the hooks, read from other threads."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from msgspec import structs

from ...contract import Observation, now
from ...hooks import Outcome, TrialInfo, hookimpl
from ...results.model import BayResult, Result, RunInfo, ScenarioInfo, TrialResult
from ..plots.source import LIVES, MARKS, Source, Trace, second, source
from ..words import clean, names

KEPT = 120  # seconds of load that are shown of a subject
BOUNDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds


class Beat(NamedTuple):
    """One second of load. Rates by second, latencies in ms (NaN: nothing was answered)."""

    at: float
    loop: str
    good: float
    bad: float
    p50: float
    p99: float


def beat(o: Observation) -> Beat:
    """A `load.second` in a nutshell. Raises TypeError, ValueError or AttributeError if it is none."""
    s = second(o)
    found = s.histogram
    p50, p99 = found.at((50, 99)) if found else (float("nan"),) * 2
    return Beat(s.at, clean(o.data.get("loop") or "open"), s.ok / s.seconds, s.bad / s.seconds, p50, p99)


def counts(o: Observation) -> bool:
    """Whether a `load.second` says something about a second: neither what is answered after a load's end nor a sliver of it."""
    return o.data.get("phase") != "drain" and float(o.data.get("seconds") or 1.0) > 0.2


class Totals:
    """All requests of one subject, scenario and loop since the run began. `latency`: counts by BOUNDS, then above them."""

    def __init__(self) -> None:
        self.good = self.bad = self.unsent = 0
        self.latency = np.zeros(len(BOUNDS) + 1, dtype=np.int64)
        self.seconds = 0.0  # the sum of all latencies, each as the upper end of its bucket


class Column:
    """One subject. `at`: what it is doing. `instances`: of the services of its present trial, by the engine's state."""

    def __init__(self, subject: str, coe: str) -> None:
        self.subject, self.coe = subject, coe
        self.at = "waiting"
        self.since = 0.0
        self.phase = ""
        self.scenario = ""
        self.beats: deque[Beat] = deque(maxlen=KEPT)
        self.states: dict[tuple[str, str], str] = {}  # (service, instance) → state
        self.answering: dict[tuple[str, str], str] = {}  # … → version
        self.outcomes: Counter[str] = Counter()

    @property
    def instances(self) -> Counter[str]:
        return Counter(self.states.values())


class LiveState:
    """The plug-in. Everything that reads it holds `lock` meanwhile, and not for long: the run waits."""

    def __init__(self, clock: Callable[[], float] = now) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.run = ""
        self.began = 0.0
        self.ended = False
        self.order: tuple[str, ...] = ()
        self.info: Mapping[str, Any] = {}
        self.done: list[tuple[TrialInfo, Outcome]] = []
        self.trial: TrialInfo | None = None
        self.columns: dict[str, Column] = {}
        self.totals: dict[tuple[str, str, str], Totals] = {}
        self.warnings: list[str] = []
        self.changes = 0  # goes up with each thing that a reader may want to show
        self._engines: dict[str, BayResult] = {}
        self._bays: dict[str, str] = {}  # bay → subject
        self._asked: dict[str, float] = {}  # bay → when
        self._ready: dict[str, list[float]] = {}  # subject → how long each of its bays took
        self._traces: dict[tuple[str, str], Trace] = {}  # the latest of each subject and scenario

    @hookimpl
    def run_started(self, run: str, folder: str, manifest: Mapping[str, Any]) -> None:
        with self.lock:
            self.run, self.began = run, self.clock()
            self.order = tuple(str(i) for i in manifest.get("order") or ())
            self.info = {k: clean(manifest.get(k)) for k in ("profile", "seed", "version") if manifest.get(k) is not None}
            for s in manifest.get("subjects") or ():
                self._column(str(s.get("name")), str(s.get("coe")))
            self.changes += 1

    @hookimpl
    def trial_started(self, trial: TrialInfo) -> None:
        with self.lock:
            self.trial = trial
            column = self._column(trial.subject, trial.coe)
            column.at, column.since, column.phase, column.scenario = "measuring", self.clock(), "", trial.scenario
            column.states.clear()
            column.answering.clear()
            self._traces[trial.subject, trial.scenario] = Trace(trial.id, trial.subject, trial.scenario, trial.block)
            self.changes += 1

    @hookimpl
    def trial_ended(self, trial: TrialInfo, outcome: Outcome) -> None:
        with self.lock:
            self.trial = None
            self.done.append((trial, outcome))
            column = self._column(trial.subject, trial.coe)
            column.outcomes[outcome.status] += 1
            column.at, column.since, column.phase = "between trials", self.clock(), ""
            self.changes += 1

    @hookimpl
    def observed(self, observation: Observation) -> None:
        with self.lock:
            self._take(observation)

    @hookimpl
    def run_ended(self, run: str, result: Result) -> None:
        with self.lock:
            self.ended, self.trial = True, None
            for column in self.columns.values():
                column.at, column.phase = "done", ""
                column.states.clear()
            self.changes += 1

    def _column(self, subject: str, coe: str) -> Column:
        return self.columns.setdefault(subject, Column(subject, coe))

    def _take(self, o: Observation) -> None:
        data = o.data
        if o.name.startswith("bay.") and o.name not in LIVES:
            self._bay(o)
            return
        if o.name == "warning":
            self.warnings.append(clean(data.get("text", "")))
        trial = self.trial
        if trial is None or o.trial != trial.id:
            return
        column = self.columns[trial.subject]
        if o.name == "load.second":
            self._second(column, trial, o)
        elif o.name == "phase.begin":
            column.phase, column.since = clean(data.get("phase", "")), o.at
        elif o.name in ("phase.end", "phase.timeout"):
            column.phase = ""
        elif o.name in ("instance", "gone"):
            key = (clean(data.get("service", "")), clean(data.get("id", "")))
            state = clean(data.get("state", ""))
            if o.name == "gone" or state == "ended":
                column.states.pop(key, None)
            else:
                column.states[key] = state
        elif o.name == "answer":
            key = (clean(data.get("service", "")), clean(data.get("instance", "")))
            if data.get("kind") in ("up", "changed"):
                column.answering[key] = clean(data.get("version", ""))
            elif data.get("kind") == "down":
                column.answering.pop(key, None)
        elif o.name not in MARKS and o.name not in ("load", "accepted", *LIVES):
            return
        self._traces[trial.subject, trial.scenario].take(o)
        self.changes += 1

    def _bay(self, o: Observation) -> None:
        step = o.name.removeprefix("bay.").replace("_", " ")
        if o.data.get("subject"):
            self._bays[o.trial] = str(o.data["subject"])
        subject = self._bays.get(o.trial)
        if subject is None:
            return
        column = self._column(subject, subject)
        if step == "creating":
            self._asked[o.trial] = o.at
        elif step == "ready":
            if (asked := self._asked.pop(o.trial, None)) is not None:
                self._ready.setdefault(subject, []).append(o.at - asked)
            engine = o.data.get("engine") or {}
            self._engines[subject] = BayResult(
                coe=column.coe, engine=str(engine.get("engine", "")), version=str(engine.get("version", ""))
            )
        column.at = "waiting" if step == "deleted" else "bay ready" if step == "ready" else f"bay: {clean(step)}"
        column.since, column.phase = o.at, ""
        column.states.clear()
        column.answering.clear()
        self.changes += 1

    def _second(self, column: Column, trial: TrialInfo, o: Observation) -> None:
        s, last = second(o), beat(o)
        if counts(o):
            column.beats.append(last)
        if s.phase == "warmup":
            return
        found = s.histogram
        totals = self.totals.setdefault((trial.subject, trial.scenario, last.loop), Totals())
        totals.good += s.ok
        totals.bad += s.bad - s.unsent
        totals.unsent += s.unsent
        if found is not None:
            places = np.searchsorted(np.asarray(BOUNDS) * 1e3, found.tops)
            totals.latency += np.bincount(places, weights=found.counts, minlength=len(BOUNDS) + 1).astype(np.int64)
            totals.seconds += float((found.counts * found.tops).sum()) / 1e3

    # for readers

    def called(self) -> dict[str, str]:
        """Subject → what it is called, as in the report as far as its engine is known yet."""
        with self.lock:
            return names({s: self._engines.get(s) or BayResult(coe=c.coe) for s, c in self.columns.items()})

    def source(self, scenario: str = "") -> Source:
        """What the report's plots can be drawn from now: the latest trial of each subject, of one scenario or all; all bays."""
        with self.lock:
            traces = [t for (_, name), t in self._traces.items() if scenario in ("", name)]
            bays = {s: self._engines.get(s) or BayResult(coe=c.coe) for s, c in self.columns.items()}
            result = Result(
                run=RunInfo(id=self.run),
                bays={s: structs.replace(b, ready=tuple(self._ready.get(s, ()))) for s, b in bays.items()},
                scenarios=tuple(ScenarioInfo(name=n) for n in dict.fromkeys(t.scenario for t in traces)),
                trials=tuple(
                    TrialResult(id=t.trial, block=t.block, subject=t.subject, scenario=t.scenario, status="ok") for t in traces
                ),
            )
            empty = source(result)
            copies = []
            for t in traces:
                copy = Trace(t.trial, t.subject, t.scenario, t.block)
                copy.loads, copy.seconds = list(t.loads), list(t.seconds)
                copy.events, copy.moments, copy.lives = list(t.events), list(t.moments), list(t.lives)
                copies.append(copy)
            return empty._replace(traces=tuple(copies))
