"""A point asked again by a generator of another make, between two of ours.

    cross {tool, target, theirs, ours (two), factors}

One instance, one closed loop: what all generators can do. Three loads, so that a drift of the machine shows in our two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ..contract import CoebenchError, LoadPlan, Sample, Trial
from .offering import PATIENCE


def cross_check(trial: Trial, plan: LoadPlan, tool: str, about: Mapping[str, Any]) -> None:
    """Observe one cross-check. A tool that can't is a warning, not a failed trial."""
    plan = msgspec.structs.replace(plan, targets=plan.targets[:1], rate=0.0, generators=1, duration=max(2.0, plan.duration))
    theirs = msgspec.structs.replace(plan, warmup=0.0)
    with trial.phase(f"cross-check {tool}", 3 * (plan.warmup + plan.duration + PATIENCE)):
        try:
            before = trial.prober.load(plan)
            told = trial.prober.load(theirs, tool=tool)
            after = trial.prober.load(plan)
        except CoebenchError as e:
            trial.observe("warning", text=f"no cross-check by {tool}: {e}")
            return
    ours = [_brief(before), _brief(after)]
    target = plan.targets[0]
    where = f"{target.address}:{target.port}"
    trial.observe("cross", tool=tool, target=where, theirs=_brief(told), ours=ours, factors=about["factors"])


def _brief(result: Any) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(result)
    return {k: told[k] for k in ("tool", "achieved_rps", "raw_ms", "ok", "errors", "seconds", "saturated")}


def crossed(observations: Sequence[Mapping[str, Any]]) -> Iterable[Sample]:
    """How many times our figure the other's is."""
    for o in observations:
        factors = {**(o.get("factors") or {}), "tool": o["tool"]}
        theirs, ours = o["theirs"], o["ours"]
        if own := sum(x["achieved_rps"] for x in ours) / len(ours):
            yield Sample(metric="cross_rate", value=theirs["achieved_rps"] / own, factors=factors)
        for p in ("p50", "p99"):
            if p in theirs["raw_ms"] and all(x["raw_ms"].get(p) for x in ours):
                own = sum(x["raw_ms"][p] for x in ours) / len(ours)
                yield Sample(metric=f"cross_{p}", value=theirs["raw_ms"][p] / own, factors=factors)
