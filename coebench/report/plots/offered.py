"""The serving curve: what is answered, and how late, as more is asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from ..words import clean
from . import buckets
from .figure import Axis, Dots, Figure, Key, Line, Panel, Point, slug
from .scale import quantity
from .source import Load, Source, where

Factors = tuple[tuple[str, object], ...]

LEAST = 3  # rates that make a curve


class _Step:
    """All trials of one subject at one rate."""

    def __init__(self, loads: list[Load]) -> None:
        seconds = sum(_number(x.data.get("seconds")) for x in loads) or 1.0
        self.offered = sum(_number(x.data.get("planned")) for x in loads) / seconds
        self.achieved = sum(_number(x.data.get("achieved_rps")) * _number(x.data.get("seconds")) for x in loads) / seconds
        whole = buckets.total(x.histogram for x in loads)
        self.p50, self.p99 = whole.at((50, 99)) if whole else (float("nan"),) * 2
        self.limited = sum(bool(x.data.get("saturated")) for x in loads)
        self.trials = len(loads)


def figures(source: Source) -> Iterator[Figure]:
    """One figure for each scenario that offered at least three rates in the open loop."""
    found: dict[tuple[str, Factors], dict[str, dict[float, list[Load]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for trace in source.traces:
        for load in trace.loads:
            if load.open and (rate := _number(load.data.get("rate") or load.data.get("offered_rps"))):
                factors = tuple((k, v) for k, v in load.about if k not in ("loop", "rate", "step"))
                found[trace.scenario, factors][trace.subject][rate].append(load)
    for (scenario, factors), subjects in found.items():
        if max(len(rates) for rates in subjects.values()) >= LEAST:
            steps = {s: [_Step(ls) for _, ls in sorted(subjects[s].items())] for s in source.subjects if s in subjects}
            yield _figure(source, scenario, factors, steps)


def _figure(source: Source, scenario: str, factors: Factors, steps: Mapping[str, list[_Step]]) -> Figure:
    said = where(scenario, factors)
    late: list[Line | Dots] = []
    answered: list[Line | Dots] = []
    rows = []
    for subject, mine in steps.items():
        colour = source.colour(subject)
        late.append(Line(points=tuple(Point(s.offered, s.p99) for s in mine), colour=colour, dots=True))
        late.append(Line(points=tuple(Point(s.offered, s.p50) for s in mine), colour=colour, dashed=True))
        answered.append(Line(points=tuple(Point(s.offered, s.achieved) for s in mine), colour=colour, dots=True))
        if spoilt := [s for s in mine if s.limited]:
            late.append(Dots(points=tuple(Point(s.offered, s.p99) for s in spoilt), colour=colour, open=True))
            answered.append(Dots(points=tuple(Point(s.offered, s.achieved) for s in spoilt), colour=colour, open=True))
        for s in mine:
            limit = f"{s.limited} of {s.trials}" if s.limited else ""
            shown = (quantity(s.offered, "1/s"), quantity(s.achieved, "1/s"), quantity(s.p50, "ms"), quantity(s.p99, "ms"))
            rows.append((source.called[subject], *shown, f"{s.trials}", limit))
    most = max(s.offered for mine in steps.values() for s in mine)
    answered.append(Line(points=(Point(0, 0), Point(most, most)), dashed=True))
    return Figure(
        slug=slug(scenario, "offered", *[f"{k}-{v}" for k, v in factors if v]),
        scenario=scenario,
        title=clean(f"{scenario}: latency and answers by what is offered" + (f", {said}" if said else "")),
        about="Open loop, latency from the planned send, all trials of a rate merged. Lower and further to the right is better; "
        "where a line leaves the diagonal, more was asked for than was answered.",
        panels=(
            Panel(
                x=Axis(label="offered", unit="1/s", zero=True),
                y=Axis(label="latency p99, dashed p50, log", unit="ms", scale="log"),
                items=tuple(late),
                height=230,
            ),
            Panel(
                x=Axis(label="offered", unit="1/s", zero=True),
                y=Axis(label="answered", unit="1/s", zero=True),
                items=tuple(answered),
                height=230,
            ),
        ),
        legend=(
            *(Key(source.called[s], source.colour(s)) for s in steps),
            Key("all that is offered", -1, "dashed"),
            *[Key("the generator was at its limit", -1, "open")] * any(s.limited for mine in steps.values() for s in mine),
        ),
        head=("", "offered", "answered", "p50", "p99", "trials", "generator at its limit"),
        rows=tuple(rows),
        columns=2,
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
