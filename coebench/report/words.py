"""Numbers and sentences as a reader wants them. Plain text, one source for every format."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..contract import Better
from ..results.model import BayResult, MetricResult, Ratio, Result, Values


class Scale(NamedTuple):
    """What a row's values are multiplied with, and the unit they then have."""

    factor: float
    unit: str


def clean(text: object) -> str:
    """One line of printable text: what a run recorded may hold escape sequences, line ends, or reversed writing."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def scale(unit: str, values: Iterable[float]) -> Scale:
    """One unit for a whole row: the one in which its largest value reads best. Other units stay as they are."""
    top = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    steps: Sequence[Scale]
    if unit == "s":
        steps = (Scale(1, "s"), Scale(1e3, "ms"), Scale(1e6, "µs"))
    elif unit == "ms":
        steps = (Scale(1e-3, "s"), Scale(1, "ms"), Scale(1e3, "µs")) if top >= 10_000 else (Scale(1, "ms"), Scale(1e3, "µs"))
    elif unit == "1/s":
        steps = (Scale(1e-3, "1000/s"), Scale(1, "1/s")) if top >= 10_000 else (Scale(1, "1/s"),)
    elif unit == "B":
        steps = (Scale(2**-30, "GiB"), Scale(2**-20, "MiB"), Scale(2**-10, "KiB"), Scale(1, "B"))
    else:
        return Scale(1, clean(unit))
    if not top:
        return Scale(1, unit)
    return next((s for s in steps if top * s.factor >= 1), steps[-1])


def decimals(value: float) -> int:
    """Places after the point that show three significant digits, none for 100 and more."""
    if not value or not math.isfinite(value):
        return 0
    exponent = int(f"{value:.2e}".partition("e")[2])  # of the rounded value: 9.999 is 10.0, not 10.00
    return min(6, max(0, 2 - exponent))


def number(value: float, places: int | None = None) -> str:
    """Three significant digits; whole numbers of four digits and more are not cut."""
    if value == 0:
        return "0"
    return f"{value:.{decimals(value) if places is None else places}f}"


def times(ratio: float, like: float | None = None) -> str:
    """A ratio: two places below 2, where a percent matters, one below 10, none above. `like`: with that one's places."""
    of = ratio if like is None else like
    return f"{ratio:.{2 if of < 2 else 1 if of < 10 else 0}f}"


def seconds(value: float) -> str:
    """A duration as one would say it: "8.4 s", "2 min 5 s", "1 h 12 min"."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def setting(factors: Mapping[str, object]) -> str:
    """Factors as words: "10 instances, routing endpoints"."""
    words = []
    for key, value in factors.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and key.endswith("s"):
            words.append(f"{value:g} {key[:-1] if value == 1 else key}")
        else:
            words.append(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}")
    return clean(", ".join(words))


def called_in(result: Result) -> dict[str, str]:
    """As `names`, with subjects that have figures and no bay."""
    return names(result.bays) | {s: clean(s) for m in result.metrics for s in m.values if s not in result.bays}


def names(bays: Mapping[str, BayResult]) -> dict[str, str]:
    """Subject → what a sentence calls it: the engine's name where the subject is that COE and no more, else itself."""
    engines = [b.engine for b in bays.values()]
    return {s: clean(b.engine if b.engine and s == b.coe and engines.count(b.engine) == 1 else s) for s, b in bays.items()}


