"""Gates: conditions on a result, for a pipeline that has to stop when an engine got worse.

    swarm.heal.full_capacity[fault=cut] > 20s    a subject's median, and the unit in which one thinks of it
    swarm.heal.node > 20s                        a scenario's short name (`Scenario.short`) of a metric at some settings
    *.deploy.last > 30 s                         every subject
    high(k8s.serve.latency_p99) > 5ms            the upper end of the median's interval
    failed(*.deploy.last) > 0                    how many trials have no value of it
    ratio(k8s.deploy.last) > 1.1                 of two runs (`coebench diff`): the second's median over the first's
    worse(*.serve.*)                             of two runs: any row whose verdict is "worse"

A gate names what must not be. Where the value is not known well enough to say (all trials failed, waiting was given up
below the bound, or a generator at its limit spoilt a latency), the gate fails: what could not be measured has not passed. A
gate that no row of the result can match is a mistake of its writer, and refused.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ..contract import BadInput, Better, Metric, Scenario
from . import stats
from .known import known
from .model import Gate, MetricResult, Result, Values

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
OF_ONE = ("median", "low", "high", "n", "failed", "timed_out", "mad")
OF_TWO = ("ratio", "ratio_low", "ratio_high")
VERDICTS = ("worse", "better")
_COUNTS = ("n", "failed", "timed_out")
_UNITS = {  # unit → how many of the base unit, and the base
    "ns": (1e-9, "s"), "us": (1e-6, "s"), "µs": (1e-6, "s"), "μs": (1e-6, "s"), "ms": (1e-3, "s"), "s": (1.0, "s"),
    "min": (60.0, "s"), "h": (3600.0, "s"),
    "B": (1.0, "B"), "KiB": (2.0**10, "B"), "MiB": (2.0**20, "B"), "GiB": (2.0**30, "B"),
    "kB": (1e3, "B"), "MB": (1e6, "B"), "GB": (1e9, "B"),
    "1/s": (1.0, "1/s"), "/s": (1.0, "1/s"), "rps": (1.0, "1/s"), "1000/s": (1e3, "1/s"), "k/s": (1e3, "1/s"),
    "%": (1.0, "%"), "cores": (1.0, "cores"), "1": (1.0, "1"), "x": (1.0, "1"), "×": (1.0, "1"),
}  # fmt: skip
_FORM = re.compile(
    r"\s*(?:(?P<function>[a-z_]+)\s*\()?\s*(?P<path>[^\[\]()<>!]+?)\s*(?:\[(?P<factors>[^\]]*)\])?\s*(?P<close>\))?\s*"
    r"(?:(?P<op><=|>=|==|!=|<|>)\s*(?P<value>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>\S*)\s*)?"
)


Shorts = Mapping[str, Mapping[str, str]]
"""Of each scenario its short names, and what each stands for: `{"heal": {"cut": "full_capacity[fault=cut]"}}`."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A gate as written, taken apart. `value` is in `unit`; "" is the metric's own unit. A factor `a|b` is a or b."""

    text: str
    function: str
    path: str
    factors: Mapping[str, str]
    op: str = ""
    value: float = 0.0
    unit: str = ""


class Row(Protocol):
    """What a gate can be about: a metric's row of a result, or a scenario's word of what it will measure."""

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...


