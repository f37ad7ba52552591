"""What became of each figure from one run to another: better, worse, same, or not to be told.

Every cell that two runs share is compared as the columns of one run are (`stats.compare`, unpaired: blocks of two runs have
nothing in common), and all cells of a row hold together at 95 %. `ratio` is the second run's median over the first's.

    same         the whole interval of the ratio is within the margin: if there is a difference, it is smaller than that
    better,      the interval leaves out 1, on the better or worse side
    worse
    can't tell   neither: too few trials, or too much scatter

A figure of the trials that came through says nothing of those that did not: whether more of them fail now is put to
Fisher's exact test, and with more failures nothing is called better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..contract import BadInput, Better
from . import comparable, gates, stats
from .comparable import Difference
from .known import known
from .model import Gate, MetricResult, Result, RunInfo, Values
from .polled import too_coarse

SCHEMA = "coebench.diff/1"
MARGIN = 0.10
BETTER, WORSE, SAME, UNKNOWN = "better", "worse", "same", "can't tell"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One cell in two runs. `subject` is the first run's name for it, `other` the second's. `ratio`: null where a median isn't
    known exactly; `low`, `high`: its interval, null where that side has no end."""

    scenario: str
    name: str
    title: str
    unit: str
    better: Better
    factors: Mapping[str, str | int | float] = {}
    claim_of: str = ""
    subject: str
    other: str
    a: Values
    b: Values
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str = UNKNOWN
    reason: str = ""


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """`left_out`: what only one run has, or what can't be compared, each a sentence. `chance`: how many of the verdicts better
    and worse may be there by chance if nothing has changed."""

    schema: str = SCHEMA
    a: RunInfo
    b: RunInfo
    margin: float
    differences: tuple[Difference, ...] = ()
    changes: tuple[Change, ...] = ()
    left_out: tuple[str, ...] = ()
    chance: float = 0.0
    gates: tuple[Gate, ...] = ()


def diff(
    a: Result,
    b: Result,
    ma: Mapping[str, Any] | None = None,
    mb: Mapping[str, Any] | None = None,
    *,
    match: Mapping[str, str] | None = None,
    margin: float = MARGIN,
    anyway: bool = False,
) -> Diff:
    """Compare run `b` with run `a`, the earlier one. `ma`, `mb`: their manifests. `match`: a's subject → b's, where names differ.

    Raises BadInput if the runs share nothing, or if they can't be compared, naming the first line that differs; with
    `anyway` such lines are only part of the answer.
    """
    pairs = _pairs(a, b, match or {})
    found = comparable.differences(a, b, ma or {}, mb or {}, pairs)
    barred = [d for d in found if d.bars and not anyway]
    if everything := [d for d in barred if not d.scenario]:
        more = f" (and {len(everything) - 1} more)" if everything[1:] else ""
        raise BadInput(f"the runs can't be compared: {everything[0]}{more}; --anyway does it nonetheless")
    without = {d.scenario for d in barred}
    left_out = [f"{d.scenario}: {d}; --anyway compares it nonetheless" for d in barred]
    rows_b = {_key(m): m for m in b.metrics}
    changes: list[Change] = []
    shared: set[str] = set()
    for m in a.metrics:
        other = rows_b.get(_key(m)) or _fallen(m, b)
        if other is None or m.better is Better.NEITHER:
            continue
        shared.add(m.scenario)
        if m.scenario in without:
            continue
        if (m.unit, m.better) != (other.unit, other.better):
            left_out.append(f"{m.scenario}.{m.name} is in {m.unit} in one run and in {other.unit} in the other.")
            continue
        changes += row(m, other, pairs, margin)
    if not shared:
        raise BadInput("the runs have no row in common: " + _contents(a, b))
    if not changes:
        raise BadInput(f"the runs can't be compared: {left_out[0] if left_out else _contents(a, b)}")
    left_out += _only(a, b, pairs)
    decided = [c for c in changes if not c.reason or c.verdict in (BETTER, WORSE)]
    rows = {(c.scenario, c.name, tuple(c.factors.items())) for c in decided}
    return Diff(
        a=a.run,
        b=b.run,
        margin=margin,
        differences=found,
        changes=tuple(changes),
        left_out=tuple(left_out),
        chance=round((1 - stats.LEVEL) * len(rows), 2),
    )


