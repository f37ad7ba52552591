"""`--slo` as a gate: whether each subject met a service level objective at all.

    searched for (`compare --slo`)    met, if the search found a rate above 0
    else                              met, if the loads of `serve` at its fixed rate meet it, by their medians

The fixed rate also decides where the search of a subject came to no end. A rate that has to be met is no matter of `--slo`
but of `--fail-if '*.serve.slo_rate < 5000'`; a fixed rate's latency, of `--fail-if '*.serve.latency_p99 > 20ms'`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..contract import BadInput
from ..scenarios.slo import ERRORS, KEPT_UP, Slo
from . import gates
from .model import Gate, MetricResult, Result, Values

SCENARIO = "serve"

Setting = tuple[tuple[str, str | int | float], ...]
"""A point of the grid of `serve`: its factors."""


def judge(slo: Slo, result: Result, *, strict: bool = True) -> Gate:
    """What became of the objective. Raises BadInput if nothing of `serve` was measured; not `strict`, that is a failure too:
    a run that has just ended must not be lost by it."""
    text = f"--slo {slo}"
    found: dict[Setting, MetricResult] = {}
    fixed: dict[Setting, dict[str, MetricResult]] = {}
    for m in result.metrics:
        if m.scenario != SCENARIO:
            continue
        at = tuple((k, v) for k, v in m.factors.items() if k != "slo")
        if m.name == "slo_rate" and m.factors.get("slo") == str(slo):
            found[at] = m
        elif m.name in ("offered", "achieved", ERRORS) or m.name.startswith("latency_"):
            fixed.setdefault(at, {})[m.name] = m
    failed: list[str] = []
    passed: list[str] = []
    points = {}
    for at in dict.fromkeys([*fixed, *found]):
        of = [row for row in (found.get(at), *fixed.get(at, {}).values()) if row]
        points[at] = {s: any(_asked(row.values[s]) for row in of if s in row.values) for row in of for s in row.values}
    for at, subjects in points.items():
        rows = fixed.get(at, {})
        searched = found.get(at)
        for subject, asked in subjects.items():
            if not asked and any(elsewhere.get(subject) for elsewhere in points.values()):
                continue  # a point of the grid that this COE has not, as a routing that it refuses
            ok, said = _one(slo, subject, searched, rows)
            (passed if ok else failed).append(f"{gates.setting_of(subject, dict(at))} {said}")
    if not (passed or failed):
        said = f"{text} is about nothing in this run: it has no load of {SCENARIO}"
        if strict:
            raise BadInput(said)
        return Gate(text=text, passed=False, reason=said)
    return Gate(text=text, passed=not failed, reason=gates.reasons(failed or passed))


def _asked(cell: Values) -> bool:
    return bool(cell.n or cell.failed or cell.timed_out or cell.skipped)


def _one(slo: Slo, subject: str, searched: MetricResult | None, fixed: Mapping[str, MetricResult]) -> tuple[bool, str]:
    """Whether a subject met it at one point of the grid, and what is to be said of that."""
    offered = fixed.get("offered")
    v = offered.values.get(subject) if offered else None
    at = f"the fixed rate, {v.median:,.0f}/s" if v and v.median else "the fixed rate"
    missed = "; ".join(_missed(slo, subject, fixed))
    if searched and (cell := searched.values.get(subject)) and cell.n:
        if gates.one(_unless("<=", 0), searched, cell)[0]:
            return True, f"met it up to {cell.median:,.0f}/s" + " or more" * bool(cell.lower_bound)
        if not cell.lower_bound:
            return False, f"met it at no rate that was tried; at {at}: {missed or 'met'}"
    return not missed, f"missed it at {at}: {missed}" if missed else f"met it at {at}"


def _missed(slo: Slo, subject: str, fixed: Mapping[str, MetricResult]) -> Iterator[str]:
    """The conditions that the loads at the fixed rate do not surely hold, as `Slo.missed` has them of a single load."""
    offered, achieved = (fixed[n].values.get(subject) if n in fixed else None for n in ("offered", "achieved"))
    if not (offered and offered.median):
        yield "not known: no load at a fixed rate ended"
        return
    for c in slo.conditions:
        row = fixed.get(ERRORS if c.what == ERRORS else f"latency_{c.what}")
        cell = row.values.get(subject) if row else None
        if row is None or cell is None:
            yield f"{c.what} is not known: nothing was answered"
            continue
        ok, said = gates.one(_unless(">=", c.limit), row, cell)
        if not ok:
            yield f"{row.title} is {said}"
    least = KEPT_UP / 100 * offered.median
    if achieved and not gates.one(_unless("<", least), fixed["achieved"], achieved)[0]:
        yield f"{achieved.median or 0:,.0f}/s were achieved, less than {KEPT_UP:g} %"


def _unless(op: str, limit: float) -> gates.Condition:
    """A condition on a median, in the row's own unit."""
    return gates.Condition(text="", function="median", path="", factors={}, op=op, value=limit)
