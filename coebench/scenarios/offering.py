"""One load, sent until its figures are of a service that has warmed up; all of it observed.

    load.second {…}                    each second, warm-up included
    load {loop, rate, step, factors, …, steady {by, after, warmup, seconds}, discarded}

A load whose measured seconds still get better is discarded, and sent again with a longer warm-up.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..contract import Burst, LoadPlan, LoadResult, Trial
from . import steady
from .seconds import seconds

AGAIN = 2  # times that a load is sent again for its warm-up's sake
SHORT = 0.5  # seconds: a shorter rest of a second is left out of the series
PATIENCE = 30.0  # seconds of a load's phase beyond its planned time


def send(trial: Trial, plan: LoadPlan, phase: str, **about: Any) -> LoadResult:
    """Send a load; `about` (loop, rate, step, factors, …) is told with it. The result that counts is returned and observed."""
    for attempt in range(AGAIN + 1):
        bursts: list[Burst] = []
        which: dict[str, Any] = {k: v for k, v in about.items() if k != "factors"}
        tell = seconds(trial, **which)

        def each(burst: Burst, bursts: list[Burst] = bursts, tell: Any = tell) -> None:
            bursts.append(burst)
            tell(burst)

        with trial.phase(phase, plan.warmup + plan.duration + PATIENCE):
            result = trial.prober.load(plan, each)
        found, warming = _steadiness(plan, bursts)
        again = warming and attempt < AGAIN
        told: dict[str, Any] = {"discarded": "its measured seconds were still getting better: sent again"} if again else {}
        trial.observe("load", **about, **msgspec.to_builtins(result), steady=found, **told)
        if not again:
            for flag in result.flags:
                trial.observe("warning", text=f"serve: {flag}")
            if warming:
                what = f"{plan.rate:g}/s" if plan.rate else "the closed loop"
                text = f"serve: {what} was still warming up after {plan.warmup:g} s: its figures are not those of a steady state"
                trial.observe("warning", text=text)
            return result
        plan = msgspec.structs.replace(plan, warmup=2 * plan.warmup + 1)
    raise AssertionError("unreachable")


def _steadiness(plan: LoadPlan, bursts: list[Burst]) -> tuple[dict[str, Any], bool]:
    """What a load's seconds say of its warm-up, and whether the measured ones were still part of it.

    An open loop is looked at by the median latency of each second, a closed one by its answers a second.
    """
    by = "latency_p50" if plan.rate else "achieved"
    series = [b for b in bursts if b.phase != "drain" and b.seconds >= SHORT]
    values = [b.latency_ms.get("p50") if plan.rate else b.ok / b.seconds for b in series]
    whole = [v for v in values if v is not None]
    warm = sum(b.phase == "warmup" for b in series)
    found: dict[str, Any] = {"by": by, "warmup": plan.warmup, "seconds": len(series)}
    if len(whole) < len(values) or len(whole) - warm < steady.FEWEST:
        return {**found, "after": None, "why": "too few seconds with answers to tell"}, False
    after = steady.warmup(whole, higher_is_better=not plan.rate)
    lasted = None if after is None else round(sum(b.seconds for b in series[:after]), 3)
    return {**found, "after": lasted}, after is None or after > warm