def listing(words: Sequence[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def adjective(metric: MetricResult) -> str:
    """How the better of two is called."""
    if metric.better is Better.HIGHER:
        return "more" if metric.unit.endswith("/s") else "higher"
    return "faster" if metric.unit in ("s", "min") else "lower"  # a latency, in ms, is lower


class Against(NamedTuple):
    """A ratio turned so that it says how much better one is than another."""

    ratio: float | None
    low: float | None
    high: float | None
    distinguishable: bool
    reason: str


def against(metric: MetricResult, one: str, other: str) -> Against | None:
    """How much better `one` is than `other` (above 1: better); None where they were not compared."""
    for r in metric.ratios:
        if {r.a, r.b} == {one, other}:
            # Lower is better: one is better by other / one.
            straight = (r.a == one) == (metric.better is Better.HIGHER)
            return Against(*(_straight(r) if straight else _turned(r)), r.distinguishable, r.reason)
    return None


def _straight(r: Ratio) -> tuple[float | None, float | None, float | None]:
    return r.ratio, r.low, r.high


def _turned(r: Ratio) -> tuple[float | None, float | None, float | None]:
    def inverse(x: float | None) -> float | None:
        return None if x is None else 1 / x if x else math.inf

    low = 0.0 if r.high is None else inverse(r.high)
    high = inverse(r.low or 0.0)
    ratio = inverse(r.ratio)
    return None if ratio == math.inf else ratio, low, None if high == math.inf else high


def how_much(x: Against) -> str:
    """The ratio with its interval: "1.71× (1.52–1.90)", "at least 3.2×"."""
    if x.ratio is None or x.high is None:
        # Against nothing at all every ratio is infinite: the figures in the row say how much that is.
        return f"at least {times(x.low)}×" if x.low and math.isfinite(x.low) else ""
    return f"{times(x.ratio)}× ({_interval(x.low, x.high, x.ratio)})"


def _interval(low: float | None, high: float, like: float) -> str:
    return f"{times(low or 0.0, like)}–{times(high, like)}"


def trouble(v: Values) -> str:
    """The trials that a figure is missing: "2 of 5 timed out and 1 failed"; empty where there are none."""
    late = v.censored + v.timed_out
    said = [f"{late} of {v.n + v.timed_out + v.failed} timed out"] * bool(late)
    if v.failed:
        said.append(f"{v.failed} failed" if said else f"{v.failed} of {v.n + v.failed} failed")
    return listing(said) if said else ""


def position(metric: MetricResult, value: Values) -> float:
    """Where a value stands: lower is better, infinite where nothing was measured."""
    shown = value.median if value.median is not None else value.above
    if shown is None or value.limited:
        return math.inf
    if metric.better is Better.HIGHER:
        return -shown
    return shown if value.median is not None else math.inf


def sentence(metric: MetricResult, called: Mapping[str, str]) -> str:
    """What a row shows, as one would tell it; empty where nothing can be compared.

    The best by its median is set against each other subject, in their order; what can't be told apart is said to be so.
    """
    if metric.better is Better.NEITHER or not metric.ratios:
        return ""
    subjects = [s for s, v in metric.values.items() if v.n]
    subjects.sort(key=lambda s: position(metric, metric.values[s]))
    first, rest = subjects[0], subjects[1:]
    compared = [(s, c) for s in rest if (c := against(metric, first, s)) is not None]
    word = adjective(metric)
    ahead = [(s, c) for s, c in compared if c.distinguishable and (c.low or 0) > 1]
    equal = [(s, c) for s, c in compared if not c.distinguishable and not c.reason]
    unsure = [(s, c) for s, c in compared if c.reason]
    if not (ahead or equal):
        return ""  # `silence` says why, once
    parts = []
    if ahead:
        parts.append(f"{called[first]} {listing([f'{how_much(c)} {word} than {called[s]}'.strip() for s, c in ahead])}")
    if equal:
        who = listing([called[s] for s, _ in equal])
        are = "is" if len(equal) == 1 else "are"
        ratio = equal[-1][1]
        extent = (
            f" ({times(ratio.ratio)}×, {_interval(ratio.low, ratio.high, ratio.ratio)})"
            if len(equal) == 1 and ratio.ratio is not None and ratio.high is not None
            else ""
        )
        parts.append(f"{who} {are} not distinguishable from {called[first]}{extent}")
    if unsure:
        who = listing([called[s] for s, _ in unsure])
        parts.append(f"no verdict on {who} against {called[first]}: {unsure[0][1].reason}")
    what = clean(metric.title)
    if metric.factors:
        what += f" ({setting(metric.factors)})"
    # A figure of the trials that came through is half the truth where others did not.
    missing = [f"{called[s]}: {said}" for s, v in metric.values.items() if (said := trouble(v))]
    but = f" ({'; '.join(missing)})" if missing else ""
    return f"{what[:1].upper()}{what[1:]}: {'; '.join(parts)}{but}."


def silence(result: Result) -> str:
    """Why a run gives no verdict on anything, where it gives none; else empty."""
    ratios = [r for m in result.metrics if m.better is not Better.NEITHER for r in m.ratios]
    reasons = dict.fromkeys(r.reason for r in ratios if r.reason)
    return "" if any(not r.reason for r in ratios) else listing([clean(r) for r in reasons]) if reasons else ""


def headlines(result: Result, settings: int = 3, others: int = 3) -> dict[str, list[str]]:
    """Scenario → the sentences to print under its table.

    Always of its first metric, at its last `settings` settings, which ask most of the COE; then of up to `others` other
    metrics, at the last setting, those that show a difference or give a verdict in part; those that show none are named
    in one sentence.
    """
    called = called_in(result)
    out: dict[str, list[str]] = {}
    for scenario in dict.fromkeys(m.scenario for m in result.metrics):
        by_name: dict[str, list[MetricResult]] = {}
        for m in result.metrics:
            if m.scenario == scenario and m.better is not Better.NEITHER and not m.claim_of:
                by_name.setdefault(m.name, []).append(m)
        first, *rest = list(by_name.values()) or [[]]
        said = [s for m in first[-settings:] if (s := sentence(m, called))]
        last = [rows[-1] for rows in rest]
        different = [
            m
            for m in last
            if any(r.distinguishable for r in m.ratios) or 0 < sum(bool(r.reason) for r in m.ratios) < len(m.ratios)
        ]
        said += [s for m in different[:others] if (s := sentence(m, called))]
        same = [clean(m.title) for m in last if m.ratios and not any(r.distinguishable or r.reason for r in m.ratios)]
        if same:
            said.append(f"No difference shown in {listing(same)}.")
        out[scenario] = said
    return out