def _fallen(m: MetricResult, b: Result) -> MetricResult | None:
    """A row that the other run has not because all trials of it failed: as one with no values. None if it has not for another
    reason: it was not asked."""
    if any(x.scenario == m.scenario and x.name == m.name and any(v.n for v in x.values.values()) for x in b.metrics):
        return None
    trials = [t for t in b.trials if t.scenario == m.scenario]
    values = {}
    for subject in dict.fromkeys(t.subject for t in trials):
        ends = [t.status for t in trials if t.subject == subject]
        values[subject] = Values(failed=ends.count("failed"), timed_out=ends.count("timeout"), skipped=ends.count("skipped"))
    if not any(v.failed or v.timed_out for v in values.values()):
        return None
    return msgspec.structs.replace(m, values=values, ratios=(), best=None)


def _key(m: MetricResult) -> tuple[str, str, tuple[tuple[str, str | int | float], ...]]:
    return m.scenario, m.name, tuple(sorted(m.factors.items(), key=str))


def _names(r: Result) -> list[str]:
    return list(dict.fromkeys([*r.bays, *(s for m in r.metrics for s in m.values)]))


def _pairs(a: Result, b: Result, match: Mapping[str, str]) -> dict[str, str]:
    """Which column is which: as told, else by name, else the only two of one COE."""
    in_a, in_b = _names(a), _names(b)
    for one, other in match.items():
        for name, names, which in ((one, in_a, "first"), (other, in_b, "second")):
            if name not in names:
                raise BadInput(f"the {which} run has no subject '{name}'; it has: {', '.join(names) or 'none'}")
    taken = set(match.values())
    pairs = {s: match.get(s, s) for s in in_a if s in match or (s in in_b and s not in taken)}
    if not pairs and len(in_a) == len(in_b) == 1:
        coes = {r.bays[name].coe.partition(":")[0] if name in r.bays else name for r, name in ((a, in_a[0]), (b, in_b[0]))}
        if len(coes) == 1:
            pairs = {in_a[0]: in_b[0]}
    if not pairs:
        raise BadInput(
            f"the runs have no subject in common ({', '.join(in_a) or 'none'} | {', '.join(in_b) or 'none'}); "
            "say which is which: --match OLD=NEW"
        )
    return pairs


def _contents(a: Result, b: Result) -> str:
    said = [", ".join(dict.fromkeys(m.scenario for m in r.metrics)) or "nothing" for r in (a, b)]
    return f"one measured {said[0]}, the other {said[1]}"


def _only(a: Result, b: Result, pairs: Mapping[str, str]) -> list[str]:
    out = []
    keys = [{_key(m): m for m in r.metrics if m.better is not Better.NEITHER} for r in (a, b)]
    for mine, theirs, which in ((keys[0], keys[1], "first"), (keys[1], keys[0], "second")):
        alone = [k for k in mine if k not in theirs]
        whole = [s for s in dict.fromkeys(k[0] for k in alone) if s not in {k[0] for k in theirs}]
        out += [f"Only the {which} run has the scenario {s}." for s in whole]
        names = [gates.setting_of(f"{k[0]}.{k[1]}", mine[k].factors) for k in alone if k[0] not in whole]
        if names:
            out.append(f"Only the {which} run has {', '.join(names[:4])}{f' and {len(names) - 4} more' if names[4:] else ''}.")
    for r, used, which in ((a, pairs.keys(), "first"), (b, pairs.values(), "second")):
        if rest := [s for s in _names(r) if s not in used]:
            out.append(f"Only the {which} run has {', '.join(rest)}.")
    return out


def row(a: MetricResult, b: MetricResult, pairs: Mapping[str, str], margin: float) -> list[Change]:
    """The cells of one row in two runs; their intervals hold together at 95 %."""
    cells = [
        (one, other, a.values[one], b.values[other]) for one, other in pairs.items() if one in a.values and other in b.values
    ]
    compared = [c for c in cells if c[2].n and c[3].n]
    alpha = (1 - stats.LEVEL) / max(1, len(compared))
    out = []
    for one, other, va, vb in cells:
        change = Change(
            scenario=a.scenario,
            name=a.name,
            title=a.title,
            unit=a.unit,
            better=a.better,
            factors=a.factors,
            claim_of=a.claim_of,
            subject=one,
            other=other,
            a=va,
            b=vb,
        )
        out.append(_judged(change, alpha, margin))
    return out


