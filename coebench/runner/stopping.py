"""When a run has enough: its time is spent, or its intervals are narrow."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ..contract import Better
from ..results import stats
from ..results.model import MetricResult, Result
from .plan import Plan


class Stopping:
    """Asked after each block. It looks at time and widths and never at differences: to stop when a difference shows would find
    more of them than there are."""

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._clock = clock
        self._began = self._last = clock()
        self._longest = 0.0

    def reason(self, block: int, result: Callable[[], Result]) -> str:
        """Why no further block is begun after this one; empty if one is. `result`: what there is so far."""
        now = self._clock()
        self._longest, self._last = max(self._longest, now - self._last), now
        plan, gone = self._plan, now - self._began
        if block >= plan.blocks:
            return ""
        if plan.budget and gone > plan.budget:
            return f"the budget of {plan.budget:g} s was spent after {gone:.0f} s"
        if plan.budget and gone + self._longest > plan.budget:
            return f"{gone:.0f} s of the budget of {plan.budget:g} s were gone, and a block had taken {self._longest:.0f} s"
        if plan.precision and block >= self._enough():
            wide = widest(result())
            if wide is None or wide[0] <= plan.precision:
                found = "all intervals" if wide is None else f"the widest interval ({wide[1]}: ±{100 * wide[0]:.0f} %)"
                return f"{found} had become as narrow as ±{100 * plan.precision:g} %"
        return ""

    def _enough(self) -> int:
        """The least number of blocks that can show a difference, and of which an interval says something."""
        subjects = len(self._plan.subjects)
        pairs = max(1, subjects * (subjects - 1) // 2)
        return stats.needed((1 - stats.LEVEL) / pairs)


def widest(result: Result) -> tuple[float, str] | None:
    """The widest interval of a median in all rows that have a direction, and are no claims: half its width as a share of the
    median, and where. None if there is none: no figure has two different values."""
    found: tuple[float, str] | None = None
    for m in result.metrics:
        for share, where in _widths(m):
            if found is None or share > found[0]:
                found = (share, where)
    return found


def _widths(m: MetricResult) -> list[tuple[float, str]]:
    if m.better is Better.NEITHER or m.claim_of:
        return []
    setting = "".join(f" {k}={v}" for k, v in m.factors.items())
    widths = []
    for subject, v in _known(m).items():
        low, high, median = v
        if high > low and median > 0:
            widths.append(((high - low) / 2 / median, f"{m.scenario}.{m.name}{setting} of {subject}"))
    return widths


def _known(m: MetricResult) -> Mapping[str, tuple[float, float, float]]:
    """Subject → low, high, median, where all three are numbers; one without an end is as wide as can be."""
    found = {}
    for subject, v in m.values.items():
        if v.n > 1 and v.median is not None and v.low is not None:
            found[subject] = (v.low, float("inf") if v.high is None else v.high, v.median)
    return found