def parse(text: str) -> Condition:
    """Take a gate apart. Raises BadInput with how one is written."""
    m = _FORM.fullmatch(text)
    how = "write SUBJECT.SCENARIO.METRIC > NUMBER UNIT, such as 'swarm.deploy.last > 20s'"
    if not m or (bool(m["function"]) != bool(m["close"]) and not _bare(m)):
        raise BadInput(f"--fail-if '{text}': {how}")
    function, path = m["function"] or "median", m["path"]
    if not m["function"] and path in VERDICTS and not m["op"]:
        function, path = path, "*"
    known = (*OF_ONE, *OF_TWO, *VERDICTS)
    if function not in known:
        raise BadInput(f"--fail-if '{text}': unknown function '{function}'; known: {', '.join(known)}")
    if (function in VERDICTS) == bool(m["op"]):
        raise BadInput(f"--fail-if '{text}': " + (f"{function}(…) stands alone" if m["op"] else how))
    unit = m["unit"] or ""
    if unit and unit not in _UNITS:
        raise BadInput(f"--fail-if '{text}': unknown unit '{unit}'; known: {', '.join(_UNITS)}")
    if unit and (function in _COUNTS or function in OF_TWO) and _UNITS[unit][1] != "1":
        raise BadInput(f"--fail-if '{text}': {function}(…) is a number without a unit")
    if not math.isfinite(float(m["value"] or 0)):
        raise BadInput(f"--fail-if '{text}': {m['value']} is too large a number: give one that a figure can reach")
    return Condition(
        text=text.strip(),
        function=function,
        path=path,
        factors=_factors(m["factors"] or "", text),
        op=m["op"] or "",
        value=float(m["value"] or 0),
        unit=unit,
    )


def _factors(inside: str, text: str) -> dict[str, str]:
    """What stands between a gate's brackets."""
    factors = {}
    for part in filter(None, (p.strip() for p in inside.split(","))):
        key, equals, value = (p.strip() for p in part.partition("="))
        if not equals:
            raise BadInput(f"--fail-if '{text}': '{part}' is no setting: write [NAME=VALUE]")
        factors[key] = value
    return factors


def shorts(scenarios: Mapping[str, Scenario]) -> Shorts:
    """The short names that scenarios have declared."""
    return {name: s.short for name, s in scenarios.items() if hasattr(s, "short")}


def _bare(m: re.Match[str]) -> bool:
    return not m["function"] and not m["close"]


def check(
    conditions: Iterable[Condition],
    subjects: Sequence[str],
    metrics: Mapping[str, Sequence[Metric]],
    settings: Mapping[str, Mapping[str, Any]],
    short: Shorts | None = None,
) -> None:
    """Before a run: raise BadInput for a gate that nothing the run measures can match.

    `metrics`, `settings`: those of each scenario. A path's last word may be a short name, or a setting's value, instead of
    a metric.
    """
    for c in conditions:
        if c.function in OF_TWO or c.function in VERDICTS:
            raise BadInput(f"--fail-if '{c.text}': {c.function} is of two runs: coebench diff takes it")
        cells = [(s, scenario, m) for scenario, ms in metrics.items() for m in ms for s in subjects]
        matched = [m for s, scenario, m in cells if _names(c, s, scenario, m.name)]
        for s, scenario, m in cells if not matched else ():
            full = _meant(c, s, scenario, short)
            words = _words(settings.get(scenario, {}))
            if full and _names(full, s, scenario, m.name) and all(set(v.split("|")) & set(words) for v in full.factors.values()):
                matched.append(m)
        by_value = [
            ms[0]
            for scenario, ms in metrics.items()
            for s in subjects
            if ms and (word := _rest(c, s, scenario)) and {word, "all"} & set(_words(settings.get(scenario, {})))
        ]
        if not matched and not by_value:
            raise _nothing(c, [(s, scenario, f"{s}.{scenario}.{m.name}") for s, scenario, m in cells], short)
        for m in matched or by_value:
            bound(c, m)


def _words(value: Any) -> list[str]:
    """All single values within settings, as text."""
    if isinstance(value, Mapping):
        return [w for v in value.values() for w in _words(v)]
    if isinstance(value, (list, tuple)):
        return [w for v in value for w in _words(v)]
    return [_plain(value)]


def judge(
    conditions: Sequence[Condition], result: Result, *, strict: bool = True, short: Shorts | None = None
) -> tuple[Gate, ...]:
    """What became of each condition. Raises BadInput for one that no row matches, and for one of two runs.

    Not `strict`: such a one has failed, and says why. For a run that has just ended: its result must not be lost by that.
    """
    out = []
    for c in conditions:
        try:
            out.append(_judge(c, result, short))
        except BadInput as e:
            if strict:
                raise
            out.append(Gate(text=c.text, passed=False, reason=str(e)))
    return tuple(out)


