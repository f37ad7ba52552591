"""A metric that was asked for several kinds of something (failures, verbs, operations): kinds by subjects, shaded by how long."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from ...contract import Better
from ...results.model import MetricResult, Values
from ..words import clean, setting
from .figure import Axis, Cells, Figure, Panel, finite, slug
from .scale import quantity
from .source import Source


def figures(source: Source) -> Iterator[Figure]:
    """One figure for each metric with a factor of words that has at least two values."""
    groups: dict[tuple[str, str], list[MetricResult]] = {}
    for m in source.result.metrics:
        if not m.claim_of and m.better is not Better.NEITHER and any(v.n or v.timed_out for v in m.values.values()):
            groups.setdefault((m.scenario, m.name), []).append(m)
    for (scenario, name), rows in groups.items():
        if kinds(rows) and not _flat(rows):
            yield _figure(source, scenario, name, rows)


def kinds(rows: list[MetricResult]) -> bool:
    """Whether rows of one metric are told apart by a word."""
    words = {k for m in rows for k, v in m.factors.items() if isinstance(v, str)}
    return any(len({m.factors.get(k) for m in rows}) > 1 for k in words)


def _flat(rows: list[MetricResult]) -> bool:
    """Whether all that is known of every cell is one and the same value."""
    cells = [v for m in rows for v in m.values.values()]
    return len({(v.median, v.above) for v in cells}) < 2 and not any(v.timed_out or v.censored or v.failed for v in cells)


def _figure(source: Source, scenario: str, name: str, rows: list[MetricResult]) -> Figure:
    named = [_kind(m, rows) for m in rows]
    subjects = [s for s in source.subjects if any(s in m.values for m in rows)]
    unit = rows[0].unit
    shade = _shades(finite([v.median for m in rows for v in m.values.values()]))
    cells, table = [], []
    for y, m in enumerate(rows):
        line = []
        for x, s in enumerate(subjects):
            v = m.values.get(s)
            text = _text(v, unit)
            weight = None
            if v is not None and v.median is not None:
                weight = shade(v.median)
            elif v is not None and v.above is not None:
                weight = 1.0
            cells.append((x, y, text, weight))
            line.append(text)
        table.append((named[y], *line))
    return Figure(
        slug=slug(scenario, name, "matrix"),
        scenario=scenario,
        title=f"{scenario}: {clean(rows[0].title)}, of each kind",
        about=f"{clean(rows[0].definition)} Medians; the stronger the colour, the more.".strip(),
        panels=(
            Panel(
                x=Axis(scale="names", names=tuple(source.called[s] for s in subjects)),
                y=Axis(scale="names", names=tuple(named)),
                items=(Cells(cells=tuple(cells)),),
                height=30 * len(rows),
            ),
        ),
        head=("", *(source.called[s] for s in subjects)),
        rows=tuple(table),
        metric=name,
    )


def _kind(m: MetricResult, rows: list[MetricResult]) -> str:
    """The factors that tell this row from the others; of words the value alone says it."""
    telling = {k: v for k, v in m.factors.items() if len({r.factors.get(k) for r in rows}) > 1}
    words = [clean(v) for v in telling.values() if isinstance(v, str)]
    numbers = setting({k: v for k, v in telling.items() if not isinstance(v, str)})
    return ", ".join([*words, *([numbers] if numbers else [])]) or "all"


def _shades(values: list[float]) -> Callable[[float], float]:
    """How dark a value is, from 0 to 1: by its logarithm, and palest where there is nothing."""
    logs = [math.log10(v) for v in values if v > 0]
    low, high = (min(logs), max(logs)) if logs else (0.0, 0.0)
    least = 0.3 if len(logs) < len(values) else 0.0  # something is more than nothing

    def shade(value: float) -> float:
        if value <= 0:
            return 0.0
        return least + (1 - least) * ((math.log10(value) - low) / (high - low) if high > low else 0.5)

    return shade


def _text(v: Values | None, unit: str) -> str:
    if v is None:
        return "–"
    if v.median is not None:
        return quantity(v.median, unit) + (f" ({v.censored + v.timed_out} late)" if v.censored + v.timed_out else "")
    if v.above is not None:
        return f"> {quantity(v.above, unit)}"
    if v.skipped and not v.n:
        return "can't"
    return "failed" if v.failed or v.timed_out else "–"