def _judged(c: Change, alpha: float, margin: float) -> Change:
    def say(verdict: str, reason: str = "", **figures: float | None) -> Change:
        return msgspec.structs.replace(c, verdict=verdict, reason=reason, **figures)

    (lost_a, good_a), (lost_b, good_b) = _lost(c.a), _lost(c.b)
    failures = f"{lost_b} of {good_b + lost_b} trials failed or timed out, before {lost_a} of {good_a + lost_a}"
    moved = _fisher(lost_b, good_b, lost_a, good_a) <= alpha
    more = lost_b * (good_a + lost_a) > lost_a * (good_b + lost_b)
    if not (c.a.n and c.b.n):
        if moved:
            return say(WORSE if more else BETTER, failures)
        which = (
            "neither run has" if not (c.a.n or c.b.n) else "the first run has none" if not c.a.n else "the second run has none"
        )
        return say(UNKNOWN, f"no value: {which}" + (f"; {failures}" if lost_a or lost_b else ""))
    sa, sb = known(c.better, c.a.samples), known(c.better, c.b.samples)
    sb = sb._replace(block=sb.block + (int(sa.block.max()) + 1))  # the blocks of two runs are no pairs
    x = stats.compare(sb, sa, level=1 - alpha)
    figures = {"ratio": _finite(x.ratio), "low": _finite(x.low), "high": _finite(x.high)}
    if moved and more:
        return say(WORSE, failures, **figures)
    if coarse := too_coarse(c.unit, c.a, c.b):
        return say(UNKNOWN, coarse)
    if x.reason:
        return say(UNKNOWN, x.reason, **figures)
    if 1 / (1 + margin) <= x.low and x.high <= 1 + margin:
        return say(SAME, failures if more else "", **figures)
    if x.distinguishable:
        good = (x.high < 1) == (c.better is Better.LOWER)
        if good and more:
            return say(UNKNOWN, f"those that came through are better, but {failures}", **figures)
        return say(BETTER if good else WORSE, "", **figures)
    return say(UNKNOWN, "the interval holds both", **figures)


def _lost(v: Values) -> tuple[int, int]:
    """Trials that did not get there, and those that did."""
    return v.failed + v.timed_out + v.censored, v.n - v.censored


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _fisher(bad_b: int, good_b: int, bad_a: int, good_a: int) -> float:
    """Two-sided p-value of Fisher's exact test that failing is as likely in both runs."""
    n, bad, b = bad_a + good_a + bad_b + good_b, bad_a + bad_b, bad_b + good_b
    if not bad or not n:
        return 1.0

    def ways(k: int) -> int:
        return math.comb(bad, k) * math.comb(n - bad, b - k)

    seen = ways(bad_b)
    return sum(w for k in range(max(0, b - (n - bad)), min(bad, b) + 1) if (w := ways(k)) <= seen) / math.comb(n, b)


def judge(conditions: Sequence[gates.Condition], d: Diff, short: gates.Shorts | None = None) -> tuple[Gate, ...]:
    """What became of gates: those of one run are put to the second, ratios and verdicts to the difference. Raises BadInput."""
    return tuple(_gate(c, d, short) for c in conditions)


def _gate(c: gates.Condition, d: Diff, short: gates.Shorts | None) -> Gate:
    rows: dict[tuple[Any, ...], MetricResult] = {}
    cells: dict[tuple[str, int], Change] = {}
    for x in d.changes:
        key = (x.scenario, x.name, tuple(x.factors.items()))
        row = rows.get(key) or MetricResult(
            scenario=x.scenario, name=x.name, unit=x.unit, better=x.better, title=x.title, factors=x.factors, claim_of=x.claim_of
        )
        rows[key] = msgspec.structs.replace(row, values={**row.values, x.subject: x.b})
    for x in d.changes:
        cells[x.subject, id(rows[x.scenario, x.name, tuple(x.factors.items())])] = x
    failed: list[str] = []
    passed: list[str] = []
    for subject, row in gates.matching(c, list(rows.values()), short):
        x = cells[subject, id(row)]
        if c.function in gates.VERDICTS:
            ok, said = x.verdict != c.function, x.verdict + (f" ({x.reason})" if x.reason else "")
        elif c.function in gates.OF_TWO:
            value = {"ratio": x.ratio, "ratio_low": x.low, "ratio_high": x.high}[c.function]
            ok = value is not None and gates.passes(c.op, value, value, c.value)
            said = "not known" + (f": {x.reason}" if x.reason else "") if value is None else f"{value:.3g} times what it was"
        else:
            ok, said = gates.one(c, row, x.b)
        (passed if ok else failed).append(f"{gates.label(subject, row)} is {said}")
    return Gate(text=c.text, passed=not failed, reason=gates.reasons(failed or passed))


def encode(d: Diff) -> bytes:
    """As JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(d), indent=2) + b"\n"