def _judge(c: Condition, result: Result, short: Shorts | None) -> Gate:
    if c.function in OF_TWO or c.function in VERDICTS:
        raise BadInput(f"--fail-if '{c.text}': {c.function} is of two runs: coebench diff takes it")
    failed: list[str] = []
    passed: list[str] = []
    for subject, row in matching(c, result.metrics, short):
        ok, said = one(c, row, row.values[subject])
        (passed if ok else failed).append(f"{label(subject, row)} is {said}")
    return Gate(text=c.text, passed=not failed, reason=reasons(failed or passed))


def reasons(said: Sequence[str], most: int = 8) -> str:
    """What decided a gate, in one line that can be read."""
    return "; ".join(said[:most]) + (f"; and {len(said) - most} more" if said[most:] else "")


def matching(c: Condition, metrics: Sequence[MetricResult], short: Shorts | None = None) -> list[tuple[str, MetricResult]]:
    """The cells, subject and row, that a condition is about. Raises BadInput if there are none."""
    cells = [(s, m) for m in metrics for s in m.values]
    hits = [(s, m) for s, m in cells if _at(c, m) and _names(c, s, m.scenario, m.name)]
    if not hits:
        full = [(_meant(c, s, m.scenario, short), s, m) for s, m in cells]
        hits = [(s, m) for f, s, m in full if f and _at(f, m) and _names(f, s, m.scenario, m.name)]
    if not hits:  # "swarm.deploy.10": the scenario's first metric, where a factor is 10
        first: dict[str, str] = {}
        for m in metrics:
            first.setdefault(m.scenario, m.name)
        hits = [
            (s, m)
            for s, m in cells
            if m.name == first[m.scenario]
            and _at(c, m)
            and (w := _rest(c, s, m.scenario))
            and w not in (short or {}).get(m.scenario, {})
            and w in map(_plain, m.factors.values())
        ]
    if not hits:
        raise _nothing(c, [(s, m.scenario, label(s, m)) for s, m in cells], short)
    return hits


def _meant(c: Condition, subject: str, scenario: str, short: Shorts | None) -> Condition | None:
    """The condition as it is about a subject in full words; None if its path is no short name there."""
    text = (short or {}).get(scenario, {}).get(_rest(c, subject, scenario), "")
    name, _, inside = text.rstrip("]").partition("[")
    if not name:
        return None
    return msgspec.structs.replace(c, path=f"{subject}.{scenario}.{name}", factors={**_factors(inside, text), **c.factors})


def _at(c: Condition, m: MetricResult) -> bool:
    return all(k in m.factors and _plain(m.factors[k]) in (v, *v.split("|")) for k, v in c.factors.items())


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _names(c: Condition, subject: str, scenario: str, metric: str) -> bool:
    """Whether a path is that of a cell. Names may hold dots, so the path is compared whole and never split."""
    full = f"{subject}.{scenario}.{metric}"
    return c.path == full or ("*" in c.path and fnmatch.fnmatchcase(full, re.sub(r"([\[?])", r"[\1]", c.path)))


def _rest(c: Condition, subject: str, scenario: str) -> str:
    """What a path says after subject and scenario; empty if it says others."""
    for head in (f"{subject}.{scenario}.", f"*.{scenario}."):
        if c.path.startswith(head):
            return c.path[len(head) :]
    return ""


def _nothing(c: Condition, cells: Sequence[tuple[str, str, str]], short: Shorts | None) -> BadInput:
    """What to say of a condition that is about none of the cells: subject, scenario, and name."""
    start = f"--fail-if '{c.text}' is about nothing in this run"
    names = list(dict.fromkeys(name for *_, name in cells))
    if not names:
        return BadInput(f"{start}: nothing was measured")
    for subject in (*dict.fromkeys(s for s, *_ in cells), "*"):
        if not c.path.startswith(f"{subject}."):
            continue
        rest = c.path[len(subject) + 1 :]
        there = dict.fromkeys(scenario for s, scenario, _ in cells if subject in (s, "*"))
        for scenario, words in (short or {}).items():
            if rest.startswith(f"{scenario}.") and (full := words.get(rest[len(scenario) + 1 :])):
                start = f"--fail-if '{c.text}', which is {subject}.{scenario}.{full}, is about nothing in this run"
        if not any(rest == scenario or rest.startswith(f"{scenario}.") for scenario in there):
            return BadInput(f"{start}: of {'all subjects' if subject == '*' else subject} it has {', '.join(there)}")
        names = [name for s, scenario, name in cells if subject in (s, "*") and rest.split(".")[0] == scenario] or names
    word = c.path.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(c.path, names, 3, 0.4) or [n for n in names if word in n][:3] or names[:3]
    return BadInput(f"{start}; near it: {', '.join(near)}")


