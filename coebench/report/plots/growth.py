"""A metric as something grows: by fill level, by concurrency, by the number of instances; a line a subject."""

from __future__ import annotations

from collections.abc import Iterator

from ...contract import Better
from ...results.model import MetricResult
from ..words import clean, setting
from .figure import Axis, Dots, Figure, Key, Line, Panel, Point, finite, slug
from .scale import quantity
from .source import Source

LEAST = 3  # values that make a line
Others = tuple[tuple[str, str | int | float], ...]


def figures(source: Source) -> Iterator[Figure]:
    """One figure for each metric and each factor of numbers that it was asked for at three values at least."""
    groups: dict[tuple[str, str], list[MetricResult]] = {}
    for m in source.result.metrics:
        if not m.claim_of and m.better is not Better.NEITHER and any(v.n for v in m.values.values()):
            groups.setdefault((m.scenario, m.name), []).append(m)
    for rows in groups.values():
        for factor in growing(rows):
            yield _figure(source, factor, rows)


def growing(rows: list[MetricResult]) -> list[str]:
    """The factors of numbers that have at least three values while all others stay the same."""
    names = dict.fromkeys(k for m in rows for k, v in m.factors.items() if isinstance(v, (int, float)))
    return [n for n in names if any(len(line) >= LEAST for line in _lines(n, rows).values())]


def _lines(factor: str, rows: list[MetricResult]) -> dict[Others, list[MetricResult]]:
    """The other factors → the rows that have them, by rising value."""
    found: dict[Others, list[MetricResult]] = {}
    for m in rows:
        if isinstance(m.factors.get(factor), (int, float)):
            found.setdefault(tuple((k, v) for k, v in m.factors.items() if k != factor), []).append(m)
    return {others: sorted(line, key=lambda m: m.factors[factor]) for others, line in found.items()}


def _figure(source: Source, factor: str, rows: list[MetricResult]) -> Figure:
    first = rows[0]
    lines = {others: line for others, line in _lines(factor, rows).items() if len(line) >= LEAST}
    shown = [m for line in lines.values() for m in line]
    every = finite([x for m in shown for v in m.values.values() for x in (v.median, v.above, v.low, v.high)])
    at = [float(m.factors[factor]) for m in shown]
    log = bool(every) and min(every) > 0 and max(every) / min(every) > 30
    wide = min(at) > 0 and max(at) / min(at) > 30
    x = Axis(label=clean(factor), scale="log" if wide else "linear", zero=not wide, low=min(at), high=max(at))
    low = min(every) if log else min(0.0, *every)
    label = f"{clean(first.title)}{', log' if log else ''}"
    y = Axis(label=label, unit=first.unit, scale="log" if log else "linear", zero=not log, low=low, high=max(every))
    panels, table = [], []
    for others, line in lines.items():
        items: list[Line | Dots] = []
        for subject in source.subjects:
            found = [(float(m.factors[factor]), m.values[subject]) for m in line if subject in m.values and m.values[subject].n]
            colour = source.colour(subject)
            known = tuple(Point(f, v.median) for f, v in found if v.median is not None)
            items.append(Line(points=known, colour=colour, dots=True))
            for f, v in found:
                if v.low is not None and v.high is not None:
                    items.append(Line(points=(Point(f, v.low), Point(f, v.high)), colour=colour, faint=True))
            late = tuple(Point(f, v.above) for f, v in found if v.above is not None)
            items += [Dots(points=late, colour=colour, open=True)] * bool(late)
        panels.append(Panel(title=setting(dict(others)), x=x, y=y, items=tuple(items), height=170))
        for m in line:
            cells = (_said(m, s) for s in source.subjects)
            table.append((setting({factor: m.factors[factor]}), setting(dict(others)), *cells))
    return Figure(
        slug=slug(first.scenario, first.name, "by", factor),
        scenario=first.scenario,
        title=f"{first.scenario}: {clean(first.title)}, by {clean(factor)}",
        about=f"{clean(first.definition)} Medians with their intervals; {_better(first)} is better.".strip(),
        panels=tuple(panels),
        legend=tuple(Key(source.called[s], source.colour(s)) for s in source.subjects if any(s in m.values for m in shown)),
        head=(clean(factor), "setting", *(source.called[s] for s in source.subjects)),
        rows=tuple(table),
        columns=min(2, len(panels)),
    )


def _better(m: MetricResult) -> str:
    return "lower" if m.better is Better.LOWER else "higher"


def _said(m: MetricResult, subject: str) -> str:
    v = m.values.get(subject)
    if v is None or not v.n:
        return ""
    if v.median is None:
        return f"above {quantity(v.above, m.unit)}" if v.above is not None else ""
    interval = f" ({quantity(v.low, m.unit)} to {quantity(v.high, m.unit)})" if v.low is not None and v.high is not None else ""
    return quantity(v.median, m.unit) + interval
