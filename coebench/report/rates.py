"""The rates of loads, second by second, small enough for a terminal: what a timeline in a page shows in full."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..contract import Observation
from ..results.model import Result
from . import words
from .spark import spark, squeezed

WIDTH = 30  # blocks of a line


class Rates(NamedTuple):
    """One trial's seconds of load, its loads one after the other. `ok`, `bad`: answers and failures a second."""

    ok: tuple[float, ...]
    bad: tuple[float, ...]


class Line(NamedTuple):
    """One subject's line: `blocks` beside all of its scenario's on one scale."""

    subject: str
    blocks: str
    said: str


def rates(result: Result, observations: Iterable[Observation]) -> dict[str, dict[str, tuple[str, Rates]]]:
    """Scenario → subject → the first trial of it that ended well and recorded its seconds, and these.

    Warm-up is left out, and so is a load's end, in which nothing is sent any more. Where a trial has both, closed loops are
    too: beside what a machine can do at most, a dip in a planned rate would not be seen. Seconds of several generators are
    added.
    """
    scenario = {t.id: t for t in result.trials if t.status == "ok"}
    order = {t.id: i for i, t in enumerate(result.trials)}
    seen: dict[str, list[tuple[float, float, float, float]]] = {}
    closed: dict[str, list[tuple[float, float, float, float]]] = {}
    for o in observations:
        if o.name != "load.second" or o.trial not in scenario or o.data.get("phase", "measured") != "measured":
            continue
        n = _numbers(o.data)
        if n is not None and math.isfinite(o.at):
            kind = closed if o.data.get("loop") == "closed" else seen
            kind.setdefault(o.trial, []).append((o.at, *n))
    seen = closed | seen
    out: dict[str, dict[str, tuple[str, Rates]]] = {}
    for trial in sorted(seen, key=lambda i: order[i]):
        t = scenario[trial]
        values: list[list[float]] = []
        began = -math.inf
        for at, length, ok, bad in sorted(seen[trial]):
            if at - began > length / 2:  # generators end a second within a few milliseconds of each other
                values.append([0.0, 0.0])
                began = at
            values[-1][0] += ok / length
            values[-1][1] += bad / length
        if len(values) >= 3:
            found = Rates(tuple(v[0] for v in values), tuple(v[1] for v in values))
            out.setdefault(t.scenario, {}).setdefault(t.subject, (trial, found))
    return out


def _numbers(d: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Seconds, answers and failures of one second; None if it is none."""
    try:
        length, ok = float(d.get("seconds", 1.0)), float(d["ok"])
        bad = float(sum(d.get("errors", {}).values())) + float(d.get("unsent", 0))
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
    good = all(math.isfinite(x) and x >= 0 for x in (length, ok, bad)) and length > 0.2
    return (length, ok, bad) if good else None


def lines(found: Mapping[str, tuple[str, Rates]], called: Mapping[str, str]) -> list[Line]:
    """The lines of one scenario, and a second one of failures for subjects that have any."""
    top = max((max(r.ok) for _, r in found.values()), default=0.0)
    worst = max((max(r.bad) for _, r in found.values()), default=0.0)
    out = []
    for subject, (trial, r) in found.items():
        said = f"{words.number(min(r.ok))}–{words.number(max(r.ok))} answers/s, {len(r.ok)} s of {words.clean(trial)}"
        out.append(Line(called.get(subject, subject), spark(squeezed(r.ok, WIDTH), top=top), said))
        if any(r.bad):
            said = f"up to {words.number(max(r.bad))} failed/s, {words.number(sum(r.bad))} in all"
            out.append(Line("", spark(squeezed(r.bad, WIDTH), top=worst), said))
    return out