def label(subject: str, m: MetricResult) -> str:
    """A cell as a gate names it."""
    return setting_of(f"{subject}.{m.scenario}.{m.name}", m.factors)


def setting_of(name: str, factors: Mapping[str, str | int | float]) -> str:
    """A name with its setting in brackets, if it has one."""
    said = ",".join(f"{k}={_plain(v)}" for k, v in factors.items())
    return f"{name}[{said}]" if said else name


def bound(c: Condition, row: Row) -> float:
    """The condition's number in the row's unit. Raises BadInput if it can't be."""
    if not c.unit or c.function in _COUNTS or c.function in OF_TWO:
        return c.value
    factor, base = _UNITS[c.unit]
    own, own_base = _UNITS.get(row.unit, (1.0, row.unit))
    if base != own_base:
        raise BadInput(f"--fail-if '{c.text}': {row.name} is in {row.unit}, not in {c.unit}")
    return c.value * factor / own


def one(c: Condition, row: MetricResult, v: Values) -> tuple[bool, str]:
    """Whether a cell passes, and what it is."""
    if c.function in _COUNTS:
        count = {"n": v.n, "failed": v.failed, "timed_out": v.timed_out + v.censored}[c.function]
        return not _OPERATORS[c.op](count, c.value), f"{count:g} ({c.function})"
    if not v.n:
        why = [f"{n} {what}" for n, what in ((v.failed, "failed"), (v.timed_out, "timed out"), (v.skipped, "can't")) if n]
        return False, f"not known: {' and '.join(why) or 'no trial has a value'}"
    low, high = _ends(c.function, row.better, v)
    unit = "" if row.unit in ("", "1") else f" {row.unit}"
    if math.isnan(low):
        return False, f"not known: {v.n} trial{'s' * (v.n > 1)} give no {c.function}"
    said = f"{low:g}{unit}" if low == high else f"above {low:g}{unit}" if math.isinf(high) else f"{low:g} to {high:g}{unit}"
    if v.limited and math.isinf(high):
        seen = "" if v.median is None else f" ({v.median:g}{unit} was measured)"
        said = f"not known: the generator was the limit{seen}"
    return passes(c.op, low, high, bound(c, row)), said


def _ends(function: str, better: Better, v: Values) -> tuple[float, float]:
    """The two ends between which the value lies that a function asks for; equal where it is known, NaN where nothing is."""
    if v.limited:  # what the cell shows was measured, what it says of the COE is less: see `known`
        return stats.median(known(better, v.samples)) if function == "median" and v.samples else (0.0, math.inf)
    if function == "median":
        if v.median is None:
            return (math.nan if v.above is None else v.above), math.inf
        return v.median, (math.inf if v.lower_bound else v.median)
    if function == "high" and v.high is None and v.low is not None:
        return v.low, math.inf
    value = {"low": v.low, "high": v.high, "mad": v.mad}[function]
    return (math.nan, math.nan) if value is None else (value, value)


def passes(op: str, low: float, high: float, limit: float) -> bool:
    """Whether `op limit` is surely untrue of a value between `low` and `high`."""
    compare = _OPERATORS[op]
    if low == high:
        return not compare(low, limit)
    if op in (">", ">="):
        return not compare(high, limit)
    if op in ("<", "<="):
        return not compare(low, limit)
    return op == "==" and not low <= limit <= high
