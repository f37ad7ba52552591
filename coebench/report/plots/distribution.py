"""Every trial of a metric as a dot, with the median and its interval: what the table's figures are made of."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ...contract import Better
from ...results.model import MetricResult
from ..words import clean, setting
from .figure import Axis, Dots, Figure, Key, Panel, Point, Range, finite, slug
from .growth import growing
from .matrix import kinds
from .scale import quantity
from .source import Source

MOST = 8  # settings that one picture has room for


def figures(source: Source) -> Iterator[Figure]:
    """One figure a metric, a row for each subject at each setting. None where there is nothing to be seen: where every trial
    has the same value, or where single trials are the figures of a matrix."""
    groups: dict[tuple[str, str], list[MetricResult]] = {}
    for m in source.result.metrics:
        if not m.claim_of and m.better is not Better.NEITHER and any(v.n for v in m.values.values()):
            groups.setdefault((m.scenario, m.name), []).append(m)
    for (scenario, name), rows in groups.items():
        if len(rows) > MOST and growing(rows):  # a line says it better
            continue
        single = all(len(v.samples) <= 1 for m in rows for v in m.values.values())
        if not flat(rows) and not (single and kinds(rows)):
            yield _figure(source, scenario, name, rows)


def flat(rows: list[MetricResult]) -> bool:
    """Whether every trial of every subject has one and the same value."""
    samples = [s for m in rows for v in m.values.values() for s in v.samples]
    return len({s.value for s in samples}) < 2 and len(samples) > 1 and not any(s.censored for s in samples)


def _claims(source: Source, m: MetricResult) -> dict[str, float]:
    """The engine's own figures of the same thing at the same setting: subject → median."""
    found = [c for c in source.result.metrics if c.claim_of == m.name and c.scenario == m.scenario and c.factors == m.factors]
    return {s: v.median for c in found for s, v in c.values.items() if v.median is not None}


def _drawn(source: Source, m: MetricResult) -> list[float]:
    """All values that have to fit."""
    found = [x for v in m.values.values() for x in (*(s.value for s in v.samples), v.low, v.high)]
    return finite([*found, *_claims(source, m).values()])


def _figure(source: Source, scenario: str, name: str, rows: list[MetricResult]) -> Figure:
    unit = rows[0].unit
    every = [v for m in rows for v in _drawn(source, m)]
    log = bool(every) and min(every) > 0 and max(every) / min(every) > 30
    axis = Axis(unit=unit, scale="log" if log else "linear", zero=True, low=min(every) if log else 0.0, high=max(every))
    if not log and min(every) < 0:
        axis = msgspec.structs.replace(axis, low=None)
    panels: list[Panel] = []
    table: list[tuple[str, ...]] = []
    for m in rows:
        said = setting(m.factors)
        claims = _claims(source, m)
        subjects = [s for s in source.subjects if s in m.values and m.values[s].n]
        items: list[Dots | Range] = []
        for y, subject in enumerate(subjects):
            v, colour = m.values[subject], source.colour(subject)
            exact = tuple(Point(s.value, y) for s in v.samples if not s.censored)
            late = tuple(Point(s.value, y) for s in v.samples if s.censored)
            items += [Range(y=y, low=v.low, high=v.high, value=v.median, colour=colour)]
            items += [Dots(points=exact, colour=colour)] * bool(exact)
            items += [Dots(points=late, colour=colour, open=True)] * bool(late)
            if subject in claims:
                items.append(Range(y=y, low=None, high=None, value=claims[subject], colour=colour, claim=True))
            table.append(
                (
                    source.called[subject],
                    said,
                    _said(v.median, unit) if v.median is not None else f"above {_said(v.above, unit)}",
                    f"{_said(v.low, unit)} to {_said(v.high, unit)}",
                    ", ".join(f"{'>' if s.censored else ''}{_said(s.value, unit)}" for s in v.samples),
                )
            )
        if subjects:
            names = Axis(scale="names", names=tuple(source.called[s] for s in subjects))
            panels.append(Panel(title=said, x=axis, y=names, items=tuple(items), height=22 * len(subjects)))
    # One axis for all: its ticks stand under the last.
    panels = [msgspec.structs.replace(p, x=msgspec.structs.replace(axis, bare=True)) for p in panels[:-1]] + panels[-1:]
    claimed = any(_claims(source, m) for m in rows)
    censored = any(s.censored for m in rows for v in m.values.values() for s in v.samples)
    title = clean(rows[0].title)
    keys = [Key("one trial", -1, "dot"), Key("median and its interval", -1, "line")]
    keys += [Key("the engine's own account", -1, "claim")] * claimed + [Key("ended by a timeout: above", -1, "open")] * censored
    better = "Less is better." if rows[0].better is Better.LOWER else "More is better."
    return Figure(
        slug=slug(scenario, name, "trials"),
        scenario=scenario,
        title=f"{scenario}: {title}",
        about=f"{clean(rows[0].definition)} {better}".strip(),
        panels=tuple(panels),
        legend=tuple(keys),
        head=("", "setting", "median", "interval", "trials"),
        rows=tuple(table),
        metric=name,
    )


def _said(value: float | None, unit: str) -> str:
    return "?" if value is None else quantity(value, unit)
