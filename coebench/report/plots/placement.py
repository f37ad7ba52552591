"""How many instances answer, by seconds since they were asked for: a line a trial, and the median time of the n-th."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator

from .figure import Axis, Figure, Key, Line, Panel, Point, slug
from .scale import quantity
from .source import Source, Trace

LEAST = 3  # instances below which a curve says no more than the dots do


class _Curve:
    """Of one service in one trial: when each instance first answered, and when the engine called each ready."""

    def __init__(self, wanted: int, answers: list[float], ready: list[float]) -> None:
        self.wanted, self.answers, self.ready = wanted, sorted(answers)[:wanted], sorted(ready)[:wanted]


def figures(source: Source) -> Iterator[Figure]:
    """One figure for each number of instances that a scenario asked for."""
    found: dict[tuple[str, int], dict[str, list[_Curve]]] = defaultdict(lambda: defaultdict(list))
    for trace in source.traces:
        for curve in _curves(trace):
            if curve.wanted >= LEAST and curve.answers:
                found[trace.scenario, curve.wanted][trace.subject].append(curve)
    for (scenario, wanted), curves in sorted(found.items()):
        yield _figure(source, scenario, wanted, {s: curves[s] for s in source.subjects if s in curves})


def _curves(trace: Trace) -> Iterator[_Curve]:
    for moment in trace.moments:
        wanted = moment.data.get("instances")
        if moment.name not in ("requested", "burst") or not isinstance(wanted, int):
            continue
        end = min((m.at for m in trace.moments if m.service == moment.service and m.at > moment.at), default=float("inf"))
        answers: dict[str, float] = {}
        ready: dict[str, float] = {}
        for e in trace.events:
            if e.service == moment.service and moment.at <= e.at < end:
                if e.name == "answer" and e.kind in ("up", "changed") and e.id:
                    answers.setdefault(e.id, e.at - moment.at)
                elif e.name == "instance" and e.kind == "ready":
                    ready.setdefault(e.id, e.at - moment.at)
        yield _Curve(wanted, list(answers.values()), list(ready.values()))


def _figure(source: Source, scenario: str, wanted: int, curves: dict[str, list[_Curve]]) -> Figure:
    lines: list[Line] = []
    rows = []
    for subject, mine in curves.items():
        colour = source.colour(subject)
        if len(mine) > 1:
            lines += [Line(points=_steps(c.answers), colour=colour, steps=True, faint=True) for c in mine]
        claimed = _medians([c.ready for c in mine], wanted)
        lines.append(Line(points=_steps(claimed), colour=colour, steps=True, dashed=True))
        middle = _medians([c.answers for c in mine], wanted)
        lines.append(Line(points=_steps(middle), colour=colour, steps=True))
        shares = [_at(middle, wanted, s) for s in (0.0, 0.5, 0.9, 1.0)]
        rows.append((source.called[subject], f"{len(mine)}", *shares, _at(claimed, wanted, 1.0)))
    many = any(len(c) > 1 for c in curves.values())
    return Figure(
        slug=slug(scenario, "placement", wanted),
        scenario=scenario,
        title=f"{scenario}: how {wanted} instances come up",
        about="Instances that have answered a client, by seconds since they were asked for"
        + ("; each trial thin, the median time of the n-th instance thick" if many else "")
        + ". Dashed: what the engine calls ready.",
        panels=(
            Panel(
                x=Axis(label="since the request", unit="s", zero=True),
                y=Axis(label="instances", zero=True, low=0.0, high=float(wanted)),
                items=tuple(lines),
                height=200,
            ),
        ),
        legend=(*(Key(source.called[s], source.colour(s)) for s in curves), Key("engine says ready", -1, "dashed")),
        head=("", "trials", "first", "half", "90 %", "all", "engine: all"),
        rows=tuple(rows),
    )


def _steps(times: list[float]) -> tuple[Point, ...]:
    return (Point(0.0, 0.0), *(Point(t, float(n)) for n, t in enumerate(times, 1)))


def _medians(trials: list[list[float]], wanted: int) -> list[float]:
    """The median time of the n-th instance, as far as more than half of the trials came; a trial that did not come so far
    counts as later than all."""
    out = []
    for n in range(wanted):
        times = [t[n] if n < len(t) else float("inf") for t in trials]
        middle = statistics.median(times)
        if middle == float("inf") or middle != middle:
            break
        out.append(middle)
    return out


def _at(times: list[float], wanted: int, share: float) -> str:
    index = max(0, -(-int(share * wanted * 1000) // 1000) - 1)
    return quantity(times[index], "s") if index < len(times) else "not reached"
