"""What scenarios under load share when they count: requests, answering addresses and times over a stretch of a trial."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..contract import Better, Metric, Observation

Steps = Sequence[tuple[float, int]]
ENOUGH = 100  # answers that a 99th percentile takes
NANOSECONDS = 1_000_000  # in a millisecond


def metric(name: str, unit: str, better: Better, title: str, definition: str, claim_of: str = "") -> Metric:
    return Metric(name=name, unit=unit, better=better, title=title, definition=definition, claim_of=claim_of)


class Requests(NamedTuple):
    """Of a stretch: when failed requests were planned, in order; how many were slow; how many failed in all, those too
    whose time is not known (never sent, never answered, too many to be told one by one)."""

    failed: Sequence[float]
    slow: int
    failures: int


def requests(facts: Iterable[Observation], begin: float, end: float) -> Requests | None:
    """Those planned from `begin` to `end`. None if no load was seen. A second that has begun before `begin` counts for what
    has no time of its own if it ended later; the generator sends all that it plans unless it is at its limit."""
    facts = list(facts)
    seconds = [o for o in facts if o.name == "load.second"]
    if not seconds:
        return None
    told = [m for o in seconds for m in o.data["mishaps"] if begin <= m[0] <= end]
    failed = sorted(m[0] for m in told if m[3] != "slow")
    mine = [o for o in seconds if o.at > begin]
    lost = sum(map(_failed_untold, mine))
    slow = len(told) - len(failed) + sum(o.data["untold"] for o in mine) - lost
    timeless = lost + sum(o.data["unsent"] for o in mine) + sum(o.data["inflight"] for o in facts if o.name == "load")
    return Requests(failed, slow, len(failed) + timeless)


def _failed_untold(second: Observation) -> int:
    """Of the mishaps of a second that were too many to be told one by one, those that failed; the others were slow."""
    untold = int(second.data["untold"])
    if "errors" not in second.data:  # a run of before seconds told their errors
        return untold
    failed: int = sum(second.data["errors"].values())
    told = sum(m[3] != "slow" for m in second.data["mishaps"])
    lost: int = max(0, failed - told)
    return min(untold, lost)


class Served(NamedTuple):
    """Of a stretch: good answers as a share of the requests that were planned in it, None where it isn't known how many those
    were; and the 99th percentile of the answers' latencies in ms, None where there are too few."""

    good: float | None
    p99: float | None


def served(facts: Iterable[Observation], begin: float, end: float, whole: bool = False) -> Served | None:
    """Of the seconds of the load that touch the time from `begin` to `end`, or with `whole` lie in it, their histograms merged.
    None if there is none."""
    seconds = [o for o in facts if o.name == "load.second" and "ok" in o.data]
    if whole:
        mine = [o for o in seconds if begin <= o.at - _seconds(o) and o.at <= end]
    else:
        mine = [o for o in seconds if begin < o.at and o.at - _seconds(o) < end]
    if not mine:
        return None
    ok, planned = sum(o.data["ok"] for o in mine), sum(o.data.get("planned", 0) for o in mine)
    good = min(1.0, ok / planned) if planned else None  # an answer to a request of the second before makes it no more than all
    return Served(good, _p99([o.data["latency"] for o in mine if o.data.get("latency")]) if ok >= ENOUGH else None)


def _seconds(o: Observation) -> float:
    return float(o.data.get("seconds", 1.0))


def _p99(histograms: Sequence[str]) -> float | None:
    """In ms. None where one of them can't be read, which `verify` says."""
    from ..load import hdr

    merged = None
    try:
        for text in histograms:
            one = hdr.decoded(text)
            if merged is None:
                merged = one
            else:
                merged.add(one)
    except Exception:  # zlib's, binascii's, struct's, the package's own: whatever the bytes lead to
        return None
    return None if merged is None else float(merged.get_value_at_percentile(99)) / NANOSECONDS


def answering(facts: Iterable[Observation], version: str | None = None) -> list[tuple[float, int]]:
    """How many addresses answer, of a version if one is given, from when on."""
    up: dict[str, str] = {}
    steps = []
    for o in facts:
        if o.name != "target":
            continue
        if o.data["up"]:
            up[o.data["target"]] = o.data["version"]
        else:
            up.pop(o.data["target"], None)
        steps.append((o.at, sum(version is None or v == version for v in up.values())))
    return steps


def level(steps: Steps, at: float) -> int:
    """The number that holds at a moment; 0 before the first."""
    return next((n for when, n in reversed(steps) if when <= at), 0)


def lowest(steps: Steps, begin: float, end: float) -> int:
    """The least number that held at a moment between."""
    return min([n for at, n in steps if begin <= at <= end] + [level(steps, begin)])


def highest(steps: Steps, begin: float, end: float) -> int:
    """The greatest number that held at a moment between."""
    return max([n for at, n in steps if begin <= at <= end] + [level(steps, begin)])


def area(steps: Steps, begin: float, end: float, height: Callable[[int], float]) -> float:
    """The integral of a height of the number, over the time from `begin` to `end`."""
    total, at, now = 0.0, begin, level(steps, begin)
    for when, n in steps:
        if when <= begin:
            continue
        if when >= end:
            break
        total += (when - at) * height(now)
        at, now = when, n
    return total + max(0.0, end - at) * height(now)
