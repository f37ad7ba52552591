"""The serving curve, and the highest rate that meets an objective: sent step by step, derived from what was recorded.

search {slo, ladder, start, repeats, resolution, factors}     what is looked for, before the first step
load {…, step "curve" or "search"}                           a rate's first try on the ladder; any other try
search.end {rate, beyond, low, high, agreed, tries, limited, factors}   what was found, for those who read along; without
                                                             it the search was cut off, and there is no edge
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import msgspec

from ..contract import LoadPlan, Sample, Trial
from .edge import Edge, Try, edge, following
from .offering import send
from .slo import Slo, errors

KNEE = "errors<1%"  # what the curve without an objective goes past
CURVE = ("curve_achieved", "curve_errors", "curve_p50", "curve_p90", "curve_p99", "curve_p99.9")


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for. `slo` "" is the curve alone. Times in seconds."""

    slo: str
    ladder: tuple[float, ...]
    start: float
    repeats: int
    resolution: float
    most: float
    seconds: float
    warmup: float

    @classmethod
    def of(cls, settings: Mapping[str, Any], ladder: tuple[float, ...], most: float) -> Self:
        """From the settings of `serve`."""
        wanted = bool(settings["slo"])
        return cls(
            slo=str(Slo.parse(settings["slo"])) if wanted else "",
            ladder=ladder,
            start=float(settings["rate"]),
            repeats=settings["repeats"] if wanted else 1,
            resolution=1 + settings["resolution"] / 100 if wanted else math.inf,
            most=max(ladder, default=float(most)),
            seconds=float(settings["step_seconds"]),
            warmup=min(1.0, float(settings["warmup"])),
        )

    def run(self, trial: Trial, plan: LoadPlan, about: Mapping[str, Any]) -> None:
        """Send one load after the other until the edge is known."""
        objective = Slo.parse(self.slo or KNEE)
        factors = about["factors"]
        told = msgspec.to_builtins(self)
        trial.observe("search", **told | {"resolution": self.resolution if self.slo else None}, factors=factors)
        tries: list[Try] = []
        while (rate := self.next_rate(tries)) is not None:
            step = "curve" if all(t.rate < rate for t in tries) else "search"
            load = msgspec.structs.replace(plan, rate=rate, duration=self.seconds, warmup=self.warmup)
            result = send(trial, load, f"load {rate:g}/s", loop="open", rate=rate, step=step, **about)
            tries.append(Try(rate, not objective.missed(msgspec.to_builtins(result)), bool(result.saturated)))
            if result.saturated and step == "curve":
                where = {**factors, "offered": rate}
                trial.observe("load.saturated", reason=result.saturated, metrics=list(CURVE), factors=where)
        found = edge(tries)
        trial.observe("search.end", **found._asdict(), factors=factors)
        if not self.slo:
            return
        where = {**factors, "slo": self.slo}
        if found.limited:
            reason = f"at {found.beyond:g}/s, where the objective was missed, the generator was at its limit"
            trial.observe("load.saturated", reason=reason, metrics=["slo_rate"], factors=where)
        elif found.beyond is None:
            reason = f"no rate missed the objective, up to the highest that was tried, {found.rate:g}/s"
            trial.observe("load.saturated", reason=reason, metrics=["slo_rate"], factors=where)

    def next_rate(self, tries: Sequence[Try]) -> float | None:
        """The rate to try next; None at the end."""
        return following(tries, self.start, self.repeats, self.resolution, self.most, self.ladder)


def curve_samples(
    loads: Sequence[Mapping[str, Any]], searches: Sequence[Mapping[str, Any]], ends: Sequence[Mapping[str, Any]]
) -> Iterable[Sample]:
    """The curve of each point of the grid, and the edge of each search that came to its end: what the first half of one has
    tried says nothing of where it would have ended."""
    ended = [end.get("factors") or {} for end in ends]
    for search in searches:
        factors = search.get("factors") or {}
        mine = [load for load in loads if load.get("step") and (load.get("factors") or {}) == factors]
        for load in mine:
            if load["step"] != "curve" or not load["planned"]:
                continue
            here = {**factors, "offered": load["rate"]}
            yield Sample(metric="curve_achieved", value=load["achieved_rps"], factors=here)
            yield Sample(metric="curve_errors", value=errors(load), factors=here)
            for p in ("p50", "p90", "p99", "p99.9"):
                if p in load["latency_ms"]:
                    yield Sample(metric=f"curve_{p}", value=load["latency_ms"][p], factors=here)
        if search["slo"] and mine and factors in ended:
            yield from _edge_samples(tried(mine, Slo.parse(search["slo"])), {**factors, "slo": search["slo"]})


def tried(loads: Iterable[Mapping[str, Any]], objective: Slo) -> list[Try]:
    """What recorded loads say of an objective, be it the one that they were sent for or another."""
    return [Try(load["rate"], not objective.missed(load), bool(load.get("saturated"))) for load in loads]


def _edge_samples(tries: Sequence[Try], factors: Mapping[str, Any]) -> Iterable[Sample]:
    found: Edge = edge(tries)
    yield Sample(metric="slo_rate", value=found.rate, factors=factors)
    yield Sample(metric="slo_low", value=found.low, factors=factors)
    if found.high is not None:
        yield Sample(metric="slo_high", value=found.high, factors=factors)
    if found.tries:
        yield Sample(metric="slo_agreed", value=100 * found.agreed / found.tries, factors=factors)
