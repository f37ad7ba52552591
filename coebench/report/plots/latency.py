"""Latency by percentile, as HdrHistogram's own plots have it: each subject's trials merged into one histogram."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ..words import clean
from . import buckets
from .figure import Axis, Figure, Key, Line, Panel, Point, slug
from .scale import quantity
from .source import Load, Source, where

TOLD = (50.0, 90.0, 99.0, 99.9, 99.99)
DRAWN = (1.0, *(100 * (1 - 10 ** (-i / 24)) for i in range(1, 24 * 5 + 1)))


def figures(source: Source) -> Iterator[Figure]:
    """One figure for each load that more than one trial may have had: of a scenario, at one rate, in one loop."""
    loads: dict[tuple[str, tuple[tuple[str, object], ...]], dict[str, list[Load]]] = defaultdict(lambda: defaultdict(list))
    for trace in source.traces:
        for load in trace.loads:
            if not load.swept:
                loads[trace.scenario, load.about][trace.subject].append(load)
    rates: dict[str, set[object]] = defaultdict(set)
    for scenario, about in loads:
        rates[scenario].add(dict(about).get("rate"))
    for (scenario, about), by_subject in loads.items():
        # A sweep over many rates is another picture's: here its first and its last would be lost in a row of twenty.
        if len(rates[scenario]) <= 3 and (figure := _figure(source, scenario, about, by_subject)):
            yield figure


def _figure(source: Source, scenario: str, about: tuple[tuple[str, object], ...], loads: dict[str, list[Load]]) -> Figure | None:
    merged = {s: m for s in source.subjects if s in loads and (m := buckets.total(x.histogram for x in loads[s]))}
    if not merged:
        return None
    closed = not next(iter(loads.values()))[0].open
    lines, rows = [], []
    for subject, m in merged.items():
        most = 100 * (1 - 1 / m.total)
        drawn = [p for p in DRAWN if p < most] + [most]
        points = tuple(Point(p, v) for p, v in zip(drawn, m.at(drawn), strict=True))
        lines.append(Line(points=points, colour=source.colour(subject)))
        told = (quantity(v, "ms") if 100 - p >= 100 / m.total else "too few" for p, v in zip(TOLD, m.at(TOLD), strict=True))
        rows.append((source.called[subject], f"{m.total}", *told, quantity(m.at((100,))[0], "ms")))
    loop = "closed loop, from the send" if closed else "open loop, from the planned send"
    said = where(scenario, about)
    return Figure(
        slug=slug(scenario, "latency", *[f"{k}-{v}" for k, v in about if v]),
        scenario=scenario,
        title=clean(f"{scenario}: latency by percentile, {loop.partition(',')[0]}" + (f", {said}" if said else "")),
        about=f"Each line is all trials of one subject in one merged histogram, to its last request; {loop}. "
        "Lower and flatter is better.",
        panels=(
            Panel(
                x=Axis(label="percentile of requests", scale="nines"),
                y=Axis(label="latency, log", unit="ms", scale="log"),
                items=tuple(lines),
                height=240,
            ),
        ),
        legend=tuple(Key(source.called[s], source.colour(s)) for s in merged),
        head=("", "requests", *(f"p{p:g}" for p in TOLD), "max"),
        rows=tuple(rows),
    )
